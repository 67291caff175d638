"""Normalizers as operations on the flat array of characters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS
from kerasllm.tokenization.characters.steps import StepTable
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.characters.white_space import white_space
from kerasllm.tokenization.graph.character_maps import CharacterMap, Composer
from kerasllm.tokenization.graph.characters import Characters, CodePointTable, Expansion, select
from kerasllm.tokenization.graph.patterns import PatternMatcher
from kerasllm.tokenization.graph.precompiled import Precompiled
from kerasllm.tokenization.patterns import literal_pattern, parse_pattern
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["build_normalizer"]

Stage = Callable[[Characters], Characters]


def build_normalizer(steps: tuple[NormalizerStep, ...]) -> list[Stage]:
    """The stages that do what the steps say, in their order; each is a `tf.Module`.

    Consecutive steps that treat each character by itself share one look-up a character.
    """
    stages: list[Stage] = []
    together: list[NormalizerStep] = []

    def finish() -> None:
        if together:
            stages.append(CharacterMap(StepTable.of(tuple(together))))
            together.clear()

    for step in steps:
        if step.kind in ("each", "decompose"):
            if step.kind == "decompose" and any(other.kind == "decompose" for other in together):
                finish()  # one table sorts once
            together.append(step)
            continue
        finish()
        stages.append(_OTHERS[step.kind](step))
    finish()
    return stages


class Strip(tf.Module):
    """Removes white space at the ends of each split.

    Args:
        step: The normalizer.
    """

    def __init__(self, step: NormalizerStep):
        super().__init__()
        self._left, self._right = step.settings["strip_left"], step.settings["strip_right"]
        values = np.zeros(NUM_CODE_POINTS, np.int32)
        values[white_space()] = 1
        self._spaces = CodePointTable(TwoStage.of(values))

    def __call__(self, characters: Characters) -> Characters:
        """The characters after this normalizer."""
        codes = characters.codes
        barriers = tf.where(codes < 0)[:, 0]
        beside = []
        if self._left:
            after = tf.concat([[0], barriers + 1], axis=0)[:-1]
            beside.append(tf.gather(codes, after))
        if self._right:
            beside.append(tf.gather(codes, tf.maximum(barriers - 1, 0)))
        found = tf.reduce_any(self._spaces(tf.concat(beside, axis=0)) > 0)
        return select(found, lambda: self._strip(characters, barriers), lambda: characters)

    def _strip(self, characters: Characters, barriers: Any) -> Characters:
        barrier = characters.codes < 0
        kept = tf.cast(~barrier & tf.equal(self._spaces(characters.codes), 0), tf.int64)
        # How many characters that stay are before each place, and where its split begins and ends.
        number = tf.cumsum(kept)
        split = tf.cumsum(tf.cast(barrier, tf.int64), exclusive=True)
        at_barriers = tf.gather(number, barriers)
        inside = tf.ones_like(barrier)
        if self._left:
            inside &= number > tf.gather(tf.concat([[0], at_barriers], axis=0), split)
        if self._right:
            inside &= number - kept < tf.gather(at_barriers, split)
        return characters.gather(tf.where(inside | barrier)[:, 0])


class Prepend(tf.Module):
    """Puts a text before each split that is not empty.

    Args:
        step: The normalizer.
    """

    def __init__(self, step: NormalizerStep):
        super().__init__()
        content = [ord(character) for character in step.settings["prepend"]]
        self._content = tf.constant(content, tf.int32)

    def __call__(self, characters: Characters) -> Characters:
        """The characters after this normalizer."""
        codes = characters.codes
        length = tf.size(self._content, tf.int64)
        first = (codes >= 0) & (tf.concat([[-1], codes[:-1]], axis=0) < 0)
        moved = tf.cumsum(tf.cast(first, tf.int64)) * length
        own = tf.range(tf.size(codes, tf.int64)) + moved
        firsts = tf.where(first)[:, 0]
        added = tf.reshape(tf.gather(own, firsts)[:, None] - length + tf.range(length)[None], [-1])
        total = tf.size(codes, tf.int64) + tf.size(added, tf.int64)

        def place(values: Any, new: Any) -> Any:
            places = tf.concat([own, added], axis=0)[:, None]
            return tf.scatter_nd(places, tf.concat([values, new], axis=0), total[None])

        def repeated(values: Any) -> Any:
            return place(
                values, tf.reshape(tf.tile(tf.gather(values, firsts)[:, None], [1, self._length]), [-1])
            )

        result = Characters(place(codes, tf.tile(self._content, tf.size(firsts)[None])))
        if characters.starts is None:
            return result
        return result._replace(starts=repeated(characters.starts), ends=repeated(characters.ends))

    @property
    def _length(self) -> int:
        return int(self._content.shape[0])


class Replace(tf.Module):
    """Puts a text in the place of each match of a pattern.

    Args:
        step: The normalizer.
    """

    def __init__(self, step: NormalizerStep):
        super().__init__()
        [(form, text)] = step.settings["pattern"].items()
        self._matcher = PatternMatcher(parse_pattern(text) if form == "Regex" else literal_pattern(text))
        content = [ord(character) for character in step.settings["content"]]
        self._content = tf.constant(content, tf.int32)
        self._length = len(content)

    def __call__(self, characters: Characters) -> Characters:
        """The characters after this normalizer."""
        starts, ends = self._matcher(characters.codes)
        return select(
            tf.size(starts) > 0, lambda: self._replace(characters, starts, ends), lambda: characters
        )

    def _replace(self, characters: Characters, starts: Any, ends: Any) -> Characters:
        codes = characters.codes
        count = tf.size(codes)
        inside = tf.raw_ops.RaggedRange(starts=starts, limits=ends, deltas=tf.constant(1, tf.int64))
        inside = inside.rt_dense_values[:, None]
        # The last character of a match makes way for the content, which shares its origin.
        lengths = tf.ones([count], tf.int32)
        lengths = tf.tensor_scatter_nd_update(lengths, inside, tf.zeros([tf.size(inside)], tf.int32))
        last = (ends - 1)[:, None]
        matches = tf.size(last)
        lengths = tf.tensor_scatter_nd_update(lengths, last, tf.fill([matches], self._length))
        own = self._length + tf.range(count)
        pool = tf.tensor_scatter_nd_update(own, last, tf.zeros([matches], tf.int32))
        rows = Expansion.of(pool, lengths)
        found = tf.gather(tf.concat([self._content, codes], axis=0), rows.indices)
        if characters.starts is None:
            return Characters(found)
        return characters.gather(rows.origins())._replace(codes=found)


_OTHERS: dict[str, Callable[[NormalizerStep], Stage]] = {
    "compose": Composer,
    "precompiled": Precompiled,
    "prepend": Prepend,
    "replace": Replace,
    "strip": Strip,
}
