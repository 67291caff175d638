"""Activations by name, each with the one formula that it stands for."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["ACTIVATIONS"]


def _gelu(x: Any) -> Any:
    # The order of the factors matters: this one is what TensorFlow's graph optimizer makes one op of.
    return 0.5 * x * (1.0 + tf.math.erf(x * tf.cast(0.7071067811865476, x.dtype)))


def _gelu_tanh(x: Any) -> Any:
    return tf.nn.gelu(x, approximate=True)


def _quick_gelu(x: Any) -> Any:
    return x * tf.sigmoid(1.702 * x)


def _relu_squared(x: Any) -> Any:
    return tf.square(tf.nn.relu(x))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "identity": tf.identity,
    "quick_gelu": _quick_gelu,
    "relu": tf.nn.relu,
    "relu_squared": _relu_squared,
    "sigmoid": tf.sigmoid,
    "silu": tf.nn.silu,
    "tanh": tf.tanh,
}
