"""Finds all tokens at all places of a text."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.graph.models.lexicon import static_table

__all__ = ["Trie"]

_STEP = 1 << 21  # more than the number of code points: (state, code point) as one number


class Trie(tf.Module):
    """Walks a trie of tokens from all places at once, one character a turn.

    State 0 is where every walk starts, and stands for no match, too.

    Args:
        tokens: The tokens and their ids.
    """

    def __init__(self, tokens: Mapping[str, int]):
        super().__init__()
        edges: dict[int, int] = {}
        ends: dict[int, int] = {}
        for token, index in tokens.items():
            state = 0
            for character in token:
                state = edges.setdefault(state * _STEP + ord(character), len(edges) + 1)
            ends[state] = index
        keys = np.fromiter(edges, np.int64, len(edges))
        targets = np.fromiter(edges.values(), np.int64, len(edges))
        self._edges = static_table(tf.constant(keys), tf.constant(targets), 0)
        self.ids = np.array([ends.get(state, -1) for state in range(len(edges) + 1)], np.int64)

    def __call__(self, codes: Any) -> Any:
        """The states of the matches that end at each character.

        Args:
            codes: int32[characters], with a negative one between texts.

        Returns:
            int64[characters, longest match]: the state of the match that ends there and has 1 character in
            the last column, 2 in the one before it, and so on; 0 where there is none.
        """
        codes = tf.cast(codes, tf.int64)
        count = tf.size(codes, tf.int64)
        single = self._edges.lookup(codes)

        def alive(places: Any, *_: Any) -> Any:
            return tf.size(places) > 0

        def step(places: Any, states: Any, matches: Any) -> tuple[Any, Any, Any]:
            # The last character is never matched, so none is beyond it.
            places += 1
            states = self._edges.lookup(states * _STEP + tf.gather(codes, places))
            found = tf.where(states > 0)
            places, states = tf.gather_nd(places, found), tf.gather_nd(states, found)
            column = tf.scatter_nd(places[:, None], states, count[None])
            return places, states, tf.concat([column[:, None], matches], axis=1)

        places = tf.where(single > 0)
        _, _, matches = tf.while_loop(
            alive,
            step,
            (places[:, 0], tf.gather_nd(single, places), single[:, None]),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([None, None])),
        )
        return matches
