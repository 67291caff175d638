"""Finding sequences of token ids in a batch, in the graph and exactly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["Phrases"]

_BASE = 0x9E3779B97F4A7C15  # odd, so that no id is lost in the product modulo 2**64


class Phrases:
    """A set of id sequences that begin and end with words.

    Each length is looked up by a 64-bit hash of the ids, found by bisection and then compared id by id, so
    that thousands of sequences cost no more than a few, and nothing else is ever taken for one of them.

    Args:
        sequences: Id sequences; of equal ones the first counts.
    """

    def __init__(self, sequences: Sequence[Sequence[int]]):
        self.sequences = [tuple(map(int, sequence)) for sequence in sequences]
        self._tables: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        by_length: dict[int, dict[tuple[int, ...], int]] = {}
        for number, sequence in enumerate(self.sequences):
            if sequence:
                by_length.setdefault(len(sequence), {}).setdefault(sequence, number)
        for length, found in sorted(by_length.items()):
            ids = np.array(list(found), np.int64).reshape(-1, length)
            hashes = _hash(list(ids.T))
            order = np.argsort(hashes, kind="stable")
            self._tables[length] = (
                hashes[order],
                ids[order],
                np.array(list(found.values()), np.int32)[order],
            )

    def __bool__(self) -> bool:
        return bool(self._tables)

    def match(self, ids: Any, starts: Any, real: Any) -> tuple[Any, Any]:
        """Finds the longest sequence that begins at each token.

        Args:
            ids: int32 `(batch, sequence)`.
            starts: bool, whether a word begins there.
            real: bool, whether it is no padding.

        Returns:
            int32 `(batch, sequence)`: the number of the sequence, -1 for none; and how many tokens it has.
        """
        number = tf.fill(tf.shape(ids), -1)
        length = tf.zeros_like(number)
        wide = tf.cast(ids, tf.int64)
        places = tf.range(tf.shape(ids)[1])
        ends = tf.logical_or(starts, tf.logical_not(real))
        for size, (hashes, known, numbers) in self._tables.items():
            parts = [tf.roll(wide, -step, axis=1) for step in range(size)]
            inside = places + size <= tf.shape(ids)[1]
            last = tf.logical_or(tf.roll(ends, -size, axis=1), places + size == tf.shape(ids)[1])
            where = tf.searchsorted(
                tf.constant(hashes), tf.reshape(_hash_in_graph(parts), [-1])
            )  # the first place whose hash is not smaller
            where = tf.reshape(tf.minimum(where, len(hashes) - 1), tf.shape(ids))
            same = tf.reduce_all(tf.equal(tf.gather(tf.constant(known), where), tf.stack(parts, -1)), -1)
            found = same & starts & last & inside & self._all_real(real, size)
            number = tf.where(found, tf.gather(tf.constant(numbers), where), number)
            length = tf.where(found, size, length)
        return number, length

    def cover(self, ids: Any, starts: Any, real: Any) -> Any:
        """Bool `(batch, sequence)`: whether the token is in one of the sequences."""
        _, length = self.match(ids, starts, real)
        covered = tf.zeros_like(real)
        for size in self._tables:
            # Of several that begin at one token the longest was found; it covers the others.
            begun = tf.cumsum(tf.cast(tf.equal(length, size), tf.int32), axis=1)
            before = tf.pad(begun, [[0, 0], [size, 0]])[:, : tf.shape(begun)[1]]
            covered |= begun > before
        return covered

    def _all_real(self, real: Any, size: int) -> Any:
        return tf.reduce_all(tf.stack([tf.roll(real, -step, axis=1) for step in range(size)], -1), -1)


def _hash(parts: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros(len(parts[0]), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            total = total * np.uint64(_BASE) + part.astype(np.uint64) + np.uint64(1)
    return total.view(np.int64)


def _hash_in_graph(parts: Sequence[Any]) -> Any:
    base = tf.constant(np.array(_BASE, np.uint64).view(np.int64))
    total = tf.zeros_like(parts[0])
    for part in parts:
        total = total * base + part + 1
    return total
