"""Multi-head attention (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762), and what families add."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.rotary import rotate
from kerasllm.models.transformer.settings import StackSettings, as_settings, to_dict

__all__ = ["Attention"]

# Into how many parts training cuts the queries of tokens that see only those before them: no part computes
# scores with keys after its end, which leaves 5/8 of all scores.
_CAUSAL_PARTS = 4


@keras.saving.register_keras_serializable(package="kerasllm")
class Attention(keras.layers.Layer):
    """Queries of some tokens, keys and values of the same or of others.

    Args:
        settings: `StackSettings`, or `to_dict` of it.
        layer: Number of the layer in its stack. Defaults to `0`.

    Call arguments:
        inputs: Token vectors that ask, `(batch, sequence, dim)`.
        bias: Added to the scores, float32 that broadcasts to `(batch, heads, sequence, others)`.
        rotary: Cosines and sines of the positions. Defaults to `None`, no rotary positions.
        memory: Token vectors that are seen, `(batch, others, dim)`. Defaults to `None`, `inputs`.
    """

    def __init__(self, settings, layer=0, **kwargs):
        # Masks and rotary positions stay in float32, whatever the precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.settings = settings = as_settings(settings, StackSettings)
        self.layer = layer
        self.scale = settings.attention_scale / (layer + 1 if settings.scale_by_layer else 1)
        wide, narrow = (
            settings.num_heads * settings.head_dim,
            settings.num_key_value_heads * settings.head_dim,
        )
        bias = settings.query_key_value_bias
        self.query = Dense(wide, use_bias=bias, dtype=self.dtype_policy, name="query")
        self.key = Dense(narrow, use_bias=bias, dtype=self.dtype_policy, name="key")
        self.value = Dense(narrow, use_bias=bias, dtype=self.dtype_policy, name="value")
        self.output_dense = Dense(
            settings.hidden_dim, use_bias=settings.output_bias, dtype=self.dtype_policy, name="output"
        )
        self.query_norm = self.key_norm = None
        if settings.query_key_norm:
            self.query_norm, self.key_norm = (
                Normalization.of(settings, dtype=self.dtype_policy, name=name)
                for name in ("query_norm", "key_norm")
            )
        self.dropout = Dropout(settings.attention_dropout, dtype=self.dtype_policy)

    def build(self, *shapes, **named_shapes):
        """Makes the weights."""
        settings = self.settings
        shape = (None, None, settings.hidden_dim)
        for dense in (self.query, self.key, self.value):
            dense.build(shape)
        self.output_dense.build((None, None, settings.num_heads * settings.head_dim))
        for norm in (self.query_norm, self.key_norm):
            if norm is not None:
                norm.build((None, None, None, settings.head_dim))

    def call(self, inputs, bias=None, rotary=None, memory=None, training=None):
        """See the class."""
        query = self.queries(inputs, rotary)
        key, value = self.keys_and_values(inputs if memory is None else memory, rotary)
        in_parts = training and self.settings.causal and memory is None and bias is not None
        return self.attend(query, key, value, bias, training=training, in_parts=in_parts)

    def queries(self, inputs: Any, rotary: Any = None) -> Any:
        """Queries `(batch, heads, sequence, head_dim)`."""
        return self._heads(self.query(inputs), self.settings.num_heads, self.query_norm, rotary)

    def keys_and_values(self, inputs: Any, rotary: Any = None) -> tuple[Any, Any]:
        """Keys and values, each `(batch, key-value heads, sequence, head_dim)`: what a cache keeps."""
        count = self.settings.num_key_value_heads
        key = self._heads(self.key(inputs), count, self.key_norm, rotary)
        return key, self._heads(self.value(inputs), count)

    def attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        bias: Any,
        *,
        training: bool | None = None,
        in_parts: bool | None = False,
    ) -> Any:
        """Token vectors from what `queries` and `keys_and_values` gave.

        Args:
            query: `(batch, heads, sequence, head_dim)`.
            key: `(batch, key-value heads, others, head_dim)`.
            value: As `key`.
            bias: As in the call.
            training: Whether dropout is on. Defaults to `None`, no.
            in_parts: Whether `bias` hides from each token all those after it, in the same sequence, so that
                scores with them can be left out. Defaults to `False`.
        """
        batch, length = tf.shape(query)[0], tf.shape(query)[2]
        if in_parts:
            mixed = self._mix_in_parts(query, key, value, bias, training=training)
        else:
            mixed = self._mix(query, key, value, bias, training=training)
        wide = self.settings.num_heads * self.settings.head_dim
        return self.output_dense(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch, length, wide]))

    def _mix_in_parts(self, query: Any, key: Any, value: Any, bias: Any, *, training: bool | None) -> Any:
        """As `_mix`, where `bias` hides what comes after a token."""
        length = tf.shape(query)[2]
        fill = -length % _CAUSAL_PARTS  # unseen tokens at the end, so that all parts are of one size
        query, key, value = (tf.pad(x, [[0, 0], [0, 0], [0, fill], [0, 0]]) for x in (query, key, value))
        bias = tf.pad(bias, [[0, 0], [0, 0], [0, fill], [0, fill]], constant_values=tf.float32.min)
        # Splitting and joining, because the gradient of a slice with strides is slow on a CPU.
        parts = zip(*(tf.split(tensor, _CAUSAL_PARTS, axis=2) for tensor in (query, bias)), strict=True)
        size = tf.shape(key)[2] // _CAUSAL_PARTS
        mixed = [
            self._mix(asking, key, value, rows, training=training, end=size * number)
            for number, (asking, rows) in enumerate(parts, 1)
        ]
        return tf.slice(tf.concat(mixed, axis=2), [0, 0, 0, 0], [-1, -1, length, -1])

    def _mix(
        self, query: Any, key: Any, value: Any, bias: Any, *, training: bool | None, end: Any = None
    ) -> Any:
        """Values mixed by the shares of attention, `(batch, heads, sequence, head_dim)`.

        With `end`, only of that many keys and values, the first ones.
        """
        settings = self.settings
        batch, length = tf.shape(query)[0], tf.shape(query)[2]
        others = tf.shape(key)[2] if end is None else end
        heads, shared, dim = settings.num_heads, settings.num_key_value_heads, settings.head_dim
        if shared != heads:
            # The heads that share keys stand in one matrix: no copies of keys, and larger products.
            query = tf.reshape(query, [batch, shared, -1, dim])
        if training:
            # A factor of the scores would, on the way back, be multiplied into the shares, and these be kept
            # twice: TensorFlow's graph optimizer joins constants with what is known first.
            query = tf.cast(tf.cast(query, tf.float32) * self.scale, query.dtype)
        # Product, scale and bias stand one after the other so that TensorFlow makes one op of them.
        scores = tf.cast(_product(query, key, end, transposed=True), tf.float32)
        scores = scores if training else scores * self.scale
        if settings.softcap is not None:
            scores = tf.tanh(scores / settings.softcap) * settings.softcap
        if shared != heads:
            scores = tf.reshape(scores, [batch, heads, length, others])
        if bias is not None:
            scores = scores + (bias if end is None else tf.slice(bias, [0, 0, 0, 0], [-1, -1, -1, end]))
        shares = tf.cast(self.dropout(tf.nn.softmax(scores), training=training), value.dtype)
        if shared != heads:
            shares = tf.reshape(shares, [batch, shared, -1, others])
        mixed = _product(shares, value, end)
        return mixed if shared == heads else tf.reshape(mixed, [batch, heads, length, dim])

    def compute_output_shape(self, input_shape, *shapes, **named_shapes):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "settings": to_dict(self.settings), "layer": self.layer}

    def _heads(self, vectors: Any, count: int, norm: Any = None, rotary: Any = None) -> Any:
        batch, length = tf.shape(vectors)[0], tf.shape(vectors)[1]
        heads = tf.transpose(
            tf.reshape(vectors, [batch, length, count, self.settings.head_dim]), [0, 2, 1, 3]
        )
        heads = heads if norm is None else norm(heads)
        return heads if rotary is None else rotate(heads, *rotary)


def _product(left: Any, right: Any, end: Any, *, transposed: bool = False) -> Any:
    """`left` times the first `end` rows of `right`, or all; what is kept for the gradient is `right` itself.

    Plain slices would be kept as well: two and a half times keys and values in all parts of causal attention.
    """
    if end is None:
        return tf.matmul(left, right, transpose_b=transposed)

    def seen(right: Any) -> Any:
        return tf.slice(right, [0, 0, 0, 0], [-1, -1, end, -1])

    @tf.custom_gradient
    def multiply(left: Any, right: Any) -> Any:
        def backward(upstream: Any) -> tuple[Any, Any]:
            # Not before it is needed: a slice depends on nothing else, so it may be made in the forward pass.
            with tf.control_dependencies([upstream]):
                part = seen(right)
            of_left = tf.matmul(upstream, part, transpose_b=not transposed)
            first, second = (upstream, left) if transposed else (left, upstream)
            of_seen = tf.matmul(first, second, transpose_a=True)
            return of_left, tf.pad(of_seen, [[0, 0], [0, 0], [0, tf.shape(right)[2] - end], [0, 0]])

        return tf.matmul(left, seen(right), transpose_b=transposed), backward

    return multiply(left, right)
