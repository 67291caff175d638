"""Forward passes written for inference: the same numbers as the Keras layers, in fewer and larger steps.

Keras' attention and dense layers run as einsums between transposes, with bias, GELU and normalization each
an op of its own. Written out on a matrix of tokens, matrix product, bias and exact GELU become one op in
TensorFlow's CPU runtime, on a server too, and nothing is computed that inference does not need. Export
compares what comes out with the Keras model before anything is published.
"""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.export.precision import to_dtype

if TYPE_CHECKING:
    import keras

__all__ = ["DTYPES", "BertForward", "KerasForward", "make_forward"]

DTYPES = ("float32", "bfloat16", "float16")


def make_forward(model: "keras.Model", dtype: str) -> "BertForward | KerasForward":
    """Chooses the fastest forward pass that is known for a classifier.

    Args:
        model: Keras model that takes `token_ids`, `padding_mask` and `segment_ids` and returns logits.
        dtype: Precision of weights and computation.

    Returns:
        A callable `(token_ids, lengths, segment_ids) -> float32 logits` with the `variables` that it uses.
        Where they have the precision already they are the model's own: training it on changes the answers.

    Raises:
        ExportError: If the precision is unknown.
    """
    from kerasllm.models.families.bert_backbone import BertBackbone
    from kerasllm.models.heads import Classifier

    if dtype not in DTYPES:
        raise ExportError(f"The weights cannot be exported as {dtype!r}; choose one of {list(DTYPES)}.")
    if isinstance(model, Classifier) and isinstance(model.backbone, BertBackbone):
        return BertForward(model, dtype)
    return KerasForward(model, dtype)


class KerasForward:
    """Any Keras model, as it is.

    Args:
        model: The model; rebuilt where its precision is another.
        dtype: Precision of weights and computation.
    """

    max_sequence_length: int | None = None

    def __init__(self, model: "keras.Model", dtype: str):
        self.model = to_dtype(model, dtype)
        self.variables = [weight.value for weight in self.model.weights]

    def __call__(self, token_ids: tf.Tensor, lengths: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        """Logits of padded token ids `int32[batch, sequence]`, of which `lengths` are real."""
        inputs = {
            "token_ids": token_ids,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(token_ids)[1], tf.int32),
            "segment_ids": segment_ids,
        }
        return tf.cast(self.model(inputs, training=False), tf.float32)


