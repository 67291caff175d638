"""Unigram, the model of SentencePiece."""

from typing import Any

import numpy as np
import tensorflow as tf
from tokenizers import models

from kerasllm.tokenization.graph.models.lexicon import Lexicon, Pieces
from kerasllm.tokenization.graph.models.symbols import byte_tokens
from kerasllm.tokenization.graph.models.trie import Trie
from kerasllm.tokenization.graph.models.viterbi import (
    best_lengths,
    best_lengths_and_margins,
    on_best_way,
    uncovered,
)
from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import Unigram

__all__ = ["UnigramModel"]

_PENALTY = 10.0  # an unknown character scores this much less than the worst token
_LONG = 200  # words of more characters are cut if they can be
_ROUNDING = 2.0**-50  # eight times the relative error of one addition


class UnigramModel(tf.Module):
    """Words that are one token come from a table; for the others, each once, the best way is searched.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the words are in the byte alphabet, which is refused.

    Raises:
        TokenizerError: If the vocabulary has no exact implementation.
    """

    placeholder = ord("x")  # any character does: an added token is never looked up

    def __init__(self, model: Unigram, *, byte_level: bool):
        super().__init__()
        if byte_level:
            raise refuse("model `Unigram` with the pre-tokenizer", "ByteLevel", ["Metaspace"])
        _check(model)
        self._unknown = model.unknown_id
        self._unknown_score = min(model.scores) - _PENALTY
        self._largest_score = max(abs(score) for score in (*model.scores, self._unknown_score))
        self._trie = Trie(model.vocabulary)
        is_token = self._trie.ids >= 0
        scores = np.full(len(is_token), -np.inf)
        scores[is_token] = np.array(model.scores)[self._trie.ids[is_token]]
        self._scores = tf.constant(scores, tf.float64)
        self._ids = tf.constant(np.where(is_token, self._trie.ids, model.unknown_id), tf.int32)
        fallback = byte_tokens(model.vocabulary, "Unigram") if model.byte_fallback else None
        self._bytes = None if fallback is None else tf.constant(fallback, tf.int32)
        self._lexicon = Lexicon(_whole_words(model))

    def __call__(self, words: Words, *, spans: bool = False) -> Tokens:
        """The tokens of all words."""
        return self._lexicon(words, lambda strings: self._spell(strings, spans), spans=spans)

    def _spell(self, strings: Any, spans: bool) -> Pieces:
        strings = tf.strings.join([strings, " "])
        splits, codes = tf.raw_ops.UnicodeDecode(
            input=strings, input_encoding="UTF-8", errors="replace", Tsplits=tf.int64
        )
        # The end of a word takes part as a character by itself, which is left out below.
        ends = splits[1:] - 1
        codes = tf.tensor_scatter_nd_update(codes, ends[:, None], tf.fill([tf.size(ends)], -1))
        states = self._trie(codes)
        scores = tf.gather(self._scores, states)
        single = scores[:, -1:]
        is_unknown = tf.math.is_inf(single)
        single = tf.where(is_unknown, tf.constant(self._unknown_score, tf.float64), single)
        scores = tf.concat([scores[:, :-1], single], axis=1)
        last, lengths = tf.cond(
            tf.reduce_any(splits[1:] - splits[:-1] > _LONG),
            lambda: self._best_way_in_parts(scores, splits),
            lambda: _best_way(scores, splits),
        )
        length = tf.gather(lengths, last)
        ids = tf.gather(
            self._ids, tf.gather_nd(states, tf.stack([last, tf.shape(states, tf.int64)[1] - length], 1))
        )
        return self._pieces(strings, codes, splits, ids, last - length + 1, last, is_unknown[:, 0])

    def _best_way_in_parts(self, scores: Any, splits: Any) -> tuple[Any, Any]:
        """The best way, with long words cut where no token reaches across.

        The best way goes through each cut, and what follows does not depend on what was before, but for
        rounding. So where the second best way is worse by more than any rounding, the parts are exact.
        """
        lengths = splits[1:] - splits[:-1]
        is_long = tf.repeat(lengths > _LONG, lengths)
        starts = tf.logical_and(is_long, uncovered(scores))
        begin = splits[:-1]
        starts = tf.tensor_scatter_nd_update(starts, begin[:, None], tf.ones_like(begin, tf.bool))
        parts = tf.concat([tf.where(starts)[:, 0], splits[-1:]], axis=0)
        best, margins = best_lengths_and_margins(scores, parts)
        last = on_best_way(best, parts)
        longest = tf.cast(tf.reduce_max(parts[1:] - parts[:-1]), tf.float64)
        largest = tf.cast(tf.reduce_max(lengths) + 1, tf.float64) * self._largest_score
        doubtful = tf.gather(margins, last) <= _ROUNDING * (longest + 1) * largest
        return tf.cond(
            tf.reduce_any(tf.logical_and(doubtful, tf.gather(is_long, last))),
            lambda: _best_way(scores, splits),
            lambda: (last, best),
        )

    def _pieces(
        self, strings: Any, codes: Any, splits: Any, ids: Any, first: Any, last: Any, is_unknown: Any
    ) -> Pieces:
        """Makes one of unknown tokens in a row, or their bytes, and leaves out the ends of the words."""
        ends = tf.gather(codes, last) < 0
        unknown = tf.logical_and(tf.equal(ids, self._unknown), tf.logical_not(ends))
        again = tf.logical_and(unknown[1:], unknown[:-1])
        starts = tf.logical_not(tf.concat([tf.zeros([1], tf.bool)[: tf.size(ids)], again], axis=0))
        stops = tf.logical_not(tf.concat([again, tf.zeros([1], tf.bool)[: tf.size(ids)]], axis=0))
        starts = tf.where(tf.logical_and(starts, tf.logical_not(ends)))
        stops = tf.where(tf.logical_and(stops, tf.logical_not(ends)))
        ids, first, last = tf.gather_nd(ids, starts), tf.gather_nd(first, starts), tf.gather_nd(last, stops)
        if self._bytes is not None:
            # The unknown token itself may stand in the text; alone, it is that token.
            spelled = tf.logical_and(
                tf.equal(ids, self._unknown),
                tf.logical_or(
                    starts[:, 0] < stops[:, 0],
                    tf.logical_and(tf.equal(first, last), tf.gather(is_unknown, last)),
                ),
            )
            ids, first, last = tf.cond(
                tf.reduce_any(spelled),
                lambda: self._spell_bytes(strings, codes, ids, first, last, spelled),
                lambda: (ids, first, last),
            )
        begin = tf.searchsorted(first, splits, out_type=tf.int64)
        row = tf.searchsorted(splits[1:], first, side="right", out_type=tf.int64)
        start = tf.gather(splits, row)
        return Pieces(ids, begin, first - start, last - start)

    def _spell_bytes(
        self, strings: Any, codes: Any, ids: Any, first: Any, last: Any, spelled: Any
    ) -> tuple[Any, Any, Any]:
        all_bytes = tf.raw_ops.UnicodeDecode(
            input=strings, input_encoding="ISO-8859-1", errors="replace", Tsplits=tf.int64
        ).char_values
        size = 1 + sum(tf.cast(codes >= bound, tf.int64) for bound in (0x80, 0x800, 0x10000))
        place = tf.cumsum(size, exclusive=True)
        begin = tf.gather(place, first)
        end = tf.where(spelled, tf.gather(place, last) + tf.gather(size, last), begin + 1)
        splits, indices = tf.raw_ops.RaggedRange(
            starts=begin, limits=end, deltas=tf.constant(1, tf.int64), Tsplits=tf.int64
        )
        own = tf.searchsorted(
            splits[1:], tf.range(tf.size(indices, tf.int64)), side="right", out_type=tf.int64
        )
        of_bytes = tf.gather(self._bytes, tf.gather(all_bytes, indices))
        ids = tf.where(tf.gather(spelled, own), of_bytes, tf.gather(ids, own))
        return ids, tf.gather(first, own), tf.gather(last, own)


