"""A frozen matrix in 8 bits, from which gradients flow on to what is below it.

Weights only, as in LLM.int8 and QLoRA (Dettmers et al., 2022 and 2023, https://arxiv.org/abs/2208.07339,
https://arxiv.org/abs/2305.14314): symmetric, with one scale for each output, the largest magnitude / 127.
Keras' own `quantize("int8")` also rounds the inputs, anew for each batch, which costs digits in the forward
pass and gives gradients of another function.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["Int8Matrix", "quantized"]

_LARGEST = 127


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a matrix to 8 bits.

    Args:
        matrix: float32[dim, units].

    Returns:
        int8[dim, units] from -127 to 127 and float32[units], whose product is the matrix, each number within
        half a scale.
    """
    largest = np.abs(matrix).max(axis=0)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    values = np.clip(np.rint(matrix / scales), -_LARGEST, _LARGEST)
    return values.astype(np.int8), scales


@keras.saving.register_keras_serializable(package="kerasllm")
class Int8Matrix(keras.layers.Layer):
    """Multiplies by a matrix that is kept in 8 bits, and is never trained.

    Args:
        units: Width of the output.

    Call arguments:
        inputs: `(rows, dim)`; the product has its precision.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.units = units

    def build(self, input_shape):
        """Makes the weights."""
        self.values = self.add_weight(
            name="values",
            shape=(input_shape[-1], self.units),
            dtype="int8",
            initializer="zeros",
            trainable=False,
        )
        self.scales = self.add_weight(
            name="scales", shape=(self.units,), dtype="float32", initializer="ones", trainable=False
        )

    def call(self, inputs):
        """See the class."""
        return _multiply(inputs, tf.convert_to_tensor(self.values), tf.convert_to_tensor(self.scales))

    def matrix(self, dtype: Any = "float32") -> Any:
        """The matrix as a tensor of floating-point numbers, `(dim, units)`."""
        return _matrix(tf.convert_to_tensor(self.values), tf.convert_to_tensor(self.scales), dtype)

    def assign(self, matrix: np.ndarray) -> None:
        """Rounds a matrix, and keeps it."""
        values, scales = quantized(matrix)
        self.values.assign(values)
        self.scales.assign(scales)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "units": self.units}


def _matrix(values: Any, scales: Any, dtype: Any) -> Any:
    return tf.cast(values, dtype) * tf.cast(scales, dtype)


@tf.custom_gradient
def _multiply(inputs, values, scales):
    product = tf.matmul(inputs, _matrix(values, scales, inputs.dtype))

    def gradient(upstream):
        # Made anew, and not before it is needed: otherwise the whole backbone would be in memory in floating
        # point from the forward to the backward pass.
        with tf.control_dependencies([upstream]):
            matrix = _matrix(values, scales, upstream.dtype)
        return tf.matmul(upstream, matrix, transpose_b=True), None, None

    return product, gradient
