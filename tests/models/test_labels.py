"""Class names and the meaning of logits, from a config."""

import pytest

from kerasllm.errors import PresetError
from kerasllm.models.labels import read_labels, read_problem_type


def test_labels_are_in_the_order_of_the_logits():
    config = {"id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(9, -1, -1)}}}
    assert read_labels(config, 11, source="x") == tuple("abcdefghijk")


def test_without_labels_they_are_numbered():
    assert read_labels({}, 2, source="x") == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    "id2label",
    [
        {"0": "a"},
        {"0": "a", "2": "b"},
        {"0": "a", "1": "a"},
        {"0": "a", "x": "b"},
        {"0": "a", "1": 3},
        ["a", "b"],
    ],
)
def test_labels_that_do_not_fit_are_refused(id2label):
    with pytest.raises(
        PresetError, match=r"`id2label` in the `config.json` of `x` must give each of its 2 classes"
    ):
        read_labels({"id2label": id2label}, 2, source="x")


@pytest.mark.parametrize(
    ("config", "num_classes", "expected"),
    [
        ({}, 1, "regression"),
        ({}, 2, "single_label_classification"),
        ({"problem_type": None}, 3, "single_label_classification"),
        ({"problem_type": "multi_label_classification"}, 3, "multi_label_classification"),
    ],
)
def test_problem_type(config, num_classes, expected):
    assert read_problem_type(config, num_classes, source="x") == expected


def test_unknown_problem_type():
    with pytest.raises(
        PresetError, match=r"is 'multi_label', but.*Did you mean `multi_label_classification`\?"
    ):
        read_problem_type({"problem_type": "multi_label"}, 2, source="x")
