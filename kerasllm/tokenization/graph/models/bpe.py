"""Byte pair encoding."""

from typing import Any

import tensorflow as tf
from tokenizers import models

from kerasllm.tokenization.graph.byte_alphabet import to_bytes
from kerasllm.tokenization.graph.models.cuts import Cutter
from kerasllm.tokenization.graph.models.lexicon import Lexicon, Pieces
from kerasllm.tokenization.graph.models.merges import compile_merges
from kerasllm.tokenization.graph.models.merging import Merger
from kerasllm.tokenization.graph.models.symbols import Symbolizer
from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.models import BPE

__all__ = ["BPEModel"]


class BPEModel(tf.Module):
    """Words that are one token come from a table; the others, each once, are merged together.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the tokens are written in the byte alphabet.

    Raises:
        TokenizerError: If the vocabulary has no exact implementation.
    """

    placeholder = ord("x")  # any character does: an added token is never looked up

    def __init__(self, model: BPE, *, byte_level: bool):
        super().__init__()
        self._merger = Merger(compile_merges(model))
        self._symbolizer = Symbolizer(model, byte_level=byte_level, barrier=self._merger.barrier)
        self._lexicon = Lexicon(_whole_words(model, byte_level=byte_level))
        # A part of a word is no word where its ends matter, or where words are looked up as they are. Where
        # characters are left out, the offsets of a word's tokens depend on all that come before.
        whole = byte_level or model.ignore_merges or model.prefix or model.suffix or self._symbolizer.drops
        tokens = [left + right for left, right in model.merges]
        self._cutter = None if whole else Cutter(tokens, self._symbolizer.known)

    def __call__(self, words: Words, *, spans: bool = False) -> Tokens:
        """The tokens of all words."""
        if self._cutter is None:
            return self._lexicon(words, lambda strings: self._spell(strings, spans), spans=spans)
        parts, outer = self._cutter(words)
        tokens = self._lexicon(parts, lambda strings: self._spell(strings, spans), spans=spans)
        return tokens._replace(word_splits=tf.gather(tokens.word_splits, outer))

    def _spell(self, strings: Any, spans: bool) -> Pieces:
        symbols = self._symbolizer(strings, spans=spans)
        places = [tf.range(tf.size(symbols.ids, tf.int64))] if spans else []
        ids, *places = self._merger(symbols.ids, *places)
        is_barrier = tf.equal(ids, self._merger.barrier)
        barriers = tf.where(is_barrier)[1:-1, 0]
        splits = barriers - tf.range(1, tf.size(barriers, tf.int64) + 1)
        kept = tf.where(tf.logical_not(is_barrier))[:, 0]
        ids = tf.cast(tf.gather(ids, kept), tf.int32)
        if not spans:
            return Pieces(ids, splits)
        first = tf.gather(symbols.first, tf.gather(places[0], kept))
        # A symbol ends where the next one, or a barrier, starts.
        last = tf.gather(symbols.last, tf.gather(places[0], kept + 1) - 1)
        return Pieces(ids, splits, first, last)


def _whole_words(model: BPE, *, byte_level: bool) -> dict[bytes, int]:
    """UTF-8 of the words that the library makes one token of, as far as they are tokens."""
    options: dict[str, Any] = {
        "unk_token": model.unknown_token if model.unknown_token in model.vocabulary else None,
        "continuing_subword_prefix": model.prefix or None,
        "end_of_word_suffix": model.suffix or None,
    }
    library = models.BPE(
        model.vocabulary,
        list(model.merges),
        fuse_unk=model.fuse_unknown,
        byte_fallback=model.byte_fallback,
        ignore_merges=model.ignore_merges,
        **{name: value for name, value in options.items() if value is not None},
    )
    words = {}
    for token in model.vocabulary:
        for word in {token, token.removesuffix(model.suffix)}:
            text = to_bytes(word, byte_level=byte_level)
            if not text:
                continue
            found = library.tokenize(word)
            if len(found) == 1 and found[0].offsets == (0, len(word.encode("utf-8"))):
                words[text] = found[0].id
    return words
