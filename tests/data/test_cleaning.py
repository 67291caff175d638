"""Cleaning steps: what each does, and what each counts."""

import pytest

from kerasllm.config.schema import CLEANING_STEPS
from kerasllm.data.cleaning import STEPS, TEXT_STEPS, clean
from kerasllm.data.reading import read_records
from kerasllm.errors import DataError


def rows(*texts, labels=None):
    return read_records((list(texts), labels or ["a"] * len(texts)), name="train_data")


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("strip", " a joy \n", "a joy"),
        ("unicode_nfc", "Cafe\u0301", "Caf\u00e9"),
        ("html_entities", "Tom &amp; Ann &#39;s &hellip;", "Tom & Ann 's …"),
        ("html_entities", "half &#xD800; a", "half \ufffd a"),
        ("html_entities", "R&D; AT&T", "R&D; AT&T"),
        ("control_characters", "a\x00b\x1f\x7f\x85\tc\r\nd", "ab\tc\r\nd"),
        ("control_characters", "zero\u200bwidth", "zero\u200bwidth"),
    ],
)
def test_step_changes_texts(step, before, after):
    cleaned, report = clean(rows("fine", before), [step])
    assert cleaned.texts == ["fine", after]
    assert report.steps[0].num_changed == (before != after)
    if before != after:
        assert report.steps[0].examples == ("train_data[1]",)


def test_rows_without_text_are_dropped():
    cleaned, report = clean(rows("a", "", " \t", "b"), ["drop_empty"])
    assert cleaned.texts == ["a", "b"]
    assert cleaned.where(1) == "train_data[3]"
    assert str(report) == "drop_empty: dropped 2 rows (e.g. train_data[1], train_data[2])"


def test_only_rows_with_equal_labels_are_duplicates():
    cleaned, report = clean(rows("a", "b", "a", "a", labels=["x", "x", "x", "y"]), ["drop_duplicates"])
    assert list(zip(cleaned.texts, cleaned.labels, strict=True)) == [("a", "x"), ("b", "x"), ("a", "y")]
    assert report.steps[0].num_dropped == 1


def test_duplicates_of_pairs_and_tags():
    source = {"text": ["a", "a", "a"], "text_pair": ["b", "b", "c"], "label": [["x", "y"], ["y", "x"], ["x"]]}
    cleaned, _ = clean(read_records(source), ["drop_duplicates"])
    assert cleaned.text_pairs == ["b", "c"]


def test_both_texts_of_a_pair_are_cleaned():
    records = read_records({"text": [" a", "b"], "text_pair": ["c", "d "], "label": ["x", "y"]})
    cleaned, report = clean(records, ["strip"])
    assert (cleaned.texts, cleaned.text_pairs) == (["a", "b"], ["c", "d"])
    assert report.steps[0].num_changed == 2


def test_steps_run_in_the_order_given():
    cleaned, report = clean(
        rows("a", " a", "\x01"), ["control_characters", "strip", "drop_empty", "drop_duplicates"]
    )
    assert cleaned.texts == ["a"]
    assert [step.num_changed + step.num_dropped for step in report.steps] == [1, 1, 1, 1]
    assert report.to_dict()[0] == {
        "step": "control_characters", "num_changed": 1, "num_dropped": 0, "examples": ["train_data[2]"]
    }  # fmt: skip


def test_unknown_step():
    with pytest.raises(
        DataError, match=r"\['lower'\] are no cleaning steps; expected some of \['strip', 'unicode_nfc'"
    ):
        clean(rows("a"), ["lower"])


def test_every_step_of_the_config_exists_and_says_when_it_runs():
    assert tuple(STEPS) == CLEANING_STEPS
    assert set(TEXT_STEPS) < set(STEPS)
    for step in STEPS.values():
        assert "Training only" in step.__doc__
