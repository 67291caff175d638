"""Preparing rows for training: the order of things, what is refused, and what is only warned of."""

# ruff: noqa: E501 - a case is a row of a table, and its message stays whole

import logging

import pytest

from kerasllm.config.schema import DataConfig
from kerasllm.data.prepare import prepare
from kerasllm.errors import DataError, LabelError


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode() + b"\n"


def write(directory, name: str, content: bytes) -> str:
    (directory / name).write_bytes(content)
    return name


def csv(*rows: str) -> bytes:
    return lines("text,label", *rows)


BALANCED = [f"text {row},{'pos' if row % 2 else 'neg'}" for row in range(20)]
PREPARED = [
    (
        "D13: one class",
        {},
        csv(*[f"text {row},a" for row in range(1200)]),
        r"All 1,200 rows of `.*` have the label 'a'; a classifier needs at least 2 labels",
    ),
    (
        "D14: one row of a class",
        {},
        csv(*BALANCED, "once,odd"),
        r"labels with fewer than 2 different texts: 'odd' \(1 row\)",
    ),
    (
        "D14: three parts",
        {"test": 0.2},
        csv(*BALANCED, "once,odd", "twice,odd"),
        r"fewer than 3 different texts: 'odd' \(2 rows\)",
    ),
    (
        "D11: empty texts",
        {},
        csv(*BALANCED, " ,pos", ",neg"),
        r"Nothing is left of the text after cleaning in 2 rows \(reviews.csv line 22, reviews.csv line 23\).*`cleaning=\['strip', 'drop_duplicates', 'drop_empty'\]` or `-s 'data.cleaning=\[strip,drop_duplicates,drop_empty\]'`",
    ),
    (
        "D11: empty after cleaning",
        {"cleaning": ["control_characters"]},
        csv(*BALANCED, "\x01,pos"),
        r"Nothing is left of the text after cleaning in 1 row",
    ),
    (
        "other labels",
        {"labels": ["pos", "neg"]},
        csv(*BALANCED, "a,Neg", "b,Neg"),
        r"labels that are not among \['pos', 'neg'\]: 'Neg' \(2 rows, e.g. reviews.csv line 22\). Did you mean 'neg'\?.*`other_labels='drop'` \(`-s data.other_labels=drop`\)",
    ),
    (
        "numbers for names",
        {"labels": ["bad", "good"]},
        csv(*[f"text {row},{row % 2}" for row in range(20)]),
        r"To name numbers, map them, e.g. `labels=\{'0': 'bad', '1': 'good'\}`",
    ),
    (
        "D17: out of range",
        {"labels": {"0": "bad", "1": "good"}},
        csv(*[f"text {row},{row % 3}" for row in range(20)]),
        r"not among \['0', '1'\]: '2' \(6 rows, e.g. reviews.csv line 4\)",
    ),
    (
        "D17: minus one",
        {},
        csv(*[f"text {row},{row % 3 - 1}" for row in range(21)]),
        r"has the label -1 \(7 rows, e.g. .*\) beside \['0', '1'\]. If it marks rows without a label, leave them out with `labels=\['0', '1'\]` and `other_labels='drop'`; if it is a class, say so with `labels=\['-1', '0', '1'\]`",
    ),
    (
        "no known label",
        {"labels": ["x", "y"], "other_labels": "drop"},
        csv(*BALANCED),
        r"No row of `.*` has one of the labels \['x', 'y'\]; it has \['neg', 'pos'\]",
    ),
]


@pytest.mark.parametrize(
    ("config", "content", "message"), [row[1:] for row in PREPARED], ids=[row[0] for row in PREPARED]
)
def test_rows_that_cannot_be_learned_from(tmp_path, config, content, message):
    path = write(tmp_path, "reviews.csv", content)
    with pytest.raises(DataError, match=message):
        prepare(DataConfig(train=path, **config), seed=0)


def test_no_training_data():
    with pytest.raises(
        DataError, match=r"no training data. Pass them, or name a file .*`-s data.train=reviews.csv`"
    ):
        prepare(DataConfig())


