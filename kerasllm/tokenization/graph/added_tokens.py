"""Finds added tokens in texts: leftmost first, the longest of those, none overlapping another."""

from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.characters import CharacterTable, entry
from kerasllm.tokenization.characters.scan import PAGE
from kerasllm.tokenization.spec.added_tokens import AddedToken

__all__ = ["AddedTokenMatcher"]

_STEP = 1 << 21  # more than the number of code points: (state, code point) as one number
_BOUNDARY = -1  # the end of a text, which no token goes beyond


class AddedTokenMatcher(tf.Module):
    """Walks a trie of the added tokens from all places at once.

    Args:
        tokens: The added tokens.
    """

    def __init__(self, tokens: tuple[AddedToken, ...]):
        super().__init__()
        edges: dict[int, int] = {}
        ends: dict[int, int] = {}
        for token in tokens:
            state = 0
            for character in token.content:
                state = edges.setdefault(state * _STEP + ord(character), len(edges) + 1)
            ends[state] = token.id
        self._first = sorted({ord(token.content[0]) for token in tokens})
        self._longest = max((len(token.content) for token in tokens), default=0)
        self._dead = len(edges) + 1  # a state that no edge leads from
        keys = sorted(edges)
        # One key that matches nothing, so that the tables are never empty.
        self._keys = tf.constant([*keys, np.iinfo(np.int64).max], tf.int64)
        self._targets = tf.constant([*(edges[key] for key in keys), self._dead], tf.int64)
        self._ids = tf.constant([ends.get(state, -1) for state in range(self._dead + 1)], tf.int32)

    def mark(self, table: CharacterTable) -> tuple[np.ndarray, np.ndarray]:
        """The entries and pages of a table, with the characters that added tokens start with marked."""
        entries, pages = table.entries, table.pages.copy()
        for page in sorted({code // PAGE for code in self._first}):
            start = pages[page]
            pages[page] = len(entries)
            entries = np.concatenate([entries, table.entries[start : start + PAGE]])
        for code in self._first:
            entries[pages[code // PAGE] + code % PAGE] |= entry.STARTS_TOKEN
        return entries, pages

    def __call__(self, codes: Any, entries: Any, row_splits: Any) -> tuple[Any, Any, Any]:
        """Finds the added tokens.

        Args:
            codes: int32[characters], texts that each end in one character that is not theirs.
            entries: int32[characters], their entries.
            row_splits: int64[texts + 1].

        Returns:
            Where each starts, how many characters it has, and its id.
        """
        candidates = tf.where(tf.bitwise.bitwise_and(entries, entry.STARTS_TOKEN) > 0)[:, 0]
        nothing = (tf.zeros([0], tf.int64), tf.zeros([0], tf.int64), tf.zeros([0], tf.int32))
        return tf.cond(
            tf.size(candidates) > 0, lambda: self._search(codes, candidates, row_splits), lambda: nothing
        )

    def _search(self, codes: Any, candidates: Any, row_splits: Any) -> tuple[Any, Any, Any]:
        ends = row_splits[1:] - 1
        codes = tf.tensor_scatter_nd_update(codes, ends[:, None], tf.fill([tf.size(ends)], _BOUNDARY))
        lengths, ids = self._longest_matches(tf.cast(codes, tf.int64), candidates)
        found = tf.where(lengths > 0)[:, 0]
        starts, lengths, ids = (tf.gather(values, found) for values in (candidates, lengths, ids))
        chosen = tf.where(_leftmost(starts, starts + lengths))[:, 0]
        return tf.gather(starts, chosen), tf.gather(lengths, chosen), tf.gather(ids, chosen)

    def _longest_matches(self, codes: Any, candidates: Any) -> tuple[Any, Any]:
        last = tf.size(codes, tf.int64) - 1
        dead = tf.constant(self._dead, tf.int64)

        def alive(depth: Any, states: Any, lengths: Any, ids: Any) -> Any:
            return tf.logical_and(depth < self._longest, tf.reduce_any(states < dead))

        def step(depth: Any, states: Any, lengths: Any, ids: Any) -> tuple[Any, Any, Any, Any]:
            keys = states * _STEP + tf.gather(codes, tf.minimum(candidates + depth, last))
            places = tf.searchsorted(self._keys, keys)
            states = tf.where(
                tf.equal(tf.gather(self._keys, places), keys), tf.gather(self._targets, places), dead
            )
            ends = tf.gather(self._ids, states)
            lengths = tf.where(ends >= 0, depth + 1, lengths)
            return depth + 1, states, lengths, tf.where(ends >= 0, ends, ids)

        none = tf.zeros_like(candidates)
        start = (tf.constant(0, tf.int64), none, none, tf.zeros_like(candidates, tf.int32))
        _, _, lengths, ids = tf.while_loop(alive, step, start)
        return lengths, ids


def _leftmost(starts: Any, ends: Any) -> Any:
    """Which of the matches, sorted by start, are found by searching on from the end of the last one.

    The one after each is known at once; which are reached from the first is found by doubling the stride.
    """
    count = tf.size(starts)
    following = tf.concat([tf.searchsorted(starts, ends), count[None]], axis=0)
    reached = tf.one_hot(0, count + 1, dtype=tf.int32)

    def step(stride: Any, following: Any, reached: Any) -> tuple[Any, Any, Any]:
        further = tf.math.unsorted_segment_max(reached, following, count + 1)
        return stride * 2, tf.gather(following, following), tf.maximum(reached, further)

    _, _, reached = tf.while_loop(
        lambda stride, *_: stride <= count, step, (tf.constant(1), following, reached)
    )
    return reached[:-1] > 0
