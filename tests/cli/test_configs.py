"""`kerasllm configs`: list, show, copy, check."""

import pytest
import yaml

from kerasllm.config.packaged import packaged_configs

NAME = "text_classification/sentiment_minilm"


@pytest.fixture
def configs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("configs", *arguments)


def test_list_names_each_config_and_what_it_is_for(configs):
    result = configs("list")
    assert result.exit_code == 0
    lines = dict(line.split("\t") for line in result.stdout.splitlines())
    assert list(lines) == list(packaged_configs())
    assert lines[NAME].startswith("Sentiment of film reviews")


def test_show_prints_the_file_with_its_comments(configs):
    assert configs("show", NAME).stdout == packaged_configs()[NAME].read_text(encoding="utf-8")


def test_show_with_overrides_prints_every_field(configs):
    shown = yaml.safe_load(configs("show", NAME, "-s", "training.epochs=7").stdout)
    assert shown["training"]["epochs"] == 7
    assert shown["training"]["weight_decay"] == 0.01
    assert yaml.safe_load(configs("show", NAME, "--full").stdout)["training"]["weight_decay"] == 0.01


def test_show_without_a_config_is_the_reference(configs):
    result = configs("show")
    assert "# Highest learning rate of the schedule; auto finds one in a short search" in result.stdout
    assert "learning_rate: 5.0e-05  # a number above 0" in result.stdout


def test_copy_and_check(configs, tmp_path):
    assert configs("copy", "text_classification/my_data").stdout == "my_data.yaml\n"
    assert configs("check", "my_data.yaml").stdout == "my_data.yaml is a valid config.\n"
    result = configs("copy", "text_classification/my_data")
    assert result.exit_code == 1
    assert "`my_data.yaml` exists already." in result.stderr


def test_check_names_every_wrong_field(configs, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "task: text_classification\npreset: x\ntraining: {epochs: 0, speed: 3}\n"
    )
    result = configs("check", "a.yaml")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "`a.yaml` has 3 problems:" in result.stderr
    assert (
        "`training.epochs` (line 3): received 0 (a number), expected a whole number of at least 1."
        in result.stderr
    )
    assert "`training.speed` (line 3) is not a field." in result.stderr
    assert "`data.train` is missing" in result.stderr
