"""`kerasllm data check`: the report, and the exit code that says whether one can train."""

import json

import pytest


@pytest.fixture
def reviews(tmp_path):
    def write(rows, *, header="text,label", name="reviews.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


ROWS = [
    f"{word} number {number},{label}" for number in range(12) for word, label in (("joy", "a"), ("bore", "b"))
]


def test_a_good_file_exits_with_0(run, reviews):
    path = reviews(ROWS)
    result = run("data", "check", path)
    assert result.exit_code == 0, result.stderr
    assert f"train: 24 rows of {path}" in result.stdout
    assert "nothing suspicious" in result.stdout


def test_what_would_stop_training_exits_with_1(run, reviews):
    result = run("data", "check", reviews(["a,x", "b,x"]))
    assert result.exit_code == 1
    assert "label 'x'" in result.stdout


def test_columns_and_labels_are_set_as_in_a_config(run, reviews):
    path = reviews([*ROWS, "odd,c"], header="review,stars")
    result = run("data", "check", path)
    assert result.exit_code == 1
    assert "-s data.columns." in result.stderr
    columns = ["-s", "data.columns.text=review", "-s", "data.columns.label=stars"]
    labels = ["-s", "data.labels={a: good, b: bad}", "-s", "data.other_labels=drop"]
    report = json.loads(run("data", "check", path, *columns, *labels, "--json").stdout)
    assert report["splits"]["train"]["labels"] == {"bad": 12, "good": 12}


def test_leaks_between_files_are_found(run, reviews):
    held_out = reviews(["joy number 3,a"], name="held_out.csv")
    result = run("data", "check", reviews(ROWS), "-s", f"data.test={held_out}", "--json")
    report = json.loads(result.stdout)
    assert list(report["splits"]) == ["train", "test"]
    assert len(report["leaks"]) == 1


def test_tokens_are_counted_with_the_tokenizer_of_a_preset(run, reviews, tmp_path):
    from kerasllm.testing import tiny_bert

    preset = tiny_bert(tmp_path / "tiny", texts=["joy bore number"])
    result = run("data", "check", reviews([*ROWS, "☃,a"]), "--preset", preset, "--json")
    assert result.exit_code == 0, result.stderr
    tokens = json.loads(result.stdout)["splits"]["train"]["tokens"]
    assert tokens["lengths"]["p50"] >= 5  # [CLS] joy number 1 [SEP]
    assert tokens["unknown_share"] > 0


def test_a_config_is_checked_as_it_would_be_run(run, reviews, tmp_path):
    from kerasllm.testing import tiny_bert

    config = tmp_path / "run.yaml"
    preset = tiny_bert(tmp_path / "tiny")
    data = f"{{train: {reviews(ROWS)}, test: 0.1, sequence_length: 8}}"
    config.write_text(f"task: text_classification\npreset: {preset}\ndata: {data}\n")
    result = run("data", "check", config)
    assert result.exit_code == 0, result.stderr
    assert "8 tokens" in result.stdout


def test_other_fields_than_data_are_refused(run, reviews):
    result = run("data", "check", reviews(ROWS), "-s", "training.epochs=3")
    assert result.exit_code == 1
    assert "only fields of `data` matter here" in result.stderr
