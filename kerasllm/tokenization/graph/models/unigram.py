"""Unigram, the model of SentencePiece."""

from typing import Any

import numpy as np
import tensorflow as tf
from tokenizers import models

from kerasllm.tokenization.graph.models.lexicon import Lexicon, Pieces
from kerasllm.tokenization.graph.models.symbols import byte_tokens
from kerasllm.tokenization.graph.models.trie import END, Trie, number_nodes
from kerasllm.tokenization.graph.models.viterbi import Lattice, Parts, best_way, cut
from kerasllm.tokenization.graph.tokens import Tokens
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import Unigram

__all__ = ["UnigramModel"]

_PENALTY = 10.0  # an unknown character scores this much less than the worst token
_LONG = 200  # words of more characters are cut if they can be
_TURNS = 24  # in which the sums at all cuts become right


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
        nodes = number_nodes(model.vocabulary)
        self._trie = Trie(nodes)
        self._entries = _Entries(model, nodes)
        self._exact_length = _exact_length(self._entries.scores.numpy())
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
        ends = splits[1:, None] - 1
        codes = tf.tensor_scatter_nd_update(codes, ends, tf.fill([tf.size(ends)], END))
        entries, lattice = self._entries.lattice(self._trie(tf.cast(codes, tf.int64)))
        lengths = splits[1:] - splits[:-1]
        way = tf.cond(
            tf.reduce_any(lengths > _LONG),
            lambda: self._best_way_in_parts(lattice, splits, lengths),
            lambda: _best_way(lattice, splits),
        )
        entries = tf.gather(entries, way)
        first, end = tf.gather(lattice.starts, way), tf.gather(lattice.ends, way)
        ids = tf.gather(self._entries.ids, entries)
        ids, first, end = tf.cond(
            tf.reduce_any(tf.equal(ids, self._unknown)),
            lambda: self._fuse(strings, codes, ids, first, end, entries),
            lambda: (ids, first, end),
        )
        begin = tf.searchsorted(first, splits, out_type=tf.int64)
        if not spans:
            return Pieces(ids, begin)
        row = tf.searchsorted(splits[1:], first, side="right", out_type=tf.int64)
        start = tf.gather(splits, row)
        return Pieces(ids, begin, first - start, end - 1 - start)

    def _best_way_in_parts(self, lattice: Lattice, splits: Any, lengths: Any) -> Any:
        """The best way, with long words cut where no token reaches across.

        The best way goes through each cut, and what follows does not depend on what was before, but for
        rounding.
        """
        is_long = lengths > _LONG
        parts = cut(lattice, splits, is_long)
        zeros = tf.zeros_like(parts.roots, tf.float64)
        return tf.cond(
            tf.reduce_max(lengths) <= self._exact_length,
            lambda: best_way(*parts, zeros, long=True),
            lambda: _settle(parts, lattice, splits, is_long),
        )

    def _fuse(
        self, strings: Any, codes: Any, ids: Any, first: Any, end: Any, entries: Any
    ) -> tuple[Any, Any, Any]:
        """Makes one of unknown tokens in a row, or their bytes."""
        unknown = tf.equal(ids, self._unknown)
        # Between two words there is a character that no token has.
        again = tf.logical_and(tf.logical_and(unknown[1:], unknown[:-1]), tf.equal(end[:-1], first[1:]))
        starts = tf.where(tf.logical_not(tf.concat([[False], again], axis=0)))
        stops = tf.where(tf.logical_not(tf.concat([again, [False]], axis=0)))
        ids, first, end = tf.gather_nd(ids, starts), tf.gather_nd(first, starts), tf.gather_nd(end, stops)
        if self._bytes is None:
            return ids, first, end
        # The unknown token itself may stand in the text; alone, it is that token.
        spelled = tf.logical_and(
            tf.equal(ids, self._unknown),
            tf.logical_or(
                starts[:, 0] < stops[:, 0], tf.equal(tf.gather_nd(entries, starts), self._entries.unknown)
            ),
        )
        ids, first, last = self._spell_bytes(strings, codes, ids, first, end - 1, spelled)
        return ids, first, last + 1

    def _spell_bytes(
        self, strings: Any, codes: Any, ids: Any, first: Any, last: Any, spelled: Any
    ) -> tuple[Any, Any, Any]:
        all_bytes = tf.raw_ops.UnicodeDecode(
            input=strings, input_encoding="ISO-8859-1", errors="replace", Tsplits=tf.int64
        ).char_values
        size = 1 + sum(tf.cast(codes >= bound, tf.int64) for bound in (0x80, 0x800, 0x10000))
        size = tf.where(tf.equal(codes, END), tf.constant(1, tf.int64), size)  # written as a space
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


