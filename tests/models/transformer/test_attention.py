"""Training leaves out scores with tokens that are hidden anyway: the same numbers and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.transformer.attention import Attention
from kerasllm.models.transformer.biases import AttentionBias, RelativeBias
from kerasllm.models.transformer.settings import RelativeBiasSettings, StackSettings

KINDS = {
    "plain": {},
    "shared keys": {"num_key_value_heads": 2},
    "capped": {"softcap": 5.0},
}


def attention(**options):
    layer = Attention(
        StackSettings(1, 16, 4, options.pop("num_key_value_heads", 4), 4, 32, causal=True, **options)
    )
    layer.build((None, None, 16))
    return layer


def outputs_and_gradients(layer, tokens, bias, training):
    with tf.GradientTape() as tape:
        tape.watch([tokens, bias])
        output = layer(tokens, bias, training=training)
        loss = tf.reduce_sum(tf.sin(output))
    return [output, *tape.gradient(loss, [tokens, bias, *layer.trainable_variables])]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("kind", KINDS)
def test_in_parts_it_computes_the_same(kind, length):
    layer = attention(**KINDS[kind])
    tokens = tf.random.stateless_normal((2, length, 16), (1, length))
    relative = RelativeBias(4, True, RelativeBiasSettings(8, 16))
    bias = AttentionBias(causal=True)(np.ones((2, length), np.int32)) + relative(np.ones((2, length)))
    for whole, in_parts in zip(
        outputs_and_gradients(layer, tokens, bias, False),
        outputs_and_gradients(layer, tokens, bias, True),
        strict=True,
    ):
        np.testing.assert_allclose(in_parts, whole, atol=2e-6)


def test_in_parts_it_computes_fewer_scores():
    layer, sizes = attention(), []
    whole = layer._mix
    layer._mix = lambda query, *rest, end, **options: (
        sizes.append(query.shape[2] * int(end)) or whole(query, *rest, end=end, **options)
    )
    tokens = tf.random.stateless_normal((1, 64, 16), (1, 2))
    bias = AttentionBias(causal=True)(np.ones((1, 64), np.int32))
    layer(tokens, bias, training=True)
    assert sum(sizes) == 64 * 64 * 5 // 8


def test_padding_on_the_left_changes_no_token():
    layer = attention()
    tokens = tf.random.stateless_normal((1, 6, 16), (1, 2))
    mask = np.array([[0, 0, 1, 1, 1, 1]], np.int32)
    bias = AttentionBias(causal=True)(mask)
    whole, in_parts = (layer(tokens, bias, training=training) for training in (False, True))
    np.testing.assert_allclose(in_parts[:, 2:], whole[:, 2:], atol=2e-6)
