import itertools
import math

import numpy as np
import pytest

from kerasllm.errors import DataError
from kerasllm.metrics import brier_score, calibration_bins, expected_calibration_error, log_loss


def random_probabilities(seed, size, classes):
    rng = np.random.default_rng(seed)
    table = np.exp(rng.normal(size=(size, classes)) * 2)
    return rng.integers(0, classes, size), table / table.sum(axis=1, keepdims=True)


def test_the_error_is_the_gap_between_confidence_and_frequency():
    """By hand: of 10 decisions at 0.8, 6 are right (gap 0.2); of 10 at 0.6, all are (gap 0.4)."""
    probabilities = [[0.8, 0.2]] * 10 + [[0.4, 0.6]] * 10
    targets = [0] * 6 + [1] * 4 + [1] * 10
    assert expected_calibration_error(targets, probabilities) == pytest.approx(0.3)
    bins = calibration_bins(targets, probabilities, num_bins=10)
    assert bins.count.tolist() == [0, 0, 0, 0, 0, 10, 0, 10, 0, 0]
    assert bins.confidence[[5, 7]] == pytest.approx([0.6, 0.8])
    assert bins.frequency[[5, 7]] == pytest.approx([1.0, 0.6])
    assert np.isnan(bins.confidence[0])


def test_a_table_of_yes_and_no_is_measured_by_cell():
    """By hand: four cells at 0.9, of which three are yes."""
    assert expected_calibration_error([[1, 1], [1, 0]], [[0.9, 0.9], [0.9, 0.9]]) == pytest.approx(0.15)


def test_bins_are_closed_above_and_the_first_one_also_holds_zero():
    values = np.linspace(0, 1, 11)
    bins = calibration_bins(np.zeros((11, 1)), values[:, None], num_bins=10)
    assert bins.count.tolist() == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_that_of_a_loop_over_the_definition(seed):
    targets, table = random_probabilities(seed, 500, 4)
    edges, total = np.linspace(0, 1, 16), 0.0
    for lower, upper in itertools.pairwise(edges):
        chosen = [i for i in range(500) if lower < table[i].max() <= upper]
        if chosen:
            right = np.mean([table[i].argmax() == targets[i] for i in chosen])
            total += len(chosen) / 500 * abs(right - np.mean([table[i].max() for i in chosen]))
    assert expected_calibration_error(targets, table) == pytest.approx(total)


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_says_the_same(seed):
    reference = pytest.importorskip("sklearn.metrics")
    targets, table = random_probabilities(seed, 300, 4)
    assert log_loss(targets, table) == pytest.approx(reference.log_loss(targets, table, labels=range(4)))
    expected = reference.brier_score_loss(targets, table, labels=range(4), scale_by_half=False)
    assert brier_score(targets, table) == pytest.approx(expected)
    marks = (table > 0.3).astype(int)
    expected = np.mean([reference.log_loss(marks[:, i], table[:, i], labels=[0, 1]) for i in range(4)])
    assert log_loss(marks, table) == pytest.approx(expected)


def test_golden_values():
    """By hand: -(ln 0.8 + ln 0.25) / 2, and ((0.2² + 0.2²) + (0.75² + 0.75²)) / 2."""
    targets, table = [0, 1], [[0.8, 0.2], [0.75, 0.25]]
    assert log_loss(targets, table) == pytest.approx(-(math.log(0.8) + math.log(0.25)) / 2)
    assert brier_score(targets, table) == pytest.approx(0.6025)
    assert brier_score([[1, 0], [0, 1]], table) == pytest.approx(0.6025 / 2)


def test_a_sure_mistake_costs_much_but_not_infinity():
    assert log_loss([1], [[1.0, 0.0]]) == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("metric", [log_loss, brier_score, expected_calibration_error])
@pytest.mark.parametrize(
    ("targets", "probabilities", "match"),
    [
        (
            [0, 1],
            [[0.5, 0.5], [math.nan, 0.5]],
            r"Row 1 of the probabilities is not finite \(NaN or infinite\). The model computes no usable "
            r"numbers: lower the learning rate, or choose another `dtype_policy`.",
        ),
        (
            [0, 1],
            [[2.0, -1.0], [0.1, 3.0]],
            r"2 rows \(0, 1\) of the probabilities are none: they must be between 0 and 1 and sum to 1 in "
            r"each row. Are these logits\? Apply softmax first.",
        ),
        ([[0, 1]], [[2.0, 0.0]], r"they must be between 0 and 1. Are these logits\? Apply sigmoid first."),
        (
            [0],
            [0.5],
            r"The probabilities have the shape \(1,\) and the type float64, but numbers, a row an example",
        ),
        ([0, 2], [[0.5, 0.5]] * 2, r"Row 1 of the targets is no class: 2. Classes go from 0 to 1."),
        ([0, math.nan], [[0.5, 0.5]] * 2, r"Row 1 of the targets is not finite"),
        ([0], [[0.5, 0.5]] * 2, r"differ in length: {'targets': 1, 'probabilities': 2}"),
        (
            [[0, 1, 1]],
            [[0.5, 0.5]],
            r"The targets have 3 columns and the probabilities 2; one column a label",
        ),
        (np.zeros(0), np.zeros((0, 2)), r"There is nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_refused(metric, targets, probabilities, match):
    with pytest.raises(DataError, match=match):
        metric(targets, probabilities)


def test_no_bins_are_refused():
    with pytest.raises(DataError, match=r"`num_bins` is 0, but at least 1 is needed."):
        calibration_bins([0], [[1.0]], num_bins=0)


def test_half_precision_probabilities_are_accepted():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    targets, table = random_probabilities(0, 100, 5)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert log_loss(targets, table.astype(dtype)) == pytest.approx(log_loss(targets, table), abs=0.02)
