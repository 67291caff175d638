import math

import numpy as np
import pytest

from kerasllm import metrics
from kerasllm.errors import DataError
from kerasllm.metrics import accuracy, confusion_matrix, f1, precision_recall_f1

# Golden values: scikit-learn 1.9.1, `precision_recall_fscore_support(TARGETS, PREDICTIONS, zero_division=0)`,
# `f1_score(..., average=...)`, on the arrays as they stand here.
TARGETS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
PREDICTIONS = [0, 0, 1, 1, 2, 2, 2, 2, 0, 2]


def test_golden_values_of_classes():
    assert accuracy(TARGETS, PREDICTIONS) == 0.6
    result = precision_recall_f1(TARGETS, PREDICTIONS)
    assert result.precision == pytest.approx([2 / 3, 0.5, 0.6, 0.0])
    assert result.recall == pytest.approx([2 / 3, 0.5, 0.75, 0.0])
    assert result.f1 == pytest.approx([2 / 3, 0.5, 2 / 3, 0.0])
    assert result.support.tolist() == [3, 2, 4, 1]
    assert f1(TARGETS, PREDICTIONS) == pytest.approx(0.4583333333)
    assert f1(TARGETS, PREDICTIONS, average="weighted") == pytest.approx(0.5666666667)
    assert f1(TARGETS, PREDICTIONS, average="micro") == pytest.approx(0.6)
    assert confusion_matrix(TARGETS, PREDICTIONS).tolist() == [
        [2, 1, 0, 0],
        [0, 1, 1, 0],
        [1, 0, 3, 0],
        [0, 0, 1, 0],
    ]


def test_golden_values_of_tables():
    targets = [[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]]
    predictions = [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert accuracy(targets, predictions) == 0.5
    result = precision_recall_f1(targets, predictions)
    assert result.precision == pytest.approx([1, 1, 0])
    assert result.recall == pytest.approx([1, 0.5, 0])
    assert result.f1 == pytest.approx([1, 2 / 3, 0])
    assert result.support.tolist() == [2, 2, 1]
    assert f1(targets, predictions) == pytest.approx(5 / 9)
    assert f1(targets, predictions, average="micro") == pytest.approx(2 / 3)
    assert f1(targets, predictions, average="weighted") == pytest.approx((2 * 1 + 2 * 2 / 3) / 5)


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_says_the_same_of_classes(seed):
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    classes, size = rng.integers(2, 12), rng.integers(5, 300)
    targets, predictions = rng.integers(0, classes, (2, size))
    expected = reference.precision_recall_fscore_support(
        targets, predictions, labels=range(classes), zero_division=0
    )
    result = precision_recall_f1(targets, predictions, num_classes=int(classes))
    for ours, theirs in zip(
        (result.precision, result.recall, result.f1, result.support), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs)
    for average in ("macro", "micro", "weighted"):
        assert f1(targets, predictions, average=average, num_classes=int(classes)) == pytest.approx(
            reference.f1_score(targets, predictions, average=average, zero_division=0)
        )
    assert accuracy(targets, predictions) == reference.accuracy_score(targets, predictions)
    expected = reference.confusion_matrix(targets, predictions, labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(targets, predictions, num_classes=int(classes)), expected)


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_says_the_same_of_tables(seed):
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    targets, predictions = rng.integers(0, 2, (2, rng.integers(20, 300), rng.integers(2, 8)))
    for average in ("macro", "micro", "weighted"):
        assert f1(targets, predictions, average=average) == pytest.approx(
            reference.f1_score(targets, predictions, average=average, zero_division=0)
        )
    assert accuracy(targets, predictions) == pytest.approx(reference.accuracy_score(targets, predictions))


def test_a_class_that_does_not_occur_is_left_out_of_the_macro_average():
    assert f1([0, 0, 1], [0, 0, 1], num_classes=5) == 1.0
    assert f1([0, 0, 1], [0, 4, 1], num_classes=5) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert f1([[1, 0]], [[1, 0]]) == 1.0
    assert f1([[0, 0]], [[0, 0]]) == 0.0


def test_floats_and_booleans_that_are_whole_are_classes():
    assert accuracy(np.array([0.0, 1.0]), [0, 1]) == 1.0
    assert accuracy([True, False], [1, 0]) == 1.0


@pytest.mark.parametrize(
    ("targets", "predictions", "match"),
    [
        ([], [], r"There is nothing to measure: the arrays have no rows. Give at least one example."),
        (
            [0, 1],
            [0],
            r"The arrays differ in length: {'targets': 2, 'predictions': 1}. Give one row an example",
        ),
        (
            [0, math.nan],
            [0, 1],
            r"Row 1 of the targets is not finite \(NaN or infinite\). Remove or repair these",
        ),
        (
            [math.inf] * 5,
            [0] * 5,
            r"5 rows \(0, 1, 2, …\) of the targets are not finite \(NaN or infinite\)\. Remove or repair",
        ),
        ([0, 1], [0, math.nan], r"Row 1 of the predictions is not finite"),
        ([0, 0.5], [0, 1], r"Row 1 of the targets is not a whole number. Give class indices from 0."),
        ([0, -1], [0, 1], r"Row 1 of the targets is no class: -1. Classes go from 0."),
        (
            ["a", "b"],
            [0, 1],
            r"The targets are of type <U1, but class indices from 0 are needed. Map them first.",
        ),
        ([[[0]]], [0], r"The targets have the shape \(1, 1, 1\), but one class index an example is needed"),
        ([[0, 2]], [[0, 1]], r"Row 0 of the targets is not made of 0 and 1"),
        ([[0, math.nan]], [[0, 1]], r"Row 0 of the targets is not made of 0 and 1"),
        ([[0, 1]], [1], r"The predictions have the shape \(1,\), but a row an example and a column a label"),
        (
            [[0, 1]],
            [[1]],
            r"The targets have 2 columns and the predictions 1; one column a label, in the same",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(targets, predictions, match):
    with pytest.raises(DataError, match=match):
        accuracy(targets, predictions)


def test_a_class_beyond_the_number_of_classes_is_refused():
    with pytest.raises(DataError, match=r"Row 1 of the predictions is no class: 3. Classes go from 0 to 2."):
        confusion_matrix([0, 1], [0, 3], num_classes=3)


def test_an_unknown_average_is_refused():
    with pytest.raises(
        DataError, match=r"`average` is 'best', but must be one of 'macro', 'micro', 'weighted'."
    ):
        f1([0], [0], average="best")


def test_the_public_names_are_sorted_and_documented():
    assert metrics.__all__ == sorted(metrics.__all__)
    assert all(getattr(metrics, name).__doc__ for name in metrics.__all__)
