"""Gradients that are written out: against what TensorFlow derives from the plain form."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.transformer.activations import ACTIVATIONS, activation_of
from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.normalization import Normalization


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "quick_gelu", "silu"])
def test_activations_have_the_gradient_of_their_formula(name):
    values = tf.random.stateless_normal([2000], [1, 2]) * 4
    found = []
    for function, dtype in (
        (ACTIVATIONS[name], tf.float64),
        (activation_of(name, training=True), tf.float32),
    ):
        x = tf.cast(values, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append((y.numpy(), tape.gradient(y, x).numpy()))
    for exact, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, exact, atol=5e-6)


def test_bfloat16_loses_no_more_than_its_own_rounding():
    x = tf.cast(tf.linspace(-4.0, 4.0, 999), tf.bfloat16)
    exact = ACTIVATIONS["gelu"](tf.cast(x, tf.float64)).numpy()
    ours = tf.cast(activation_of("gelu", training=True)(x), tf.float64).numpy()
    np.testing.assert_allclose(ours, exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_norms_have_the_gradient_of_their_formula(kind, offset, dtype):
    norm = Normalization(kind, 1e-5, offset, dtype=dtype)
    norm.build((None, None, 16))
    for number, weight in enumerate(norm.weights):
        weight.assign(tf.random.stateless_normal(weight.shape, [3, number]) + 1.0)
    x = tf.cast(tf.random.stateless_normal([3, 5, 16], [1, 2]) * 2 + 1, norm.compute_dtype)
    upstream = tf.random.stateless_normal([3, 5, 16], [5, 6])
    found = []
    for training in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = norm(x, training=training)
            total = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        variables = [weight.value for weight in norm.weights]
        found.append([y, *tape.gradient(total, [x, *variables])])
    for plain, ours in zip(*found, strict=True):
        # In bfloat16 the two round the upstream gradient alike, and the result once.
        tolerance = 2e-6 if dtype == "float32" else 2**-6
        np.testing.assert_allclose(
            tf.cast(ours, tf.float32), tf.cast(plain, tf.float32), atol=4 * tolerance, rtol=tolerance
        )


def test_a_bias_in_bfloat16_has_the_gradient_of_its_sum():
    dense = Dense(24, dtype="mixed_bfloat16")
    dense.build((None, 16))
    x = tf.cast(tf.random.stateless_normal([700, 16], [1, 2]), tf.bfloat16)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(dense(x, training=True), tf.float32))
    # All slopes are 1: a sum in bfloat16 would stop at 256.
    np.testing.assert_allclose(tape.gradient(total, dense.bias.value), 700.0, rtol=2**-8)
    plain, ours = dense(x), dense(x, training=True)
    np.testing.assert_array_equal(plain, ours)
