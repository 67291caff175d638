"""Which optimizer step belongs to which epoch, where epochs may differ in length."""

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Timetable", "windows"]


class Timetable:
    """The optimizer steps of a run.

    Args:
        num_batches: Micro-batches of each epoch.
        accumulate: Micro-batches of a step; the last step of an epoch may have fewer. Defaults to 1.

    Example:
    >>> table = Timetable([5, 4], accumulate=2)
    >>> table.steps, table.total, table.place(4)
    ([3, 2], 5, (1, 1))
    """

    def __init__(self, num_batches: Sequence[int], *, accumulate: int = 1):
        self.num_batches = list(num_batches)
        self.accumulate = accumulate
        self.steps = [-(-count // accumulate) for count in self.num_batches]
        self._ends = [sum(self.steps[: epoch + 1]) for epoch in range(len(self.steps))]

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self._ends[-1]

    def start(self, epoch: int) -> int:
        """Steps before an epoch."""
        return self._ends[epoch - 1] if epoch else 0

    def place(self, step: int) -> tuple[int, int]:
        """Epoch, and place in it, of the step that comes after `step` steps."""
        epoch = bisect.bisect_right(self._ends, step)
        return epoch, step - self.start(epoch)

    def ends_epoch(self, step: int) -> bool:
        """Whether `step` steps are whole epochs."""
        return step in self._ends

    def batches_of(self, step: int) -> tuple[int, range]:
        """Epoch of the step that comes after `step` steps, and numbers of its micro-batches there."""
        epoch, place = self.place(step)
        first = place * self.accumulate
        return epoch, range(first, min(first + self.accumulate, self.num_batches[epoch]))


def windows(make: Callable[[int, int], Any], table: Timetable, *, first_step: int = 0) -> Iterator[list[Any]]:
    """The micro-batches of each step, from any step on.

    Args:
        make: Makes the batches from a number of the epoch and one of the batch on, without end.
        table: The timetable.
        first_step: Steps that are done. Defaults to 0.
    """
    if first_step >= table.total:
        return
    epoch, numbers = table.batches_of(first_step)
    batches = iter(make(epoch, numbers.start))
    for step in range(first_step, table.total):
        yield [next(batches) for _ in table.batches_of(step)[1]]
