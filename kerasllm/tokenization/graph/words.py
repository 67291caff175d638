"""Text to words: normalizer, added tokens and pre-tokenizer as operations on code points."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.characters import entry
from kerasllm.tokenization.characters.table import CharacterTable
from kerasllm.tokenization.graph.added_tokens import AddedTokenMatcher, Found
from kerasllm.tokenization.graph.characters import FIRST_ADDED, ROW_END, Characters, decode_with_space
from kerasllm.tokenization.spec.added_tokens import AddedToken

__all__ = ["WordSplitter", "Words", "collect_words"]


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


def collect_words(characters: Characters, ids: Any, *, placeholder: int) -> Words:
    """The words of texts that have been cut.

    Args:
        characters: The texts.
        ids: int32[added tokens of the tokenizer], their ids.
        placeholder: The character that stands for each added token.
    """
    codes = characters.codes
    added = codes <= FIRST_ADDED
    kept = tf.logical_or(added, codes >= 0)
    barrier_before = tf.concat([[True], codes[:-1] < 0], axis=0)
    begins = tf.logical_and(kept, tf.logical_or(added, barrier_before))
    begin_places = tf.where(begins)[:, 0]
    row_ends, added_places = tf.where(tf.equal(codes, ROW_END))[:, 0], tf.where(added)[:, 0]
    is_barrier = tf.cast(tf.logical_not(kept), tf.int32)

    def without_barriers(values: Any) -> Any:
        return None if values is None else tf.dynamic_partition(values, is_barrier, 2)[0]

    result = Characters(*map(without_barriers, characters))
    splits = tf.where(without_barriers(begins))[:, 0]
    return Words(
        codes=tf.where(result.codes < 0, placeholder, result.codes),
        splits=tf.concat([splits, tf.shape(result.codes, tf.int64)], axis=0),
        row_splits=tf.concat([[0], _number_before(begin_places, row_ends)], axis=0),
        added=_number_before(begin_places, added_places),
        added_ids=tf.gather(ids, FIRST_ADDED - tf.gather(codes, added_places)),
        starts=result.starts,
        ends=result.ends,
    )


def _number_before(sorted_places: Any, places: Any) -> Any:
    """How many of `sorted_places` stand before each of `places`."""
    return tf.searchsorted(sorted_places, places, out_type=tf.int64)


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
        tokens: The added tokens, none of which may be `normalized`.
        placeholder: The character that stands for each added token.
    """

    def __init__(self, table: CharacterTable, tokens: tuple[AddedToken, ...], *, placeholder: int):
        super().__init__()
        matcher = AddedTokenMatcher(tokens, normalized=False)
        entries, pages = matcher.mark(table)
        self._ids = tf.constant([token.id for token in tokens], tf.int32)
        self._placeholder = placeholder
        self._pages = tf.constant(pages)
        self._entries = tf.constant(entries)
        self._expansion_codes = tf.constant(table.expansion_characters)
        self._expansion_entries = tf.constant(table.expansion_entries)
        self._matcher = matcher

    def __call__(self, texts: Any, *, keep_special: bool = False) -> Words:
        """Cuts `texts`, string[batch], into words. Invalid UTF-8 is read as U+FFFD.

        Args:
            texts: The texts.
            keep_special: Whether special tokens are left as text. Defaults to `False`.
        """
        # White space at the end of each text keeps its last word apart from the next text's first.
        row_splits, codes = decode_with_space(texts)
        page = tf.gather(self._pages, tf.bitwise.right_shift(codes, 8))
        entries = tf.gather(self._entries, page + tf.bitwise.bitwise_and(codes, 255))
        special = tf.bitwise.bitwise_and(entries, entry.COMPLEX | entry.STARTS_TOKEN)
        characters = tf.cond(
            tf.reduce_any(special > 0),
            lambda: self._long_path(codes, entries, row_splits, keep_special),
            lambda: _short_path(codes, entries, row_splits),
        )
        return _cut(_Characters(*characters))

    def _long_path(self, codes: Any, entries: Any, row_splits: Any, keep_special: bool) -> _Characters:
        found = self._find(codes, entries, row_splits, keep_special)
        codes, entries = self._replace_added(codes, entries, found)
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
        added, added_ids = tf.gather(splits, found.starts), tf.gather(self._ids, found.numbers)
        return _Characters(codes, entries, tf.gather(splits, row_splits), added, added_ids)

    def _find(self, codes: Any, entries: Any, row_splits: Any, keep_special: bool) -> Found:
        candidates = tf.where(tf.bitwise.bitwise_and(entries, entry.STARTS_TOKEN) > 0)[:, 0]

        def search() -> Found:
            ends = row_splits[1:, None] - 1
            barred = tf.tensor_scatter_nd_update(codes, ends, tf.fill([tf.size(ends)], ROW_END))
            return self._matcher.find(barred, candidates, keep_special=keep_special)

        return Found(*tf.cond(tf.size(candidates) > 0, lambda: [*search()], lambda: [*Found.nothing()]))

    def _replace_added(self, codes: Any, entries: Any, found: Found) -> tuple[Any, Any]:
        """Puts a word of one character in the place of each added token."""
        inside = tf.raw_ops.RaggedRange(
            starts=found.starts + 1, limits=found.ends, deltas=tf.constant(1, tf.int64)
        ).rt_dense_values
        gone = tf.fill([tf.size(inside)], entry.pack(0, rank=entry.TRANSPARENT))
        count = [tf.size(found.starts)]
        alone, places = tf.fill(count, entry.pack(entry.ISOLATED)), found.starts[:, None]
        entries = tf.tensor_scatter_nd_update(entries, inside[:, None], gone)
        entries = tf.tensor_scatter_nd_update(entries, places, alone)
        return tf.tensor_scatter_nd_update(codes, places, tf.fill(count, self._placeholder)), entries


def _rank(entries: Any) -> Any:
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(entries, entry.RANK_SHIFT), entry.TRANSPARENT)


def _short_path(codes: Any, entries: Any, row_splits: Any) -> _Characters:
    codes += tf.bitwise.right_shift(entries, entry.VALUE_SHIFT)
    return _Characters(codes, entries, row_splits, tf.zeros([0], tf.int64), tf.zeros([0], tf.int32))


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