class BertForward:
    """BERT and a classification head.

    The residual stream, normalization, softmax, pooling and the head are float32 in every precision; the
    matrix products, where the time goes, are in the precision asked for.

    Args:
        model: `kerasllm.models.heads.Classifier` on a `BertBackbone`.
        dtype: Precision of the weights and of the matrix products.
    """

    def __init__(self, model: Any, dtype: str):
        from kerasllm.models.families.bert_backbone import ACTIVATIONS

        backbone = model.backbone
        self._dtype = tf.as_dtype(dtype)
        self.max_sequence_length: int = backbone.max_sequence_length
        self._num_layers = backbone.num_layers
        self._num_heads = backbone.num_heads
        self._epsilon = backbone.layer_norm_epsilon
        self._activation = _gelu if backbone.activation == "gelu" else ACTIVATIONS[backbone.activation]
        self._mean = model.pooling == "mean"
        unused = "pooled_dense/" if self._mean else "\0"
        self._weights = {
            weight.path: _in_dtype(weight.value, self._wanted_dtype(weight.path))
            for weight in model.weights
            if not weight.path.startswith(unused)
        }
        self.variables = list(self._weights.values())

    def __call__(self, token_ids: tf.Tensor, lengths: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        """Logits of padded token ids `int32[batch, sequence]`, of which `lengths` are real."""
        batch, width = tf.unstack(tf.shape(token_ids))
        mask = tf.sequence_mask(lengths, width)
        hidden = self._embed(token_ids, segment_ids, width)
        # Like Keras' softmax: padding gets the lowest score there is, hence a weight of exactly zero.
        bias = tf.where(mask, 0.0, tf.float32.min)[:, None, None, :]
        for layer in range(self._num_layers):
            first_only = layer == self._num_layers - 1 and not self._mean
            hidden = self._layer(f"transformer_layer_{layer}", hidden, bias, batch, width, first_only)
        if self._mean:
            weights = tf.cast(mask, tf.float32) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, None]
            pooled = tf.einsum("bs,bsd->bd", weights, tf.reshape(hidden, [batch, width, hidden.shape[-1]]))
        else:
            pooled = tf.tanh(tf.cast(self._dense("pooled_dense", hidden), tf.float32))
        return self._dense("classifier", pooled)

    def _embed(self, token_ids, segment_ids, width):
        def rows(name, ids):
            return tf.cast(tf.gather(self._weights[f"{name}_embedding/embeddings"], ids), tf.float32)

        hidden = rows("token", token_ids) + rows("segment", segment_ids) + rows("position", tf.range(width))
        return self._normalize("embeddings_layer_norm", tf.reshape(hidden, [-1, hidden.shape[-1]]))

    def _layer(self, path, hidden, bias, batch, width, first_only):
        """One transformer layer on tokens `(batch * width, dim)`.

        With `first_only` it answers for the first token of each text, `(batch, dim)`: the pooler sees no
        other, so the last layer need not compute them.
        """
        attention = f"{path}/self_attention_layer"
        size = hidden.shape[-1] // self._num_heads
        asking, count = hidden, width
        if first_only:
            asking, count = tf.reshape(hidden, [batch, width, hidden.shape[-1]])[:, 0], 1

        def heads(name, tokens, length):
            tokens = self._dense(f"{attention}/{name}", tokens)
            return tf.transpose(tf.reshape(tokens, [batch, length, self._num_heads, size]), [0, 2, 1, 3])

        query, key = heads("query", asking, count), heads("key", hidden, width)
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * size**-0.5 + bias
        mixed = tf.matmul(tf.cast(tf.nn.softmax(scores), self._dtype), heads("value", hidden, width))
        mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [batch * count, hidden.shape[-1]])
        mixed = self._dense(f"{attention}/attention_output", mixed)
        hidden = self._normalize(f"{path}/self_attention_layer_norm", asking + tf.cast(mixed, tf.float32))
        wide = self._dense(f"{path}/feedforward_intermediate_dense", hidden, self._activation)
        added = tf.cast(self._dense(f"{path}/feedforward_output_dense", wide), tf.float32)
        return self._normalize(f"{path}/feedforward_layer_norm", hidden + added)

    def _dense(self, path, tokens, activation=None):
        kernel, bias = self._weights[f"{path}/kernel"], self._weights[f"{path}/bias"]
        num_outputs = bias.shape.num_elements()
        product = tf.matmul(tf.cast(tokens, kernel.dtype), tf.reshape(kernel, [-1, num_outputs]))
        # Matrix product, bias and GELU stand one after the other so that TensorFlow fuses them.
        product = tf.nn.bias_add(product, tf.reshape(bias, [num_outputs]))
        return product if activation is None else activation(product)

    def _normalize(self, path, tokens):
        mean = tf.reduce_mean(tokens, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(tokens, mean), axis=-1, keepdims=True)
        scale = self._weights[f"{path}/gamma"] * tf.math.rsqrt(variance + self._epsilon)
        return (tokens - mean) * scale + self._weights[f"{path}/beta"]

    def _wanted_dtype(self, path: str) -> tf.DType:
        """Norms and the head are a thousandth of the weights: float32 costs nothing there."""
        small = path.startswith("classifier/") or "layer_norm/" in path
        return tf.float32 if small else self._dtype


def _in_dtype(variable: tf.Variable, dtype: tf.DType) -> tf.Variable:
    if variable.dtype == dtype:
        return variable
    return tf.Variable(tf.cast(variable, dtype), trainable=False, name=variable.name.split(":")[0])


def _gelu(x: tf.Tensor) -> tf.Tensor:
    # The order of the factors matters: this one is what TensorFlow's graph optimizer recognises.
    return 0.5 * x * (1.0 + tf.math.erf(x * tf.cast(0.7071067811865476, x.dtype)))
