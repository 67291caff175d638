"""Runs with adapters: what is trained, what is served, and what is kept apart."""

import json
import logging

import numpy as np
import pytest

import kerasllm
from kerasllm.config.loading import load_config
from kerasllm.data.prepare import prepare
from kerasllm.errors import AdapterError, ConfigError
from kerasllm.models.adapters import adapted_layers, merge_lora
from kerasllm.models.builders import build_classifier
from kerasllm.models.peft_format import load_adapter
from kerasllm.models.presets import Preset
from kerasllm.models.quantization import quantized_layers
from kerasllm.tasks.adaptation import keep_adapter
from kerasllm.tasks.classification_run import build_model, encode_run
from kerasllm.testing import tiny_bert, tiny_reviews

SETTINGS = {"training": {"epochs": 2, "batch_size": 16, "learning_rate": 2e-2}}
ADAPTERS = {
    "lora": {"roles": ["all"]},
    "dora": {"roles": ["query", "value", "feed_forward"], "dora": True, "dropout": 0.05},
    "qlora": {"roles": ["all"], "quantize_base": "int8", "rank_stabilized": True, "alpha": 8.0},
}


@pytest.fixture(scope="module")
def runs(preset, tmp_path_factory):
    """Run directories and classifiers, each fine-tuned for a few seconds."""
    folder, made = tmp_path_factory.mktemp("adapted"), {}

    def get(kind):
        if kind not in made:
            made[kind] = kerasllm.finetune(
                preset,
                tiny_reviews(48),
                validation_data=0.25,
                lora_rank=4,
                output_dir=folder / kind,
                config={**SETTINGS, "model": {"pooling": "mean", "lora": ADAPTERS[kind]}},
            )
        return made[kind], folder / kind

    return get


@pytest.mark.parametrize("kind", ADAPTERS)
def test_what_is_served_is_merged_and_what_was_trained_is_kept_apart(kind, runs, preset):
    classifier, run = runs(kind)
    assert not adapted_layers(classifier.keras_model)
    assert not quantized_layers(classifier.keras_model)
    texts = [row["text"] for row in tiny_reviews(8, seed=5)]
    expected = classifier.scores(texts)
    np.testing.assert_array_equal(kerasllm.load(run).scores(texts), expected)
    again = build_classifier(Preset.load(preset), num_classes=2, pooling="mean")
    load_adapter(again, run / "adapter")
    assert bool(quantized_layers(again)) == (kind == "qlora")
    assert all(np.abs(layer.adapter.b).max() > 1e-3 for layer in adapted_layers(again).values())
    merged = {weight.path: np.array(weight) for weight in merge_lora(again).weights}
    for weight in classifier.keras_model.weights:
        np.testing.assert_array_equal(merged[weight.path], np.array(weight))


def test_a_model_with_adapters_is_exported(runs, tmp_path):
    classifier, _ = runs("qlora")
    exported = classifier.export(tmp_path / "export")
    text = tiny_reviews(1, seed=6)[0]["text"]
    assert exported.predict([text])[0].label == classifier.predict([text])[0].label


def test_the_config_is_written_with_every_setting_of_the_adapters(runs):
    _, run = runs("qlora")
    lora = load_config(run).model.lora
    assert (lora.rank, lora.alpha, lora.quantize_base, lora.rank_stabilized) == (4, 8.0, "int8", True)
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] == 4


def test_a_resumed_run_must_have_the_adapters_that_it_began_with(runs):
    from kerasllm.api import finetune_from_config

    _, run = runs("lora")
    for change in ("model.lora=none", "model.lora.rank=2"):
        config = load_config(run, [change, f"data.train={run / 'rows.csv'}"])
        (run / "rows.csv").write_text(
            "text,label\n" + "".join(f"t{n},{('negative', 'positive')[n % 2]}\n" for n in range(40))
        )
        with pytest.raises(ConfigError, match=r"was begun with other settings: .*model\.lora"):
            finetune_from_config(config, resume=True)


def built(path, **model):
    config = load_config({"task": "text_classification", "preset": str(path), "model": model})
    prepared, preset = prepare(config.data, train=tiny_reviews(40)), Preset.load(path)
    return build_model(encode_run(config, prepared, preset), prepared.label_map.names, preset)


def test_the_share_that_is_trained_is_said(preset, caplog):
    with caplog.at_level(logging.INFO, logger="kerasllm"):
        built(preset, lora={"rank": 2, "quantize_base": "int8"})
    assert any(
        "LoRA of rank 2 on 4 layers, on a backbone in 8 bits: " in message for message in caplog.messages
    )


def test_what_does_not_fit_is_refused_before_training(preset, tmp_path):
    with pytest.raises(AdapterError, match="The rank is 400, but the matrix of"):
        built(preset, lora={"rank": 400})
    path = tiny_bert(tmp_path / "bare", pooler=False)
    with pytest.raises(ConfigError, match=r"with `model\.lora` a new one would not be trained"):
        built(path, pooling="cls", lora={})


def test_without_adapters_an_earlier_trys_are_removed(preset, tmp_path):
    model = built(preset)
    (tmp_path / "adapter").mkdir()
    assert keep_adapter(model, tmp_path / "adapter", base_model="tiny") is None
    assert not (tmp_path / "adapter").exists()
