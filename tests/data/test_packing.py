"""Packed rows hold whole texts, side by side, and hardly any padding."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm.data.packing import best_fit
from kerasllm.errors import ConfigError

ROW = 64


def plain_best_fit(lengths):
    """The same rule, the slow way: every row is looked at."""
    room, chosen = [], {}
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        fitting = [row for row in range(len(room)) if room[row] >= lengths[text]]
        if fitting:
            row = min(fitting, key=lambda row: room[row])
        else:
            room.append(ROW)
            row = len(room) - 1
        room[row] -= lengths[text]
        chosen[text] = row
    return len(room), sorted(room)


def one_after_the_other(lengths):
    rows, room = 0, 0
    for length in lengths:
        if length > room:
            rows, room = rows + 1, ROW
        room -= length
    return rows


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(st.integers(1, ROW), max_size=60))
def test_texts_lie_side_by_side_in_the_fewest_rows_that_best_fit_finds(lengths):
    lengths = np.array(lengths, np.int64)
    rows, starts = best_fit(lengths, ROW)
    used = np.zeros((int(rows.max(initial=-1)) + 1, ROW), int)
    for row, start, length in zip(rows, starts, lengths, strict=True):
        assert start + length <= ROW
        used[row, start : start + length] += 1
    assert used.max(initial=0) <= 1
    count, room = plain_best_fit(lengths.tolist())
    assert len(used) == count
    assert sorted((used == 0).sum(axis=1)) == room
    assert all(not row[row.argmin() :].any() or row.all() for row in used)  # no gaps between texts
    assert count <= one_after_the_other(lengths.tolist())


def test_long_tailed_texts_leave_a_percent_empty():
    lengths = np.clip(np.random.default_rng(0).lognormal(4, 0.8, 20_000), 10, 300).astype(np.int64)
    rows, _ = best_fit(lengths, 512)
    assert lengths.sum() / (512 * (rows.max() + 1)) > 0.99


def test_a_text_that_fits_in_no_row_is_an_error():
    with pytest.raises(
        ConfigError, match=r"A text has 65 tokens, but the rows .* have 64\. Set `training\.pack"
    ):
        best_fit(np.array([3, 65]), ROW)