def test_fractions_that_leave_nothing_to_train_on():
    with pytest.raises(
        DataError, match=r"fractions held out for validation and test are \[0.6, 0.5\]; each must"
    ):
        prepare(DataConfig(), train=[("a", "b")], validation=0.6, test=0.5)


def test_training_data_that_are_a_fraction():
    with pytest.raises(DataError, match=r"`train_data` is a `float`; expected a path or a list of paths"):
        prepare(DataConfig(), train=0.5)


def test_label_only_in_validation(tmp_path):
    """Row D15."""
    write(tmp_path, "train.csv", csv(*BALANCED))
    write(tmp_path, "validation.csv", csv("new 1,pos", *[f"new {row},refund" for row in range(2, 16)]))
    with pytest.raises(
        LabelError, match=r"Only the validation rows \(`validation.csv`\) have the label 'refund' \(14 rows\)"
    ):
        prepare(DataConfig(train="train.csv", validation="validation.csv"))


def test_more_than_a_fifth_of_validation_in_training_is_an_error_only_where_leaks_stay(tmp_path):
    """Row D18."""
    write(tmp_path, "train.csv", csv(*BALANCED))
    write(tmp_path, "validation.csv", csv(*BALANCED[:4], *[f"new {row},pos" for row in range(6)]))
    config = DataConfig(train="train.csv", validation="validation.csv", remove_leaks=False)
    message = r"4 validation rows with a text that is in training, too.*40.0% of validation.*More than 20% says little"
    with pytest.raises(DataError, match=message):
        prepare(config)
    prepared = prepare(config.model_copy(update={"remove_leaks": True}))
    assert prepared.train.num_rows == 16
    assert any("40.0% of validation" in warning for warning in prepared.warnings)


def test_validation_that_is_the_training_file(tmp_path):
    write(tmp_path, "train.csv", csv(*BALANCED))
    with pytest.raises(DataError, match=r"Every training row of `train.csv` is held out, too.*or a fraction"):
        prepare(DataConfig(train="train.csv", validation="train.csv"))


def test_problems_of_all_files_are_said_at_once(tmp_path):
    write(tmp_path, "train.csv", csv("a,b,c", "good,"))
    write(tmp_path, "validation.csv", csv("alone"))
    with pytest.raises(DataError) as raised:
        prepare(DataConfig(train=["train.csv", "gone.csv"], validation="validation.csv"))
    message = str(raised.value)
    for part in (
        "line 2: 3 instead of 2",
        "no label in 1 row (line 3)",
        "`gone.csv` does not",
        "1 instead of 2",
    ):
        assert part in message


def test_everything_in_order(tmp_path, caplog):
    rows = [f" text {row} ,{'pos' if row % 2 else 'neg'}" for row in range(100)]
    write(tmp_path, "train.csv", csv(*rows, " text 0 ,neg", "a plot,plot"))
    write(tmp_path, "test.csv", csv(" text 5 ,pos", " new ,neg", "TEXT  7,pos"))
    config = DataConfig(
        train="train.csv", validation=0.2, test="test.csv", labels=["pos", "neg"], other_labels="drop"
    )
    with caplog.at_level(logging.WARNING, logger="kerasllm.data"):
        prepared = prepare(config, seed=1)
    assert prepared.label_map.names == ("pos", "neg")
    assert prepared.validation.num_rows == 20
    assert prepared.test.texts == [" text 5 ", " new ", "TEXT  7"]  # as a server gets them
    assert all(text == text.strip() for text in prepared.train.texts)
    assert prepared.cleaning.steps[0].num_changed == 81
    assert "text 5" not in prepared.train.texts  # equal once it is clean
    assert prepared.leaks.num_removed <= 1
    assert "train: dropped 1 row with other labels than ['pos', 'neg']." in prepared.warnings
    assert [record.message for record in caplog.records] == list(prepared.warnings)
    assert {record.name for record in caplog.records} == {"kerasllm.data"}


