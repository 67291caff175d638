"""Words to token ids."""

from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.models import WordPiece

__all__ = ["WordPieceModel"]

_NO_LIMIT = (1 << 31) - 1


class WordPieceModel(tf.Module):
    """WordPiece by TF Text's trie, which finds the longest match in one pass over the word.

    Its own limit on the length of a word counts bytes, so it is switched off and characters are counted here.

    Args:
        model: The model of the `tokenizer.json`.

    Raises:
        TokenizerError: If the vocabulary does not fit TF Text's trie.
    """

    def __init__(self, model: WordPiece):
        super().__init__()
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

    def __call__(self, words: Words) -> tuple[Any, Any]:
        """The token ids of all words, and int64[texts + 1], where each text starts among them."""
        strings = tf.raw_ops.UnicodeEncode(
            input_values=words.codes, input_splits=words.splits, output_encoding="UTF-8", errors="replace"
        )
        too_long = words.splits[1:] - words.splits[:-1] > self._max_characters
        tokens = self._tokenizer.tokenize(tf.where(too_long, self._unknown, strings))
        ids = tokens.values if self._ids is None else tf.gather(self._ids, tokens.values)
        places = tf.gather(tokens.row_splits, words.added)
        ids = tf.tensor_scatter_nd_update(ids, places[:, None], words.added_ids)
        return ids, tf.gather(tokens.row_splits, words.row_splits)


def _can_match(token: str, model: WordPiece) -> bool:
    """Leaves out what no word can hold: tokens that are too long, and the bare prefix."""
    if token == model.unknown_token:
        return True
    body = token.removeprefix(model.prefix)
    return 0 < len(body) <= model.max_characters
