"""From targets and probabilities to an `Evaluation`: figures with intervals, per label, and the mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasllm.errors import DataError
from kerasllm.evaluation.table import format_table
from kerasllm.metrics.bootstrap import percentile_interval, resample_classes, resample_labels
from kerasllm.metrics.calibration import CalibrationBins, brier_score, calibration_bins, log_loss
from kerasllm.metrics.classification import Counts, accuracy, confusion_matrix, count
from kerasllm.metrics.validation import (
    check_classes,
    check_multi_hot,
    check_probabilities,
    check_same_length,
)

__all__ = ["Evaluation", "Mistake", "evaluate_classification"]

Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Mistake:
    """An example that the model got wrong.

    Attributes:
        row: Its place in the data, from 0.
        text: The text, `None` where it was not given.
        target: The true label; several are joined by commas.
        predicted: The label that the model gave.
        score: How sure the model was, from 0 to 1.
    """

    row: int
    text: str | None
    target: str
    predicted: str
    score: float


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How good a classifier is on some examples; every value but `mistakes` is in `to_dict()`.

    Attributes:
        labels: Names of the labels, in the order of the columns.
        num_rows: Number of examples.
        multi_label: Whether an example may have several labels.
        accuracy: Share of examples that are right; with several labels, right in every one.
        macro_f1: Mean F1 of the labels, each counted alike.
        weighted_f1: Mean F1 of the labels, each by its support.
        micro_f1: F1 over all decisions; for a single label the same as the accuracy.
        log_loss: Mean cost of the probabilities in nats.
        brier_score: Mean squared distance of the probabilities.
        calibration_error: Expected calibration error over 15 bins of equal width.
        per_label: `precision`, `recall`, `f1` and `support` of each label.
        confusion_matrix: Counts by true label (row) and predicted label (column); `None` with several
            labels an example.
        calibration_bins: `lower`, `upper`, `count`, `confidence` and `frequency` of each bin that is not
            empty.
        intervals: Bootstrap interval of `accuracy`, `macro_f1`, `weighted_f1` and `micro_f1`.
        confidence: Confidence level of the intervals.
        mistakes: What the model was most sure of and got wrong, the surest first.
    """

    labels: tuple[str, ...]
    num_rows: int
    multi_label: bool
    accuracy: float
    macro_f1: float
    weighted_f1: float
    micro_f1: float
    log_loss: float
    brier_score: float
    calibration_error: float
    per_label: Mapping[str, Mapping[str, float]]
    confusion_matrix: list[list[int]] | None
    calibration_bins: list[dict[str, float]]
    intervals: Intervals
    confidence: float
    mistakes: tuple[Mistake, ...]

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON: everything but the mistakes, which quote the data."""
        values = {name: value for name, value in vars(self).items() if name != "mistakes"}
        intervals = {name: list(ends) for name, ends in self.intervals.items()}
        return {**values, "labels": list(self.labels), "intervals": intervals}

    def __repr__(self) -> str:
        figures = [self._with_margin(name) for name in ("accuracy", "macro_f1")]
        return f"Evaluation({', '.join(figures)}, n={self.num_rows})"

    def _with_margin(self, name: str) -> str:
        text = f"{name}={getattr(self, name):.2f}"
        if name in self.intervals:
            low, high = self.intervals[name]
            text += f" ± {(high - low) / 2:.2f}"
        return text

    def __str__(self) -> str:
        return format_table(self)


def evaluate_classification(
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    labels: Sequence[str],
    multi_label: bool = False,
    threshold: float = 0.5,
    confidence: float = 0.95,
    num_bootstrap: int = 1000,
    seed: int = 0,
    texts: Sequence[str] | None = None,
    num_mistakes: int = 20,
) -> Evaluation:
    """Measures predicted probabilities against what is right.

    Args:
        targets: Class indices of shape `(examples,)`, or with `multi_label` a table of 0 and 1.
        probabilities: Shape `(examples, labels)`.
        labels: Name of each column.
        multi_label: Whether an example may have several labels. Defaults to `False`.
        threshold: With `multi_label`, a label whose probability lies above it counts as predicted. Defaults
            to `0.5`.
        confidence: Confidence level of the intervals. Defaults to `0.95`.
        num_bootstrap: Number of resamples for the intervals; 0 for none. Defaults to `1000`.
        seed: Same seed, same intervals. Defaults to `0`.
        texts: The examples, to be shown with the mistakes. Defaults to `None`.
        num_mistakes: How many mistakes to keep. Defaults to `20`.

    Returns:
        The figures.

    Raises:
        DataError: If there are no examples, the shapes do not fit, a value is NaN, or the probabilities are
            none.

    Example:
    >>> evaluate_classification([0, 1], [[0.9, 0.1], [0.2, 0.8]], labels=["negative", "positive"])
    Evaluation(accuracy=1.00 ± 0.00, macro_f1=1.00 ± 0.00, n=2)
    """
    names = tuple(labels)
    table = check_probabilities(probabilities, multi_label=multi_label)
    _check_labels(names, table)
    if multi_label:
        truth: NDArray = check_multi_hot(targets, what="targets")
        guess: NDArray = table > threshold
    else:
        truth = check_classes(targets, what="targets", num_classes=len(names))
        guess = table.argmax(axis=1)
    check_same_length(targets=truth, probabilities=table)
    if texts is not None and len(texts) != len(table):
        raise DataError(
            f"There are {len(texts):,} texts for {len(table):,} examples; give one for each, or none."
        )

    confusion = None if multi_label else confusion_matrix(truth, guess, num_classes=len(names))
    counts = count(truth, guess, num_classes=len(names))
    bins = calibration_bins(truth, table)
    intervals: Intervals = {}
    if num_bootstrap:
        intervals = _intervals(truth, guess, confusion, confidence, num_bootstrap, seed)
    return Evaluation(
        labels=names,
        num_rows=len(table),
        multi_label=multi_label,
        accuracy=accuracy(truth, guess),
        macro_f1=float(counts.average_f1("macro")),
        weighted_f1=float(counts.average_f1("weighted")),
        micro_f1=float(counts.average_f1("micro")),
        log_loss=log_loss(truth, table),
        brier_score=brier_score(truth, table),
        calibration_error=bins.error,
        per_label=_per_label(names, counts),
        confusion_matrix=None if confusion is None else confusion.tolist(),
        calibration_bins=_bin_rows(bins),
        intervals=intervals,
        confidence=confidence,
        mistakes=_mistakes(truth, guess, table, names, texts, num_mistakes),
    )


def _check_labels(names: tuple[str, ...], table: NDArray) -> None:
    if len(names) != table.shape[1]:
        raise DataError(
            f"The probabilities have {table.shape[1]} columns, but there are {len(names)} labels: one "
            "column a label, in the same order, is needed."
        )
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"The labels {twice} occur twice. Give each column a name of its own.")


def _per_label(names: tuple[str, ...], counts: Counts) -> dict[str, dict[str, float]]:
    columns = zip(names, counts.precision, counts.recall, counts.f1, counts.support, strict=True)
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for name, precision, recall, f1, support in columns
    }


def _bin_rows(bins: CalibrationBins) -> list[dict[str, float]]:
    columns = (bins.edges[:-1], bins.edges[1:], bins.count, bins.confidence, bins.frequency)
    return [
        {
            "lower": float(lower),
            "upper": float(upper),
            "count": int(size),
            "confidence": float(sure),
            "frequency": float(right),
        }
        for lower, upper, size, sure, right in zip(*columns, strict=True)
        if size
    ]


def _intervals(
    truth: NDArray, guess: NDArray, confusion: NDArray | None, confidence: float, num_samples: int, seed: int
) -> Intervals:
    if confusion is None:
        counts, right = resample_labels(truth, guess, num_samples=num_samples, seed=seed)
    else:
        counts = resample_classes(confusion, num_samples=num_samples, seed=seed)
        right = counts.true_positives.sum(-1) / len(truth)
    drawn = {"accuracy": right}
    drawn |= {f"{average}_f1": counts.average_f1(average) for average in ("macro", "weighted", "micro")}
    return {name: percentile_interval(values, confidence) for name, values in drawn.items()}


def _mistakes(
    truth: NDArray,
    guess: NDArray,
    table: NDArray,
    names: tuple[str, ...],
    texts: Sequence[str] | None,
    limit: int,
) -> tuple[Mistake, ...]:
    if truth.ndim == 2:
        sure = np.where(guess, table, 1 - table)
        score = np.where(guess != truth, sure, -1).max(axis=1)
        wrong = np.flatnonzero((guess != truth).any(axis=1))
    else:
        score = table.max(axis=1)
        wrong = np.flatnonzero(guess != truth)
    order = wrong[np.argsort(-score[wrong], kind="stable")][:limit]
    return tuple(
        Mistake(
            row=int(row),
            text=None if texts is None else texts[row],
            target=_named(truth[row], names),
            predicted=_named(guess[row], names),
            score=float(score[row]),
        )
        for row in order
    )


def _named(value: NDArray, names: tuple[str, ...]) -> str:
    if np.ndim(value) == 0:
        return names[int(value)]
    return ", ".join(name for name, there in zip(names, value, strict=True) if there) or "none"