class _Entries(tf.Module):
    """What may start at a place: the tokens that begin as the text there, or one unknown character.

    Attributes:
        ids: int32[entries], their ids.
        scores: float64[entries].
        unknown: The number of the entry of an unknown character.
    """

    def __init__(self, model: Unigram, nodes: dict[str, int]):
        super().__init__()
        self.unknown = len(model.scores)
        lengths = np.ones(self.unknown + 1, np.int64)
        lengths[list(model.vocabulary.values())] = [len(token) for token in model.vocabulary]
        self.ids = tf.constant([*range(self.unknown), model.unknown_id], tf.int32)
        self.scores = tf.constant([*model.scores, min(model.scores) - _PENALTY], tf.float64)
        self._lengths = tf.constant(lengths)
        begins, ends, entries = _lists(model.vocabulary, nodes, self.unknown)
        self._begins, self._ends = tf.constant(begins), tf.constant(ends)
        self._entries = tf.constant(entries)

    def lattice(self, nodes: Any) -> tuple[Any, Lattice]:
        """The entries of each place, and where they are; `nodes` are those of the trie."""
        splits, indices = tf.raw_ops.RaggedRange(
            starts=tf.gather(self._begins, nodes),
            limits=tf.gather(self._ends, nodes),
            deltas=tf.constant(1, tf.int64),
            Tsplits=tf.int64,
        )
        entries = tf.gather(self._entries, indices)
        later = splits[1:]
        count = tf.size(entries, tf.int64)[None] + 1
        starts = tf.cumsum(tf.scatter_nd(later[:, None], tf.ones_like(later), count))[:-1]
        ends = starts + tf.gather(self._lengths, entries)
        return entries, Lattice(splits, starts, ends, tf.gather(self.scores, entries))


def _lists(
    vocabulary: dict[str, int], nodes: dict[str, int], unknown: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each node, the entries that its text begins with, shortest first: begin and end in the third."""
    begins, ends = np.zeros(len(nodes) + 1, np.int64), np.zeros(len(nodes) + 1, np.int64)
    lists: list[list[int]] = [[unknown]] + [[]] * len(nodes)
    entries: list[int] = [unknown]
    ends[0] = 1
    for text, node in nodes.items():
        if not text:
            continue
        above = nodes[text[:-1]] if len(text) > 1 else 0
        if text not in vocabulary:
            lists[node], begins[node], ends[node] = lists[above], begins[above], ends[above]
            continue
        own = [*(lists[above] if len(text) > 1 else []), vocabulary[text]]
        lists[node], begins[node], ends[node] = own, len(entries), len(entries) + len(own)
        entries += own
    return begins, ends, np.array(entries, np.int64)


def _exact_length(scores: np.ndarray) -> int:
    """Up to how many tokens any sum of scores is exact: as multiples of one power of two below 2**53."""
    ratios = [float(score).as_integer_ratio() for score in scores]
    unit = max(denominator for _, denominator in ratios)
    largest = max(abs(numerator) * (unit // denominator) for numerator, denominator in ratios)
    return min((1 << 53) // max(largest, 1), 1 << 62)


def _best_way(lattice: Lattice, splits: Any, *, long: bool = False) -> Any:
    roots = splits[:-1]
    return best_way(lattice, roots, splits[1:] - 1, tf.zeros_like(roots, tf.float64), long=long)


def _settle(parts: Parts, lattice: Lattice, splits: Any, is_long: Any) -> Any:
    """Searches the parts again, from the sums at which the ways came to them, until these stay as they are.

    Then the sums are those of the library: those of a word's first part are, so those of its second, and so
    on. Where rounding decides too much for that to be soon, the words are searched as they are.
    """
    words = tf.where(is_long)[:, 0]
    num_nodes = tf.size(parts.lattice.splits, tf.int64) - 1

    def turn(number: Any, _: Any, bases: Any, way: Any) -> tuple[Any, Any, Any, Any]:
        way = best_way(*parts, bases, long=True)
        sums = _sums_before(tf.gather(lattice.starts, way), tf.gather(lattice.scores, way), splits, words)
        starts = tf.gather(parts.lattice.starts, way)
        found = tf.gather(tf.scatter_nd(starts[:, None], sums, num_nodes[None]), parts.roots)
        return number + 1, tf.reduce_any(tf.not_equal(found, bases)), found, way

    any_length = tf.TensorShape([None])
    _, more, _, way = tf.while_loop(
        lambda number, more, *_: tf.logical_and(more, number < _TURNS),
        turn,
        (tf.constant(0), True, tf.zeros_like(parts.roots, tf.float64), tf.zeros([0], tf.int64)),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([]), any_length, any_length),
    )
    return tf.cond(more, lambda: _best_way(lattice, splits, long=True), lambda: way)


def _sums_before(starts: Any, scores: Any, splits: Any, words: Any) -> Any:
    """The sum before each token, added up one after the other in each of `words`; 0 in others."""
    begins = tf.gather(tf.searchsorted(starts, splits[:-1], out_type=tf.int64), words)
    ends = tf.gather(tf.searchsorted(starts, splits[1:], out_type=tf.int64), words)
    sums = tf.zeros_like(scores)

    def word(number: Any, sums: Any) -> tuple[Any, Any]:
        places = tf.range(begins[number], ends[number])
        own = tf.cumsum(tf.gather(scores, places), exclusive=True)
        return number + 1, tf.tensor_scatter_nd_update(sums, places[:, None], own)

    return tf.while_loop(lambda number, _: number < tf.size(words), word, (tf.constant(0), sums))[1]


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
