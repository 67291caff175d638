"""The audit: what it counts, what it warns of, and how it reads."""

import json

import pytest

from kerasllm.data.audit import audit
from kerasllm.data.reading import read_records


def rows(texts, labels=None, name="train_data"):
    return read_records((list(texts), list(labels or ["a", "b"] * len(texts))[: len(texts)]), name=name)


def encode(texts, pairs):
    """Words by their length, between two special tokens; words of 9 letters are unknown."""
    joined = texts if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs, strict=True)]
    return [[101, *(len(word) if word.isascii() else 9 for word in text.split()), 102] for text in joined]


GOOD = [f"text number {row}" for row in range(40)]


def test_nothing_suspicious():
    report = audit({"train": rows(GOOD)})
    assert report.ok
    assert report.warnings == ()
    assert str(report) == (
        "train: 40 rows of train_data\n"
        "  a         20   50.0%  ████████████████████████\n"
        "  b         20   50.0%  ████████████████████████\n"
        "  characters   mean 14  p50 14  p90 14  p95 14  p99 14  max 14\n"
        "  duplicates   0 rows, of which texts with different labels: 0\n"
        "  empty        0 rows\n"
        "  suspicious   none\n"
        "✔ nothing suspicious"
    )


def test_report_is_plain_values():
    report = audit({"train": rows(GOOD), "test": rows(GOOD[:3])}, encode=encode, sequence_length=4)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_tokens_lengths_truncation_and_unknowns():
    """Rows D20 and D23."""
    texts = ["one two three", "a " * 20, "Привет мир", ""]
    facts = audit(
        {"train": rows(texts)},
        encode=encode,
        sequence_length=8,
        special_ids={"[CLS]": 101, "[SEP]": 102, "[UNK]": 9},
    )
    tokens = facts.splits["train"]["tokens"]
    assert tokens["total"] == 5 + 22 + 4 + 2
    assert tokens["lengths"]["max"] == 22
    assert tokens["truncated_share"] == 0.25
    assert tokens["unknown_share"] == 2 / 33
    assert tokens["without_tokens"] == {"num_rows": 1, "examples": ["train_data[2]"]}
    text = str(facts)
    assert "25% of rows are truncated at 8 tokens (p95 = 19); a larger `sequence_length` sees more" in text
    assert "train: 6% of tokens are unknown. Is the preset for another language?" in text
    assert "1 row (train_data[2]) of whose text no token is known" in text
    assert "  truncated    25.0% of rows at 8 tokens\n  unknown      6.06% of tokens" in text


def test_pairs_are_encoded_together():
    records = read_records({"text": ["a"], "text_pair": ["b c"], "label": ["x"]})
    assert audit({"train": records}, encode=encode).splits["train"]["tokens"]["total"] == 5


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("bell \x07", "control characters"),
        ("a\x85b", "control characters"),
        ("lost \ufffd", "replacement characters (U+FFFD)"),
        ("CafÃ©", "mojibake"),
        ("itâ€™s", "mojibake"),
        ("naÃ¯ve", "mojibake"),
        ("Â\u00a0price", "mojibake"),
        ("Tom &amp; Ann", "HTML entities"),
        ("it&#39;s", "HTML entities"),
    ],
)
def test_suspicious_characters(text, kind):
    report = audit({"train": rows([*GOOD, text])})
    assert report.splits["train"]["suspicious"] == {kind: {"num_rows": 1, "examples": ["train_data[40]"]}}
    assert f"train: 1 row (train_data[40]) with {kind}." in report.warnings


@pytest.mark.parametrize(
    "text", ["Café naïve “quoted” \u2013 5 €", "日本語", "Ãngela", "R&D; fine", "tab\tand\nline", "SÃO"]
)
def test_good_characters_are_not_suspicious(text):
    """Row D22."""
    assert audit({"train": rows([*GOOD, text])}).splits["train"]["suspicious"] == {}


def test_rows_that_an_open_quote_swallowed():
    """As in a well-known spam set, whose texts hold up to 316 other messages."""
    swallowed = "".join(f"ham\tmessage {row}\n" for row in range(20))
    report = audit({"train": rows([*GOOD, swallowed])})
    kind = "many lines, perhaps other rows that an open quote swallowed"
    assert report.splits["train"]["suspicious"] == {kind: {"num_rows": 1, "examples": ["train_data[40]"]}}


def test_duplicates_and_conflicts():
    """Row D19."""
    report = audit({"train": rows(["x", "y", "x", "x"], ["a", "b", "a", "b"])})
    facts = report.splits["train"]
    assert facts["duplicates"] == {"num_rows": 2, "examples": ["train_data[2]", "train_data[3]"]}
    assert facts["conflicts"] == {"num_texts": 1, "examples": ["train_data[0] is 'a', train_data[3] is 'b'"]}
    text = str(report)
    assert "2 rows (train_data[2], train_data[3]) repeat the text of another row" in text
    assert "1 text with different labels (train_data[0] is 'a', train_data[3] is 'b')" in text


def test_empty_texts():
    report = audit({"train": rows([*GOOD, " "])})
    assert "train: 1 row (train_data[40]) have an empty text." in report.warnings


def test_labels_that_differ_in_case_only():
    report = audit({"train": rows(GOOD, ["Spam", "spam"] * 20)})
    assert any("labels ['Spam', 'spam'] differ only in case or white space" in w for w in report.warnings)


def test_what_makes_training_impossible():
    report = audit({"train": rows(GOOD, ["a"] * 40), "test": rows(["new"], ["c"], name="test_data")})
    assert not report.ok
    assert report.problems == (
        "train: all 40 rows have the label 'a'; a classifier needs at least 2.",
        "test: labels that no training row has: 'c' (1 row).",
    )
    assert "✘ train: all 40 rows have the label 'a'" in str(report)


def test_leaks_between_all_parts():
    """Row D18."""
    parts = {
        "train": rows(GOOD),
        "validation": rows([*GOOD[:1], "new", "newer"], name="validation_data"),
        "test": rows(["new", "other", "another", "more", "most", "last"], name="test_data"),
    }
    report = audit(parts)
    assert [(leak["of"], leak["split"], leak["num_rows"]) for leak in report.leaks] == [
        ("train", "validation", 1),
        ("validation", "test", 1),
    ]
    assert any("validation: 1 row (33.3%) with a text that is in train, too" in w for w in report.warnings)
    assert sum("So many say little about new texts" in w for w in report.warnings) == 1


def test_terminal_escapes_in_labels_are_not_printed():
    report = audit({"train": rows(GOOD, ["\x1b[31mred", "blue"] * 20)})
    assert "\x1b" not in str(report)


def test_unlabelled_rows_can_be_audited():
    records = read_records([{"text": text} for text in GOOD], require_label=False)
    report = audit({"train": records})
    assert report.ok
    assert report.splits["train"]["labels"] is None
