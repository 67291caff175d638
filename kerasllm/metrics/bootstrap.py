"""How sure a number is: percentile bootstrap intervals over resampled examples."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasllm.errors import DataError
from kerasllm.metrics.classification import Counts
from kerasllm.metrics.validation import check_same_length

__all__ = ["bootstrap_interval", "percentile_interval", "resample_classes", "resample_labels"]


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: ArrayLike,
    num_samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of any metric (Efron, 1979).

    Examples are drawn with replacement, as many as there are, `num_samples` times; the interval holds the
    middle of the metric's values on these draws.

    Args:
        metric: Takes the arrays, returns a number.
        *arrays: One row an example in each.
        num_samples: Number of draws. Defaults to `1000`.
        confidence: Share of the draws that the interval holds, between 0 and 1. Defaults to `0.95`.
        seed: Same seed and arrays, same interval. Defaults to `0`.

    Returns:
        Lower and upper end.

    Raises:
        DataError: If the arrays are empty or differ in length, or a setting is out of range.

    Example:
    >>> bootstrap_interval(accuracy, targets, predictions)
    (0.78, 0.85)
    """
    tables = [np.asarray(array) for array in arrays]
    check_same_length(**{f"array {number}": table for number, table in enumerate(tables)})
    rng = np.random.default_rng(seed)
    size = len(tables[0])
    values = np.empty(num_samples)
    for sample in range(num_samples):
        rows = rng.integers(0, size, size)
        values[sample] = metric(*(table[rows] for table in tables))
    low, high = percentile_interval(values, confidence)
    return float(low), float(high)


def percentile_interval(values: NDArray, confidence: float) -> tuple[float, float]:
    """Returns the ends between which the middle share of the values lies.

    Raises:
        DataError: If there are no values, or `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise DataError(f"`confidence` is {confidence}, but must lie between 0 and 1, such as 0.95.")
    if values.size == 0:
        raise DataError("`num_samples` is 0, but at least one draw is needed for an interval.")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resample_classes(confusion: NDArray, *, num_samples: int, seed: int) -> Counts:
    """Draws counts as if the examples behind a confusion matrix had been resampled.

    Examples of one cell are alike to every metric that looks at classes only, so drawing how many fall in
    each cell (a multinomial) gives the same distribution as drawing rows, at a fraction of the cost.

    Args:
        confusion: Counts of shape `(classes, classes)`.
        num_samples: Number of draws.
        seed: Same seed, same draws.

    Returns:
        Counts of shape `(num_samples, classes)`.
    """
    true, predicted = np.nonzero(confusion)
    cells = confusion[true, predicted]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(cells.sum(), cells / cells.sum(), size=num_samples)
    classes = len(confusion)
    right = true == predicted
    return Counts(
        _sum_by(drawn[:, right], true[right], classes),
        _sum_by(drawn, predicted, classes),
        _sum_by(drawn, true, classes),
    )


def resample_labels(
    targets: NDArray[np.bool_], predictions: NDArray[np.bool_], *, num_samples: int, seed: int
) -> tuple[Counts, NDArray[np.float64]]:
    """Draws counts as if the examples behind two tables of yes and no had been resampled.

    Args:
        targets: Shape `(examples, labels)`.
        predictions: Shape `(examples, labels)`.
        num_samples: Number of draws.
        seed: Same seed, same draws.

    Returns:
        Counts of shape `(num_samples, labels)`, and the subset accuracy of each draw.
    """
    size, labels = targets.shape
    exact = (targets == predictions).all(axis=1, keepdims=True)
    table = np.concatenate([targets & predictions, predictions, targets, exact], axis=1)
    # Rows that add the same are alike, as in a cell of a confusion matrix; there are far fewer kinds of them.
    _, first, times = np.unique(np.packbits(table, axis=1), axis=0, return_index=True, return_counts=True)
    kinds = table[first].astype(np.float32)  # sums are exact up to 2**24 rows
    rng = np.random.default_rng(seed)
    sums = np.empty((num_samples, table.shape[1]))
    step = max(1, 10_000_000 // len(kinds))
    for start in range(0, num_samples, step):
        stop = min(start + step, num_samples)
        drawn = rng.multinomial(size, times / size, size=stop - start)
        sums[start:stop] = drawn.astype(np.float32) @ kinds
    counts = Counts(sums[:, :labels], sums[:, labels : 2 * labels], sums[:, 2 * labels : -1])
    return counts, sums[:, -1] / size


def _sum_by(drawn: NDArray, group: NDArray, num_groups: int) -> NDArray:
    """Sums columns that belong to the same group."""
    result = np.zeros((len(drawn), num_groups), drawn.dtype)
    if group.size:
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        result[:, present] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return result
