"""The feed-forward network of a layer: plain, gated, or a mixture of experts."""

import keras
import tensorflow as tf

from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.settings import StackSettings, as_settings, to_dict

__all__ = ["Experts", "FeedForward"]


class _Configured(keras.layers.Layer):
    """A layer made from `StackSettings`."""

    def __init__(self, settings, **kwargs):
        super().__init__(**kwargs)
        self.settings = settings = as_settings(settings, StackSettings)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "settings": to_dict(self.settings)}


@keras.saving.register_keras_serializable(package="kerasllm")
class FeedForward(_Configured):
    """Two dense layers with an activation between them, or three where it is gated.

    Args:
        settings: `StackSettings`, or `to_dict` of it.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(settings, **kwargs)
        settings = self.settings
        options = {"use_bias": settings.feed_forward_bias, "dtype": self.dtype_policy}
        self.gate = None
        if settings.gated:
            self.gate = Dense(settings.intermediate_dim, settings.activation, name="gate", **options)
        activation = None if settings.gated else settings.activation
        self.up = Dense(settings.intermediate_dim, activation, name="up", **options)
        self.down = Dense(settings.hidden_dim, name="down", **options)
        self.dropout = None
        if settings.activation_dropout:
            self.dropout = Dropout(settings.activation_dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Makes the weights."""
        shape = (None, None, self.settings.hidden_dim)
        for dense in (self.gate, self.up):
            if dense is not None:
                dense.build(shape)
        self.down.build((None, None, self.settings.intermediate_dim))

    def call(self, inputs, training=None):
        """See the class."""
        hidden = self.up(inputs)
        if self.gate is not None:
            hidden = self.gate(inputs) * hidden
        if self.dropout is not None:
            hidden = self.dropout(hidden, training=training)
        return self.down(hidden)


@keras.saving.register_keras_serializable(package="kerasllm")
class Experts(_Configured):
    """Sends each token through the few networks that a router likes best for it, and adds up what they say.

    Args:
        settings: `StackSettings` with `experts`, or `to_dict` of it.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(settings, **kwargs)
        experts = self.settings.experts
        self.router = Dense(experts.num_experts, use_bias=False, dtype=self.dtype_policy, name="router")
        self.experts = [
            FeedForward(self.settings, dtype=self.dtype_policy, name=f"expert_{number}")
            for number in range(experts.num_experts)
        ]

    def build(self, input_shape):
        """Makes the weights."""
        shape = (None, None, self.settings.hidden_dim)
        self.router.build(shape)
        for expert in self.experts:
            expert.build(shape)

    def call(self, inputs, training=None):
        """See the class."""
        tokens = tf.reshape(inputs, [-1, self.settings.hidden_dim])
        chances = tf.nn.softmax(tf.cast(self.router(tokens), tf.float32))
        shares, chosen = tf.math.top_k(chances, self.settings.experts.num_per_token)
        shares = shares / tf.reduce_sum(shares, axis=-1, keepdims=True)
        total = tf.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            place = tf.where(tf.equal(chosen, number))  # token, rank
            answers = expert(tf.gather(tokens, place[:, 0])[None], training=training)[0]
            answers = (
                tf.cast(answers, total.dtype) * tf.cast(tf.gather_nd(shares, place), total.dtype)[:, None]
            )
            total = tf.tensor_scatter_nd_add(total, place[:, :1], answers)
        return tf.reshape(total, tf.shape(inputs))
