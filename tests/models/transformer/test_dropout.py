import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.transformer.dropout import Dropout


def drawn(rate, *, shape=(61, 37), calls=150, dtype="float32"):
    layer = Dropout(rate, seed=1, dtype=dtype)
    call = tf.function(lambda values: layer(values, training=True))
    return np.stack([tf.cast(call(tf.ones(shape)), tf.float32).numpy() for _ in range(calls)])


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_rate_is_exact_and_the_expectation_stays(rate):
    values = drawn(rate)
    deviation = np.sqrt(rate * (1 - rate) / values.size)
    # Within a call the threshold is rounded to a 256th, so that calls differ a little more than elements do.
    assert np.mean(values == 0) == pytest.approx(rate, abs=4 * deviation + 4 / 512 / np.sqrt(len(values)))
    # In each call alone the scale is that of the threshold drawn.
    for one in values[:20]:
        kept = one[one > 0]
        assert len(set(kept)) == 1
        share = 1 / kept[0]
        assert share * 256 == pytest.approx(round(share * 256), abs=1e-3)
        assert abs(np.mean(one > 0) - share) < 5 * np.sqrt(rate * (1 - rate) / one.size)


def test_each_element_is_drawn_by_itself():
    dropped = (drawn(0.5, shape=(40, 8), calls=400) == 0).reshape(400, -1)
    assert np.abs(dropped.mean(0) - 0.5).max() < 0.13
    correlation = np.corrcoef(dropped[:, :40].T.astype(float)) - np.eye(40)
    assert np.abs(correlation).max() < 0.3


def test_the_gradient_goes_where_the_values_went():
    layer = Dropout(0.3, seed=2)
    values = tf.Variable(tf.random.normal([5, 7, 3]))
    with tf.GradientTape() as tape:
        outputs = layer(values, training=True)
        total = tf.reduce_sum(outputs * 3.0)
    expected = np.where(outputs.numpy() == 0, 0.0, 3.0 * outputs.numpy() / values.numpy())
    np.testing.assert_allclose(tape.gradient(total, values), expected, rtol=1e-6)


def test_the_state_is_a_variable_that_repeats_the_draws():
    first, second = Dropout(0.5, seed=3), Dropout(0.5, seed=4)
    ones = tf.ones([9, 9])
    first(ones, training=True)
    second.variables[0].assign(first.variables[0])
    np.testing.assert_array_equal(first(ones, training=True), second(ones, training=True))
    assert not np.array_equal(first(ones, training=True), first(ones, training=True))


def test_nothing_is_dropped_outside_of_training_or_at_rate_zero():
    ones = tf.ones([3, 4])
    assert Dropout(0.5)(ones, training=False) is ones
    assert Dropout(0.0)(ones, training=True) is ones
    assert not np.any(Dropout(1.0)(ones, training=True))


def test_it_works_in_bfloat16_and_is_serialisable():
    values = drawn(0.1, calls=3, dtype="mixed_bfloat16")
    assert 0.05 < np.mean(values == 0) < 0.15
    layer = keras.layers.deserialize(keras.layers.serialize(Dropout(0.2, seed=5)))
    assert isinstance(layer, Dropout)
    assert layer.rate == 0.2
