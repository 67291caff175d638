"""Finds all tokens at all places of a text."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.graph.models.lexicon import static_table

__all__ = ["END", "Trie", "number_nodes"]

END = 0x110000  # stands after each text, where no token is
_SHIFT = 32


def number_nodes(tokens: Iterable[str]) -> dict[str, int]:
    """All beginnings of tokens, numbered from 0, which is the empty one; longer ones after shorter ones."""
    nodes = {"": 0}
    for token in tokens:
        known = next(length for length in range(len(token), -1, -1) if token[:length] in nodes)
        for length in range(known + 1, len(token) + 1):
            nodes[token[:length]] = len(nodes)
    return nodes


class Trie(tf.Module):
    """Finds the longest beginning of a token at each place, in as many steps as its length has bits.

    A block is a stretch of characters that has a name: a block of one character is that character, and a
    block of twice the length is a pair of names. With the names of the blocks of 1, 2, 4, ... characters at
    all places, each place goes down the trie by the longest block that leads to a node, then by one of half
    the length, and so on.

    Args:
        nodes: The nodes, from `number_nodes`.
    """

    def __init__(self, nodes: dict[str, int]):
        super().__init__()
        self._levels = max(map(len, nodes)).bit_length()
        keys, values = _table(nodes)
        self._table = static_table(tf.constant(keys), tf.constant(values), 0)
        self._root = tf.constant(_left(0), tf.int64)

    def __call__(self, codes: Any) -> Any:
        """The node of the longest beginning of a token at each place.

        Args:
            codes: int64[characters], with `END` between texts.

        Returns:
            int64[characters], their numbers; that at each `END` is the number of all nodes.
        """
        count = tf.size(codes)
        beyond = tf.fill([(1 << self._levels) - 1], tf.constant(END, tf.int64))
        blocks = [tf.concat([codes, beyond], axis=0)]
        for level in range(self._levels - 1):
            names, length = blocks[-1], 1 << level
            keys = tf.bitwise.left_shift(names[:-length], tf.constant(_SHIFT, tf.int64)) + names[length:]
            blocks.append(self._table.lookup(keys))
        place = tf.range(tf.cast(count, tf.int64))
        node = self._root
        for level in reversed(range(self._levels)):
            first = level == self._levels - 1
            block = blocks[level][:count] if first else tf.gather(blocks[level], place)
            found = self._table.lookup(node + block)
            if level:
                place = tf.where(found < 0, place + (1 << level), place)
            # Nodes are negative, the deeper the lower; what is not found is 0.
            node = tf.minimum(node, found)
        return -1 - tf.bitwise.right_shift(node, tf.constant(_SHIFT, tf.int64))


def _left(node: int) -> int:
    return (-1 - node) << _SHIFT


def _table(nodes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """From a node and the name of a block to another node, and from two names to one."""
    names: dict[str, int] = {}
    table = {_left(0) + END: _left(len(nodes))}

    def name_of(block: str) -> int:
        if len(block) == 1:
            return ord(block)
        if block not in names:
            middle = len(block) // 2
            key = (name_of(block[:middle]) << _SHIFT) + name_of(block[middle:])
            names[block] = table[key] = END + 1 + len(names)
        return names[block]

    for prefix, node in nodes.items():
        if prefix:
            # The last bit of the length that is set.
            length = len(prefix) & -len(prefix)
            table[_left(nodes[prefix[:-length]]) + name_of(prefix[-length:])] = _left(node)
    return np.fromiter(table, np.int64, len(table)), np.fromiter(table.values(), np.int64, len(table))
