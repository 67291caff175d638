"""BERT's names, settings, and what we change in KerasHub's layers."""

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm.models.families import FAMILIES, bert
from kerasllm.models.families.bert_backbone import BertBackbone
from kerasllm.models.presets import Preset

SMALL = {"vocabulary_size": 30, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}


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
        ("BertForTokenClassification", ["classifier.weight"], None),
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


def test_a_family_has_what_presets_ask_of_it():
    for family in FAMILIES.values():
        config = family.with_defaults({})
        assert family.check_config(config) == []
        names = [spec.name for spec in family.backbone_tensors(config) + family.pooler_tensors(config)]
        assert len(names) == len(set(names))
        assert all(family.canonical_name(name) == name for name in names)


def test_dropout_of_the_head_is_the_classifiers_or_the_hidden_one():
    assert bert.head_dropout({"classifier_dropout": 0.3, "hidden_dropout_prob": 0.1}) == 0.3
    assert bert.head_dropout({"classifier_dropout": None, "hidden_dropout_prob": 0.2}) == 0.2
    assert bert.head_dropout({"classifier_dropout": 0.0}) == 0.0
    assert bert.head_dropout({}) == 0.1


def rates(backbone):
    hidden = {backbone.embeddings_dropout.rate}
    attention = set()
    for layer in backbone.transformer_layers:
        hidden |= {layer._self_attention_dropout.rate, layer._feedforward_dropout.rate}
        attention.add(layer._self_attention_layer._dropout_layer.rate)
    return hidden, attention


@pytest.mark.parametrize(
    ("hidden", "attention"), [(0.1, 0.3), (0.3, 0.1), (0.0, 0.2), (0.2, 0.0), (0.0, 0.0)]
)
def test_hidden_and_attention_dropout_may_differ(hidden, attention):
    backbone = BertBackbone(**SMALL, dropout=hidden, attention_dropout=attention)
    assert rates(backbone) == ({hidden}, {attention})
    assert rates(BertBackbone.from_config(backbone.get_config())) == ({hidden}, {attention})


@pytest.mark.parametrize(("hidden", "attention"), [(0.0, 0.5), (0.5, 0.0)])
def test_each_dropout_is_at_work_alone(hidden, attention, batch):
    backbone = BertBackbone(**SMALL, dropout=hidden, attention_dropout=attention)
    batch = {name: values % 30 for name, values in batch.items()}
    first, second = (backbone(batch, training=True)["sequence_output"] for _ in range(2))
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-4


def test_no_dropout_no_randomness(batch):
    backbone = BertBackbone(**SMALL, dropout=0.0)
    batch = {name: values % 30 for name, values in batch.items()}
    first, second = (backbone(batch, training=training)["sequence_output"] for training in (True, False))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_it_is_a_kerashub_backbone_with_the_same_weights():
    ours, theirs = BertBackbone(**SMALL), keras_hub.models.BertBackbone(**SMALL)
    assert isinstance(ours, keras_hub.models.BertBackbone)
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, w.shape) for w in theirs.weights]


def test_kerashub_still_hard_codes_tanh_gelu(batch):
    """The reason for this class; when it fails, KerasHub has changed and the class may go."""
    tanh, exact, theirs = (
        BertBackbone(**SMALL, activation="gelu_tanh"),
        BertBackbone(**SMALL),
        keras_hub.models.BertBackbone(**SMALL),
    )
    random = np.random.default_rng(0)
    weights = [random.standard_normal(weight.shape) for weight in theirs.get_weights()]
    batch = {name: values % 30 for name, values in batch.items()}
    outputs = []
    for backbone in (theirs, tanh, exact):
        backbone.set_weights(weights)
        outputs.append(np.asarray(backbone(batch)["sequence_output"]))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=2e-6)
    assert np.abs(outputs[0] - outputs[2]).max() > 2e-5


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_saved_as_keras_it_computes_the_same(tmp_path, activation, batch):
    backbone = BertBackbone(**SMALL, activation=activation, layer_norm_epsilon=1e-3, attention_dropout=0.4)
    batch = {name: values % 30 for name, values in batch.items()}
    backbone.save(tmp_path / "backbone.keras")
    again = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(again(batch)["sequence_output"], backbone(batch)["sequence_output"])
    assert rates(again) == rates(backbone)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_attention_is_normalised_in_float32(policy, tiny_path):
    backbone = Preset.load(tiny_path).build_backbone(dtype_policy=policy)
    for layer in backbone.transformer_layers:
        attention = layer._self_attention_layer
        assert attention._softmax.compute_dtype == "float32"
        assert attention._dropout_layer.compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 0.02), ("mixed_bfloat16", 0.15)])
def test_mixed_precision_is_near_float32(policy, tolerance, tiny_path, batch):
    preset = Preset.load(tiny_path)
    mixed = np.asarray(preset.build_backbone(dtype_policy=policy)(batch)["sequence_output"], np.float32)
    mask = batch["padding_mask"] == 1
    assert np.abs(mixed - preset.hidden_states(**batch))[mask].max() < tolerance
