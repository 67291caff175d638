"""A word is one token."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.graph.byte_alphabet import to_bytes
from kerasllm.tokenization.graph.models.lexicon import static_table
from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.models import WordLevel

__all__ = ["WordLevelModel"]


class WordLevelModel(tf.Module):
    """Looks words up.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the tokens are written in the byte alphabet.
    """

    placeholder = ord("x")  # every word is one token

    def __init__(self, model: WordLevel, *, byte_level: bool):
        super().__init__()
        entries = {to_bytes(token, byte_level=byte_level): i for token, i in model.vocabulary.items()}
        entries.pop(None, None)
        unknown = model.vocabulary[model.unknown_token]
        self._table = static_table(
            list(entries) or [b""], list(entries.values()) or [unknown], unknown, key_dtype=tf.string
        )

    def __call__(self, words: Words, *, spans: bool = False) -> Tokens:
        """The tokens of all words."""
        strings = tf.raw_ops.UnicodeEncode(
            input_values=words.codes, input_splits=words.splits, output_encoding="UTF-8", errors="replace"
        )
        ids = tf.cast(self._table.lookup(strings), tf.int32)
        ids = tf.tensor_scatter_nd_update(ids, words.added[:, None], words.added_ids)
        splits: Any = tf.range(tf.size(ids, tf.int64) + 1)
        if not spans:
            return Tokens(ids, splits)
        return Tokens(ids, splits, words.splits[:-1], words.splits[1:] - 1)
