"""The packaged configs: found, valid, and each begins with what it is for and the command that runs it."""

import re

import pytest

from kerasllm.config.fields import close_match
from kerasllm.config.loading import load_config
from kerasllm.config.packaged import copy_config, find_config, packaged_configs, summary
from kerasllm.config.schema import CLEANING_STEPS
from kerasllm.errors import ConfigError

NAMES = list(packaged_configs())


def test_there_are_packaged_configs():
    assert "text_classification/sentiment_minilm" in NAMES
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_packaged_configs_are_valid(name):
    config = load_config(name, require_data=True)
    assert config.task == name.partition("/")[0]
    assert config.export.path is not None


@pytest.mark.parametrize("name", NAMES)
def test_packaged_configs_begin_with_the_command_that_runs_them(name):
    lines = packaged_configs()[name].read_text(encoding="utf-8").splitlines()
    assert summary(packaged_configs()[name])
    assert re.match(r"#   kerasllm (finetune|configs copy) ", lines[1])
    assert name in lines[1]


def test_a_config_is_found_by_name_file_or_run_directory(tmp_path):
    packaged = find_config("text_classification/sentiment_minilm")
    assert find_config("text_classification/sentiment_minilm.yaml") == packaged
    assert find_config(packaged) == packaged
    (tmp_path / "config.yaml").write_text("task: x")
    assert find_config(tmp_path) == tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text_classification/sentiment_minlm", "Did you mean `text_classification/sentiment_minilm`?"),
        ("sentiment_minilm", "Did you mean `text_classification/sentiment_minilm`?"),
        ("spam_minilm.yaml", "Did you mean `text_classification/spam_minilm`?"),
        ("zebra", r"The packaged configs are text_classification/.*; your own is named by its path."),
    ],
)
def test_unknown_names_list_what_is_close(name, sentence):
    with pytest.raises(
        ConfigError, match=f"There is no file and no packaged config `{re.escape(name)}`. {sentence}"
    ):
        find_config(name)


def test_a_copied_config_is_the_same_and_never_overwrites(tmp_path):
    copied = copy_config("text_classification/my_data", tmp_path)
    assert copied == tmp_path / "my_data.yaml"
    assert load_config(copied) == load_config("text_classification/my_data")
    with pytest.raises(ConfigError, match=r"my_data.yaml` exists already. Give another file name"):
        copy_config("text_classification/my_data", tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be written: No such file or directory."):
        copy_config("text_classification/my_data", tmp_path / "missing" / "my.yaml")


def test_the_schema_knows_the_cleaning_steps_that_there_are():
    from kerasllm.data.cleaning import STEPS

    assert set(CLEANING_STEPS) == set(STEPS)


def test_a_close_match_is_close():
    assert close_match("epocs", ["epochs", "batch_size"]) == "epochs"
    assert close_match("zebra", ["epochs", "batch_size"]) is None
