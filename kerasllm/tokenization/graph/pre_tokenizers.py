"""Pre-tokenizers as operations: from characters to characters that are cut into words."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.graph.byte_alphabet import ByteAlphabetStage
from kerasllm.tokenization.graph.characters import CUT, Characters
from kerasllm.tokenization.graph.patterns import PatternMatcher
from kerasllm.tokenization.graph.spreading import marked
from kerasllm.tokenization.spec.pre_tokenizers import ByteAlphabet, Prefix, PreTokenizer, Split, Substitute

__all__ = ["build_pre_tokenizer"]


def build_pre_tokenizer(specification: PreTokenizer) -> list[tf.Module]:
    """The stages of a pre-tokenizer, each to be called as `stage(characters)`, one after the other.

    A stage leaves barriers where they are and adds cuts, of which several may stand together. Where the
    pre-tokenizer ends in `ByteLevel`, characters stay characters: the model turns them into bytes.
    `Characters.starts` is needed only where `specification.needs_starts`; `starts` and `ends` are kept up
    where they are given.
    """
    return [_stage(step) for step in specification.steps]


def _stage(step: Split | Prefix | Substitute | ByteAlphabet) -> tf.Module:
    match step:
        case Split():
            return SplitStage(step)
        case Prefix():
            return PrefixStage(step)
        case Substitute():
            return SubstituteStage(step)
        case ByteAlphabet():
            return ByteAlphabetStage()


class SplitStage(tf.Module):
    """Cuts segments at the matches of a pattern."""

    def __init__(self, step: Split):
        super().__init__()
        self._matcher = PatternMatcher(step.pattern)
        self._behavior = step.behavior
        self._invert = step.invert

    @tf.autograph.experimental.do_not_convert
    def __call__(self, characters: Characters) -> Characters:
        """Cuts `characters` further."""
        begins, matched = self._matcher.pieces(characters.codes)
        if matched is None and self._behavior != "Removed":  # all pieces are alike
            return characters if self._behavior == "Contiguous" else _cut(characters, begins)
        if matched is None:
            matched = characters.codes >= 0
        if self._invert:
            matched = tf.logical_not(matched)
        if self._behavior == "Removed":
            removed = tf.logical_and(matched, characters.codes >= 0)
            characters = characters._replace(codes=tf.where(removed, CUT, characters.codes))
            # What is left between matches is one piece each; pieces that stand together are matches.
            return _cut(characters, begins) if self._invert else characters
        return _cut(characters, self._cuts(begins, matched))

    def _cuts(self, begins: Any, matched: Any) -> Any:
        before = tf.roll(matched, 1, 0)
        match self._behavior:
            case "Isolated":
                return begins
            case "Contiguous":
                return tf.not_equal(matched, before)
            case "MergedWithPrevious":
                joined = tf.logical_and(matched, tf.logical_not(before))
            case _:
                joined = tf.logical_and(before, tf.logical_not(matched))
        return tf.logical_and(begins, tf.logical_not(joined))


class PrefixStage(tf.Module):
    """Puts a character before segments that do not begin with it."""

    def __init__(self, step: Prefix):
        super().__init__()
        self._code = ord(step.character)
        self._first = step.first

    @tf.autograph.experimental.do_not_convert
    def __call__(self, characters: Characters) -> Characters:
        """Adds the character, which stands where the one after it stood in the text."""
        codes = characters.codes
        wanted = tf.logical_and(codes >= 0, tf.not_equal(codes, self._code))
        wanted = tf.logical_and(wanted, tf.roll(codes, 1, 0) < 0)
        if self._first:
            wanted = tf.logical_and(wanted, tf.equal(characters.starts, 0))
        return _insert(characters, wanted, self._code)


class SubstituteStage(tf.Module):
    """Puts one character in the place of another."""

    def __init__(self, step: Substitute):
        super().__init__()
        self._old, self._new = ord(step.old), ord(step.new)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, characters: Characters) -> Characters:
        """Replaces the character."""
        codes = tf.where(tf.equal(characters.codes, self._old), self._new, characters.codes)
        return characters._replace(codes=codes)


def _cut(characters: Characters, before: Any) -> Characters:
    """Puts a cut before marked characters, unless there is a barrier already."""
    codes = characters.codes
    between = tf.logical_and(codes >= 0, tf.roll(codes, 1, 0) >= 0)
    return _insert(characters, tf.logical_and(before, between), CUT)


def _insert(characters: Characters, before: Any, code: int) -> Characters:
    """Puts a code before marked characters; it stands where they stood in the text."""
    places = marked(before)
    size = tf.shape(characters.codes, tf.int64)
    # Each range but the last ends with the character that the next one begins with; the first of the two
    # makes room for what is put in.
    ranges = tf.raw_ops.RaggedRange(
        starts=tf.concat([tf.zeros([1], tf.int64), places], axis=0),
        limits=tf.concat([places + 1, size], axis=0),
        deltas=tf.constant(1, tf.int64),
    )
    origins = ranges.rt_dense_values
    found = characters.gather(origins)
    twice = tf.concat(
        [tf.equal(origins[1:], origins[:-1]), tf.zeros([tf.minimum(tf.size(origins), 1)], tf.bool)], 0
    )
    return found._replace(codes=tf.where(twice, code, found.codes))
