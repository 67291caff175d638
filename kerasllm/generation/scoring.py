"""How likely a model finds a text after a prompt."""

from typing import Any

import tensorflow as tf

from kerasllm.generation.decoder import CachedDecoder, whole_chunks

__all__ = ["log_likelihoods"]

_TOKENS_AT_ONCE = 256  # whose logits are held


def log_likelihoods(decoder: CachedDecoder, token_ids: Any, starts: Any, lengths: Any) -> Any:
    """Sums of the log-probabilities of the last tokens of some rows, float32[batch].

    Args:
        decoder: The model.
        token_ids: int32[batch, columns], each text at the right end of its row.
        starts: int32[batch], the column of its first token.
        lengths: int32[batch], how many of its last tokens are asked about, fewer than it has.
    """
    token_ids, starts = whole_chunks(token_ids, starts)
    hidden = decoder.states(token_ids, starts)
    columns = tf.shape(token_ids)[1]
    asked = tf.range(columns) >= (columns - lengths)[:, None]
    row, column = tf.unstack(tf.cast(tf.where(asked), tf.int32), axis=1)
    before = tf.gather_nd(hidden, tf.stack([row, tf.maximum(column - 1, 0)], axis=1))
    tokens = tf.gather_nd(token_ids, tf.stack([row, column], axis=1))

    def add(place: Any, sums: Any) -> tuple[Any, Any]:
        part = slice(place, place + _TOKENS_AT_ONCE)
        logits = decoder.logits(before[part])
        found = tf.gather(logits, tokens[part], axis=1, batch_dims=1) - tf.reduce_logsumexp(logits, axis=1)
        return place + _TOKENS_AT_ONCE, tf.tensor_scatter_nd_add(sums, row[part, None], found)

    sums = tf.zeros([tf.shape(token_ids)[0]])
    return tf.while_loop(lambda place, _: place < tf.size(tokens), add, (0, sums), parallel_iterations=1)[1]