def test_fractions_are_of_the_whole_and_share_no_text():
    rows = [(f"text {row % 80}", "ab"[row % 2]) for row in range(100)]
    prepared = prepare(DataConfig(), train=rows, validation=0.1, test=0.2)
    parts = prepared.by_split
    assert 18 <= parts["test"].num_rows <= 20
    assert 8 <= parts["validation"].num_rows <= 10
    texts = [set(part.texts) for part in parts.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 80
    assert prepared.leaks.leaks == ()


def test_same_seed_same_split_other_seed_other_split():
    rows = [(f"text {row}", "ab"[row % 2]) for row in range(100)]
    first, again, other = (prepare(DataConfig(), train=rows, seed=seed) for seed in (1, 1, 2))
    assert first.validation.texts == again.validation.texts
    assert first.train.fingerprint == again.train.fingerprint
    assert first.validation.texts != other.validation.texts


def test_no_validation_at_all():
    rows = [("a", "x"), ("b", "y")]
    prepared = prepare(DataConfig(validation=None), train=rows)
    assert prepared.validation is None
    assert list(prepared.by_split) == ["train"]


def test_max_rows_are_spread_over_a_sorted_file():
    rows = [(f"text {row}", "a" if row < 500 else "b") for row in range(1000)]
    prepared = prepare(DataConfig(max_rows=100, validation=None), train=rows)
    assert prepared.train.num_rows == 100
    assert 30 < prepared.train.labels.count("a") < 70


def test_labels_are_renamed_by_a_map(tmp_path):
    write(tmp_path, "train.csv", csv(*[f"text {row},{row % 3}" for row in range(30)]))
    config = DataConfig(train="train.csv", labels={"0": "bad", "1": "bad", "2": "good"})
    assert prepare(config).label_map.names == ("bad", "good")


def test_empty_texts_are_dropped_everywhere_where_asked(tmp_path):
    write(tmp_path, "train.csv", csv(*BALANCED, " ,pos"))
    write(tmp_path, "test.csv", csv("new,pos", " ,pos", "newer,neg"))
    config = DataConfig(train="train.csv", test="test.csv", validation=None, cleaning=["strip", "drop_empty"])
    prepared = prepare(config)
    assert prepared.train.num_rows == 20
    assert prepared.test.num_rows == 2
    assert "test: dropped 1 row without text." in prepared.warnings


def test_label_that_validation_lacks_and_rare_and_unbalanced_labels_are_warned_of():
    """Rows D14 and D16."""
    rows = [(f"a {row}", "a") for row in range(100)] + [(f"b {row}", "b") for row in range(3)]
    prepared = prepare(DataConfig(), train=rows, validation=[("new", "a")])
    text = "\n".join(prepared.warnings)
    assert "No validation row has the label 'b', so it is not evaluated." in text
    assert "train: 1 label with fewer than 10 rows: 'b' (3)." in text
    assert "'a' has 100 rows and 'b' 3; try `class_weights='balanced'`" in text


def test_texts_with_different_labels_are_warned_of():
    """Row D19."""
    rows = [(f"text {row}", "ab"[row % 2]) for row in range(20)]
    prepared = prepare(DataConfig(validation=None), train=[*rows, ("text 4", "b"), ("text 5", "b")])
    assert prepared.warnings == (
        "train: 1 text with different labels (train_data[4] is 'a', train_data[20] is 'b').",
    )


def test_label_that_only_the_list_has_is_warned_of():
    rows = [(f"text {row}", "ab"[row % 2]) for row in range(20)]
    prepared = prepare(DataConfig(labels=["a", "b", "c"]), train=rows)
    assert prepared.label_map.names == ("a", "b", "c")
    assert "No training row has the label 'c'." in prepared.warnings


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (
            [{"text": "a", "text_pair": "b", "label": x} for x in "xy"],
            [("a", "x")],
            "The train rows have two texts each, and the validation rows one",
        ),
        (
            [("a", ["x"]), ("b", ["y"])],
            [("a", "x")],
            "The train rows have lists of labels, and the validation rows one each",
        ),
    ],
)
def test_parts_of_different_kinds(train, validation, message):
    with pytest.raises(DataError, match=message):
        prepare(DataConfig(), train=train, validation=validation)
