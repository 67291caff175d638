"""The normalizer `Precompiled`: SentencePiece's character map, by grapheme cluster or by character."""

from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.characters import graphemes
from kerasllm.tokenization.characters.charsmap import read_charsmap
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS
from kerasllm.tokenization.characters.steps import MAIN, Rows
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.graph.character_maps import unpack_places
from kerasllm.tokenization.graph.characters import Characters, CodePointTable, Expansion, select
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["Precompiled"]

_SHIFT = 21  # bits of a code point
_LONGEST = 5  # bytes of a cluster that is looked up as a whole
# Entries of the short table: two flags, and what is added to the code point.
_COMPLEX, _CLUSTERS, _DELTA_SHIFT = 1, 2, 2
_CR, _LF, _JOINER = 0x0D, 0x0A, 0x200D


class Precompiled(tf.Module):
    """Replaces characters, and clusters of fewer than six bytes that begin with a key of the map.

    Args:
        step: The normalizer.
    """

    def __init__(self, step: NormalizerStep):
        super().__init__()
        mapping = read_charsmap(step.settings["precompiled_charsmap"])
        rows = Rows()
        places = {key: rows.place(tuple((ord(c), MAIN) for c in value)) for key, value in mapping.items()}
        classes = graphemes.grapheme_classes()
        self._classes = CodePointTable(classes, barrier=graphemes.CONTROL)
        self._short = CodePointTable(_short_table(mapping, classes))
        self._long = CodePointTable(_long_table(places))
        self._codes = tf.constant(rows.arrays()[0])
        several = {_pack(key): place for key, place in places.items() if 2 <= len(key) <= 3}
        keys = sorted(several)
        # One key that no cluster has, so that the tables are never empty.
        self._keys = tf.constant([*keys, np.iinfo(np.int64).max], tf.int64)
        self._places = tf.constant([*(several[key] for key in keys), 0], tf.int32)

    def __call__(self, characters: Characters) -> Characters:
        """The characters after this normalizer."""
        entries = self._short(characters.codes)
        return select(
            tf.reduce_any(tf.bitwise.bitwise_and(entries, _COMPLEX | _CLUSTERS) > 0),
            lambda: self._long_way(characters, entries),
            lambda: characters._replace(
                codes=characters.codes + tf.bitwise.right_shift(entries, _DELTA_SHIFT)
            ),
        )

    def _long_way(self, characters: Characters, entries: Any) -> Characters:
        codes = characters.codes
        places = self._long(codes)
        ones = tf.ones([tf.size(codes)], tf.int64)
        # For each character, its row and how many characters the row stands for: more than one for the
        # first character of a cluster, none for the others.
        places, spans = tf.cond(
            tf.reduce_any(tf.bitwise.bitwise_and(entries, _CLUSTERS) > 0),
            lambda: self._by_cluster(codes, places),
            lambda: (places, ones),
        )
        starts, counts = unpack_places(places, tf.size(self._codes) + tf.range(tf.size(codes)))
        rows = Expansion.of(starts, tf.where(spans > 0, counts, 0))
        found = tf.gather(tf.concat([self._codes, codes], axis=0), rows.indices)
        if characters.starts is None:
            return Characters(found)
        removed = (codes >= 0) & (spans > 0) & tf.equal(counts, 0)
        origins = _origins(rows, spans, removed, _removed_first(codes, removed, spans))
        return characters.gather(origins)._replace(codes=found)

    def _by_cluster(self, codes: Any, places: Any) -> tuple[Any, Any]:
        begins = self._begins(codes)
        firsts = tf.where(begins)[:, 0]
        lengths = tf.concat([firsts[1:], tf.size(codes, tf.int64)[None]], axis=0) - firsts
        candidates = tf.where((lengths > 1) & (lengths <= 3))[:, 0]
        firsts, lengths = tf.gather(firsts, candidates), tf.gather(lengths, candidates)
        last = tf.size(codes, tf.int64) - 1
        members = [tf.cast(tf.gather(codes, tf.minimum(firsts + i, last)), tf.int64) for i in range(3)]
        members[2] = tf.where(lengths > 2, members[2], 0)
        sizes = [
            _num_bytes(members[0]),
            _num_bytes(members[1]),
            tf.where(lengths > 2, _num_bytes(members[2]), 0),
        ]
        pair = tf.bitwise.left_shift(members[0], 2 * _SHIFT) + tf.bitwise.left_shift(members[1], _SHIFT)
        # The shortest key that the cluster begins with.
        place = tf.gather(places, firsts)
        for key in (pair, pair + members[2]):
            place = tf.where(place > 0, place, self._look_up(key))
        chosen = tf.where((place > 0) & (tf.add_n(sizes) <= _LONGEST))[:, 0]
        firsts, lengths, place = (tf.gather(values, chosen) for values in (firsts, lengths, place))
        inside = tf.raw_ops.RaggedRange(
            starts=firsts + 1, limits=firsts + lengths, deltas=tf.constant(1, tf.int64)
        ).rt_dense_values
        spans = tf.ones([tf.size(codes)], tf.int64)
        spans = tf.tensor_scatter_nd_update(spans, inside[:, None], tf.zeros_like(inside))
        spans = tf.tensor_scatter_nd_update(spans, firsts[:, None], lengths)
        return tf.tensor_scatter_nd_update(places, firsts[:, None], place), spans

    def _look_up(self, keys: Any) -> Any:
        found = tf.searchsorted(self._keys, keys)
        return tf.where(tf.equal(tf.gather(self._keys, found), keys), tf.gather(self._places, found), 0)

    def _begins(self, codes: Any) -> Any:
        """Whether a cluster begins at each character, by the rules of Unicode's annex 29.

        Left out are regional indicators: their clusters have more than five bytes in any case.
        """
        classes = self._classes(codes)

        def has(values: Any, bits: int) -> Any:
            return tf.bitwise.bitwise_and(values, bits) > 0

        before = tf.concat([[graphemes.CONTROL], classes[:-1]], axis=0)
        code_before = tf.concat([[-1], codes[:-1]], axis=0)
        g = graphemes
        joined = has(classes, g.JOINS) | has(before, g.PREPEND)
        joined |= has(before, g.HANGUL_L) & has(classes, g.HANGUL_L | g.HANGUL_V | g.HANGUL_LV | g.HANGUL_LVT)
        joined |= has(before, g.HANGUL_LV | g.HANGUL_V) & has(classes, g.HANGUL_V | g.HANGUL_T)
        joined |= has(before, g.HANGUL_LVT | g.HANGUL_T) & has(classes, g.HANGUL_T)
        # A pictograph after a joiner, with nothing but extending characters back to another pictograph.
        is_joiner = tf.equal(code_before, _JOINER)
        base = tf.gather(classes, _last_other(has(classes, g.EXTEND), is_joiner=is_joiner))
        joined |= is_joiner & has(classes, g.PICTOGRAPH) & has(base, g.PICTOGRAPH)
        # A consonant after a linker, with nothing but extending characters back to another consonant.
        linkers = tf.cumsum(tf.cast(has(classes, g.LINKER), tf.int32), exclusive=True)
        place = _last_other(has(classes, g.LINKER | g.CONJUNCT_EXTEND), is_joiner=None)
        linked = linkers > tf.gather(linkers, place)
        joined |= linked & has(classes, g.CONSONANT) & has(tf.gather(classes, place), g.CONSONANT)
        joined &= ~(has(before, g.CONTROL) | has(classes, g.CONTROL))
        joined |= tf.equal(code_before, _CR) & tf.equal(codes, _LF)
        return ~joined


