"""From token ids to the first token vectors."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.models.transformer.dense import Dense, Embedding
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.settings import EmbeddingSettings, as_settings, to_dict

__all__ = ["InputEmbeddings", "TokenPositions"]


@keras.saving.register_keras_serializable(package="kerasllm")
class TokenPositions(keras.layers.Layer):
    """The number of each token in its text, int32[batch, sequence].

    Where `packed` is set (`kerasllm.models.packing`), it begins anew with each text of a row.

    Args:
        source: `"place"`, `"mask"` or `"ids"`: see `EmbeddingSettings.positions_from`.
        padding_id: For `"ids"`.

    Call arguments:
        token_ids, padding_mask: Integers of shape `(batch, sequence)`.
    """

    packed = False

    def __init__(self, source="place", padding_id=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.source = source
        self.padding_id = padding_id

    def call(self, token_ids, padding_mask):
        """See the class."""
        if self.packed:
            return self._within_texts(token_ids, padding_mask)
        if self.source == "place":
            places = tf.range(tf.shape(token_ids)[1])
            return tf.broadcast_to(places, tf.shape(token_ids))
        real = padding_mask if self.source == "mask" else tf.not_equal(token_ids, self.padding_id)
        real = tf.cast(real, tf.int32)
        return tf.cumsum(real, axis=1) * real - 1  # padding is before the first

    def _within_texts(self, token_ids, padding_mask):
        """Counts from the first token of each text on; padding is before the first, or at it."""
        real = tf.cast(padding_mask > 0, tf.int32)
        if self.source == "ids":
            real *= tf.cast(tf.not_equal(token_ids, self.padding_id), tf.int32)
        shape = tf.shape(padding_mask)
        # One number for each text of each row, the padding of a row among them.
        texts = padding_mask + tf.range(shape[0])[:, None] * (shape[1] + 1)
        before = tf.cumsum(real, axis=1, exclusive=True)
        first = tf.math.unsorted_segment_min(before, texts, shape[0] * (shape[1] + 1))
        positions = (before - tf.gather(first, texts) + 1) * real - 1
        return tf.maximum(positions, 0) if self.source == "place" else positions

    def compute_output_spec(self, token_ids, padding_mask):
        """Of the shape of the ids."""
        return keras.KerasTensor(token_ids.shape, dtype="int32")

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "source": self.source, "padding_id": self.padding_id}


@keras.saving.register_keras_serializable(package="kerasllm")
class InputEmbeddings(keras.layers.Layer):
    """Adds up the embeddings of tokens, positions and segments.

    Args:
        settings: `EmbeddingSettings`, or `to_dict` of it.
        hidden_dim: Width of the result.
        norm: Kind of its normalization. Defaults to `"layer"`.

    Call arguments:
        tokens: Embeddings of the tokens `(batch, sequence, settings.dim)`.
        positions: Numbers of the tokens, integers of shape `(batch, sequence)`.
        padding_mask: The same shape, 1 for tokens and 0 for padding.
        segment_ids: The same shape, or `None`.
    """

    def __init__(self, settings, hidden_dim, norm="layer", **kwargs):
        super().__init__(**kwargs)
        self.settings = settings = as_settings(settings, EmbeddingSettings)
        self.hidden_dim = hidden_dim
        self.norm_kind = norm
        options: dict[str, Any] = {"dtype": self.dtype_policy}
        self.positions = self.segments = self.norm = self.projection = None
        if settings.num_positions:
            dim = hidden_dim if settings.positions_late else settings.dim
            self.positions = Embedding(settings.num_positions, dim, name="positions", **options)
        if settings.num_segments:
            self.segments = Embedding(settings.num_segments, settings.dim, name="segments", **options)
        if settings.norm:
            self.norm = Normalization(norm, settings.norm_epsilon, name="norm", **options)
        if settings.dim != hidden_dim:
            self.projection = Dense(
                hidden_dim, use_bias=settings.projection_bias, name="projection", **options
            )
        self.dropout = Dropout(settings.dropout, dtype=self.dtype_policy)

    def build(self, *shapes, **named_shapes):
        """Makes the weights."""
        for table in (self.positions, self.segments):
            if table is not None:
                table.build((None, None))
        dim = self.settings.dim
        if self.projection is not None:
            self.projection.build((None, None, dim))
        if self.norm is not None:
            self.norm.build((None, None, self.hidden_dim if self.settings.norm_late else dim))

    def call(self, tokens, positions, padding_mask, segment_ids=None, training=None):
        """See the class."""
        settings = self.settings
        hidden = tokens * tf.cast(settings.scale, tokens.dtype) if settings.scale != 1 else tokens
        late = settings.positions_late
        if self.segments is not None:
            hidden += tf.cast(self.segments(segment_ids), hidden.dtype)
        if self.positions is not None and not late:
            hidden += tf.cast(self.positions(positions + settings.position_offset), hidden.dtype)
        if self.projection is not None and (late or settings.norm_late):
            hidden = self.projection(hidden)
        if self.positions is not None and late:
            hidden += tf.cast(self.positions(positions + settings.position_offset), hidden.dtype)
        if self.norm is not None:
            hidden = self.norm(hidden)
        if settings.hide_padding:
            hidden *= tf.cast(tf.cast(padding_mask, tf.bool), hidden.dtype)[..., None]
        hidden = self.dropout(hidden, training=training)
        if self.projection is not None and not (late or settings.norm_late):
            hidden = self.projection(hidden)
        return hidden

    def compute_output_shape(self, tokens_shape, *shapes, **named_shapes):
        """One vector a token."""
        return (*tokens_shape[:2], self.hidden_dim)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "settings": to_dict(self.settings),
            "hidden_dim": self.hidden_dim,
            "norm": self.norm_kind,
        }
