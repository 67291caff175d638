"""`kerasllm data augment`: before and after, an augmented file, and how often a model changes its mind."""

import json
import re

import pytest

from kerasllm.testing import tiny_bert, tiny_pairs, tiny_reviews

DELETION = ["-s", "augmentation=[{name: random_deletion, rate: 0.3, protected: [wonderful]}]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment")
    tiny_bert(folder / "tiny")
    for name, rows in (("reviews", tiny_reviews(30)), ("pairs", tiny_pairs(8))):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def test_a_preview_shows_before_and_after_and_writes_nothing(run, folder):
    before = sorted(path.name for path in folder.iterdir())
    result = run(
        "data", "augment", folder / "reviews.jsonl", "--preset", folder / "tiny", "--preview", *DELETION
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{folder / 'reviews.jsonl'} line 1 (")
    assert [line.split()[0] for line in lines[1:3]] == ["before", "after"]
    assert len(lines) == 15
    pairs = list(zip(lines[1::3], lines[2::3], strict=True))
    assert any(len(old.split()) > len(new.split()) for old, new in pairs)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_file_holds_changed_rows_with_labels_and_origins(run, folder, tmp_path):
    output = tmp_path / "augmented.jsonl"
    arguments = ["data", "augment", folder / "reviews.jsonl", "--preset", folder / "tiny", *DELETION]
    result = run(*arguments, "-o", output)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    by_origin = {f"{folder / 'reviews.jsonl'} line {n}": row for n, row in enumerate(tiny_reviews(30), 1)}
    assert 20 < len(rows) <= 30
    assert f"{len(rows)} augmented rows are in {output}" in result.stderr
    for row in rows:
        old = by_origin[row["from"]]
        assert row["label"] == old["label"]
        assert set(row["text"].split()) < set(old["text"].split()) or row["text"] != old["text"]
        assert ("wonderful" in row["text"]) == ("wonderful" in old["text"])
    first = output.read_text()
    assert run(*arguments, "-o", output).exit_code == 0
    assert output.read_text() == first  # the seed decides
    assert run(*arguments, "-s", "seed=1", "-o", output).exit_code == 0
    assert output.read_text() != first


def test_pairs_and_configs(run, folder, tmp_path):
    config = folder / "pairs.yaml"
    config.write_text(
        f"task: text_classification\npreset: {folder / 'tiny'}\ndata: {{train: {folder / 'pairs.jsonl'}}}\n"
        "augmentation:\n  - {name: random_swap, rate: 0.9}\n"
    )
    output = tmp_path / "pairs.jsonl"
    result = run("data", "augment", config, "-o", output)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert set(rows[0]) == {"text", "text_pair", "label", "from"}


def test_what_changes_vectors_is_left_out_of_texts(run, folder):
    arguments = ["data", "augment", folder / "reviews.jsonl", "--preset", folder / "tiny", "--preview"]
    both = run(*arguments, "-s", "augmentation=[{name: mixup}, {name: random_deletion, rate: 0.5}]")
    assert both.exit_code == 0, both.stderr
    assert "`mixup` changes token vectors, which are no texts; it is left out here." in both.stderr
    alone = run(*arguments, "-s", "augmentation=[{name: mixup}]")
    assert alone.exit_code == 1
    assert "`augmentation` has only mixup: there is no text to show." in alone.stderr


def test_a_trained_model_is_asked_how_often_it_changes_its_mind(run, trained):
    result = run("data", "augment", trained.data, "--model", trained.run, *DELETION)
    assert result.exit_code == 0, result.stderr
    assert "The model changes its mind on" in result.stdout
    assert "of 200 texts, 5 samples each" in result.stdout
    assert re.search(r"^  answered (negative|positive) as they are: \d", result.stdout, re.MULTILINE)


def test_what_is_missing_is_said(run, folder):
    source = folder / "reviews.jsonl"
    result = run("data", "augment", source, "--preset", folder / "tiny", *DELETION)
    assert result.exit_code == 2
    assert "Give --preview to look, -o FILE to write, or --model RUN to ask a model." in result.stderr
    result = run("data", "augment", source, "--preview", *DELETION)
    assert result.exit_code == 2
    assert "Give the checkpoint whose tokenizer cuts the texts" in result.stderr
    result = run("data", "augment", source, "--preset", folder / "tiny", "--preview")
    assert result.exit_code == 1
    assert "`augmentation` is empty, so the texts would stay as they are." in result.stderr
    result = run(
        "data", "augment", source, "--preset", "x", "--preview", "-s", "training.epochs=3", *DELETION
    )
    assert "only `data`, `augmentation` and `seed` matter here" in result.stderr
    result = run("data", "augment", source, "--preset", "x", "--preview", "-s", "augmentation=[{name: swap}]")
    assert "received the `name` 'swap', expected one of" in result.stderr
