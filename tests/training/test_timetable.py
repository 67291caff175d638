"""Which step belongs to which epoch."""

import itertools

import pytest

from kerasllm.training.timetable import Timetable, windows


def test_epochs_may_differ_in_length_and_end_in_a_partial_window():
    table = Timetable([5, 4, 1], accumulate=2)
    assert (table.steps, table.total) == ([3, 2, 1], 6)
    assert [table.place(step) for step in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    assert [step for step in range(1, 7) if table.ends_epoch(step)] == [3, 5, 6]
    assert table.batches_of(2) == (0, range(4, 5))
    assert table.batches_of(4) == (1, range(2, 4))


@pytest.mark.parametrize("first", range(7))
def test_windows_from_any_step_are_the_tail_of_all_windows(first):
    table = Timetable([5, 4, 1], accumulate=2)
    stream = [(epoch, batch) for epoch, count in enumerate(table.num_batches) for batch in range(count)]

    def make(epoch, batch):
        return itertools.islice(stream, stream.index((epoch, batch)), None)

    whole = list(windows(make, table))
    assert [len(window) for window in whole] == [2, 2, 1, 2, 2, 1]
    assert list(windows(make, table, first_step=first)) == whole[first:]
