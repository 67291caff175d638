"""How fast training is, and how much of a batch is padding, from the steps so far."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["UNKNOWN", "BatchCounts", "CountBatch", "Meter"]


class BatchCounts(NamedTuple):
    """What is in a batch.

    Attributes:
        rows: Examples; 0 where nobody knows, as in the others.
        tokens: Tokens of them, padding left out.
        slots: Places in the batch, padding included.
    """

    rows: int = 0
    tokens: int = 0
    slots: int = 0


UNKNOWN = BatchCounts()
CountBatch = Callable[[int, int], BatchCounts]
"""What is in a batch, by epoch and number in the epoch, both from 0."""


class Meter:
    """Adds up steps. The first one, in which TensorFlow traces the graph, counts only where it is alone.

    Example:
    >>> meter = Meter()
    >>> meter.begin_step()
    >>> model.train_on_batch(x, y)
    >>> meter.end_step(BatchCounts(rows=32, tokens=1800, slots=2048))
    >>> meter.padding_share
    0.12109375
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._is_warm = False
        self._sums = UNKNOWN
        self._clear()

    def begin_step(self) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def end_step(self, counts: BatchCounts = UNKNOWN, *, num_batches: int = 1) -> None:
        """Stops the clock.

        Args:
            counts: What was in the batches of the step. Defaults to nothing known.
            num_batches: How many batches it had. Defaults to 1.
        """
        if self._began is None:  # a step that somebody else began
            return
        seconds, self._began = time.perf_counter() - self._began, None
        if not self._is_warm and self.num_steps:
            self._is_warm = True
            self._clear()
        self._seconds += seconds
        self._times += [seconds / num_batches] * num_batches
        self._sums = BatchCounts(*(a + b for a, b in zip(self._sums, counts, strict=True)))

    def restart(self) -> None:
        """Forgets the steps, but not that the graph has been traced."""
        self._is_warm = self._is_warm or self.num_steps > 0
        self._clear()

    def _clear(self) -> None:
        self._seconds = 0.0
        self._times: list[float] = []
        self._sums = UNKNOWN

    @property
    def num_steps(self) -> int:
        """Steps that count."""
        return len(self._times)

    @property
    def mean_seconds(self) -> float:
        """Seconds a step, in the mean; 0 before there is one."""
        return self._seconds / max(self.num_steps, 1)

    @property
    def median_seconds(self) -> float:
        """Seconds a step, in the median; 0 before there is one."""
        return statistics.median(self._times) if self._times else 0.0

    @property
    def rows_per_second(self) -> float:
        """Examples a second; 0 where they are unknown."""
        return self._sums.rows / max(self._seconds, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second, padding left out; 0 where they are unknown."""
        return self._sums.tokens / max(self._seconds, 1e-9)

    @property
    def padding_share(self) -> float | None:
        """Share of the places that hold padding, or `None` where it is unknown."""
        slots = self._sums.slots
        return 1.0 - self._sums.tokens / slots if slots else None
