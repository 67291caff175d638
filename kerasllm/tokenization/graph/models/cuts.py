"""Cuts words where no token reaches across, so that long ones fall apart into short ones."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.graph.words import Words

__all__ = ["Cutter"]

_BITS = 20
_FACTOR = 0x9E3779B1


class Cutter(tf.Module):
    """Finds places between two characters that stand side by side in no token.

    Pairs of characters are kept as one bit in a table that two pairs may share. So a cut may be missed, which
    costs time, but none is ever made where a token reaches across.

    Args:
        tokens: All tokens that stand for more than one character.
        known: Tells which characters may be cut from each other.
    """

    def __init__(self, tokens: Iterable[str], known: Callable[[Any], Any]):
        super().__init__()
        pairs = {pair for token in tokens for pair in itertools.pairwise(token)}
        codes = np.array([[ord(a), ord(b)] for a, b in pairs], np.int64).reshape(-1, 2)
        table = np.zeros(1 << _BITS, bool)
        table[_hash(codes[:, 0], codes[:, 1])] = True
        self._joined = tf.constant(table)
        self._known = known

    def __call__(self, words: Words) -> tuple[Words, Any]:
        """The parts of all words, and int64[words + 1], where those of each word start."""
        codes = tf.cast(words.codes, tf.int64)
        apart = tf.logical_not(tf.gather(self._joined, _hash(codes[:-1], codes[1:])))
        known = self._known(words.codes)
        apart = tf.logical_and(apart, tf.logical_and(known[:-1], known[1:]))
        starts = tf.concat([tf.fill([tf.minimum(tf.size(codes), 1)], True), apart], axis=0)
        begin = words.splits[:-1]
        starts = tf.tensor_scatter_nd_update(starts, begin[:, None], tf.ones_like(begin, tf.bool))
        splits = tf.concat([tf.where(starts)[:, 0], words.splits[-1:]], axis=0)
        outer = tf.searchsorted(splits, words.splits, out_type=tf.int64)
        return words._replace(splits=splits, added=tf.gather(outer, words.added)), outer


def _hash(left: Any, right: Any) -> Any:
    mixed = (left * _FACTOR + right) * _FACTOR
    if isinstance(mixed, np.ndarray):
        return (mixed >> 20) & ((1 << _BITS) - 1)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(mixed, 20), (1 << _BITS) - 1)
