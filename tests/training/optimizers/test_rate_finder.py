"""The search for a learning rate."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.training.optimizers import AdamW, find_learning_rate
from kerasllm.training.schedules import make_schedule


def data():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    return x, (x[:, :1] - 2 * x[:, 1:2]).astype(np.float32)


def batches():
    return tf.data.Dataset.from_tensor_slices(data()).batch(16)


def small_model(optimizer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(8, activation="tanh")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


@pytest.mark.parametrize("kind", ["schedule", "number", "loss_scale"])
def test_the_model_is_as_before(kind):
    schedule = make_schedule("linear", 0.01, 100, 10)
    optimizer = AdamW(0.01 if kind == "number" else schedule)
    if kind == "loss_scale":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model, untouched = small_model(optimizer), small_model(AdamW(0.01 if kind == "number" else schedule))
    if kind == "loss_scale":
        optimizer_again = keras.optimizers.LossScaleOptimizer(AdamW(schedule))
        untouched = small_model(optimizer_again)
    keras.utils.set_random_seed(1)
    before = [v.numpy() for v in model.variables]
    search = find_learning_rate(model, batches(), num_steps=30)
    assert 1e-7 < search.suggestion < 1.0
    for variable, values in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)
    histories = [m.fit(*data(), epochs=2, shuffle=False, verbose=0).history for m in (model, untouched)]
    assert histories[0] == histories[1]


def test_rates_grow_and_the_loss_falls_then_explodes():
    model = small_model(keras.optimizers.SGD(0.01))
    search = find_learning_rate(model, batches(), lowest=1e-4, highest=100.0, num_steps=80)
    assert search.diverged
    assert len(search.rates) < 80
    ratios = np.array(search.rates[1:]) / np.array(search.rates[:-1])
    np.testing.assert_allclose(ratios, 1e6 ** (1 / 79), rtol=1e-9)
    assert search.table == list(zip(search.rates, search.smoothed, strict=True))
    best = search.rates[int(np.argmin(search.smoothed))]
    assert search.rates[0] < search.suggestion <= best
    assert search.smoothed[-1] > 4 * min(search.smoothed)


def test_a_function_on_a_parabola():
    # Gradient descent on x**2 / 2 shrinks x by (1 - rate) and diverges above a rate of 2.
    value = tf.Variable(3.0)

    def step(batch, rate):
        loss = value**2 / 2
        value.assign_sub(rate * value)
        return loss

    search = find_learning_rate(
        step, [0], variables=[value], lowest=1e-3, highest=1e3, num_steps=60, smoothing=0.0
    )
    assert float(value) == 3.0
    expected, x = [], 3.0
    for rate in search.rates:
        expected.append(x * x / 2)
        x *= 1 - rate
    np.testing.assert_allclose(search.losses, expected, rtol=1e-4, atol=1e-12)
    assert search.diverged
    assert 0.01 < search.suggestion < 0.5


def test_a_loss_that_is_no_number_ends_the_search():
    value = tf.Variable(1.0)
    losses = iter([3.0, 2.0, 1.0, float("nan"), 1.0])
    search = find_learning_rate(lambda batch, rate: next(losses), [0], variables=[value], num_steps=5)
    assert search.diverged
    assert search.losses == [3.0, 2.0, 1.0]


def test_smoothing_is_corrected_for_its_beginning():
    losses = iter([4.0, 2.0, 1.0])
    search = find_learning_rate(
        lambda batch, rate: next(losses), [0], variables=[], num_steps=3, smoothing=0.5, highest=1e-3
    )
    np.testing.assert_allclose(search.smoothed, [4.0, 8 / 3, 1 / 0.875 * (0.5 * 2.0 + 0.5 * 1.0)])


def test_a_loss_that_never_falls_has_no_suggestion(caplog):
    losses = iter(range(1, 5))
    with caplog.at_level(logging.WARNING, logger="kerasllm.training"):
        search = find_learning_rate(lambda batch, rate: next(losses), [0], variables=[], num_steps=4)
    assert search.suggestion is None
    assert "The loss never fell between the learning rates 1e-07 and 1" in caplog.text


def test_what_changes_is_restored_after_an_error():
    value = tf.Variable(1.0)

    def step(batch, rate):
        value.assign(5.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(step, [0], variables=[value])
    assert float(value) == 1.0


def test_wrong_arguments_are_errors():
    with pytest.raises(ConfigError, match=r"lowest=1\.0, highest=0\.1"):
        find_learning_rate(lambda b, r: 1.0, [0], variables=[], lowest=1.0, highest=0.1)
    with pytest.raises(ConfigError, match="`step` is a function, so that `variables` have to say"):
        find_learning_rate(lambda b, r: 1.0, [0])
    with pytest.raises(ConfigError, match="`batches` has no batch"):
        find_learning_rate(lambda b, r: 1.0, [], variables=[])
    inputs = keras.Input((1,))
    with pytest.raises(ConfigError, match=r"has no optimizer; call `model\.compile"):
        find_learning_rate(keras.Model(inputs, keras.layers.Dense(1)(inputs)), batches())
