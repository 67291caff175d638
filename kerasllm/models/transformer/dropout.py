"""Dropout that costs a fourth of Keras' own on a CPU, where random numbers are dear."""

from typing import Any

import keras
import tensorflow as tf

__all__ = ["Dropout"]

_LEVELS = 256  # of a random byte


@keras.saving.register_keras_serializable(package="kerasllm")
class Dropout(keras.layers.Dropout):
    """Sets a share `rate` of its inputs to zero, and scales the others up so that the expected sum stays.

    One random byte decides on one element; Keras draws four, and drawing is what dropout costs. So that 256
    levels give any rate, each call rounds the threshold down or up by chance: each element is dropped with
    probability `rate`, and the scale is that of the threshold drawn, so that the expectation is exact. For
    the backward pass one byte an element is kept.

    The state is Keras': a seed and a counter among the variables of the model, so that a saved model goes on
    with the same draws.

    Args:
        rate: Share that is dropped, between 0 and 1.
        seed: Seed of the generator. Defaults to `None`, drawn from Keras' global one.

    Source: Srivastava et al., 2014 (https://jmlr.org/papers/v15/srivastava14a.html).
    """

    def call(self, inputs, training=False):
        """See the class."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        keep, scale = self._draw(tf.shape(inputs))
        scale = tf.cast(scale, inputs.dtype)

        @tf.custom_gradient
        def drop(values: Any) -> Any:
            # The mask is multiplied out twice: as bytes it is a fourth of what it would be as numbers.
            def backward(upstream: Any) -> Any:
                # Else it may be made, and kept, in the forward pass.
                with tf.control_dependencies([upstream]):
                    mask = tf.cast(keep, values.dtype) * scale
                return upstream * mask

            return values * (tf.cast(keep, values.dtype) * scale), backward

        return drop(inputs)

    def _draw(self, shape: Any) -> tuple[Any, Any]:
        """What is kept, bool of the given shape, and what it is multiplied with, a float32 scalar."""
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        size = tf.reduce_prod(shape)
        words = tf.random.stateless_uniform([size // 4 + 2], seed, None, None, tf.int32)
        levels = (1.0 - self.rate) * _LEVELS
        low = min(max(int(levels), 1), _LEVELS - 1)
        chance = tf.cast(words[-1], tf.float32) * 2.0**-32 + 0.5
        kept = tf.where(chance < levels - low, low + 1, low)
        # Signed bytes, because TensorFlow compares them twice as fast.
        octets = tf.reshape(tf.bitcast(words, tf.int8), [-1])[:size]
        keep = octets <= tf.cast(kept - _LEVELS // 2 - 1, tf.int8)
        return tf.reshape(keep, shape), _LEVELS / tf.cast(kept, tf.float32)
