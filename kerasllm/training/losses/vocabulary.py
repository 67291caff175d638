"""Logits of some tokens over the whole vocabulary, their cross-entropy and its gradient, chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasllm.errors import ConfigError

__all__ = ["Output", "in_chunks"]

# Logits of a chunk, by default: enough for products at full speed, and few enough to be small beside a table.
_NUM_LOGITS = 2**24
# Rows of the table whose gradient is added up at a time.
_BLOCK = 8192


@dataclass(frozen=True)
class Output:
    """How token vectors become logits, and logits a loss; see `chunked_crossentropy`."""

    vocabulary_axis: int = 0
    label_smoothing: float = 0.0
    softcap: float | None = None
    scale: float = 1.0
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        if self.vocabulary_axis not in (0, 1):
            raise ConfigError(
                f"`vocabulary_axis` is {self.vocabulary_axis!r}, but must be 0 (token embeddings) or 1 (a "
                "kernel)."
            )
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ConfigError(f"`chunk_size` is {self.chunk_size}, but must be at least 1.")

    def rows(self, num_tokens: Any, vocabulary: int) -> tuple[Any, Any]:
        """How many chunks there are, and how many tokens in each: as even as can be."""
        most = self.chunk_size or max(1, _NUM_LOGITS // vocabulary)
        num_chunks = tf.maximum(1, -(-num_tokens // most))
        return num_chunks, -(-num_tokens // num_chunks)


@dataclass
class _Chunk:
    """Some tokens on their way: vectors (scaled), logits, and what the softmax is made of.

    Attributes:
        exponentials: Of the logits less the largest of each token.
        sums: Of the exponentials of each token.
    """

    hidden: Any
    logits: Any
    labels: Any
    log_losses: Any
    right: Any
    exponentials: Any
    sums: Any

    def losses(self, smoothing: float) -> Any:
        """With label smoothing: the cross-entropy with the uniform distribution is that with the label, and
        more: `logsumexp - mean` is `(logsumexp - label's) + (label's - mean)`."""
        if not smoothing:
            return self.log_losses
        of_labels = tf.gather(self.logits, self.labels, batch_dims=1)
        return self.log_losses + smoothing * (of_labels - tf.reduce_mean(self.logits, axis=-1))

    def slopes(self, weights: Any, smoothing: float) -> Any:
        """Derivatives of the weighted losses by the logits."""
        # Two passes over the logits: their softmax in one, and what is taken off at the labels beside it.
        slopes = self.exponentials * (weights / self.sums)[:, None]
        if smoothing:
            slopes -= (smoothing / self.logits.shape[-1]) * weights[:, None]
        places = tf.stack([tf.range(tf.size(self.labels)), self.labels], axis=1)
        return tf.tensor_scatter_nd_sub(slopes, places, (1.0 - smoothing) * weights)


def _forward(output: Output, hidden: Any, table: Any, bias: Any, labels: Any) -> _Chunk:
    if output.scale != 1:
        hidden *= tf.cast(output.scale, hidden.dtype)
    product = tf.matmul(hidden, table, transpose_b=output.vocabulary_axis == 0)
    if bias is not None:
        product = tf.nn.bias_add(product, tf.cast(bias, product.dtype))
    logits = tf.cast(product, tf.float32)
    if output.softcap is not None:
        logits = tf.tanh(logits / output.softcap) * output.softcap
    # `SparseSoftmaxCrossEntropyWithLogits` takes four times as long on a CPU.
    largest = tf.reduce_max(logits, axis=-1)
    exponentials = tf.exp(logits - largest[:, None])
    sums = tf.reduce_sum(exponentials, axis=-1)
    of_labels = tf.gather(logits, labels, batch_dims=1)
    log_losses = tf.math.log(sums) + (largest - of_labels)
    right = tf.cast(of_labels >= largest, tf.float32)
    return _Chunk(hidden, logits, labels, log_losses, right, exponentials, sums)


def _gradients(
    output: Output, chunk: _Chunk, weights: Any, table: Any, sums: list[list[Any]]
) -> tuple[Any, list[list[Any]]]:
    """Of the weighted sum of the losses: for the vectors, and those for table and bias with these added."""
    slopes = chunk.slopes(weights, output.label_smoothing)
    if output.softcap is not None:
        slopes *= 1.0 - tf.square(chunk.logits / output.softcap)
    # float16 has no digits for the slope of one token among many thousands.
    dtype = tf.float32 if table.dtype == tf.float16 else table.dtype
    narrow, table, hidden = (tf.cast(value, dtype) for value in (slopes, table, chunk.hidden))
    of_hidden = tf.matmul(narrow, table, transpose_b=output.vocabulary_axis == 1)
    if output.scale != 1:
        of_hidden *= tf.cast(output.scale, dtype)
    added = [_add_products(output, narrow, hidden, sums[0])] if sums else []
    added += [[sums[1][0] + tf.reduce_sum(slopes, axis=0)]] if len(sums) > 1 else []
    return of_hidden, added


def _add_products(output: Output, slopes: Any, hidden: Any, sums: list[Any]) -> list[Any]:
    """Adds the gradient for the table block by block: a product as large as the table is never held."""
    added: list[Any] = []
    begin = 0
    for total in sums:
        width = total.shape[output.vocabulary_axis]
        with tf.control_dependencies(added[-1:]):
            block = slopes[:, begin : begin + width]
        first, second = (block, hidden) if output.vocabulary_axis == 0 else (hidden, block)
        added.append(total + tf.cast(tf.matmul(first, second, transpose_a=True), tf.float32))
        begin += width
    return added


def _zeros(output: Output, arguments: Sequence[Any]) -> list[list[Any]]:
    """Where the gradients for table and bias are summed up: the one in blocks, the other as one."""
    if not arguments:
        return []
    table, *bias = arguments
    vocabulary, dim = table.shape[output.vocabulary_axis], table.shape[1 - output.vocabulary_axis]
    widths = [min(_BLOCK, vocabulary - begin) for begin in range(0, vocabulary, _BLOCK)]
    shapes = [(width, dim) if output.vocabulary_axis == 0 else (dim, width) for width in widths]
    return [[tf.zeros(shape) for shape in shapes], *([tf.zeros(value.shape)] for value in bias)]


def in_chunks(
    output: Output, arguments: Sequence[Any], labels: Any, weights: Any = None, *, learned: int = 0
) -> tuple[list[Any], list[list[Any]]]:
    """Losses of all tokens, and the gradient of their weighted sum.

    Args:
        output: How vectors become logits.
        arguments: Vectors `(n, dim)`, the table, and the bias if there is one.
        labels: Token ids, int32 of shape `(n,)`.
        weights: `float32[n]`, for the gradient. Defaults to `None`.
        learned: For how many of the arguments, from the first on, the gradient is computed. Defaults to 0.

    Returns:
        Losses, negative log-probabilities and right answers, each `float32[n]`; and a gradient for each
        argument that learns, in parts to be joined on the vocabulary axis; float32 for table and bias.
    """
    hidden, table, bias = (*arguments, None)[:3]
    num_tokens, dim = tf.shape(labels)[0], hidden.shape[-1]
    num_chunks, size = output.rows(num_tokens, table.shape[output.vocabulary_axis])
    fill = num_chunks * size - num_tokens  # fewer than there are chunks; without weight
    hidden, labels = tf.pad(hidden, [[0, fill], [0, 0]]), tf.pad(labels, [[0, fill]])
    weights = None if weights is None else tf.pad(weights, [[0, fill]])
    narrow = tf.cast(table, hidden.dtype)

    def step(number: Any, each: Any, of_hidden: Any, sums: list[list[Any]]) -> Any:
        part = slice(number * size, (number + 1) * size)
        chunk = _forward(output, hidden[part], narrow, bias, labels[part])
        losses = chunk.losses(output.label_smoothing)
        each = each.write(number, tf.stack([losses, chunk.log_losses, chunk.right]))
        if learned:
            of_chunk, sums = _gradients(output, chunk, weights[part], narrow, sums)
            of_hidden = of_hidden.write(number, of_chunk)
        return number + 1, each, of_hidden, sums

    wide = tf.float32 if hidden.dtype == tf.float16 else hidden.dtype
    start = (
        0,
        tf.TensorArray(tf.float32, num_chunks, element_shape=[3, None]),
        tf.TensorArray(wide, num_chunks if learned else 0, element_shape=[None, dim]),
        _zeros(output, arguments[1:learned]),
    )
    # One chunk after the other: their logits together are what must not be held.
    _, each, of_hidden, sums = tf.while_loop(
        lambda number, *_: number < num_chunks, step, start, parallel_iterations=1
    )
    values = tf.reshape(tf.transpose(each.stack(), [1, 0, 2]), [3, -1])[:, :num_tokens]
    if not learned:
        return tf.unstack(values), []
    return tf.unstack(values), [[tf.reshape(of_hidden.stack(), [-1, dim])[:num_tokens]], *sums]
