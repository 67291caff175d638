import pytest
from scipy.stats import binomtest

from kerasllm.errors import DataError
from kerasllm.metrics.proportions import wilson_interval


@pytest.mark.parametrize(("count", "size", "confidence"), [(10, 100, 0.95), (5, 10, 0.9), (0, 7, 0.99)])
def test_the_interval_is_that_of_scipy(count, size, confidence):
    expected = binomtest(count, size).proportion_ci(confidence, method="wilson")
    found = wilson_interval(count / size, size, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_and_all_have_an_interval_too():
    assert wilson_interval(0.0, 100) == pytest.approx((0.0, 0.0369935), abs=1e-6)
    assert wilson_interval(1.0, 100)[1] == 1.0


def test_impossible_numbers_are_refused():
    with pytest.raises(DataError, match="`size` is 0, but at least one observation"):
        wilson_interval(0.1, 0)
    with pytest.raises(DataError, match=r"`share` is 1.5, but must lie between 0 and 1"):
        wilson_interval(1.5, 10)
    with pytest.raises(DataError, match="`confidence` is 95, but must lie between 0 and 1"):
        wilson_interval(0.5, 10, 95)
