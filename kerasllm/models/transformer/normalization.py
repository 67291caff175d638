"""Layer normalization and root mean square normalization, in float32 whatever the precision around them."""

from typing import Any

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
        # Scales and inputs would be rounded to the compute precision before they are cast to float32.
        super().__init__(**{"autocast": False, **kwargs})
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

    def call(self, inputs, training=None):
        """See the class."""
        gamma = beta = None
        if self.gamma is not None:
            gamma = tf.cast(self.gamma, tf.float32) + self.offset
        if self.beta is not None:
            beta = tf.cast(self.beta, tf.float32)
        if training and gamma is not None:
            return self._with_own_gradient(inputs, gamma, beta)
        values = self._centre(inputs)[0]
        values = values * (self._factor(values) if gamma is None else self._factor(values) * gamma)
        return tf.cast(values if beta is None else values + beta, self.compute_dtype)

    def _centre(self, inputs: Any) -> tuple[Any, Any]:
        """The inputs in float32, without their mean where it is taken away, and the mean."""
        values = tf.cast(inputs, tf.float32)
        if self.kind != "layer":
            return values, 0.0
        mean = tf.reduce_mean(values, axis=-1, keepdims=True)
        return values - mean, mean

    def _factor(self, centred: Any) -> Any:
        return tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + self.epsilon)

    def _with_own_gradient(self, inputs: Any, gamma: Any, beta: Any) -> Any:
        """The same, with a gradient in half the passes over memory, that keeps nothing but the inputs."""
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])

        @tf.custom_gradient
        def normalize(rows: Any, gamma: Any, beta: Any) -> Any:
            centred, mean = self._centre(rows)
            factor = self._factor(centred)
            values = centred * (factor * gamma)

            def backward(upstream: Any) -> tuple[Any, Any, Any]:
                upstream = tf.cast(upstream, tf.float32)
                # Else it may be made, and kept, in the forward pass.
                with tf.control_dependencies([upstream]):
                    normal = (tf.cast(rows, tf.float32) - mean) * factor
                product = upstream * normal
                # Means over a row are products with a column: faster than weighting first.
                column = gamma[:, None] / rows.shape[-1]
                change = upstream * gamma - normal * tf.matmul(product, column)
                if self.kind == "layer":
                    change -= tf.matmul(upstream, column)
                own = tf.reduce_sum(product, 0), tf.reduce_sum(upstream, 0)
                return tf.cast(change * factor, rows.dtype), *own

            return tf.cast(values + beta, self.compute_dtype), backward

        beta = tf.zeros_like(gamma) if beta is None else beta
        return tf.reshape(normalize(rows, gamma, beta), tf.shape(inputs))

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
