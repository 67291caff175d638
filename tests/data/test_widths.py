"""The padded lengths of a run: few, and the best there are."""

import itertools

import numpy as np
import pytest

from kerasllm.data.widths import choose_widths, width_of


def padded(lengths, widths):
    return int(width_of(lengths, np.asarray(widths)).sum())


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_no_other_widths_waste_less(most):
    lengths = np.clip(np.random.default_rng(most).lognormal(3, 0.9, 300).astype(int), 1, 70)
    widths = choose_widths(lengths, most)
    assert len(widths) <= most
    longest = widths[-1]
    others = range(8, int(longest), 8)
    best = min(padded(lengths, [*chosen, longest]) for chosen in itertools.combinations(others, most - 1))
    assert padded(lengths, widths) == best


def test_no_more_widths_than_lengths():
    assert choose_widths(np.array([8, 8, 24]), 8).tolist() == [8, 24]
    assert choose_widths(np.array([5]), 3).tolist() == [8]
    assert choose_widths(np.array([], np.int64), 3).tolist() == [8]


def test_very_long_texts_have_coarser_widths():
    lengths = np.arange(1, 9000, 7)
    widths = choose_widths(lengths, 32)
    assert widths[-1] >= lengths.max()
    assert all(width % 24 == 0 for width in widths)
    assert padded(lengths, widths) < 1.05 * lengths.sum()
