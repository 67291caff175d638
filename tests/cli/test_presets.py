"""`kerasllm presets`: the known ones, and what a checkpoint holds."""

import json

from kerasllm.cli.presets import KNOWN
from kerasllm.config.loading import load_config
from kerasllm.config.packaged import packaged_configs
from kerasllm.models.families import FAMILIES
from kerasllm.testing import tiny_bert


def test_list_has_every_preset_of_the_packaged_configs(run):
    result = run("presets", "list")
    assert result.exit_code == 0
    first = [line.split("\t")[0] for line in result.stdout.splitlines()]
    assert first == ["model_type", *FAMILIES, "", *KNOWN]
    assert "in safetensors of these kinds" in result.stderr
    used = {load_config(name).preset.partition("?")[0] for name in packaged_configs()}
    assert used <= set(KNOWN)


def test_list_as_json_says_what_each_family_has(run):
    families = json.loads(run("presets", "list", "--json").stdout)["families"]
    assert [row["model_type"] for row in families] == list(FAMILIES)
    assert all("text classification" in row["heads"] for row in families)
    assert [row["model_type"] for row in families if row["gguf"]] == ["llama", "qwen2"]


def test_show_says_what_a_checkpoint_holds(run, tmp_path):
    directory = tiny_bert(tmp_path / "tiny", labels=["bad", "good"])
    facts = json.loads(run("presets", "show", directory, "--json").stdout)
    assert facts["model_type"] == "bert"
    assert facts["labels"] == ["bad", "good"]
    assert facts["max_sequence_length"] == 64
    assert "labels\tbad, good\n" in run("presets", "show", directory).stdout


def test_show_without_a_checkpoint_says_so(run, tmp_path):
    result = run("presets", "show", tmp_path / "missing")
    assert result.exit_code == 1
    assert "missing" in result.stderr
