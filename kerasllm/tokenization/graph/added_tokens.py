"""Finds added tokens in texts: leftmost first, the longest of those, none overlapping another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.characters import entry
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, PAGE
from kerasllm.tokenization.characters.table import CharacterTable
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.characters.white_space import SPACE, WORD, neighbour_classes
from kerasllm.tokenization.graph.characters import FIRST_ADDED, Characters, CodePointTable
from kerasllm.tokenization.spec.added_tokens import AddedToken

__all__ = ["AddedTokenMatcher", "Found"]

_STEP = 1 << 21  # more than the number of code points: (state, code point) as one number
_FEW = 3  # first characters that are compared one by one


class Found(NamedTuple):
    """Added tokens in texts.

    Attributes:
        starts: int64[found], where each starts, with the white space that it swallows.
        ends: int64[found], where each ends.
        numbers: int32[found], which of the tokenizer's added tokens it is.
        before: int32[found], how many characters of white space it swallows at its start.
        behind: int32[found], how many at its end.
    """

    starts: Any
    ends: Any
    numbers: Any
    before: Any
    behind: Any

    @staticmethod
    def nothing() -> "Found":
        """No tokens."""
        places, numbers = tf.zeros([0], tf.int64), tf.zeros([0], tf.int32)
        return Found(places, places, numbers, numbers, numbers)

    def gather(self, indices: Any) -> "Found":
        """Those at `indices`, int64[m]."""
        return Found(*(tf.gather(values, indices) for values in self))


class AddedTokenMatcher(tf.Module):
    """Walks a trie of the added tokens from all places at once.

    Args:
        tokens: All added tokens of the tokenizer.
        normalized: Whether those are looked for that go by the normalized text, or the others.
    """

    def __init__(self, tokens: Sequence[AddedToken], *, normalized: bool):
        super().__init__()
        chosen = [number for number, token in enumerate(tokens) if token.normalized == normalized]
        edges: dict[int, int] = {}
        numbers: dict[int, int] = {}
        for number in chosen:
            state = 0
            for character in tokens[number].pattern:
                state = edges.setdefault(state * _STEP + ord(character), len(edges) + 1)
            numbers[state] = number
        patterns = [tokens[number].pattern for number in chosen]
        self.empty = not chosen
        self.first = sorted({ord(pattern[0]) for pattern in patterns})
        self._longest = max(map(len, patterns), default=0)
        self._dead = len(edges) + 1  # a state that no edge leads from
        keys = sorted(edges)
        # One key that matches nothing, so that the tables are never empty.
        self._keys = tf.constant([*keys, np.iinfo(np.int64).max], tf.int64)
        self._targets = tf.constant([*(edges[key] for key in keys), self._dead], tf.int64)
        self._numbers = tf.constant([numbers.get(state, -1) for state in range(self._dead + 1)], tf.int32)
        self._flags(tokens, [tokens[number] for number in chosen])

    def _flags(self, tokens: Sequence[AddedToken], chosen: list[AddedToken]) -> None:
        self._specials = _some([token.special for token in tokens], any(t.special for t in chosen))
        self._words = _some([token.single_word for token in tokens], any(t.single_word for t in chosen))
        self._left = _some([token.lstrip for token in tokens], any(t.lstrip for t in chosen))
        self._right = _some([token.rstrip for token in tokens], any(t.rstrip for t in chosen))
        self._neighbours: Any = None
        if any(flags is not None for flags in (self._words, self._left, self._right)):
            self._neighbours = CodePointTable(neighbour_classes())
        self._starting: CodePointTable | None = None
        if len(self.first) > _FEW:
            values = np.zeros(NUM_CODE_POINTS, np.int32)
            values[self.first] = 1
            self._starting = CodePointTable(TwoStage.of(values))

    def mark(self, table: CharacterTable) -> tuple[np.ndarray, np.ndarray]:
        """The entries and pages of a table, with the characters that added tokens start with marked."""
        entries, pages = table.entries, table.pages.copy()
        for page in sorted({code // PAGE for code in self.first}):
            start = pages[page]
            pages[page] = len(entries)
            entries = np.concatenate([entries, table.entries[start : start + PAGE]])
        for code in self.first:
            entries[pages[code // PAGE] + code % PAGE] |= entry.STARTS_TOKEN
        return entries, pages

    def __call__(self, characters: Characters, *, keep_special: bool = False) -> tuple[Characters, Found]:
        """Puts a barrier in the place of each added token.

        Args:
            characters: The texts.
            keep_special: Whether special tokens are left as text. Defaults to `False`.

        Returns:
            The texts, and the tokens that were found, in their order.
        """
        if self.empty:
            return characters, Found.nothing()
        codes = characters.codes
        if self._starting is not None:
            starting = self._starting(codes) > 0
        else:
            starting = tf.equal(codes, self.first[0])
            for code in self.first[1:]:
                starting = tf.logical_or(starting, tf.equal(codes, code))
        candidates = tf.where(starting)[:, 0]
        present = [values for values in characters if values is not None]

        def search() -> list[Any]:
            found = self.find(codes, candidates, keep_special=keep_special)
            return [*(v for v in _with_barriers(characters, found) if v is not None), *found]

        def nothing() -> list[Any]:
            return [*present, *Found.nothing()]

        result = tf.cond(tf.size(candidates) > 0, search, nothing)
        return Characters(*result[: len(present)]), Found(*result[len(present) :])

    def find(self, codes: Any, candidates: Any, *, keep_special: bool) -> Found:
        """Finds the added tokens that start at `candidates`, int64[m], in `codes`, int32[n].

        Each text ends in a barrier.
        """
        lengths, numbers = self._longest_matches(tf.cast(codes, tf.int64), candidates)
        matched = tf.where(lengths > 0)[:, 0]
        starts, lengths, numbers = (tf.gather(values, matched) for values in (candidates, lengths, numbers))
        none = tf.zeros_like(numbers)
        found = Found(starts, starts + lengths, numbers, none, none)
        found = found.gather(tf.where(_leftmost(found.starts, found.ends))[:, 0])
        # A match that does not count has all the same been passed over.
        if keep_special and self._specials is not None:
            found = found.gather(tf.where(~tf.gather(self._specials, found.numbers))[:, 0])
        if self._words is not None:
            found = found.gather(tf.where(self._stands_alone(codes, found))[:, 0])
        if self._left is not None or self._right is not None:
            found = self._swallow_space(codes, found)
        return found

    def _longest_matches(self, codes: Any, candidates: Any) -> tuple[Any, Any]:
        last = tf.size(codes, tf.int64) - 1
        dead = tf.constant(self._dead, tf.int64)

        def alive(depth: Any, states: Any, lengths: Any, numbers: Any) -> Any:
            return tf.logical_and(depth < self._longest, tf.reduce_any(states < dead))

        def step(depth: Any, states: Any, lengths: Any, numbers: Any) -> tuple[Any, Any, Any, Any]:
            following = tf.gather(codes, tf.minimum(candidates + depth, last))
            keys = states * _STEP + following
            places = tf.searchsorted(self._keys, keys)
            known = tf.equal(tf.gather(self._keys, places), keys) & (following >= 0)
            states = tf.where(known, tf.gather(self._targets, places), dead)
            ends = tf.gather(self._numbers, states)
            lengths = tf.where(ends >= 0, depth + 1, lengths)
            return depth + 1, states, lengths, tf.where(ends >= 0, ends, numbers)

        none = tf.zeros_like(candidates)
        start = (tf.constant(0, tf.int64), none, none, tf.zeros_like(candidates, tf.int32))
        _, _, lengths, numbers = tf.while_loop(alive, step, start)
        return lengths, numbers

    def _stands_alone(self, codes: Any, found: Found) -> Any:
        before = tf.where(found.starts > 0, tf.gather(codes, tf.maximum(found.starts - 1, 0)), -1)
        touched = self._classes(before) | self._classes(tf.gather(codes, found.ends))
        return ~(tf.gather(self._words, found.numbers) & (touched & WORD > 0))

    def _swallow_space(self, codes: Any, found: Found) -> Found:
        others = tf.where(tf.equal(self._classes(codes) & SPACE, 0))[:, 0]
        starts, ends = found.starts, found.ends
        if self._right is not None:
            following = tf.gather(others, tf.searchsorted(others, ends, out_type=tf.int64))
            ends = tf.where(tf.gather(self._right, found.numbers), following, ends)
        if self._left is not None:
            place = tf.searchsorted(others, starts, out_type=tf.int64)
            last = tf.gather(tf.concat([[-1], others], axis=0), place) + 1
            # Not what the token before has taken.
            last = tf.maximum(last, tf.concat([[0], ends[:-1]], axis=0)[: tf.size(last)])
            starts = tf.where(tf.gather(self._left, found.numbers), last, starts)
        before, behind = found.starts - starts, ends - found.ends
        return Found(starts, ends, found.numbers, tf.cast(before, tf.int32), tf.cast(behind, tf.int32))

    def _classes(self, codes: Any) -> Any:
        return self._neighbours(codes)


def _some(flags: list[bool], needed: bool) -> Any:
    return tf.constant(flags) if needed else None


def _with_barriers(characters: Characters, found: Found) -> Characters:
    places = found.starts[:, None]
    inside = tf.raw_ops.RaggedRange(
        starts=found.starts + 1, limits=found.ends, deltas=tf.constant(1, tf.int64)
    ).rt_dense_values
    codes = tf.tensor_scatter_nd_update(characters.codes, places, FIRST_ADDED - found.numbers)
    ends = characters.ends
    if ends is not None:
        ends = tf.tensor_scatter_nd_update(ends, places, tf.gather(ends, found.ends - 1))
    gone = tf.scatter_nd(inside[:, None], tf.ones_like(inside, tf.bool), tf.shape(codes, tf.int64))
    return Characters(codes, characters.starts, ends).gather(tf.where(~gone)[:, 0])


def _leftmost(starts: Any, ends: Any) -> Any:
    """Which of the matches, sorted by start, are found by searching on from the end of the last one.

    The one after each is known at once; which are reached from the first is found by doubling the stride.
    """
    count = tf.size(starts)
    following = tf.concat([tf.searchsorted(starts, ends), count[None]], axis=0)
    reached = tf.one_hot(0, count + 1, dtype=tf.int32)

    def step(stride: Any, following: Any, reached: Any) -> tuple[Any, Any, Any]:
        further = tf.math.unsorted_segment_max(reached, following, count + 1)
        return stride * 2, tf.gather(following, following), tf.maximum(reached, further)

    _, _, reached = tf.while_loop(
        lambda stride, *_: stride <= count, step, (tf.constant(1), following, reached)
    )
    return reached[:-1] > 0
