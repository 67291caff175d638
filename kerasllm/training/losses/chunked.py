"""Cross-entropy over a large vocabulary, some tokens at a time: the logits of a batch are never held."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.training.losses.vocabulary import Output, in_chunks

__all__ = ["TokenLosses", "chunked_crossentropy", "chunked_crossentropy_sum"]


class TokenLosses(NamedTuple):
    """Losses of tokens and their weighted sum.

    Attributes:
        total: float32 scalar, the sum of weight * loss; what gradients flow through.
        losses: `float32[n]`, of each token; no gradient.
        log_losses: `float32[n]`, the negative log-probability of each label: `losses` without label
            smoothing; no gradient.
        right: `float32[n]`, 1 where no token is more probable than the label; no gradient.
    """

    total: Any
    losses: Any
    log_losses: Any
    right: Any


def chunked_crossentropy(
    hidden: Any,
    table: Any,
    labels: Any,
    *,
    bias: Any = None,
    vocabulary_axis: int = 0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_size: int | None = None,
) -> Any:
    """Cross-entropy of each token, for any use of it: the gradient may weigh the tokens as it likes.

    The logits are computed again for the gradient, since what each token weighs is known only then: four
    products with the table instead of three. Where the weights are known before, as in a training step,
    `chunked_crossentropy_sum` needs three.

    Args:
        hidden: Token vectors `(n, dim)`; products are computed in their float type, all else in float32.
        table: Token embeddings `(vocabulary, dim)`, or a kernel `(dim, vocabulary)`, of any float type.
        labels: Token ids, integers of shape `(n,)`.
        bias: `(vocabulary,)`. Defaults to `None`.
        vocabulary_axis: 0 for token embeddings, 1 for a kernel. Defaults to 0.
        label_smoothing: Share of the target spread over the vocabulary. Defaults to 0.
        softcap: Logits are squashed to this range by tanh. Defaults to `None`, not at all.
        scale: Factor of the token vectors. Defaults to 1.
        chunk_size: Most tokens at a time. Defaults to `None`: as many as give 16 million logits (64 MiB).

    Returns:
        `float32[n]`.

    Example:
    >>> losses = chunked_crossentropy(hidden, embedding.embeddings, next_tokens)
    """
    output = Output(vocabulary_axis, label_smoothing, softcap, scale, chunk_size)
    arguments = _arguments(hidden, table, bias)
    labels = tf.cast(labels, tf.int32)

    @tf.custom_gradient
    def compute(*arguments: Any) -> Any:
        (losses, *_), _ = in_chunks(output, arguments, labels)

        def gradient(upstream: Any) -> Any:
            _, gradients = in_chunks(output, arguments, labels, upstream, learned=len(arguments))
            return _joined(gradients, arguments, vocabulary_axis)

        return losses, gradient

    return compute(*arguments)


def chunked_crossentropy_sum(
    hidden: Any,
    table: Any,
    labels: Any,
    weights: Any,
    *,
    bias: Any = None,
    vocabulary_axis: int = 0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_size: int | None = None,
    table_gradient: bool = True,
    skip_unweighted: bool = True,
    gradient: bool = True,
) -> TokenLosses:
    """Weighted sum of the cross-entropy of tokens, with its gradient computed at once.

    As the weights are known, the gradient of a chunk is computed while its logits are there, so that they
    are neither kept nor computed again: this is the one for a training step.

    Args:
        hidden: Token vectors `(n, dim)`; products are computed in their float type, all else in float32.
        table: Token embeddings `(vocabulary, dim)`, or a kernel `(dim, vocabulary)`, of any float type.
        labels: Token ids, integers of shape `(n,)`; anything where the weight is zero.
        weights: `(n,)`.
        bias: `(vocabulary,)`. Defaults to `None`.
        vocabulary_axis: 0 for token embeddings, 1 for a kernel. Defaults to 0.
        label_smoothing: Share of the target spread over the vocabulary. Defaults to 0.
        softcap: Logits are squashed to this range by tanh. Defaults to `None`, not at all.
        scale: Factor of the token vectors. Defaults to 1.
        chunk_size: Most tokens at a time. Defaults to `None`: as many as give 16 million logits (64 MiB).
        table_gradient: Whether table and bias learn; if not, a third of the work is saved. Defaults to
            `True`.
        skip_unweighted: Whether tokens of weight zero are left out of the products: a gather of the
            vectors that count, which costs next to nothing and saves their share of all products. XLA
            needs `False`, as it must know how many there are. Defaults to `True`.
        gradient: Whether a gradient will be asked for; if not, two thirds of the work are saved. Defaults to
            `True`.

    Returns:
        The total and what metrics need; tokens of weight zero have losses of zero.

    Example:
    >>> losses = chunked_crossentropy_sum(hidden, embedding.embeddings, next_tokens, weights)
    """
    output = Output(vocabulary_axis, label_smoothing, softcap, scale, chunk_size)
    arguments = _arguments(hidden, table, bias)
    labels, weights = tf.cast(labels, tf.int32), tf.cast(weights, tf.float32)
    tokens = _Some(weights) if skip_unweighted else _All(weights)
    labels, weights = tokens.take(labels), tokens.take(weights)
    if not gradient:
        each, _ = in_chunks(output, (tokens.take(arguments[0]), *arguments[1:]), labels)
        return TokenLosses(tf.reduce_sum(weights * each[0]), *map(tokens.put, each))
    learned = arguments if table_gradient else arguments[:1]

    @tf.custom_gradient
    def compute(*learned: Any) -> Any:
        given = (tokens.take(learned[0]), *learned[1:], *arguments[len(learned) :])
        each, gradients = in_chunks(output, given, labels, weights, learned=len(learned))

        def scaled(upstream: Any, *_: Any) -> Any:
            (of_hidden,), *rest = (
                [upstream * tf.cast(part, tf.float32) for part in parts] for parts in gradients
            )
            return _joined([[tokens.put(of_hidden)], *rest], learned, vocabulary_axis)

        return (tf.reduce_sum(weights * each[0]), *each), scaled

    total, *each = compute(*learned)
    return TokenLosses(total, *(tokens.put(tf.stop_gradient(value)) for value in each))


class _Some:
    """The tokens that weigh something."""

    def __init__(self, weights: Any):
        self._places = tf.where(tf.not_equal(weights, 0.0))
        self._num_tokens = tf.shape(weights, out_type=self._places.dtype)

    def take(self, values: Any) -> Any:
        return tf.gather_nd(values, self._places)

    def put(self, values: Any) -> Any:
        """Values of these tokens at their places, zeros elsewhere."""
        shape = tf.concat([self._num_tokens, tf.shape(values, self._places.dtype)[1:]], 0)
        return tf.scatter_nd(self._places, values, shape)


class _All:
    """All tokens; those that weigh nothing get the label 0, as theirs may be none."""

    def __init__(self, weights: Any):
        self._counts = tf.not_equal(weights, 0.0)

    def take(self, values: Any) -> Any:
        return values if values.dtype.is_floating else tf.where(self._counts, values, 0)

    def put(self, values: Any) -> Any:
        return tf.where(self._counts, values, 0.0) if values.shape.rank == 1 else values


def _arguments(hidden: Any, table: Any, bias: Any) -> tuple[Any, ...]:
    given = (hidden, table) if bias is None else (hidden, table, bias)
    return tuple(tf.convert_to_tensor(value) for value in given)


def _joined(gradients: Sequence[Sequence[Any]], arguments: Sequence[Any], axis: int) -> list[Any]:
    """Gradients of one tensor each, of the type of their arguments."""
    whole = [parts[0] if len(parts) == 1 else tf.concat(parts, axis) for parts in gradients]
    return [tf.cast(part, value.dtype) for part, value in zip(whole, arguments, strict=True)]
