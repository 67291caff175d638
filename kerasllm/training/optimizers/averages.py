"""Averaged weights: of the steps of one run (EMA), and of several checkpoints."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy

from kerasllm.errors import CheckpointError, ConfigError

__all__ = ["EvaluateAverages", "average_weights", "averaged_weights"]


@contextlib.contextmanager
def averaged_weights(optimizer: Any) -> Iterator[None]:
    """Inside, the model has the averaged weights of its optimizer; afterwards its own, bit for bit.

    What is saved or exported inside has the averaged weights as well. Changes made to weights inside are
    lost.

    Args:
        optimizer: A built Keras optimizer with `use_ema=True`, or a `LossScaleOptimizer` around one.

    Raises:
        ConfigError: If the optimizer keeps no averages.

    Example:
    >>> with averaged_weights(model.optimizer):
    ...     model.evaluate(validation_batches)
    """
    pairs = _pairs(optimizer)
    own = [variable.numpy() for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(average)
    try:
        yield
    finally:
        for (variable, _), values in zip(pairs, own, strict=True):
            variable.assign(values)


def _pairs(optimizer: Any) -> list[tuple[Any, Any]]:
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        raise ConfigError(
            f"The optimizer `{optimizer.name}` keeps no averages of the weights. Set `ema`, e.g. to 0.999, "
            "(`use_ema=True` of a Keras optimizer) and build it before."
        )
    if int(keras.ops.convert_to_numpy(optimizer.iterations)) == 0:
        return []  # the averages are zeros until the first step
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


class EvaluateAverages(keras.callbacks.Callback):
    """Evaluates, also during `fit`, with the averaged weights.

    Unlike Keras' `SwapEMAWeights`, which swaps by adding and subtracting, and leaves the averages in the
    model after `predict`, it gives the model back its own weights, bit for bit.
    """

    def __init__(self):
        super().__init__()
        self._swapped = contextlib.ExitStack()

    def on_test_begin(self, logs=None):
        """Puts the averages in."""
        self._swapped.enter_context(averaged_weights(self.model.optimizer))

    def on_test_end(self, logs=None):
        """Puts the model's own weights back."""
        self._swapped.close()

    def on_predict_begin(self, logs=None):
        """Puts the averages in."""
        self.on_test_begin()

    def on_predict_end(self, logs=None):
        """Puts the model's own weights back."""
        self.on_test_end()


def average_weights(paths: Sequence[str | Path]) -> dict[str, np.ndarray]:
    """Averages the weights of several checkpoints of one model, tensor by tensor.

    Sums are in float64, means in the type of the tensor. What is no floating-point number (states of random
    generators) is that of the last checkpoint.

    Args:
        paths: `.safetensors` files, or directories with a `model.safetensors`; at least one.

    Returns:
        Arrays by name, to save with `safetensors.numpy.save_file` or to assign.

    Raises:
        CheckpointError: If a file cannot be read, or tensors differ in names, shapes or types.
    """
    files = [Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path) for path in paths]
    if not files:
        raise CheckpointError("No checkpoints to average; expected at least one path.")
    sums: dict[str, np.ndarray] = {}
    first: dict[str, np.ndarray] = {}
    for file in files:
        arrays = _read(file)
        first = first or arrays
        _check_alike(files[0], first, file, arrays)
        for name, array in arrays.items():
            if _is_floating(array):
                sums[name] = sums[name] + array if name in sums else array.astype(np.float64)
            else:
                sums[name] = array
    return {
        name: (total / len(files)).astype(first[name].dtype) if _is_floating(first[name]) else total
        for name, total in sums.items()
    }


def _is_floating(array: np.ndarray) -> bool:
    # NumPy does not count the bfloat16 of ml_dtypes among its own.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} could not be read: {error}") from error


def _check_alike(first: Path, expected: dict[str, Any], file: Path, arrays: dict[str, Any]) -> None:
    differing = sorted(set(expected) ^ set(arrays)) or sorted(
        name
        for name, array in arrays.items()
        if (array.shape, array.dtype) != (expected[name].shape, expected[name].dtype)
    )
    if differing:
        name = differing[0]
        kinds = [
            f"{found[name].dtype}{list(found[name].shape)}" if name in found else "no such tensor"
            for found in (expected, arrays)
        ]
        raise CheckpointError(
            f"{first} and {file} are not checkpoints of one model: {len(differing)} tensors differ, the "
            f"first is `{name}` ({kinds[0]} and {kinds[1]}). Average checkpoints of one run."
        )
