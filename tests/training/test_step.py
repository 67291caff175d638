"""One optimizer step: exact sums over micro-batches, nothing applied that is no number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.losses import classification_loss
from kerasllm.training.objectives import Classification
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.step import NotFiniteError, TrainingStep

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(12, 6)).astype("float32")
LABELS = RANDOM.integers(0, 2, 12)
WEIGHTS = RANDOM.uniform(0.2, 3.0, 12).astype("float32")
SPEC = (tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None]))


def make_step(*, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    settings = {"learning_rate": 0.05, "warmup": 0, "schedule": "constant", **(optimizer or {})}
    model.compile(build_optimizer(settings, model.trainable_variables, 10))
    loss = classification_loss(multi_label=False)
    return TrainingStep(model, Classification(loss, 2), SPEC, **options)


def batch(rows):
    return tuple(tf.constant(part[rows]) for part in (ROWS, LABELS, WEIGHTS))


def weights(step):
    return [np.asarray(variable) for variable in [*step.model.variables, *step.model.optimizer.variables]]


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 1, 6], [1, 11], [3] * 4])
def test_micro_batches_equal_one_batch_of_them_all(sizes):
    """Keras averages the means of batches, so that rows of small batches count more."""
    whole, parts = make_step(), make_step()
    ends = np.cumsum(sizes)
    for _ in range(3):
        logs = [
            whole([batch(slice(None))]),
            parts([batch(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]),
        ]
        assert logs[0] == pytest.approx(logs[1], abs=1e-6)
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_partial_window_weighs_what_is_in_it():
    """The last window of an epoch has fewer micro-batches; its sums must not keep those of the one before."""
    whole, parts = make_step(), make_step()
    for rows in (slice(0, 8), slice(8, 12)):
        whole([batch(rows)])
    parts([batch(slice(0, 4)), batch(slice(4, 8))])
    parts([batch(slice(8, 12))])
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_repeated_rows_of_an_embedding_add_up_over_micro_batches():
    ids = RANDOM.integers(0, 5, (12, 3)).astype("int32")

    def step():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,), dtype="int32")
        pooled = keras.ops.mean(keras.layers.Embedding(5, 4)(inputs), axis=1)
        model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
        model.compile(build_optimizer({"learning_rate": 0.1}, model.trainable_variables, 10))
        spec = (tf.TensorSpec([None, 3], tf.int32), *SPEC[1:])
        return TrainingStep(model, Classification(classification_loss(multi_label=False), 2), spec)

    def rows(part):
        return tuple(tf.constant(values[part]) for values in (ids, LABELS, WEIGHTS))

    whole, parts = step(), step()
    for _ in range(2):
        whole([rows(slice(None))])
        parts([rows(slice(0, 5)), rows(slice(5, 12))])
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_batches", [1, 2])
def test_a_step_that_is_no_number_changes_no_weight(num_batches):
    step = make_step()
    step([batch(slice(None))])
    before = weights(step)
    x, y, w = batch(slice(None))
    broken = (tf.where(tf.range(12)[:, None] == 7, np.nan, x), y, w)
    with pytest.raises(NotFiniteError, match="The loss is nan"):
        step([broken] + [batch(slice(0, 3))] * (num_batches - 1))
    for one, other in zip(before, weights(step), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(step.results()["loss"])
    step([batch(slice(0, 6)), batch(slice(6, 12))])  # and the sums are empty again
    assert all(np.isfinite(value).all() for value in weights(step))


def test_an_overflow_halves_the_loss_scale_and_skips_the_step():
    step = make_step(loss_scaling=True)
    first = step.loss_scale.value
    x, y, w = batch(slice(None))
    before = weights(step)
    step([(x * np.inf, y, w)])
    assert (step.loss_scale.value, step.loss_scale.num_skipped) == (first / 2, 1)
    for one, other in zip(before, weights(step), strict=True):
        np.testing.assert_array_equal(one, other)
    step([(x, y, w)])
    assert step.loss_scale.num_skipped == 0


def test_a_loss_scale_that_collapses_is_an_error_and_never_zero():
    """Keras' scale falls to 0, and the next good batch then makes the weights NaN for ever."""
    step = make_step(loss_scaling=True)
    x, y, w = batch(slice(None))
    for _ in range(15):
        step([(x * np.inf, y, w)])
    with pytest.raises(NotFiniteError):
        step([(x * np.inf, y, w)])
    assert step.loss_scale.has_collapsed
    assert step.loss_scale.value > 0
    step([(x, y, w)])
    assert all(np.isfinite(value).all() for value in weights(step))


def test_the_loss_scale_changes_no_gradient():
    """Scales are powers of two, so that float32 keeps every digit."""
    plain, scaled = make_step(), make_step(loss_scaling=True)
    for rows in (slice(0, 8), slice(8, 12)):
        plain([batch(rows)])
        scaled([batch(rows)])
    for one, other in zip(weights(plain), weights(scaled), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_compiled_by_xla_computes_the_same():
    plain, compiled = make_step(), make_step(jit_compile=True)
    for window in ([slice(0, 12)], [slice(0, 5), slice(5, 12)]):
        logs = [step([batch(rows) for rows in window]) for step in (plain, compiled)]
        assert logs[0] == pytest.approx(logs[1], abs=1e-5)
    for one, other in zip(weights(plain), weights(compiled), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_augmentation_is_for_training_only():
    class Doubles(keras.layers.Layer):
        def call(self, inputs, training=None):
            return inputs * 2.0 if training else inputs

    plain, augmented = make_step(), make_step(augmentation=[Doubles()])
    x, y, w = batch(slice(None))
    data = tf.data.Dataset.from_tensors((x, y, w))
    assert augmented.evaluate(data) == plain.evaluate(data)
    plain([(x * 2.0, y, w)])
    augmented([(x, y, w)])
    for one, other in zip(weights(plain), weights(augmented), strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_is_the_exact_mean_however_the_batches_fall():
    step = make_step()
    data = tf.data.Dataset.from_tensor_slices((ROWS, LABELS, WEIGHTS))
    one, other = step.evaluate(data.batch(12)), step.evaluate(data.batch(5))
    assert one == pytest.approx(other, abs=1e-6)
    assert {"loss", "accuracy", "macro_f1", "micro_f1", "log_loss", "calibration_error"} <= set(one)


def test_what_is_trained_may_change_between_steps():
    """As `GradualUnfreezing` does it: flags of variables, then `make_train_function(force=True)`."""
    step = make_step()
    first = step.model.layers[1].kernel
    step([batch(slice(None))])
    step.model.layers[1].trainable = False
    step.model.make_train_function(force=True)
    before = np.asarray(first)
    step([batch(slice(0, 6)), batch(slice(6, 12))])
    np.testing.assert_array_equal(before, np.asarray(first))
