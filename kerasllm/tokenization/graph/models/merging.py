"""Merges pairs of tokens in all words at once."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.graph.models.lexicon import static_table
from kerasllm.tokenization.graph.models.merges import BITS, LATE, NEVER, MergeTable

__all__ = ["Merger"]


class Merger(tf.Module):
    """What `merge_all` of the library does, in a few turns instead of one merge after the other.

    The library merges the pair of the lowest rank, the leftmost of these, until there is none. A pair may be
    merged before its time if it is certain that nothing else takes one of its two tokens before, and that
    the new token is not wanted before the pair's time either: then the result is the same. Nothing else
    takes them if all merges that they may be part of, with their neighbours as they are or may grow to be,
    have a higher rank. So each turn merges all such pairs, however long the words are.

    A turn that finds none merges the pairs of the lowest rank of each word: these are always certain.

    Args:
        table: The merges.
    """

    def __init__(self, table: MergeTable):
        super().__init__()
        self._base = table.base
        self.barrier = table.base - 1
        keys = table.keys if len(table.keys) else [-1]
        values = table.values if len(table.keys) else [-1]
        never = (NEVER << 2 * BITS) | (NEVER << BITS) | NEVER
        self._pairs = static_table(tf.constant(keys, tf.int64), tf.constant(values, tf.int64), never)
        self._merged = tf.constant(table.merged, tf.int64)

    def __call__(self, symbols: Any, *places: Any) -> tuple[Any, ...]:
        """Merges until there is nothing to merge.

        Args:
            symbols: int64[n], token ids, with `barrier` twice in front and after each word.
            *places: int64[n], if wanted: what to know each symbol by; a merged one keeps that of its left
                part.

        Returns:
            The same after all merges.
        """

        def turn(_: Any, symbols: Any, *places: Any) -> tuple[Any, ...]:
            values = self._pairs.lookup(symbols[:-1] * self._base + symbols[1:])
            ranks = tf.bitwise.right_shift(values, 2 * BITS)
            certain = _certain(values, ranks)
            chosen = tf.cond(
                tf.reduce_any(certain), lambda: certain, lambda: self._stuck(symbols, ranks)[1:-1]
            )
            return tf.reduce_any(chosen), *self._merge((symbols, *places), ranks, chosen)

        any_length = [tf.TensorShape([None])] * (1 + len(places))
        _, *merged = tf.while_loop(
            lambda more, *_: more,
            turn,
            (tf.size(symbols) > 0, symbols, *places),
            shape_invariants=(tf.TensorShape([]), *any_length),
        )
        return tuple(merged)

    def _merge(self, columns: tuple[Any, ...], ranks: Any, chosen: Any) -> list[Any]:
        """Merges the pairs `chosen`, bool[n - 3]: neither the first pair nor the last is ever merged."""
        merges = tf.minimum(tf.bitwise.bitwise_and(ranks[1:-1], NEVER), tf.size(self._merged, tf.int64) - 1)
        symbols, *places = columns
        symbols = tf.concat(
            [symbols[:1], tf.where(chosen, tf.gather(self._merged, merges), symbols[1:-2]), symbols[-2:]],
            axis=0,
        )
        # The right parts are left out; this operation does so in less time than a gather.
        is_gone = tf.concat([[0, 0], tf.cast(chosen, tf.int32), [0]], axis=0)
        return [tf.dynamic_partition(column, is_gone, 2)[0] for column in (symbols, *places)]

    def _stuck(self, symbols: Any, ranks: Any) -> Any:
        """The pairs of the lowest rank of each word."""
        return tf.cond(
            tf.reduce_all(tf.equal(ranks, NEVER)),
            lambda: tf.zeros_like(ranks, tf.bool),
            lambda: _lowest(ranks, tf.equal(symbols, self.barrier)),
        )


def _certain(values: Any, ranks: Any) -> Any:
    """Which pairs, but for the first and the last, nothing can come before."""
    true_ranks = tf.bitwise.bitwise_and(ranks, NEVER)
    left = tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, BITS), NEVER)
    right = tf.bitwise.bitwise_and(values, NEVER)
    # A token only grows to the left if it is merged with what is there, which has a rank, too.
    left = tf.maximum(left[1:], tf.minimum(true_ranks[1:], left[:-1]))
    right = tf.maximum(right[:-1], tf.minimum(true_ranks[:-1], right[1:]))
    own = ranks[1:-1]
    # The outermost pairs are those of barriers.
    edge = tf.fill([tf.minimum(tf.size(own), 1)], tf.constant(NEVER, tf.int64))
    before = tf.concat([edge, left[:-2]], axis=0)
    after = tf.concat([right[2:], edge], axis=0)
    return tf.logical_and(before > own, after > own)


def _lowest(ranks: Any, barriers: Any) -> Any:
    words = tf.cumsum(tf.cast(barriers[:-1], tf.int32)) - 1
    true_ranks = tf.bitwise.bitwise_and(ranks, NEVER)
    lowest = tf.gather(tf.math.segment_min(true_ranks, words), words)
    places = tf.where(tf.logical_and(tf.equal(true_ranks, lowest), true_ranks < NEVER))[:, 0]
    # Pairs that overlap are those of one token again and again: every other pair is merged, from the left.
    follows = tf.equal(places[1:], places[:-1] + 1)
    is_start = tf.concat([[True], tf.logical_not(follows)], axis=0)
    run = tf.cumsum(tf.cast(is_start, tf.int32)) - 1
    start = tf.gather(tf.boolean_mask(places, is_start), run)
    even = tf.equal(tf.bitwise.bitwise_and(places - start, 1), 0)
    # After a late merge its token may be merged on before the next pair of the same rank.
    own = tf.gather(words, places)
    first = tf.concat([[True], own[1:] > own[:-1]], axis=0)
    late = tf.gather(ranks, places) >= LATE
    chosen = tf.boolean_mask(places, tf.logical_and(even, tf.logical_or(first, tf.logical_not(late))))
    return tf.scatter_nd(chosen[:, None], tf.ones_like(chosen, tf.bool), tf.shape(ranks, tf.int64))
