"""DeBERTa's attention: scores from content, from content to distance, and from distance to content."""

import keras
import tensorflow as tf

from kerasllm.models.transformer.attention import Attention
from kerasllm.models.transformer.dense import Dense

__all__ = ["DisentangledAttention"]


@keras.saving.register_keras_serializable(package="kerasllm")
class DisentangledAttention(Attention):
    """Attention whose scores also compare content with distances (https://arxiv.org/abs/2006.03654).

    Args:
        settings: `StackSettings` with `disentangled`, or `to_dict` of it.

    Call arguments:
        inputs: Token vectors `(batch, sequence, dim)`.
        bias: As in `Attention`.
        distances: What `DistanceEmbeddings` gave.
    """

    def __init__(self, settings, layer=0, **kwargs):
        super().__init__(settings, layer, **kwargs)
        disentangled, wide = self.settings.disentangled, self.settings.num_heads * self.settings.head_dim
        self.distance_key: Dense | None = self.key
        self.distance_query: Dense | None = self.query
        if not disentangled.share_key:
            self.distance_key = self.distance_query = None
            if disentangled.content_to_position:
                self.distance_key = Dense(wide, dtype=self.dtype_policy, name="distance_key")
            if disentangled.position_to_content:
                self.distance_query = Dense(wide, dtype=self.dtype_policy, name="distance_query")

    def build(self, *shapes, **named_shapes):
        """Makes the weights."""
        super().build(*shapes, **named_shapes)
        for dense in (self.distance_key, self.distance_query):
            if dense is not None and not dense.built:
                dense.build((None, self.settings.hidden_dim))

    def call(self, inputs, bias=None, distances=None, training=None):  # type: ignore[override]
        """See the class."""
        query = self.queries(inputs)
        key, value = self.keys_and_values(inputs)
        vectors, rows = distances
        disentangled = self.settings.disentangled
        if self.distance_key is not None and disentangled.content_to_position:
            bias += self._between(query, self.distance_key(vectors), rows)
        if self.distance_query is not None and disentangled.position_to_content:
            backwards = self._between(key, self.distance_query(vectors), tf.transpose(rows))
            bias += tf.transpose(backwards, [0, 1, 3, 2])
        return self.attend(query, key, value, bias, training=training)

    def _between(self, heads, distances, rows):
        """Scores of tokens with distances, float32[batch, heads, tokens, others]."""
        settings = self.settings
        distances = tf.reshape(distances, [-1, settings.num_heads, settings.head_dim])
        scores = tf.cast(tf.einsum("bhsd,rhd->bhsr", heads, distances), tf.float32) * self.scale
        shape = tf.shape(heads)
        rows = tf.broadcast_to(rows, [shape[0], shape[1], shape[2], shape[2]])
        return tf.gather(scores, rows, batch_dims=3)
