"""Gradient checkpointing changes neither losses nor gradients nor random numbers, and it does recompute."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.families import find_family
from kerasllm.models.transformer.backbone import TransformerBackbone

_SIZES = {"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
_SMALL = {**_SIZES, "intermediate_size": 12, "max_position_embeddings": 16}
_DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
FAMILIES = {
    "albert": {**_SMALL, **_DROPOUT, "embedding_size": 6},
    "bert": {**_SMALL, **_DROPOUT},
    "deberta-v2": {
        **_SMALL,
        **_DROPOUT,
        "relative_attention": True,
        "position_buckets": 4,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "gpt2": {
        "vocab_size": 31,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 16,
        "resid_pdrop": 0.2,
        "attn_pdrop": 0.2,
        "embd_pdrop": 0.2,
    },
    "llama": {**_SMALL, "num_key_value_heads": 1, "attention_dropout": 0.2},
    "t5": {
        "vocab_size": 31,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 12,
        "num_layers": 2,
        "num_heads": 2,
        "dropout_rate": 0.2,
        "decoder_start_token_id": 0,
    },
}
_STEPS = 2


def make_backbone(family, policy="float32"):
    keras.utils.set_random_seed(3)
    config = {"model_type": family, "pad_token_id": 0, **FAMILIES[family]}
    found = find_family(config, source="test")
    return TransformerBackbone(found.backbone(found.with_defaults(config)), dtype=policy)


def make_inputs(backbone):
    random = np.random.default_rng(1)
    ids = random.integers(1, 31, (3, 7)).astype("int32")
    mask = (np.arange(7) < np.array([7, 4, 2])[:, None]).astype("int32")
    values = {"token_ids": ids * mask, "padding_mask": mask, "segment_ids": np.zeros_like(mask)}
    values |= {"decoder_token_ids": ids[:, :5], "decoder_padding_mask": mask[:, :5]}
    return {name: tf.constant(values[name]) for name in backbone.input}


def train(backbone, *, recompute, compiled=True):
    """Losses, gradients of the last step, and all variables, of a few steps."""
    backbone.recompute_layers(recompute)
    inputs = make_inputs(backbone)
    variables = [v.value for v in backbone.trainable_variables]

    def step():
        with tf.GradientTape() as tape:
            hidden = tf.cast(backbone(inputs, training=True)["sequence_output"], tf.float32)
            loss = tf.reduce_sum(tf.sin(hidden) * tf.reshape(tf.range(8.0), [1, 1, 8]))
        gradients = tape.gradient(loss, variables)
        dense = [
            tf.zeros_like(variable) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        for variable, gradient in zip(variables, dense, strict=True):
            variable.assign_sub(gradient * 1e-3)
        return loss, dense

    run = tf.function(step, autograph=False) if compiled else step
    losses = []
    for _ in range(_STEPS):
        loss, gradients = run()
        losses.append(float(loss))
    return losses, [g.numpy() for g in gradients], [v.numpy() for v in backbone.variables]


CASES = [*((family, "float32") for family in sorted(FAMILIES)), ("bert", "mixed_bfloat16")]


@pytest.mark.parametrize(("family", "policy"), CASES)
def test_op_by_op_nothing_else_changes(family, policy):
    plain = train(make_backbone(family, policy), recompute=False, compiled=False)
    again = train(make_backbone(family, policy), recompute=True, compiled=False)
    assert plain[0][0] == again[0][0]
    assert len(set(plain[0])) == _STEPS  # dropout and weights do change
    # Another mask in the recomputation would change gradients by a fifth; a sum in another order does not.
    # Two steps of bfloat16 are 2**-6.
    check_equal(plain, again, 3e-6 if policy == "float32" else 2.0**-6)


def test_in_a_graph_nothing_else_changes():
    # TensorFlow fuses ops of the two graphs differently, so the last digit may differ.
    plain = train(make_backbone("bert"), recompute=False)
    check_equal(plain, train(make_backbone("bert"), recompute=True), 1e-6)


def check_equal(plain, again, digits):
    """Losses, gradients and weights up to rounding; random generators to the bit."""
    np.testing.assert_allclose(again[0], plain[0], rtol=digits)
    for one, other in zip(plain[1], again[1], strict=True):
        np.testing.assert_allclose(other, one, atol=digits * max(1.0, np.abs(one).max()), rtol=0)
    assert any(values.dtype.kind in "iu" for values in plain[2])
    for one, other in zip(plain[2], again[2], strict=True):
        exact = one.dtype.kind in "iu"
        np.testing.assert_allclose(np.float64(other), np.float64(one), atol=0 if exact else digits, rtol=0)


def test_neither_inference_nor_the_saved_config_knows_of_it():
    backbone = make_backbone("bert")
    inputs = make_inputs(backbone)
    plain, config = backbone(inputs)["sequence_output"], backbone.get_config()
    backbone.recompute_layers()
    np.testing.assert_array_equal(backbone(inputs)["sequence_output"], plain)
    assert backbone.get_config() == config
    copy = TransformerBackbone.from_config(config)
    assert [layer.recompute for layer in copy.stack_layers("encoder")] == [False, False]
    backbone.recompute_layers(False)
    assert [layer.recompute for layer in backbone.stack_layers("encoder")] == [False, False]
