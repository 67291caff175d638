"""Normalizers that treat each character by itself, decompose, or compose, as one look-up a character."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.characters.composition import PAIR_SHIFT, Composition
from kerasllm.tokenization.characters.steps import (
    COMPLEX,
    COUNT_BITS,
    DELTA_SHIFT,
    GONE,
    MAIN,
    RANK,
    StepTable,
)
from kerasllm.tokenization.graph.characters import Characters, CodePointTable, Expansion, select
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["CharacterMap", "Composer", "unpack_places"]


class _Elements(NamedTuple):
    """What the characters became, before the alignment is settled.

    Attributes:
        codes: int32[m].
        flags: int32[m], see `characters.steps`.
        mains: int64[m], how many elements that stand for a character each is made of.
    """

    codes: Any
    flags: Any
    mains: Any


class CharacterMap(tf.Module):
    """Looks up what becomes of each character; sorts marks where the table says so.

    Nearly all texts take the short way, on which one number is added to each code point.

    Args:
        table: What is done to each character.
    """

    def __init__(self, table: StepTable):
        super().__init__()
        self._short = CodePointTable(table.short)
        self._long = CodePointTable(table.long)
        self._codes = tf.constant(table.codes)
        self._flags = tf.constant(table.flags)
        self._sorts = table.sorts
        self._removes = bool((table.flags & GONE).any())

    def __call__(self, characters: Characters) -> Characters:
        """The characters after these normalizers."""
        entries = self._short(characters.codes)
        return select(
            tf.reduce_any(tf.bitwise.bitwise_and(entries, COMPLEX) > 0),
            lambda: self._long_way(characters),
            lambda: characters._replace(
                codes=characters.codes + tf.bitwise.right_shift(entries, DELTA_SHIFT)
            ),
        )

    def _long_way(self, characters: Characters) -> Characters:
        codes = characters.codes
        count = tf.size(codes)
        starts, counts = unpack_places(self._long(codes), tf.size(self._codes) + tf.range(count))
        rows = Expansion.of(starts, counts)
        flags = tf.gather(tf.concat([self._flags, tf.fill([count], MAIN)], axis=0), rows.indices)
        elements = _Elements(
            codes=tf.gather(tf.concat([self._codes, codes], axis=0), rows.indices),
            flags=flags,
            mains=tf.cast(tf.bitwise.bitwise_and(flags, MAIN) > 0, tf.int64),
        )
        taken = tf.where(elements.mains > 0)[:, 0]  # in the order in which the library takes them
        if self._sorts:
            elements = _sort_marks(elements)
            elements = self._joined(elements)
        result = Characters(elements.codes)
        if characters.starts is not None:
            origins = rows.origins()
            if self._sorts:
                before = tf.cumsum(elements.mains, exclusive=True)
                place = tf.where(elements.mains > 0, before, before - 1)
                origins = tf.gather(tf.gather(origins, taken), place)
            result = characters.gather(origins)._replace(codes=elements.codes)
        if self._removes:
            kept = tf.where(tf.bitwise.bitwise_and(elements.flags, GONE) == 0)[:, 0]
            result = result.gather(kept)
        return result

    def _joined(self, elements: _Elements) -> _Elements:
        return elements


class Composer(CharacterMap):
    """`NFC` or `NFKC`: decomposes, sorts, and joins characters again.

    Args:
        step: The normalizer.
    """

    def __init__(self, step: NormalizerStep):
        composition = Composition.of(step)
        super().__init__(StepTable.of((step,), complex_codes=composition.complex_codes))
        self._pairs = tf.constant(composition.pairs)
        self._composed = tf.constant(composition.composed)

    def _joined(self, elements: _Elements) -> _Elements:
        """Joins in as many turns as the longest chain of compositions has, which is four."""
        ranks = tf.bitwise.bitwise_and(elements.flags, RANK)
        # The place of the last composition with each element; what was passed over is not tried again.
        last = tf.fill([tf.size(ranks)], tf.constant(-1, tf.int64))

        def turn(again: Any, codes: Any, mains: Any, alive: Any, last: Any) -> tuple[Any, ...]:
            found, bases, composed = self._first_pairs(codes, ranks, alive, last)
            codes = tf.tensor_scatter_nd_update(codes, bases[:, None], composed)
            mains = tf.tensor_scatter_nd_add(mains, bases[:, None], tf.gather(mains, found))
            alive = tf.tensor_scatter_nd_update(alive, found[:, None], tf.zeros_like(found, tf.bool))
            last = tf.tensor_scatter_nd_update(last, bases[:, None], found)
            return tf.size(found) > 0, codes, mains, alive, last

        state = (tf.constant(True), elements.codes, elements.mains, tf.ones_like(ranks, tf.bool), last)
        _, codes, mains, alive, _ = tf.while_loop(lambda again, *_: again, turn, state)
        kept = tf.where(alive)[:, 0]
        return _Elements(tf.gather(codes, kept), tf.gather(elements.flags, kept), tf.gather(mains, kept))

    def _first_pairs(self, codes: Any, ranks: Any, alive: Any, last: Any) -> tuple[Any, Any, Any]:
        """The first element that joins each starter, that starter, and what they become."""
        places = tf.where(alive)[:, 0]
        code, rank = tf.gather(codes, places), tf.gather(ranks, places)
        # The starter before each element, itself not counted.
        starters = tf.concat([[-1], tf.where(tf.equal(rank, 0))[:, 0]], axis=0)
        base = tf.gather(starters, tf.cumsum(tf.cast(tf.equal(rank, 0), tf.int64), exclusive=True))
        before = tf.range(tf.size(places, tf.int64)) - 1
        # Blocked by a mark of its own class, or of one behind it, that stands between.
        free = (before == base) | ((rank > 0) & (tf.gather(rank, tf.maximum(before, 0)) < rank))
        base_place = tf.gather(places, tf.maximum(base, 0))
        free &= (base >= 0) & (places > tf.gather(last, base_place))
        candidates = tf.where(free)[:, 0]
        firsts = tf.gather(code, tf.gather(base, candidates))
        keys = tf.bitwise.left_shift(tf.cast(firsts, tf.int64), PAIR_SHIFT)
        keys = tf.bitwise.bitwise_or(keys, tf.cast(tf.gather(code, candidates), tf.int64))
        found = tf.minimum(tf.searchsorted(self._pairs, keys), tf.size(self._pairs) - 1)
        joins = tf.where(tf.equal(tf.gather(self._pairs, found), keys))[:, 0]
        candidates, found = tf.gather(candidates, joins), tf.gather(found, joins)
        bases = tf.gather(base_place, candidates)
        first = tf.concat([tf.fill([tf.minimum(tf.size(bases), 1)], True), bases[1:] > bases[:-1]], axis=0)
        chosen = tf.where(first)[:, 0]
        return (
            tf.gather(tf.gather(places, candidates), chosen),
            tf.gather(bases, chosen),
            tf.gather(tf.gather(self._composed, found), chosen),
        )


def unpack_places(places: Any, own: Any) -> tuple[Any, Any]:
    """Start and count of each row, see `characters.steps.Rows`; `own` and 1 where it stays itself."""
    place = tf.bitwise.right_shift(places - 1, COUNT_BITS)
    count = tf.bitwise.bitwise_and(places - 1, (1 << COUNT_BITS) - 1)
    return tf.where(places > 0, place, own), tf.where(places > 0, count, 1)


def _sort_marks(elements: _Elements) -> _Elements:
    """Sorts each run of combining marks by rank, keeping the order of equal ranks."""
    ranks = tf.bitwise.bitwise_and(elements.flags, RANK)
    unordered = tf.logical_and(ranks[1:] > 0, ranks[1:] < ranks[:-1])

    def by_rank() -> list[Any]:
        marks = tf.where(ranks > 0)[:, 0]
        runs = tf.gather(tf.cumsum(tf.cast(tf.equal(ranks, 0), tf.int64)), marks)
        keys = runs * (RANK + 1) + tf.cast(tf.gather(ranks, marks), tf.int64)
        order = tf.gather(marks, tf.argsort(keys, stable=True))
        return [
            tf.tensor_scatter_nd_update(values, marks[:, None], tf.gather(values, order))
            for values in elements
        ]

    return _Elements(*tf.cond(tf.reduce_any(unordered), by_rank, lambda: list(elements)))