def _origins(rows: Expansion, spans: Any, removed: Any, uncounted: Any) -> Any:
    """int64[elements], the character that the library takes for the origin of each.

    Of a cluster's characters, one element takes one, those that are left over take the last one, but the
    last of these the next one if that is removed. What is removed at the beginning of a split is not
    counted, so that all after it takes an origin too far to the left.
    """
    origins = rows.origins()
    within = tf.range(tf.size(origins, tf.int64)) - tf.gather(rows.splits, origins)
    span = tf.gather(spans, origins)
    place = origins + tf.minimum(within, span - 1)
    last = tf.equal(tf.concat([within[1:], [0]], axis=0), 0)
    following = tf.minimum(origins + span, tf.size(spans, tf.int64) - 1)
    takes_next = (within >= span) & last & tf.gather(removed, following)
    return tf.where(takes_next, following, place) - tf.gather(uncounted, origins)


def _removed_first(codes: Any, removed: Any, spans: Any) -> Any:
    """For each character, how many are removed at the beginning of its split: int64[n]."""
    barrier = codes < 0
    split = tf.cumsum(tf.cast(barrier, tf.int64), exclusive=True)
    left = tf.cumsum(tf.cast(~barrier & ~removed & (spans > 0), tf.int64))
    at_begin = tf.gather(tf.concat([[0], tf.boolean_mask(left, barrier)], axis=0), split)
    first = ~barrier & tf.equal(left, at_begin)
    number = tf.math.segment_sum(tf.cast(first, tf.int64), split)
    return tf.where(barrier, tf.constant(0, tf.int64), tf.gather(number, split))


def _last_other(passed: Any, *, is_joiner: Any) -> Any:
    """For each place, the last one before it that is not passed over; 0 where there is none.

    Where `is_joiner` says that a joiner stands directly before, that one is passed over too.
    """
    others = tf.concat([[0], tf.where(~passed)[:, 0]], axis=0)
    number = tf.cumsum(tf.cast(~passed, tf.int64), exclusive=True)
    if is_joiner is not None:
        # The joiner is the last of the others, unless it counts as extending itself.
        number = tf.where(is_joiner & ~tf.concat([[False], passed[:-1]], axis=0), number - 1, number)
    return tf.gather(others, tf.maximum(number, 0))


def _num_bytes(codes: Any) -> Any:
    return 1 + sum(tf.cast(codes >= limit, tf.int64) for limit in (0x80, 0x800, 0x10000))


def _pack(key: str) -> int:
    first, second, third = (*map(ord, key), 0)[:3]
    return first << 2 * _SHIFT | second << _SHIFT | third


def _short_table(mapping: dict[str, str], classes: TwoStage) -> TwoStage:
    every = classes.values[(classes.pages[:, None] + np.arange(256)).reshape(-1)]
    entries = np.where(every & (graphemes.JOINS | graphemes.PREPEND), _CLUSTERS, 0).astype(np.int32)
    entries[_LF] |= _CLUSTERS
    for key, value in mapping.items():
        if len(key) == 1:
            entries[ord(key)] |= (ord(value) - ord(key)) << _DELTA_SHIFT if len(value) == 1 else _COMPLEX
    return TwoStage.of(entries)


def _long_table(places: dict[str, int]) -> TwoStage:
    entries = np.zeros(NUM_CODE_POINTS, np.int32)
    for key, place in places.items():
        if len(key) == 1:
            entries[ord(key)] = place
    return TwoStage.of(entries)
