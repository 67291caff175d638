"""Activations by name, each with the one formula that it stands for."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["ACTIVATIONS", "activation_of"]


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


def activation_of(name: str, *, training: bool = False) -> Callable[[Any], Any]:
    """The function of that name; for training, where it has one, the form with a gradient of its own.

    That form computes the derivative beside the value, in float32 whatever the precision around it, and keeps
    it instead of the steps in between: less memory, and half the passes over it.

    Args:
        name: A key of `ACTIVATIONS`.
        training: Whether a gradient will be asked for. Defaults to `False`.
    """
    if training and name in _DERIVATIVES:
        return _with_derivative(_DERIVATIVES[name])
    return ACTIVATIONS[name]


def _with_derivative(both: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any], Any]:
    @tf.custom_gradient
    def activate(x: Any) -> Any:
        value, derivative = both(tf.cast(x, tf.float32))
        derivative = tf.cast(derivative, x.dtype)
        # Else the executor may leave the derivative for later, and keep all that it is made of instead.
        with tf.control_dependencies([derivative]):
            value = tf.identity(tf.cast(value, x.dtype))
        return value, lambda upstream: upstream * derivative

    return activate


def _gelu_and_derivative(x: Any) -> tuple[Any, Any]:
    scaled = x * math.sqrt(0.5)
    share = 0.5 + 0.5 * tf.math.erf(scaled)
    return x * share, share + x * (tf.exp(-tf.square(scaled)) * (1 / math.sqrt(2 * math.pi)))


def _gelu_tanh_and_derivative(x: Any) -> tuple[Any, Any]:
    slope, cubic = math.sqrt(2 / math.pi), 0.044715
    squared = tf.square(x)
    share = 0.5 + 0.5 * tf.tanh(x * (slope + slope * cubic * squared))
    value = x * share
    return value, share + (value - value * share) * (2 * slope + 6 * slope * cubic * squared)


def _silu_and_derivative(x: Any) -> tuple[Any, Any]:
    share = tf.sigmoid(x)
    value = x * share
    return value, share + (value - value * share)


def _quick_gelu_and_derivative(x: Any) -> tuple[Any, Any]:
    share = tf.sigmoid(1.702 * x)
    value = x * share
    return value, share + 1.702 * (value - value * share)


# Value and derivative of float32 tensors.
_DERIVATIVES: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "gelu": _gelu_and_derivative,
    "gelu_tanh": _gelu_tanh_and_derivative,
    "quick_gelu": _quick_gelu_and_derivative,
    "silu": _silu_and_derivative,
}
