import time

import numpy as np
import pytest

from kerasllm.errors import DataError
from kerasllm.metrics import accuracy, bootstrap_interval, confusion_matrix, f1
from kerasllm.metrics.bootstrap import percentile_interval, resample_classes, resample_labels


def classified(size, classes, seed=0, right=0.8):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, size)
    return targets, np.where(rng.random(size) < right, targets, rng.integers(0, classes, size))


def test_the_interval_of_a_share_is_the_binomial_one():
    """The bootstrap distribution of a mean of zeros and ones is a binomial: sqrt(p (1 - p) / n) wide."""
    right = np.array([1] * 800 + [0] * 200)
    low, high = bootstrap_interval(np.mean, right, num_samples=4000)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert low == pytest.approx(0.8 - half, abs=0.002)
    assert high == pytest.approx(0.8 + half, abs=0.002)


def test_rows_stay_together_and_the_seed_decides():
    targets, predictions = classified(200, 3)
    first = bootstrap_interval(accuracy, targets, predictions, num_samples=200, seed=1)
    assert first == bootstrap_interval(accuracy, targets, predictions, num_samples=200, seed=1)
    assert first != bootstrap_interval(accuracy, targets, predictions, num_samples=200, seed=2)
    assert first[0] <= accuracy(targets, predictions) <= first[1]
    wide = bootstrap_interval(accuracy, targets, predictions, num_samples=200, seed=1, confidence=0.99)
    assert wide[0] <= first[0] <= first[1] <= wide[1]


def test_it_covers_the_truth_about_as_often_as_it_says():
    """300 data sets of 200 rows with a true accuracy of 0.8: 95 % of the intervals should hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        right = rng.random(200) < 0.8
        matrix = np.diag([int(right.sum()), 0])
        matrix[0, 1] = 200 - right.sum()
        counts = resample_classes(matrix, num_samples=400, seed=trial)
        low, high = percentile_interval(counts.true_positives.sum(-1) / 200, 0.95)
        held += low <= 0.8 <= high
    assert 0.90 < held / 300 < 0.985


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_drawing_cells_is_as_good_as_drawing_rows(average):
    targets, predictions = classified(300, 4)
    counts = resample_classes(confusion_matrix(targets, predictions), num_samples=4000, seed=0)
    fast = percentile_interval(counts.average_f1(average), 0.95)
    slow = bootstrap_interval(
        lambda t, p: f1(t, p, average=average, num_classes=4), targets, predictions, num_samples=2000
    )
    assert fast == pytest.approx(slow, abs=0.006)


def test_drawing_rows_of_a_table_is_as_good_as_the_slow_way():
    rng = np.random.default_rng(0)
    targets = rng.random((300, 4)) < 0.4
    predictions = targets ^ (rng.random((300, 4)) < 0.1)
    counts, exact = resample_labels(targets, predictions, num_samples=3000, seed=0)
    for average in ("macro", "micro"):
        fast = percentile_interval(counts.average_f1(average), 0.95)
        slow = bootstrap_interval(lambda t, p, a=average: f1(t, p, average=a), targets, predictions)
        assert fast == pytest.approx(slow, abs=0.006)
    slow = bootstrap_interval(accuracy, targets, predictions)
    assert percentile_interval(exact, 0.95) == pytest.approx(slow, abs=0.012)


def test_every_draw_has_as_many_examples_as_there_are():
    targets, predictions = classified(123, 5)
    matrix = confusion_matrix(targets, predictions)
    counts = resample_classes(matrix, num_samples=50, seed=0)
    assert counts.support.shape == (50, 5)
    assert (counts.support.sum(-1) == 123).all()
    assert (counts.predicted.sum(-1) == 123).all()
    assert (counts.true_positives <= np.minimum(counts.support, counts.predicted)).all()


def test_nothing_right_at_all():
    counts = resample_classes(np.array([[0, 3], [2, 0]]), num_samples=10, seed=0)
    assert counts.true_positives.sum() == 0
    assert (counts.average_f1("macro") == 0).all()


@pytest.mark.parametrize(("rows", "classes"), [(10_000, 2), (10_000, 20), (10_000, 200)])
def test_a_thousand_draws_of_ten_thousand_rows_take_less_than_a_second(rows, classes):
    matrix = confusion_matrix(*classified(rows, classes), num_classes=classes)
    start = time.process_time()
    resample_classes(matrix, num_samples=1000, seed=0).average_f1("macro")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"confidence": 1.0}, r"`confidence` is 1.0, but must lie between 0 and 1, such as 0.95."),
        ({"confidence": 95}, r"`confidence` is 95, but must lie between 0 and 1, such as 0.95."),
        ({"num_samples": 0}, r"`num_samples` is 0, but at least one draw is needed for an interval."),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(DataError, match=match):
        bootstrap_interval(np.mean, [0, 1], **settings)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"The arrays differ in length: {'array 0': 2, 'array 1': 3}"):
        bootstrap_interval(accuracy, [0, 1], [0, 1, 1])
    with pytest.raises(DataError, match=r"There is nothing to measure"):
        bootstrap_interval(np.mean, [])
