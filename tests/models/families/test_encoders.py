"""BERT's names and settings, and what training asks of its layers."""

import keras
import numpy as np
import pytest

from kerasllm.models.families import FAMILIES
from kerasllm.models.presets import Preset
from kerasllm.models.transformer.backbone import TransformerBackbone

bert = FAMILIES["bert"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("encoder.layer.0.output.LayerNorm.beta", "encoder.layer.0.output.LayerNorm.bias"),
        ("bert.pooler.dense.weight", "pooler.dense.weight"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.weight"),
        ("classifier.weight", "classifier.weight"),
        ("gamma", "gamma"),
    ],
)
def test_old_names_are_read_as_todays(old, new):
    assert bert.canonical_name(old) == new


@pytest.mark.parametrize(
    ("architecture", "names", "expected"),
    [
        ("BertModel", [], None),
        ("BertForSequenceClassification", ["classifier.weight"], "pooled_classifier"),
        ("BertForTokenClassification", ["classifier.weight"], "token_classifier"),
        ("BertForMultipleChoice", ["classifier.weight"], None),
        ("BertModel", ["mean_pooled_classifier.weight"], "mean_pooled_classifier"),
        (None, ["cls.predictions.bias"], None),
    ],
)
def test_which_head(architecture, names, expected):
    config = {"architectures": [architecture]} if architecture else {}
    assert bert.head_kind(config, names) == expected


def test_a_masked_language_head_is_known_by_its_tensors():
    config = bert.with_defaults({})
    names = {spec.name for spec in bert.head_tensors(config, "masked_language")}
    assert bert.head_kind(config, names) == "masked_language"


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_family_is_consistent(model_type):
    family = FAMILIES[model_type]
    config = family.with_defaults({})
    assert family.check_config(config) == []
    specs = family.backbone_tensors(config) + family.pooler_tensors(config)
    whole = [spec.name for spec in specs if spec.part is None]
    assert len(whole) == len(set(whole))
    assert all(family.canonical_name(spec.name) == spec.name for spec in specs)
    assert all(family.canonical_name(family.stored_name(spec.name, None)) == spec.name for spec in specs)
    for kind in family.heads:
        for spec in family.head_tensors(config, kind, 3):
            assert family.canonical_name(family.stored_name(spec.name, kind)) == spec.name
    assert all(family.lora_targets.values())
    assert family.stop_tokens or family.backbone(config).decoder is None


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("value", [None, 0, -1, "many", 10**12, 1.5, True, [], {}])
def test_no_config_makes_it_fall_over(model_type, value):
    """Every setting in turn is nonsense: it is refused or computed, never an error of Python's."""
    family = FAMILIES[model_type]
    for name in family.defaults:
        config = {"model_type": model_type, name: value}
        if not family.check_config(config):
            family.backbone(config)


def rates(backbone):
    return {layer.rate for layer in backbone._flatten_layers() if isinstance(layer, keras.layers.Dropout)}


@pytest.mark.parametrize(
    ("hidden", "attention"), [(0.1, 0.3), (0.3, 0.1), (0.0, 0.2), (0.2, 0.0), (0.0, 0.0)]
)
def test_hidden_and_attention_dropout_may_differ(hidden, attention, tiny_path, batch):
    config = Preset.load(tiny_path).config
    dropouts = {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}
    backbone = TransformerBackbone(bert.backbone({**config, **dropouts}))
    assert rates(backbone) == {hidden, attention}
    first, second = (backbone(batch, training=True)["sequence_output"] for _ in range(2))
    assert (np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-4) == bool(hidden or attention)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_saved_as_keras_it_computes_the_same(tmp_path, tiny_path, activation, batch):
    config = {**Preset.load(tiny_path).config, "hidden_act": activation, "layer_norm_eps": 1e-3}
    backbone = TransformerBackbone(bert.backbone(config))
    backbone.save(tmp_path / "backbone.keras")
    again = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(again(batch)["sequence_output"], backbone(batch)["sequence_output"])
    assert rates(again) == rates(backbone)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 0.02), ("mixed_bfloat16", 0.15)])
def test_mixed_precision_is_near_float32(policy, tolerance, tiny_path, batch):
    preset = Preset.load(tiny_path)
    mixed = np.asarray(preset.build_backbone(dtype_policy=policy)(batch)["sequence_output"], np.float32)
    mask = batch["padding_mask"] == 1
    assert np.abs(mixed - preset.hidden_states(**batch))[mask].max() < tolerance
