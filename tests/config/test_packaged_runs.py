"""Every packaged config runs: data, tokens, model and one step of training, on the real checkpoint."""

import json

import pytest
from click.testing import CliRunner

from kerasllm.cli.main import command
from kerasllm.config.packaged import packaged_configs
from kerasllm.testing import tiny_pairs, tiny_reviews, tiny_topics

# The configs that are to be copied name a file that the user has.
OWN_DATA = {
    "text_classification/my_data": (tiny_reviews, "{text: text, label: label}"),
    "text_classification/my_pairs": (
        tiny_pairs,
        "{text: text, text_pair: text_pair, label: label}",
    ),
    "text_classification/my_multi_label": (tiny_topics, "{text: text, label: label}"),
}


def test_the_configs_for_own_data_are_the_ones_without_a_package():
    from kerasllm.config.loading import load_config

    local = {name for name in packaged_configs() if "://" not in str(load_config(name).data.train)}
    assert local == set(OWN_DATA)


@pytest.mark.real
@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configs_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["data.max_rows=400"]
    if name in OWN_DATA:
        make, columns = OWN_DATA[name]
        (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in make(200)))
        overrides = ["data.train=own.jsonl", f"data.columns={columns}"]
    options = [word for override in overrides for word in ("-s", override)]
    result = CliRunner().invoke(command, ["finetune", name, "--dry-run", *options])
    if result.exit_code and "cannot reach its package index" in result.stderr:
        pytest.skip(result.stderr)
    assert result.exit_code == 0, result.stderr
    assert "first loss" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == (["own.jsonl"] if name in OWN_DATA else [])
