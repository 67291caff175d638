"""Splits and leaks: shares kept, equal texts on one side, and what crosses over is found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.leaks import remove_leaks
from kerasllm.data.reading import read_records
from kerasllm.data.splits import split_records
from kerasllm.errors import DataError, LabelError


def rows(texts, labels=None, name="train_data"):
    return read_records((list(texts), list(labels or ["a"] * len(texts))), name=name)


def test_each_label_keeps_its_share():
    records = rows([f"text {row}" for row in range(1000)], ["a"] * 700 + ["b"] * 290 + ["c"] * 10)
    train, held_out = split_records(records, 0.2)
    assert [held_out.labels.count(name) for name in "abc"] == [140, 58, 2]
    assert train.num_rows + held_out.num_rows == 1000
    assert train.positions.tolist() == sorted(train.positions)


def test_duplicate_texts_stay_on_one_side():
    texts = [f"text {row % 50}" for row in range(200)] + [f"TEXT  {row}" for row in range(50)]
    train, held_out = split_records(rows(texts), 0.3, seed=1)
    sides = [{" ".join(text.lower().split()) for text in part.texts} for part in (train, held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert 60 <= held_out.num_rows <= 75


def test_added_rows_hardly_move_the_others():
    texts = [f"text {row}" for row in range(1000)]
    _, before = split_records(rows(texts), 0.2)
    _, after = split_records(rows([*texts, *[f"new {row}" for row in range(10)]]), 0.2)
    assert len(set(before.texts) - set(after.texts)) <= 5


def test_order_of_rows_does_not_matter():
    texts = [f"text {row}" for row in range(100)]
    _, one = split_records(rows(texts), 0.2)
    _, other = split_records(rows(texts[::-1]), 0.2)
    assert set(one.texts) == set(other.texts)


def test_rare_label_has_a_row_on_both_sides():
    records = rows([f"text {row}" for row in range(102)], ["a"] * 100 + ["b"] * 2)
    train, held_out = split_records(records, 0.1)
    assert (train.labels.count("b"), held_out.labels.count("b")) == (1, 1)


def test_multi_label_rows_are_spread_by_their_rarest_label():
    labels = [["common", "rare"] if row % 10 == 0 else ["common"] if row % 2 else [] for row in range(200)]
    _, held_out = split_records(rows([f"text {row}" for row in range(200)], labels), 0.2)
    assert sum("rare" in names for names in held_out.labels) == 4


def test_label_with_one_text_many_times_cannot_be_on_both_sides():
    with pytest.raises(
        LabelError, match=r"fewer than 2 different texts: 'b' \(3 rows\)\. A split that keeps"
    ):
        split_records(rows(["x", "y", "same", "same", "same"], ["a", "a", "b", "b", "b"]), 0.5)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 20])
def test_fraction_that_is_none(fraction):
    with pytest.raises(DataError, match=f"needs a fraction between 0 and 1, not {fraction}"):
        split_records(rows(["a", "b"]), fraction)


def test_single_text_cannot_be_split():
    with pytest.raises(
        DataError, match=r"cannot be split: a share of 0.5 of 2 rows with different texts is no row"
    ):
        split_records(rows(["a", "a"]), 0.5, stratify=False)


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_parts_are_never_empty_and_hold_every_row_once(labels, fraction, seed):
    labels = [*labels, *"aabbcc"]
    records = rows([f"text {row}" for row in range(len(labels))], labels)
    train, held_out = split_records(records, fraction, seed=seed)
    assert sorted([*train.texts, *held_out.texts]) == sorted(records.texts)
    assert set(train.labels) == set(held_out.labels) == set(labels)


def test_leaks_are_removed_from_training_and_counted():
    """Row D18: equal texts, and texts that are equal but for case and white space."""
    train = rows(["one", "two", "two", "Three", "four"])
    test = rows(["two", "three ", "five", "six"], name="test_data")
    left, report = remove_leaks(train, {"test": test})
    assert left.texts == ["one", "four"]
    leak = report.leaks[0]
    assert (leak.num_rows, leak.num_similar, leak.num_training_rows, leak.share) == (1, 1, 3, 0.5)
    assert str(report) == (
        "1 test row with a text that is in training, too, and 1 but for case and white space "
        "(50.0% of test; test_data[0] is train_data[1]; test_data[1] is like train_data[3])\n"
        "removed 3 training rows"
    )
    assert report.to_dict()["num_removed"] == 3


def test_pairs_leak_only_as_a_whole():
    train = read_records({"text": ["a", "a"], "text_pair": ["b", "c"], "label": ["x", "y"]})
    test = read_records({"text": ["a"], "text_pair": ["c"], "label": ["x"]})
    left, _ = remove_leaks(train, {"test": test})
    assert left.text_pairs == ["b"]


def test_no_leaks():
    train = rows(["a", "b"])
    left, report = remove_leaks(train, {"validation": rows(["c"]), "test": rows(["d"])})
    assert left is train
    assert str(report) == "no leaks"


def test_few_leaks_may_stay_where_told():
    train = rows([f"text {row}" for row in range(10)])
    held_out = rows([f"text {row}" for row in range(9, 19)])
    left, report = remove_leaks(train, {"test": held_out}, remove=False)
    assert left is train
    assert str(report).endswith("removed nothing")
