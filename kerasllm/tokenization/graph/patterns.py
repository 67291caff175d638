"""Finds all matches of a pattern in texts, as the `tokenizers` library does from left to right."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.graph.pattern_ends import PatternEnds
from kerasllm.tokenization.graph.pattern_plan import Plan
from kerasllm.tokenization.graph.spreading import marked, spread
from kerasllm.tokenization.patterns import Pattern
from kerasllm.tokenization.patterns.nodes import OneOf, Repeat

__all__ = ["PatternMatcher", "Pieces"]


class Pieces(NamedTuple):
    """The pieces that the matches of a pattern cut texts into: matches, and what is between them.

    Attributes:
        begins: bool[n], where a piece begins. Barriers belong to no piece.
        matched: bool[n], which characters are in a match; `None` where all of them are.
    """

    begins: Any
    matched: Any


class PatternMatcher(tf.Module):
    """Finds the matches of a pattern, none touching a barrier.

    The number of operations depends on the pattern alone, and their time on the number of characters; only
    stretches in which each match ends where others would have gone on take a logarithmic number of rounds.

    Args:
        pattern: What `parse_pattern` or `literal_pattern` made.
    """

    def __init__(self, pattern: Pattern):
        super().__init__()
        self._root = pattern.root
        self._plan = Plan(pattern)
        self._pages = tf.constant(self._plan.table.pages)
        self._entries = tf.constant(self._plan.table.entries)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, codes: Any) -> tuple[Any, Any]:
        """Finds the matches.

        Args:
            codes: int32[n], characters and barriers (see `graph.characters`), the last one a barrier.

        Returns:
            Where each match starts and where it ends, int64[matches] both.
        """
        ends = self._ends(codes)
        found = ends(self._root)
        following = tf.where(found.ok, ends.absolute(found), ends.places + 1)
        starts = marked(tf.logical_and(_reached(following, ends.places), found.ok))
        return starts, tf.cast(tf.gather(following, starts), tf.int64)

    @tf.autograph.experimental.do_not_convert
    def pieces(self, codes: Any) -> Pieces:
        """Cuts the texts into pieces; `codes` as above."""
        ends = self._ends(codes)
        inside = codes >= 0
        if self._one_set is not None:
            matched = ends.inside(self._one_set)
            changes = tf.not_equal(matched, tf.roll(matched, 1, 0))
            if isinstance(self._root, OneOf):
                changes = tf.logical_or(changes, matched)
            begins = tf.logical_or(changes, tf.roll(codes, 1, 0) < 0)
            return Pieces(tf.logical_and(begins, inside), matched)
        found = ends(self._root)
        following = tf.where(found.ok, ends.absolute(found), ends.places + 1)
        reached = _reached(following, ends.places)
        if found.must[:-1].all():
            return Pieces(tf.logical_and(reached, inside), None)
        places = marked(reached)
        limits = tf.concat([places[1:], tf.shape(codes, tf.int64)], axis=0)
        matched = spread(tf.cast(tf.gather(found.ok, places), tf.int64), places, limits) > 0
        after_match = tf.logical_and(tf.roll(matched, 1, 0), tf.logical_not(matched))
        begins = tf.logical_or(tf.logical_and(reached, found.ok), after_match)
        begins = tf.logical_or(begins, tf.roll(codes, 1, 0) < 0)
        return Pieces(tf.logical_and(begins, inside), matched)

    @property
    def _one_set(self) -> OneOf | None:
        """The set, where matches are its characters, or the runs of them."""
        match self._root:
            case OneOf():
                return self._root
            case Repeat(OneOf() as part, 1, None):
                return part
        return None

    def _ends(self, codes: Any) -> PatternEnds:
        return PatternEnds(self._plan, self._pages, self._entries, codes)


def _reached(following: Any, places: Any) -> Any:
    """bool[n]: the places that are reached from the first one by going on to the one that follows each.

    Args:
        following: int32[n], for each place a later one; n at the last place.
        places: int32[n], from 0.
    """
    size = tf.size(following)
    before = tf.roll(following, 1, 0)
    # A place that nothing before it goes beyond is reached.
    certain = tf.cond(
        tf.reduce_any(tf.logical_and(following < before, places > 0)),
        lambda: tf.equal(_no_further(following), places),
        lambda: tf.logical_or(before <= places, before == size),
    )
    after = tf.gather(following, marked(certain))
    after = _other_than(certain, tf.minimum(after, size - 1))
    return tf.cond(
        tf.size(after) > 0,
        lambda: _reached_between(certain, tf.where(certain, places, following), after),
        lambda: certain,
    )


def _no_further(following: Any) -> Any:
    """int32[n]: how many places have a following one that is not beyond each place."""
    return tf.cumsum(
        tf.raw_ops.DenseBincount(input=following, size=tf.size(following), weights=tf.zeros([0], tf.int32))
    )


def _reached_between(certain: Any, following: Any, found: Any) -> Any:
    """Marks what is reached between certain places, twice as many in each round."""

    def step(following: Any, found: Any, more: Any) -> tuple[Any, Any, Any]:
        new = _other_than(certain, tf.gather(following, found))
        return tf.gather(following, following), tf.concat([found, new], axis=0), tf.size(new) > 0

    _, found, _ = tf.while_loop(
        lambda following, found, more: more,
        step,
        (following, found, tf.constant(True)),
        shape_invariants=(following.shape, tf.TensorShape([None]), tf.TensorShape([])),
    )
    return tf.tensor_scatter_nd_update(certain, found[:, None], tf.ones_like(found, tf.bool))


def _other_than(certain: Any, places: Any) -> Any:
    return tf.gather(places, marked(tf.logical_not(tf.gather(certain, places))))
