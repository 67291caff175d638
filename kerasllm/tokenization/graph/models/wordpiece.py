"""WordPiece."""

from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import WordPiece

__all__ = ["WordPieceModel"]

_NO_LIMIT = (1 << 31) - 1


class WordPieceModel(tf.Module):
    """WordPiece by TF Text's trie, which finds the longest match in one pass over the word.

    Its own limit on the length of a word counts bytes, so it is switched off and characters are counted here.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the words are in the byte alphabet, which is refused. Defaults to `False`.

    Raises:
        TokenizerError: If the vocabulary does not fit TF Text's trie.
    """

    placeholder = ord("x")  # known or not, a character is one token

    def __init__(self, model: WordPiece, *, byte_level: bool = False):
        super().__init__()
        if byte_level:
            raise refuse("model `WordPiece` with the pre-tokenizer", "ByteLevel", ["BertPreTokenizer"])
        self._unknown = model.unknown_token
        self._max_characters = model.max_characters
        tokens = sorted(
            (t for t in model.vocabulary if _can_match(t, model)), key=model.vocabulary.__getitem__
        )
        ids = [model.vocabulary[token] for token in tokens]
        self._ids = None if ids == list(range(len(ids))) else tf.constant(ids, tf.int32)
        try:
            self._tokenizer = tf_text.FastWordpieceTokenizer(
                vocab=tokens,
                suffix_indicator=model.prefix,
                max_bytes_per_word=_NO_LIMIT,
                token_out_type=tf.int32,
                unknown_token=model.unknown_token,
                no_pretokenization=True,
            )
        except RuntimeError as error:
            raise TokenizerError(
                f"the vocabulary of the `tokenizer.json` cannot be run in a TensorFlow graph: {error}"
            ) from error

    def __call__(self, words: Words, *, spans: bool = False) -> Tokens:
        """The tokens of all words."""
        strings = tf.raw_ops.UnicodeEncode(
            input_values=words.codes, input_splits=words.splits, output_encoding="UTF-8", errors="replace"
        )
        too_long = words.splits[1:] - words.splits[:-1] > self._max_characters
        tokens, starts, ends = self._tokenizer.tokenize_with_offsets(
            tf.where(too_long, self._unknown, strings)
        )
        ids = tokens.values if self._ids is None else tf.gather(self._ids, tokens.values)
        places = tf.gather(tokens.row_splits, words.added)
        ids = tf.tensor_scatter_nd_update(ids, places[:, None], words.added_ids)
        if not spans:
            return Tokens(ids, tokens.row_splits)
        # The unknown token that stands for a word that is too long has a length of its own.
        ends = tf.where(tf.gather(too_long, tokens.value_rowids()), tf.constant(-1, tf.int64), ends.values)
        return Tokens(ids, tokens.row_splits, *_characters(words, tokens, starts.values, ends))


def _characters(words: Words, tokens: Any, starts: Any, ends: Any) -> tuple[Any, Any]:
    """The first and the last character of tokens that are given by bytes of their words; -1 ends a word."""
    size = 1 + sum(tf.cast(words.codes >= bound, tf.int64) for bound in (0x80, 0x800, 0x10000))
    place = tf.concat([[0], tf.cumsum(size)], axis=0)
    begin = tf.gather(tf.gather(place, words.splits), tokens.value_rowids())
    end = tf.gather(tf.gather(place, words.splits), tokens.value_rowids() + 1)
    end = tf.where(ends < 0, end, begin + ends)
    first = tf.searchsorted(place, begin + starts, side="right", out_type=tf.int64) - 1
    return first, tf.searchsorted(place, end - 1, side="right", out_type=tf.int64) - 1


def _can_match(token: str, model: WordPiece) -> bool:
    """Leaves out what no word can hold: tokens that are too long, and the bare prefix."""
    if token == model.unknown_token:
        return True
    body = token.removeprefix(model.prefix)
    return 0 < len(body) <= model.max_characters
