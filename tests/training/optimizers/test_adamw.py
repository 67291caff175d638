"""AdamW against its definition, and what it leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.optimizers import AdamW, build_optimizer
from kerasllm.training.schedules import WarmupDecay


def adam_by_definition(value, gradients, *, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    m, v = np.zeros_like(value), np.zeros_like(value)
    for step, gradient in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        scale = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        value = value - scale * m / (np.sqrt(v) + epsilon)
    return value


def test_repeated_tokens_of_an_embedding_count_as_their_sum():
    start = np.ones((4, 3), np.float32)
    variable = keras.Variable(start)
    optimizer = AdamW(0.01, weight_decay=0.0, epsilon=1e-8)
    optimizer.build([variable])
    rows = np.array([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5], [-1.0, 4.0, 0.0]], np.float32)
    sparse = tf.IndexedSlices(tf.constant(rows), tf.constant([2, 2, 0]), dense_shape=tf.constant([4, 3]))
    dense = np.zeros_like(start)
    np.add.at(dense, [2, 2, 0], rows)
    for _ in range(3):
        optimizer.apply([sparse], [variable])
    expected = adam_by_definition(start, [dense] * 3, rate=0.01)
    np.testing.assert_allclose(variable.numpy(), expected, atol=1e-6)


def test_clipping_takes_the_norm_of_summed_rows():
    variable = keras.Variable(np.zeros((2, 1), np.float32))
    optimizer = AdamW(0.01, weight_decay=0.0, global_clipnorm=1.0)
    optimizer.build([variable])
    # Two opposite rows of one token: their sum is zero, so nothing may be clipped and nothing may move.
    sparse = tf.IndexedSlices(
        tf.constant([[5.0], [-5.0]]), tf.constant([1, 1]), dense_shape=tf.constant([2, 1])
    )
    optimizer.apply([sparse], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0.0)


def test_dense_updates_and_weight_decay_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    start = random.normal(size=(5, 4)).astype(np.float32)
    gradients = random.normal(size=(10, 5, 4)).astype(np.float32)
    ours = keras.Variable(start)
    optimizer = AdamW(0.01, weight_decay=0.1, epsilon=1e-8)
    optimizer.build([ours])
    theirs = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, eps=1e-8)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [ours])
        theirs.grad = torch.tensor(gradient)
        reference.step()
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), atol=1e-5)


def test_biases_and_norms_are_not_decayed():
    inputs = keras.Input((4,))
    outputs = keras.layers.LayerNormalization()(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, outputs)
    optimizer = build_optimizer(model, learning_rate=0.1, num_steps=10, weight_decay=0.1)
    decayed = [v.name for v in model.trainable_variables if optimizer.weight_decay_of(v)]
    assert decayed == ["kernel"]


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_schedule_rises_then_falls(decay):
    schedule = WarmupDecay(1.0, num_steps=100, num_warmup_steps=10, decay=decay)
    rates = [float(schedule(step)) for step in range(101)]
    assert 0 < rates[0] < 0.1
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(1.0 if decay == "constant" else 0.0, abs=1e-6)
    again = WarmupDecay.from_config(schedule.get_config())
    assert float(again(37)) == float(schedule(37))
