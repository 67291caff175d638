"""Layer normalization and root mean square normalization, in float32 whatever the precision around them."""

import keras
import tensorflow as tf

from kerasllm.models.transformer.weights import Weighted

__all__ = ["Normalization"]


@keras.saving.register_keras_serializable(package="kerasllm")
class Normalization(Weighted, keras.layers.Layer):
    """Normalizes the last axis.

    Args:
        kind: `"layer"` (Ba et al., 2016, https://arxiv.org/abs/1607.06450) or `"rms"` (Zhang and Sennrich,
            2019, https://arxiv.org/abs/1910.07467), which neither centres nor shifts.
        epsilon: Added to the variance.
        offset: Added to the stored scales. Defaults to `0.0`.
        scaled: Whether there are scales, and shifts for `"layer"`. Defaults to `True`.
    """

    def __init__(self, kind="layer", epsilon=1e-5, offset=0.0, scaled=True, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.epsilon = epsilon
        self.offset = offset
        self.scaled = scaled
        self.gamma = self.beta = None

    @classmethod
    def of(cls, settings, **kwargs):
        """The normalization of a stack with the given `StackSettings`."""
        return cls(settings.norm, settings.norm_epsilon, settings.norm_offset, settings.norm_scaled, **kwargs)

    def build(self, input_shape):
        """Makes the scales, and the shifts."""
        if self.scaled:
            initializer = "zeros" if self.offset else "ones"
            self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer=initializer)
            if self.kind == "layer":
                self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")

    def call(self, inputs):
        """See the class."""
        values = tf.cast(inputs, tf.float32)
        if self.kind == "layer":
            mean = tf.reduce_mean(values, axis=-1, keepdims=True)
            variance = tf.reduce_mean(tf.math.squared_difference(values, mean), axis=-1, keepdims=True)
            values = values - mean
        else:
            variance = tf.reduce_mean(tf.square(values), axis=-1, keepdims=True)
        factor = tf.math.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            factor = factor * (tf.cast(self.gamma, tf.float32) + self.offset)
        values = values * factor
        if self.beta is not None:
            values = values + tf.cast(self.beta, tf.float32)
        return tf.cast(values, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "epsilon": self.epsilon,
            "offset": self.offset,
            "scaled": self.scaled,
        }
