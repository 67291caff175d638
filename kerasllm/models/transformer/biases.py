"""What is added to attention scores: who sees whom, and how far apart they are."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.settings import (
    DisentangledSettings,
    RelativeBiasSettings,
    StackSettings,
    as_settings,
    to_dict,
)
from kerasllm.models.transformer.weights import Weighted

__all__ = ["AttentionBias", "DistanceEmbeddings", "RelativeBias"]


@keras.saving.register_keras_serializable(package="kerasllm")
class AttentionBias(keras.layers.Layer):
    """0 where a token is seen, the lowest number where it is not: float32[batch, 1, 1 or sequence, sequence].

    Where `packed` is set (`kerasllm.models.packing`), tokens see those of their own text alone.

    Args:
        causal: Whether tokens see only those before them. Defaults to `False`.
        window: How many tokens back they see, themselves included. Defaults to `None`, all.
        blind: Whether padding sees nothing, and so everything alike. Defaults to `False`.

    Call arguments:
        padding_mask: Integers of shape `(batch, sequence)`, 1 for tokens and 0 for padding; in packed rows
            1 for the tokens of the first text, 2 for those of the second, and so on.
    """

    packed = False

    def __init__(self, causal=False, window=None, blind=False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.causal = causal
        self.window = window
        self.blind = blind

    def call(self, padding_mask):
        """See the class."""
        real = tf.cast(padding_mask, tf.bool)
        seen = real[:, None, None, :]
        if self.packed:
            same = tf.equal(padding_mask[:, None, :, None], padding_mask[:, None, None, :])
            seen = tf.logical_and(seen, same)
        elif self.blind:
            seen = tf.logical_and(seen, real[:, None, :, None])
        if self.causal or self.window is not None:
            place = tf.range(tf.shape(padding_mask)[1])
            back = place[:, None] - place[None, :]
            near = back >= 0 if self.causal else tf.ones_like(back, tf.bool)
            if self.window is not None:
                near = tf.logical_and(near, tf.abs(back) < self.window)
            seen = tf.logical_and(seen, near)
        return tf.where(seen, 0.0, tf.float32.min)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "causal": self.causal, "window": self.window, "blind": self.blind}


@keras.saving.register_keras_serializable(package="kerasllm")
class RelativeBias(Weighted, keras.layers.Layer):
    """T5's learned bias for distances, float32[1, heads, sequence, sequence].

    Args:
        num_heads: Number of attention heads.
        causal: Whether only tokens before are told apart.
        settings: `RelativeBiasSettings`, or `to_dict` of it.

    Call arguments:
        token_ids: Of shape `(batch, sequence)`; only the length counts.
    """

    def __init__(self, num_heads, causal, settings, **kwargs):
        super().__init__(**kwargs)
        settings = as_settings(settings, RelativeBiasSettings)
        self.num_heads = num_heads
        self.causal = causal
        self.settings = settings

    def build(self, input_shape):
        """Makes the table."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.settings.num_buckets, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, token_ids):
        """See the class."""
        place = tf.range(tf.shape(token_ids)[1])
        return self.between(place, place)

    def between(self, asking: Any, seen: Any) -> Any:
        """float32[1, heads, asking, seen], from tokens at some places, int32, to those at others."""
        ahead = seen[None, :] - asking[:, None]
        rows = tf.gather(tf.cast(self.embeddings, tf.float32), self.buckets(ahead))
        return tf.transpose(rows, [2, 0, 1])[None]

    def buckets(self, ahead: Any) -> Any:
        """The bucket of a distance, positive for tokens that come after.

        Source: `_relative_position_bucket` of transformers' `modeling_t5.py`, after Mesh TensorFlow.
        """
        count, farthest = self.settings.num_buckets, self.settings.max_distance
        if self.causal:
            bucket, distance = tf.zeros_like(ahead), tf.maximum(-ahead, 0)
        else:
            count //= 2
            bucket, distance = tf.cast(ahead > 0, tf.int32) * count, tf.abs(ahead)
        exact = count // 2
        steps = tf.math.log(tf.cast(tf.maximum(distance, 1), tf.float32) / exact)
        far = exact + tf.cast(steps / math.log(farthest / exact) * (count - exact), tf.int32)
        return bucket + tf.where(distance < exact, distance, tf.minimum(far, count - 1))

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "causal": self.causal,
            "settings": to_dict(self.settings),
        }


@keras.saving.register_keras_serializable(package="kerasllm")
class DistanceEmbeddings(Weighted, keras.layers.Layer):
    """DeBERTa's vectors for distances, and which of them stands between which tokens.

    Args:
        settings: `StackSettings` with `disentangled`, or `to_dict` of it.

    Call arguments:
        token_ids: Of shape `(batch, sequence)`; only the length counts.

    Returns:
        Vectors `(2 * span, dim)` and int32[sequence, sequence], the row for each asking and each seen token.
    """

    def __init__(self, settings, **kwargs):
        super().__init__(**kwargs)
        self.settings = settings = as_settings(settings, StackSettings)
        self.norm = None
        if settings.disentangled.normalize:
            self.norm = Normalization("layer", settings.norm_epsilon, dtype=self.dtype_policy, name="norm")
        self.dropout = Dropout(settings.dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Makes the vectors."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(2 * self.settings.disentangled.span, self.settings.hidden_dim),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        if self.norm is not None:
            self.norm.build((None, self.settings.hidden_dim))

    def call(self, token_ids, training=None):
        """See the class."""
        disentangled = self.settings.disentangled
        vectors = tf.convert_to_tensor(self.embeddings)
        vectors = self.dropout(vectors if self.norm is None else self.norm(vectors), training=training)
        place = tf.range(tf.shape(token_ids)[1])
        rows = disentangled.span + _log_buckets(place[:, None] - place[None, :], disentangled)
        return vectors, tf.clip_by_value(rows, 0, 2 * disentangled.span - 1)

    def compute_output_spec(self, token_ids, training=None):
        """Two tensors."""
        span = self.settings.disentangled.span
        return (
            keras.KerasTensor((2 * span, self.settings.hidden_dim), dtype=self.compute_dtype),
            keras.KerasTensor((None, None), dtype="int32"),
        )

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "settings": to_dict(self.settings)}


def _log_buckets(distance: Any, settings: DisentangledSettings) -> Any:
    """Near distances as they are, far ones by their logarithm.

    Source: `make_log_bucket_position` of transformers' `modeling_deberta_v2.py`.
    """
    if settings.num_buckets <= 0:
        return distance
    middle = settings.num_buckets // 2
    size = tf.where(tf.abs(distance) < middle, middle - 1, tf.abs(distance))
    steps = tf.math.log(tf.cast(size, tf.float32) / middle)
    steps = steps / np.float32(math.log((settings.max_distance - 1) / middle)) * (middle - 1)
    far = tf.cast(tf.math.ceil(steps), tf.int32) + middle
    return tf.where(size <= middle, distance, far * tf.sign(distance))
