"""What is done to logits before a token is chosen: penalties and bans, each for the rows that ask for it."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.generation.parameters import Parameters

__all__ = ["History", "penalized"]


class History(NamedTuple):
    """The tokens of some rows so far.

    Attributes:
        token_ids: int32[rows, columns]; those at and after `column` mean nothing.
        starts: int32[rows], the column where each prompt begins.
        prompt_end: The column where the answers begin.
        column: The column of the token that is to be chosen.
    """

    token_ids: Any
    starts: Any
    prompt_end: Any
    column: Any

    @property
    def places(self) -> Any:
        """int32[columns]."""
        return tf.range(tf.shape(self.token_ids)[1])

    def seen(self, first: Any) -> Any:
        """bool[rows, columns], from the column `first`, one for all or one a row, to the newest token."""
        first = tf.broadcast_to(first, tf.shape(self.starts))[:, None]
        return tf.logical_and(self.places >= first, self.places < self.column)


def penalized(logits: Any, history: History, parameters: Parameters, stop_ids: Any) -> Any:
    """The logits after all that `parameters` ask for.

    Args:
        logits: float32[rows, vocabulary].
        history: The tokens of the same rows.
        parameters: Theirs.
        stop_ids: int32[stops], the tokens that end an answer.
    """

    def when(asked: Any, change: Any, logits: Any) -> Any:
        return tf.cond(tf.reduce_any(asked), lambda: change(logits), lambda: logits)

    def less_repetition(logits: Any) -> Any:
        penalty = parameters.repetition_penalty[:, None]
        less = tf.where(logits > 0, logits / penalty, logits * penalty)
        return tf.where(_marked(logits, history, history.seen(history.starts)), less, logits)

    def less_presence(logits: Any) -> Any:
        present = _marked(logits, history, history.seen(history.prompt_end))
        return logits - tf.cast(present, logits.dtype) * parameters.presence_penalty[:, None]

    def no_repeated_ngram(logits: Any) -> Any:
        banned = _ends_known_ngram(history, parameters.no_repeat_ngram_size)
        return tf.where(_marked(logits, history, banned), logits.dtype.min, logits)

    def no_end(logits: Any) -> Any:
        ends = tf.reduce_any(tf.range(tf.shape(logits)[1])[:, None] == stop_ids, axis=1)
        return tf.where(tf.logical_and(too_early[:, None], ends), logits.dtype.min, logits)

    too_early = history.column - history.prompt_end < parameters.min_new_tokens
    logits = when(parameters.repetition_penalty != 1.0, less_repetition, logits)
    logits = when(parameters.presence_penalty != 0.0, less_presence, logits)
    logits = when(parameters.no_repeat_ngram_size > 0, no_repeated_ngram, logits)
    return when(too_early, no_end, logits)


def _marked(logits: Any, history: History, places: Any) -> Any:
    """bool[rows, vocabulary]: the tokens at the places `bool[rows, columns]`."""
    row, column = tf.unstack(tf.where(places), axis=1)
    tokens = tf.gather_nd(history.token_ids, tf.stack([row, column], axis=1))
    found = tf.stack([row, tf.cast(tokens, tf.int64)], axis=1)
    marks = tf.tensor_scatter_nd_max(
        tf.zeros(tf.shape(logits), tf.int32), found, tf.ones(tf.shape(found)[:1], tf.int32)
    )
    return marks > 0


def _ends_known_ngram(history: History, sizes: Any) -> Any:
    """bool[rows, columns]: tokens that came after what the row ends with now, `sizes - 1` tokens of it."""
    token_ids, places = history.token_ids, history.places
    # A token at `place` has `back` tokens of the same row before it.
    same = history.seen(history.starts)
    same = tf.logical_and(same, tf.logical_and(sizes > 0, history.column - history.starts >= sizes)[:, None])

    def compare(back: Any, same: Any) -> Any:
        before = tf.roll(token_ids, back, axis=1)
        newest = tf.gather(token_ids, tf.maximum(history.column - back, 0), axis=1)[:, None]
        agrees = tf.logical_and(before == newest, places - back >= history.starts[:, None])
        needed = (back < sizes)[:, None]
        return back + 1, tf.logical_and(same, tf.logical_or(agrees, tf.logical_not(needed)))

    _, same = tf.while_loop(lambda back, _: back < tf.reduce_max(sizes), compare, (1, same))
    return same