def _best_way(scores: Any, splits: Any) -> tuple[Any, Any]:
    lengths = best_lengths(scores, splits)
    return on_best_way(lengths, splits), lengths


def _check(model: Unigram) -> None:
    """Refuses vocabularies in which several unknown characters in a row may be a token all the same."""
    if min(model.scores) > _PENALTY:
        raise refuse(
            "model `Unigram` with a least score of",
            min(model.scores),
            [f"least scores of at most {_PENALTY}"],
        )
    if not 0 <= model.unknown_id < len(model.scores):
        raise refuse("model `Unigram` with `unk_id` =", model.unknown_id, ["an id of the vocabulary"])
    unknown = next((t for t, index in model.vocabulary.items() if index == model.unknown_id), None)
    if unknown is None:
        raise refuse("model `Unigram` with", "an unknown token that is there twice", ["tokens of their own"])
    for token in model.vocabulary:
        if unknown in token and token != unknown:
            raise refuse(f"model `Unigram` with the unknown token {unknown!r} and", token, ["other tokens"])


def _whole_words(model: Unigram) -> dict[bytes, int]:
    """UTF-8 of the words that the library makes one token of."""
    entries = [("", 0.0)] * len(model.scores)
    for token, index in model.vocabulary.items():
        entries[index] = (token, model.scores[index])
    library = models.Unigram(entries, model.unknown_id, model.byte_fallback)
    words = {}
    for token in model.vocabulary:
        found = library.tokenize(token)
        if len(found) == 1:
            words[token.encode("utf-8")] = found[0].id
    return words
