"""Whether probabilities mean what they say: calibration error, log loss, Brier score.

A model is calibrated when of the texts that it gives 80 %, 80 % are as it says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasllm.errors import DataError
from kerasllm.metrics.validation import (
    check_classes,
    check_multi_hot,
    check_probabilities,
    check_same_length,
)

__all__ = ["CalibrationBins", "brier_score", "calibration_bins", "expected_calibration_error", "log_loss"]


@dataclass(frozen=True)
class CalibrationBins:
    """Decisions grouped by confidence; one number a bin in each array, NaN where a bin is empty.

    Attributes:
        edges: Bin `i` holds confidences in `(edges[i], edges[i + 1]]`, the first one also 0.
        count: Number of decisions.
        confidence: Their mean confidence.
        frequency: The share of them that was right.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and frequency, by count."""
        full = self.count > 0
        gap = np.abs(self.confidence[full] - self.frequency[full])
        return float((gap * self.count[full]).sum() / self.count.sum())


def calibration_bins(targets: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15) -> CalibrationBins:
    """Groups decisions by confidence in bins of equal width, for a reliability diagram.

    With class indices as targets, a decision is an example, its confidence the highest probability of the
    row, and it is right if that is the target (Guo et al., 2017, "On Calibration of Modern Neural
    Networks"). With a table of 0 and 1, each cell is a decision, its confidence the probability of yes.

    Args:
        targets: Class indices, or a table of 0 and 1.
        probabilities: Shape `(examples, classes)`.
        num_bins: Number of bins between 0 and 1. Defaults to `15`.

    Raises:
        DataError: If the arrays are empty, do not fit, or hold NaN or what is no probability.
    """
    if num_bins < 1:
        raise DataError(f"`num_bins` is {num_bins}, but at least 1 is needed.")
    true, table = _checked(targets, probabilities)
    if true.ndim == 2:
        confidence, right = table.ravel(), true.ravel()
    else:
        confidence, right = table.max(axis=1), table.argmax(axis=1) == true
    edges = np.linspace(0, 1, num_bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    size = np.bincount(index, minlength=num_bins)
    divisor = np.where(size == 0, np.nan, size)
    return CalibrationBins(
        edges=edges,
        count=size,
        confidence=np.bincount(index, confidence, minlength=num_bins) / divisor,
        frequency=np.bincount(index, right, minlength=num_bins) / divisor,
    )


def expected_calibration_error(targets: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15) -> float:
    """Returns the mean gap between confidence and frequency over bins of equal width.

    What a decision and its confidence are, and where the bins end, says `calibration_bins`.

    Args:
        targets: Class indices, or a table of 0 and 1.
        probabilities: Shape `(examples, classes)`.
        num_bins: Number of bins between 0 and 1. Defaults to `15`.

    Returns:
        Between 0, calibrated, and 1.

    Raises:
        DataError: If the arrays are empty, do not fit, or hold NaN or what is no probability.

    Example:
    >>> round(expected_calibration_error([0, 0], [[0.8, 0.2], [0.8, 0.2]]), 4)
    0.2
    """
    return calibration_bins(targets, probabilities, num_bins=num_bins).error


def log_loss(targets: ArrayLike, probabilities: ArrayLike) -> float:
    """Returns the mean negative logarithm of the probability of what was true, in nats.

    For a table of 0 and 1 it is the mean over all cells, as the binary cross-entropy of Keras.

    Args:
        targets: Class indices, or a table of 0 and 1.
        probabilities: Shape `(examples, classes)`; 0 is taken as the smallest step of float64, so that one
            sure mistake costs 36 and not infinity.

    Raises:
        DataError: If the arrays are empty, do not fit, or hold NaN or what is no probability.
    """
    true, table = _checked(targets, probabilities)
    if true.ndim == 2:
        likelihood = np.where(true, table, 1 - table)
    else:
        likelihood = table[np.arange(len(true)), true] / table.sum(axis=1)
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).eps)).mean())


def brier_score(targets: ArrayLike, probabilities: ArrayLike) -> float:
    """Returns the mean squared distance between probabilities and what was true.

    Args:
        targets: Class indices, where the squares of a row are summed (Brier, 1950: 0 to 2), or a table of
            0 and 1, where the mean is over all cells (0 to 1).
        probabilities: Shape `(examples, classes)`.

    Raises:
        DataError: If the arrays are empty, do not fit, or hold NaN or what is no probability.
    """
    true, table = _checked(targets, probabilities)
    if true.ndim == 2:
        return float(np.square(table - true).mean())
    return float(np.square(table - np.eye(table.shape[1])[true]).sum(axis=1).mean())


def _checked(targets: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray, NDArray[np.float64]]:
    multi_label = np.ndim(targets) == 2
    table = check_probabilities(probabilities, multi_label=multi_label)
    if not multi_label:
        true = check_classes(targets, what="targets", num_classes=table.shape[1])
        check_same_length(targets=true, probabilities=table)
        return true, table
    marks = check_multi_hot(targets, what="targets")
    check_same_length(targets=marks, probabilities=table)
    if marks.shape != table.shape:
        raise DataError(
            f"The targets have {marks.shape[1]} columns and the probabilities {table.shape[1]}; one column a "
            "label, in the same order, is needed in both."
        )
    return marks, table
