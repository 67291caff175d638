"""What is in each step of a run, for its progress bar and `Throughput`."""

import functools

import numpy as np

from kerasllm.training.meter import BatchCounts, CountBatch
from kerasllm.training.problem import Batches
from kerasllm.training.timetable import Timetable

__all__ = ["step_counts"]


def step_counts(source: Batches, table: Timetable) -> CountBatch:
    """Counts examples, tokens and places of an optimizer step, all its micro-batches together.

    Args:
        source: The batches of the run.
        table: Which of them make a step.

    Returns:
        A function of the epoch and the number of the step in it, both from 0.

    Example:
    >>> bar = progress(num_epochs=3, steps_per_epoch=table.steps[0], count=step_counts(source, table))
    """

    @functools.lru_cache(maxsize=1)
    def tokens(epoch: int) -> np.ndarray:
        return source.num_tokens(epoch)

    def count(epoch: int, place: int) -> BatchCounts:
        _, numbers = table.batches_of(table.start(epoch) + place)
        shapes = [source.shape(epoch, number) for number in numbers]
        return BatchCounts(
            rows=sum(len(source.rows(epoch, number)) for number in numbers),
            tokens=int(tokens(epoch)[numbers.start : numbers.stop].sum()),
            slots=sum(rows * width for rows, width in shapes),
        )

    return count
