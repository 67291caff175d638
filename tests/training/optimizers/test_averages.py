"""Averages of weights: over the steps of a run, and over checkpoints."""

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from kerasllm.errors import CheckpointError, ConfigError
from kerasllm.training.optimizers import AdamW, EvaluateAverages, average_weights, averaged_weights


def small_model(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = AdamW(0.05, use_ema=True, ema_momentum=0.8, **options)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def small_data():
    random = np.random.default_rng(0)
    return random.normal(size=(40, 3)).astype(np.float32), random.normal(size=(40, 2)).astype(np.float32)


def train_by_hand(model, num_steps):
    """Trains, and gives the weights after each step."""
    x, y = small_data()
    history = []
    for _ in range(num_steps):
        model.train_on_batch(x, y)
        history.append([variable.numpy() for variable in model.trainable_variables])
    return history


def test_the_average_begins_with_the_weights_of_the_first_step():
    model = small_model()
    history = train_by_hand(model, 6)
    expected = history[0]
    for weights in history[1:]:
        expected = [0.8 * mean + 0.2 * new for mean, new in zip(expected, weights, strict=True)]
    for average, mean in zip(model.optimizer._model_variables_moving_average, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), mean, rtol=1e-5)


def test_weights_are_overwritten_every_so_many_steps():
    model = small_model(ema_overwrite_frequency=3)
    train_by_hand(model, 3)
    averages = model.optimizer._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())
    train_by_hand(model, 1)
    assert not np.array_equal(model.trainable_variables[0].numpy(), averages[0].numpy())


def test_averages_are_swapped_in_and_out_bit_for_bit():
    model = small_model()
    train_by_hand(model, 5)
    own = [variable.numpy() for variable in model.variables]
    averages = [average.numpy() for average in model.optimizer._model_variables_moving_average]
    with averaged_weights(keras.optimizers.LossScaleOptimizer(model.optimizer)):
        for variable, average in zip(model.trainable_variables, averages, strict=True):
            np.testing.assert_array_equal(variable.numpy(), average)
    for variable, values in zip(model.variables, own, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


def test_before_the_first_step_the_weights_stay():
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    own = model.trainable_variables[0].numpy()
    with averaged_weights(model.optimizer):
        np.testing.assert_array_equal(model.trainable_variables[0].numpy(), own)


def test_without_averages_there_is_nothing_to_swap():
    optimizer = AdamW(0.01, name="plain")
    with (
        pytest.raises(ConfigError, match=r"`plain` keeps no averages .* Set `ema`"),
        averaged_weights(optimizer),
    ):
        pass


def test_evaluation_during_fit_sees_the_averages():
    model, other = small_model(), small_model()
    x, y = small_data()
    validation = {"validation_data": (x, y), "batch_size": 8, "shuffle": False, "verbose": 0}
    logs = model.fit(x, y, epochs=1, callbacks=[EvaluateAverages()], **validation).history
    raw = other.fit(x, y, epochs=1, **validation).history
    assert logs["loss"] == raw["loss"]  # training is the same
    assert logs["val_loss"] != raw["val_loss"]
    # Keras puts the averages into the model when training ends.
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(logs["val_loss"][0], rel=1e-6)


def test_predict_gives_the_weights_back():
    model = small_model()
    train_by_hand(model, 5)
    x, _ = small_data()
    own, plain = model.trainable_variables[0].numpy(), model.predict(x, verbose=0)
    averaged = model.predict(x, verbose=0, callbacks=[EvaluateAverages()])
    assert np.abs(plain - averaged).max() > 1e-3
    np.testing.assert_array_equal(model.trainable_variables[0].numpy(), own)


def write(path, **arrays):
    safetensors.numpy.save_file(arrays, path)
    return path


def test_checkpoints_are_averaged_tensor_by_tensor(tmp_path):
    random = np.random.default_rng(0)
    weights = [random.normal(size=(4, 3)).astype(np.float32) for _ in range(3)]
    paths = []
    for number, values in enumerate(weights):
        (tmp_path / str(number)).mkdir()
        seed = np.array([number, 7], np.uint32)
        paths.append(tmp_path / str(number))
        low = values.astype(ml_dtypes.bfloat16)
        write(paths[-1] / "model.safetensors", kernel=values, low=low, seed=seed)
    mean = average_weights(paths)
    np.testing.assert_allclose(mean["kernel"], np.mean(weights, axis=0), rtol=1e-6)
    assert mean["kernel"].dtype == np.float32
    assert mean["low"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(mean["seed"], [2, 7])
    one = average_weights([paths[0] / "model.safetensors"])
    np.testing.assert_array_equal(one["kernel"], weights[0])


def test_checkpoints_of_different_models_are_not_averaged(tmp_path):
    first = write(tmp_path / "a.safetensors", kernel=np.zeros((2, 3), np.float32))
    other = write(tmp_path / "b.safetensors", kernel=np.zeros((3, 2), np.float32))
    third = write(tmp_path / "c.safetensors", bias=np.zeros(3, np.float32))
    with pytest.raises(
        CheckpointError, match=r"1 tensors differ.*`kernel` \(float32\[2, 3\] and float32\[3, 2\]\)"
    ):
        average_weights([first, other])
    with pytest.raises(CheckpointError, match=r"`bias` \(no such tensor and float32\[3\]\)"):
        average_weights([first, third])
    with pytest.raises(CheckpointError, match="No checkpoints to average"):
        average_weights([])
    with pytest.raises(CheckpointError, match=r"missing\.safetensors could not be read"):
        average_weights([tmp_path / "missing.safetensors"])


def test_averages_are_of_float32_under_bfloat16():
    variable = keras.Variable(np.ones(2, np.float32), dtype="bfloat16")
    optimizer = AdamW(0.1, use_ema=True, ema_momentum=0.999)
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([tf.ones(2, tf.bfloat16)], [variable])
    own = variable.numpy()
    with averaged_weights(optimizer):
        assert np.abs(variable.numpy().astype(np.float32) - own.astype(np.float32)).max() > 0.1
    np.testing.assert_array_equal(variable.numpy(), own)
