"""The adapter of one dense layer: LoRA, and DoRA on top of it.

Sources: Hu et al., 2021 (https://arxiv.org/abs/2106.09685); Kalajdzievski, 2023, for the rank-stabilized
scale (https://arxiv.org/abs/2312.03732); Liu et al., 2024, for DoRA (https://arxiv.org/abs/2402.09353).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["LoRA", "LoRASettings"]


@dataclass(frozen=True)
class LoRASettings:
    """How a layer is adapted.

    Attributes:
        rank: Width of the small matrices.
        alpha: Their product is scaled by `alpha / rank`.
        dropout: Rate for what goes into them in training.
        rank_stabilized: Whether the scale is `alpha / sqrt(rank)` instead.
        dora: Whether the length of each column of the adapted matrix is learned by itself (DoRA).
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rank_stabilized: bool = False
    dora: bool = False

    @property
    def scale(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


@keras.saving.register_keras_serializable(package="kerasllm")
class LoRA(keras.layers.Layer):
    """What a dense layer computes besides: `scale * dropout(x) A B`, and for DoRA the length of each column.

    With DoRA, the product with the adapted matrix `W + scale A B` is divided by the length of each of its
    columns (through which no gradient flows, section 4.3 of the paper) and multiplied by `magnitude`. Where
    there is dropout, only the adapter's input is dropped; `peft` drops that of `W` as well, for DoRA alone.

    Args:
        units: Width of the output.
        settings: `LoRASettings`, or a dictionary of its attributes.

    Call arguments:
        inputs: `(rows, dim)`.
    """

    def __init__(self, units, settings, **kwargs):
        # The matrices are cast where they multiply; lengths are in float32.
        super().__init__(**{"autocast": False, **kwargs})
        self.units = units
        self.settings = settings if isinstance(settings, LoRASettings) else LoRASettings(**settings)
        self.dropout = None
        if self.settings.dropout:
            self.dropout = keras.layers.Dropout(self.settings.dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Makes the matrices; their product is 0 at first."""
        rank = self.settings.rank
        # PEFT's: Kaiming with a = sqrt(5).
        initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.a = self.add_weight(name="a", shape=(input_shape[-1], rank), initializer=initializer)
        self.b = self.add_weight(name="b", shape=(rank, self.units), initializer="zeros")
        self.magnitude = None
        if self.settings.dora:
            self.magnitude = self.add_weight(name="magnitude", shape=(self.units,), initializer="ones")

    def call(self, inputs, training=None):
        """See the class."""
        hidden = inputs if self.dropout is None else self.dropout(inputs, training=training)
        hidden = tf.matmul(tf.cast(hidden, self.compute_dtype), tf.cast(self.a, self.compute_dtype))
        product = tf.matmul(hidden, tf.cast(self.b, self.compute_dtype))
        return product * tf.cast(self.settings.scale, self.compute_dtype)

    def ratio(self, matrix: Any) -> Any:
        """What DoRA multiplies each output with, `(units,)`; the matrix is that of the dense layer."""
        lengths = column_lengths(tf.cast(matrix, tf.float32) + self.product())
        return tf.cast(self.magnitude, tf.float32) / tf.stop_gradient(lengths)

    def product(self) -> Any:
        """What LoRA adds to the layer's matrix, float32[dim, units]."""
        product = tf.matmul(tf.cast(self.a, tf.float32), tf.cast(self.b, tf.float32))
        return product * tf.constant(self.settings.scale, tf.float32)

    def start_from(self, matrix: Any) -> None:
        """Gives the magnitudes, where there are any, the lengths that the columns of the matrix have."""
        if self.magnitude is not None:
            self.magnitude.assign(column_lengths(tf.cast(matrix, tf.float32)))

    def merged(self, matrix: Any) -> np.ndarray:
        """The matrix of a dense layer that computes the same without an adapter, float32[dim, units]."""
        sum_ = tf.cast(matrix, tf.float32) + self.product()
        return np.asarray(sum_ if self.magnitude is None else sum_ * self.ratio(matrix))

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "units": self.units, "settings": dataclasses.asdict(self.settings)}


def column_lengths(matrix: Any) -> Any:
    """Euclidean length of each column, float32."""
    # A column of zeros has no direction; 1 keeps it a column of zeros.
    lengths = tf.sqrt(tf.reduce_sum(tf.square(matrix), axis=0))
    return tf.where(lengths > 0, lengths, tf.ones_like(lengths))
