"""Text to words: normalizer, added tokens and pre-tokenizer as operations on code points."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.characters import CharacterTable, entry
from kerasllm.tokenization.graph.added_tokens import AddedTokenMatcher

__all__ = ["WordSplitter", "Words"]

_REPLACEMENT = 0xFFFD


class Words(NamedTuple):
    """The words of a batch of texts, one after the other.

    Attributes:
        codes: int32[characters], the characters of all words.
        splits: int64[words + 1], where each word starts among them.
        row_splits: int64[texts + 1], where each text starts among the words.
        added: int64[added tokens], which words stand for an added token; each has one character.
        added_ids: int32[added tokens], the ids of those tokens.
        starts: int32[characters], where each begins in its text, in characters; `None` unless asked for.
        ends: int32[characters], where each ends there.
    """

    codes: Any
    splits: Any
    row_splits: Any
    added: Any
    added_ids: Any
    starts: Any = None
    ends: Any = None


class _Characters(NamedTuple):
    """Characters after normalization, and the places in them that must be found again."""

    codes: Any
    entries: Any
    row_splits: Any
    added: Any
    added_ids: Any


class WordSplitter(tf.Module):
    """Normalizes texts and cuts them into words.

    Nearly all texts take a short path: one look into the table for each character. Only a batch with a
    character that becomes several, that takes part in canonical ordering, or that could start an added
    token, takes the long one.

    Args:
        table: What is done to each character.
        matcher: Finds the added tokens.
    """

    def __init__(self, table: CharacterTable, matcher: AddedTokenMatcher):
        super().__init__()
        entries, pages = matcher.mark(table)
        self._pages = tf.constant(pages)
        self._entries = tf.constant(entries)
        self._expansion_codes = tf.constant(table.expansion_characters)
        self._expansion_entries = tf.constant(table.expansion_entries)
        self._matcher = matcher

    def __call__(self, texts: Any) -> Words:
        """Cuts `texts`, string[batch], into words. Invalid UTF-8 is read as U+FFFD."""
        # White space at the end of each text keeps its last word apart from the next text's first.
        row_splits, codes = tf.raw_ops.UnicodeDecode(
            input=tf.strings.join([texts, " "]),
            input_encoding="UTF-8",
            errors="replace",
            replacement_char=_REPLACEMENT,
            Tsplits=tf.int64,
        )
        page = tf.gather(self._pages, tf.bitwise.right_shift(codes, 8))
        entries = tf.gather(self._entries, page + tf.bitwise.bitwise_and(codes, 255))
        special = tf.bitwise.bitwise_and(entries, entry.COMPLEX | entry.STARTS_TOKEN)
        characters = tf.cond(
            tf.reduce_any(special > 0),
            lambda: self._long_path(codes, entries, row_splits),
            lambda: _short_path(codes, entries, row_splits),
        )
        return _cut(_Characters(*characters))

    def _long_path(self, codes: Any, entries: Any, row_splits: Any) -> _Characters:
        starts, lengths, added_ids = self._matcher(codes, entries, row_splits)
        codes, entries = _replace_added(codes, entries, starts, lengths)
        # Simple characters stand for themselves, complex ones for a stretch of the expansion.
        is_complex = tf.bitwise.bitwise_and(entries, entry.COMPLEX) > 0
        value = tf.bitwise.right_shift(entries, entry.VALUE_SHIFT)
        own = tf.size(self._expansion_codes) + tf.range(tf.size(codes))
        start = tf.where(is_complex, value, own)
        splits, indices = tf.raw_ops.RaggedRange(
            starts=start,
            limits=start + tf.where(is_complex, _rank(entries), 1),
            deltas=1,
            Tsplits=tf.int64,
        )
        codes = tf.gather(tf.concat([self._expansion_codes, codes + value], axis=0), indices)
        entries = tf.gather(tf.concat([self._expansion_entries, entries], axis=0), indices)
        codes, entries = _sort_marks(codes, entries)
        return _Characters(
            codes, entries, tf.gather(splits, row_splits), tf.gather(splits, starts), added_ids
        )


def _rank(entries: Any) -> Any:
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(entries, entry.RANK_SHIFT), entry.TRANSPARENT)


def _short_path(codes: Any, entries: Any, row_splits: Any) -> _Characters:
    codes += tf.bitwise.right_shift(entries, entry.VALUE_SHIFT)
    return _Characters(codes, entries, row_splits, tf.zeros([0], tf.int64), tf.zeros([0], tf.int32))


def _replace_added(codes: Any, entries: Any, starts: Any, lengths: Any) -> tuple[Any, Any]:
    """Puts a word of one character in the place of each added token."""
    inside = tf.raw_ops.RaggedRange(
        starts=starts + 1, limits=starts + lengths, deltas=tf.constant(1, tf.int64)
    )
    gone = tf.fill([tf.size(inside.rt_dense_values)], entry.pack(0, rank=entry.TRANSPARENT))
    alone = tf.fill([tf.size(starts)], entry.pack(entry.ISOLATED))
    entries = tf.tensor_scatter_nd_update(entries, inside.rt_dense_values[:, None], gone)
    entries = tf.tensor_scatter_nd_update(entries, starts[:, None], alone)
    # Whichever character it is, a word of one character is one token.
    codes = tf.tensor_scatter_nd_update(codes, starts[:, None], tf.fill([tf.size(starts)], ord("x")))
    return codes, entries


def _sort_marks(codes: Any, entries: Any) -> tuple[Any, Any]:
    """Sorts each run of combining marks by rank, keeping the order of equal ranks."""
    ranks = _rank(entries)
    unordered = tf.logical_and(ranks[1:] > 0, ranks[1:] < ranks[:-1])

    def by_rank() -> tuple[Any, Any]:
        runs = tf.cumsum(tf.cast(tf.equal(ranks, 0), tf.int64))
        keys = runs * (entry.TRANSPARENT + 1) + tf.cast(ranks, tf.int64)
        order = tf.argsort(keys, stable=True)
        return tf.gather(codes, order), tf.gather(entries, order)

    return tf.cond(tf.reduce_any(unordered), by_rank, lambda: (codes, entries))


def _cut(characters: _Characters) -> Words:
    breaks = tf.bitwise.bitwise_and(characters.entries, entry.BREAKS)
    # A word by itself counts two boundaries, one of which comes after it: so each word has its own number.
    numbers = tf.cumsum(breaks) - tf.bitwise.right_shift(breaks, 1)
    kept = tf.where(tf.bitwise.bitwise_and(characters.entries, entry.KEPT) > 0)[:, 0]
    numbers = tf.gather(numbers, kept)
    first = tf.concat([tf.fill([tf.minimum(tf.size(numbers), 1)], True), numbers[1:] > numbers[:-1]], axis=0)
    starts = tf.where(first)[:, 0]
    places = tf.gather(kept, starts)
    return Words(
        codes=tf.gather(characters.codes, kept),
        splits=tf.concat([starts, tf.size(kept, tf.int64)[None]], axis=0),
        row_splits=tf.searchsorted(places, characters.row_splits, out_type=tf.int64),
        added=tf.searchsorted(places, characters.added, out_type=tf.int64),
        added_ids=characters.added_ids,
    )
