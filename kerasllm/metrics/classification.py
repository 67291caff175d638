"""How often predicted classes are right: accuracy, precision, recall, F1, confusion matrix.

Single-label targets are class indices of shape `(examples,)`, multi-label ones tables of 0 and 1 of shape
`(examples, labels)`; every function takes either. Values agree with scikit-learn's, where a quotient 0/0
counts as 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasllm.errors import DataError
from kerasllm.metrics.validation import check_classes, check_multi_hot, check_same_length

__all__ = [
    "Counts",
    "PrecisionRecallF1",
    "accuracy",
    "confusion_matrix",
    "count",
    "f1",
    "precision_recall_f1",
]


@dataclass(frozen=True)
class PrecisionRecallF1:
    """One number a label in each array; `support` is how many examples have the label."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What F1 and its kin are made of; the last axis is the label, further ones in front are resamples.

    Attributes:
        true_positives: Examples that have the label and were given it.
        predicted: Examples that were given the label.
        support: Examples that have the label.
    """

    true_positives: NDArray
    predicted: NDArray
    support: NDArray

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the examples given a label that have it."""
        return _ratio(self.true_positives, self.predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the examples with a label that were given it."""
        return _ratio(self.true_positives, self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positives, self.predicted + self.support)

    def average_f1(self, average: str) -> NDArray[np.float64]:
        """Averages F1 over the labels that occur or were predicted.

        Args:
            average: `"macro"` counts each label alike, `"weighted"` by its support, `"micro"` pools all
                decisions.
        """
        if average == "micro":
            total = Counts(*(part.sum(-1) for part in (self.true_positives, self.predicted, self.support)))
            return total.f1
        if average == "weighted":
            weights = self.support
        elif average == "macro":
            weights = (self.support + self.predicted) > 0
        else:
            raise DataError(f"`average` is {average!r}, but must be one of 'macro', 'micro', 'weighted'.")
        return _ratio((self.f1 * weights).sum(-1), weights.sum(-1))


def accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the share of examples that are entirely right.

    For multi-label data that is the subset accuracy: every label of the example is as it should be.

    Args:
        targets: Class indices, or a table of 0 and 1.
        predictions: The same of what was predicted.

    Returns:
        Share between 0 and 1.

    Raises:
        DataError: If the arrays are empty, of different shapes, or hold NaN.

    Example:
    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    true, predicted = _pair(targets, predictions)
    right = true == predicted
    return float(np.mean(right if right.ndim == 1 else right.all(axis=1)))


def confusion_matrix(
    targets: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None
) -> NDArray[np.int64]:
    """Counts the examples of each class (row) by the class that was predicted (column).

    Args:
        targets: Class indices of shape `(examples,)`.
        predictions: Class indices of shape `(examples,)`.
        num_classes: Number of classes. Defaults to `None`, the highest index and one.

    Returns:
        Counts of shape `(num_classes, num_classes)`.

    Raises:
        DataError: If the arrays are empty, differ in length, or hold what is no class.

    Example:
    >>> confusion_matrix([0, 0, 1], [0, 1, 1]).tolist()
    [[1, 1], [0, 1]]
    """
    true = check_classes(targets, what="targets", num_classes=num_classes)
    predicted = check_classes(predictions, what="predictions", num_classes=num_classes)
    check_same_length(targets=true, predictions=predicted)
    size = num_classes or int(max(true.max(), predicted.max())) + 1
    return np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)


def precision_recall_f1(
    targets: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None
) -> PrecisionRecallF1:
    """Returns precision, recall, F1 and support of each label.

    Args:
        targets: Class indices, or a table of 0 and 1.
        predictions: The same of what was predicted.
        num_classes: Number of classes, for class indices. Defaults to `None`, the highest and one.

    Raises:
        DataError: If the arrays are empty, of different shapes, or hold NaN.

    Example:
    >>> precision_recall_f1([0, 0, 1, 1], [0, 1, 1, 1]).recall.tolist()
    [0.5, 1.0]
    """
    counts = count(targets, predictions, num_classes=num_classes)
    return PrecisionRecallF1(counts.precision, counts.recall, counts.f1, counts.support)


def f1(
    targets: ArrayLike, predictions: ArrayLike, *, average: str = "macro", num_classes: int | None = None
) -> float:
    """Returns F1 averaged over the labels.

    The macro average leaves out labels that neither occur nor were predicted, as scikit-learn does for
    class indices. (For tables it would count such a column as 0.)

    Args:
        targets: Class indices, or a table of 0 and 1.
        predictions: The same of what was predicted.
        average: `"macro"`, `"weighted"` or `"micro"`. Defaults to `"macro"`.
        num_classes: Number of classes, for class indices. Defaults to `None`, the highest and one.

    Raises:
        DataError: If the arrays are empty, of different shapes, or hold NaN, or `average` is unknown.

    Example:
    >>> round(f1([0, 0, 1, 1], [0, 1, 1, 1]), 4)
    0.7333
    """
    counts = count(targets, predictions, num_classes=num_classes)
    return float(counts.average_f1(average))


def count(targets: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> Counts:
    """Counts true positives, predictions and support of each label."""
    true, predicted = _pair(targets, predictions, num_classes)
    if true.ndim == 2:
        return Counts((true & predicted).sum(0), predicted.sum(0), true.sum(0))
    size = num_classes or int(max(true.max(), predicted.max())) + 1
    right = true[true == predicted]
    return Counts(*(np.bincount(part, minlength=size) for part in (right, predicted, true)))


def _pair(
    targets: ArrayLike, predictions: ArrayLike, num_classes: int | None = None
) -> tuple[NDArray, NDArray]:
    true: NDArray
    predicted: NDArray
    if np.ndim(targets) == 2 or np.ndim(predictions) == 2:
        true = check_multi_hot(targets, what="targets")
        predicted = check_multi_hot(predictions, what="predictions")
    else:
        true = check_classes(targets, what="targets", num_classes=num_classes)
        predicted = check_classes(predictions, what="predictions", num_classes=num_classes)
    check_same_length(targets=true, predictions=predicted)
    if true.shape != predicted.shape:
        raise DataError(
            f"The targets have {true.shape[1]} columns and the predictions {predicted.shape[1]}; one "
            "column a label, in the same order, is needed in both."
        )
    return true, predicted


def _ratio(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    return np.divide(numerator, np.maximum(denominator, 1), dtype=np.float64)
