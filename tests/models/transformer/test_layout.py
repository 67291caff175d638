"""The list of weights is that of the Keras model, for every kind of backbone and head."""

import numpy as np
import pytest

from kerasllm.models.heads import ModelWithHead
from kerasllm.models.transformer.backbone import TransformerBackbone
from kerasllm.models.transformer.layout import backbone_weights, head_weights
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    DisentangledSettings,
    EmbeddingSettings,
    ExpertSettings,
    HeadSettings,
    RelativeBiasSettings,
    RotarySettings,
    StackSettings,
    from_dict,
    to_dict,
)

PLAIN = (2, 32, 4, 4, 8, 64)
GATED = {"activation": "silu", "norm": "rms", "gated": True, "query_key_value_bias": False}
POSITIONS = {"num_positions": 20, "num_segments": 2, "norm": True}
BIAS = RelativeBiasSettings()
KINDS = {
    "bert": BackboneSettings(
        EmbeddingSettings(50, 32, **POSITIONS),
        encoder=StackSettings(*PLAIN, norm_place="post"),
        pooler="tanh",
        pooler_dim=32,
    ),
    "albert": BackboneSettings(
        EmbeddingSettings(50, 16, **POSITIONS),
        encoder=StackSettings(3, *PLAIN[1:], norm_place="post", shared_layers=(0, 0, 2)),
    ),
    "deberta": BackboneSettings(
        EmbeddingSettings(50, 32, norm=True, hide_padding=True),
        encoder=StackSettings(
            *PLAIN, norm_place="post", disentangled=DisentangledSettings(8, 20, share_key=False)
        ),
    ),
    "llama": BackboneSettings(
        EmbeddingSettings(50, 32),
        decoder=StackSettings(2, 32, 4, 2, 8, 64, causal=True, rotary=RotarySettings(8), **GATED),
        final_norm=True,
    ),
    "experts": BackboneSettings(
        EmbeddingSettings(50, 32),
        decoder=StackSettings(
            *PLAIN,
            causal=True,
            rotary=RotarySettings(8),
            local_rotary=RotarySettings(8, theta=10.0),
            experts=ExpertSettings(4, 2),
            norm_place="both",
            query_key_norm=True,
            windows=(3, None),
            **GATED,
        ),
        final_norm=True,
        output_dim=16,
    ),
    "t5": BackboneSettings(
        EmbeddingSettings(50, 32),
        encoder=StackSettings(*PLAIN, norm="rms", relative_bias=BIAS),
        decoder=StackSettings(
            3, *PLAIN[1:], norm="rms", relative_bias=BIAS, causal=True, cross_attention=True
        ),
        final_norm=True,
        final_dropout=0.1,
    ),
}
HEADS = {
    "classifier": HeadSettings(3, "first", dim=8, dropout=0.1),
    "language": HeadSettings(50, norm_epsilon=1e-5, dim=32, tied=True),
    "untied": HeadSettings(50, bias=False),
}


def shapes(model):
    return {weight.path: tuple(weight.shape) for weight in model.weights}


def inputs(model):
    return {name: np.ones((2, 7), np.int32) for name in model.input}


@pytest.mark.parametrize("kind", KINDS)
def test_the_list_is_that_of_the_model(kind):
    assert shapes(TransformerBackbone(KINDS[kind])) == backbone_weights(KINDS[kind])


@pytest.mark.parametrize("head", HEADS)
def test_the_list_of_a_head_is_that_of_the_model(head):
    model = ModelWithHead(TransformerBackbone(KINDS["llama"]), HEADS[head], kind="causal_language")
    of_backbone = backbone_weights(KINDS["llama"])
    assert shapes(model) == {**of_backbone, **head_weights(HEADS[head], KINDS["llama"])}


@pytest.mark.parametrize("kind", KINDS)
def test_rebuilt_from_its_config_it_computes_the_same(kind):
    model = TransformerBackbone(KINDS[kind])
    again = TransformerBackbone.from_config(model.get_config())
    again.set_weights(model.get_weights())
    expected, found = (each(inputs(model), training=False)["sequence_output"] for each in (model, again))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_json(kind):
    import json

    assert from_dict(json.loads(json.dumps(to_dict(KINDS[kind])))) == KINDS[kind]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_in_mixed_precision_near_float32(kind, policy):
    model = TransformerBackbone(KINDS[kind])
    mixed = TransformerBackbone(KINDS[kind], dtype=policy)
    mixed.set_weights(model.get_weights())
    expected, found = (
        np.asarray(each(inputs(model), training=False)["sequence_output"], np.float32)
        for each in (model, mixed)
    )
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient(kind):
    import tensorflow as tf

    model = TransformerBackbone(KINDS[kind])
    random = np.random.default_rng(0)
    fed = {name: random.integers(1, 50, (2, 7)).astype(np.int32) for name in model.input}
    fed = {
        name: np.ones_like(ids) if "mask" in name or "segment" in name else ids for name, ids in fed.items()
    }
    with tf.GradientTape() as tape:
        outputs = model(fed, training=True)
        loss = sum(tf.reduce_sum(tf.sin(tf.cast(output, tf.float32))) for output in outputs.values())
    weights = [weight.value for weight in model.trainable_weights]
    assert all(gradient is not None for gradient in tape.gradient(loss, weights))
