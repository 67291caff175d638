"""Words that are one token, looked up; the others, each once, for the model to work on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words

__all__ = ["Lexicon", "Pieces", "static_table"]


class Pieces(NamedTuple):
    """The tokens of some words, one after the other.

    Attributes:
        ids: int32[tokens].
        splits: int64[words + 1], where the tokens of each word start.
        first: int64[tokens], in which character of its word each token begins; `None` unless asked for.
        last: int64[tokens], in which it ends.
    """

    ids: Any
    splits: Any
    first: Any = None
    last: Any = None


def static_table(keys: Any, values: Any, default: int, *, key_dtype: Any = tf.int64) -> Any:
    """A table that is filled from constants when a model is loaded, and never changes."""
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values, key_dtype, tf.int64)
    return tf.lookup.StaticHashTable(initializer, default)


class Lexicon(tf.Module):
    """Takes the words that are one token from a table, and calls a function on the rest.

    In running text most words are one token, and the others come back again and again.

    Args:
        words: UTF-8 of each word that is one token, and its id.
    """

    def __init__(self, words: Mapping[bytes, int]):
        super().__init__()
        # A table must not be empty; no word is.
        entries = words or {b"": -1}
        self._table = static_table(list(entries), list(entries.values()), -1, key_dtype=tf.string)

    def __call__(self, words: Words, spell: Callable[[Any], Pieces], *, spans: bool) -> Tokens:
        """The tokens of `words`; `spell` gives the `Pieces` of strings that are in no table."""
        strings = tf.raw_ops.UnicodeEncode(
            input_values=words.codes, input_splits=words.splits, output_encoding="UTF-8", errors="replace"
        )
        known = tf.tensor_scatter_nd_update(
            self._table.lookup(strings), words.added[:, None], tf.cast(words.added_ids, tf.int64)
        )
        missing = tf.where(known < 0)
        unique, number = tf.unique(tf.gather_nd(strings, missing), out_idx=tf.int64)
        pieces = spell(unique)
        # The tokens of known words stand before those of the others, and are taken from there.
        count = tf.size(known, tf.int64)
        starts = tf.tensor_scatter_nd_update(
            tf.range(count), missing, count + tf.gather(pieces.splits, number)
        )
        ends = tf.tensor_scatter_nd_update(
            tf.range(1, count + 1), missing, count + tf.gather(pieces.splits, number + 1)
        )
        splits, indices = tf.raw_ops.RaggedRange(
            starts=starts, limits=ends, deltas=tf.constant(1, tf.int64), Tsplits=tf.int64
        )
        ids = tf.gather(tf.concat([tf.cast(known, tf.int32), pieces.ids], axis=0), indices)
        if not spans:
            return Tokens(ids, splits)
        own = tf.searchsorted(splits[1:], tf.range(tf.size(ids, tf.int64)), side="right", out_type=tf.int64)
        begin = tf.gather(words.splits, own)
        whole = words.splits[1:] - words.splits[:-1] - 1
        first = begin + tf.gather(tf.concat([tf.zeros_like(whole), pieces.first], axis=0), indices)
        last = begin + tf.gather(tf.concat([whole, pieces.last], axis=0), indices)
        return Tokens(ids, splits, first, last)
