"""Label maps: stable, and told apart from what they are not."""

import numpy as np
import pytest

from kerasllm.data.labels import LabelMap, select_labels
from kerasllm.data.reading import read_records
from kerasllm.errors import LabelError


def rows(*labels):
    return read_records(([f"text {row}" for row in range(len(labels))], list(labels)), name="train_data")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        ([10, 9, 2], ("2", "9", "10")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([True, False], ("False", "True")),
        ([-1, 1], ("-1", "1")),
        ([-2, -1, 0, 1, 2], ("-2", "-1", "0", "1", "2")),
        (["007", "7"], ("007", "7")),
    ],
)
def test_map_does_not_depend_on_the_order_of_rows(labels, names):
    assert LabelMap.fit(rows(*labels)).names == names
    assert LabelMap.fit(rows(*reversed(labels))).names == names


def test_single_label_targets():
    targets = LabelMap(("neg", "pos")).encode(rows("pos", "neg", "pos"))
    assert targets.dtype == np.int32
    assert targets.tolist() == [1, 0, 1]


def test_multi_label_targets():
    records = rows(["b", "a"], [], ["c"])
    label_map = LabelMap.fit(records)
    assert label_map == LabelMap(("a", "b", "c"), multi_label=True)
    targets = label_map.encode(records)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_map_survives_json():
    label_map = LabelMap(("a", "b"), multi_label=True)
    assert LabelMap.from_dict(label_map.to_dict()) == label_map


def test_told_names_keep_their_order():
    assert LabelMap.fit(rows("neg", "pos"), names=["pos", "neg"]).names == ("pos", "neg")


def test_minus_one_may_be_told_to_be_a_class():
    assert LabelMap.fit(rows(-1, 0, 1), names=["-1", "0", "1"]).names == ("-1", "0", "1")


def test_one_tag_in_some_rows_can_be_learned():
    assert LabelMap.fit(rows(["a"], [])).names == ("a",)


def test_the_same_tags_everywhere_cannot():
    with pytest.raises(LabelError, match=r"All 2 rows of `train_data` have the same labels \['0', '1'\]"):
        LabelMap.fit(rows([0, 1], [1, 0]))


def test_no_tags_at_all():
    with pytest.raises(LabelError, match="No row of `train_data` has a label; a classifier needs at least 2"):
        LabelMap.fit(rows([], []))


def test_unknown_label_is_named_with_its_row():
    message = r"not among \['neg', 'pos'\]: 'Pos' \(1 row, e.g. train_data\[1\]\). Did you mean 'pos'"
    with pytest.raises(LabelError, match=message):
        LabelMap(("neg", "pos")).encode(rows("neg", "Pos"))


def test_rows_of_another_kind():
    with pytest.raises(LabelError, match=r"`train_data\[0\]`: expected one label in every row"):
        LabelMap(("a", "b")).encode(rows(["a"]))
    with pytest.raises(LabelError, match=r"expected a list of labels in every row"):
        LabelMap(("a", "b"), multi_label=True).encode(rows("a"))
    with pytest.raises(LabelError, match="`data` has no labels, which are needed here"):
        LabelMap(("a", "b")).encode(read_records([{"text": "a"}], require_label=False))


def test_selection_drops_other_rows_and_counts_them():
    selected, names, dropped = select_labels(rows("a", "c", "b", "c"), ["b", "a"], other_labels="drop")
    assert (selected.labels, names, dropped) == (["a", "b"], ["b", "a"], 2)
    assert selected.where(1) == "train_data[2]"


def test_mapping_renames_and_joins():
    selected, names, dropped = select_labels(rows(1, 2, 3), {"1": "low", "2": "low", "3": "high"})
    assert (selected.labels, names, dropped) == (["low", "low", "high"], ["low", "high"], 0)


def test_selection_of_tags_keeps_the_rows():
    records = rows(["a", "x"], ["x"], ["b", "a"])
    with pytest.raises(LabelError, match=r"not among \['a', 'b'\]: 'x' \(2 rows"):
        select_labels(records, ["a", "b"])
    selected, _, dropped = select_labels(records, ["a", "b"], other_labels="drop")
    assert (selected.labels, dropped) == ([["a"], [], ["b", "a"]], 2)
