"""Typing errors in strings, as TensorFlow operations on whole characters."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.data.augmentation.letters import classes, key_table
from kerasllm.data.augmentation.token_layer import Draw

__all__ = ["OPERATIONS", "TypingErrors"]

OPERATIONS = ("swap", "delete", "duplicate", "neighbour")


class _Characters(NamedTuple):
    """All characters of a batch, one text after the other."""

    codes: Any
    text: Any
    letter: Any  # a letter that no combining mark belongs to
    begins: Any  # the first of a run of letters
    follows: Any  # whether the next character is a letter of the same run


class TypingErrors:
    """Changes letters of texts.

    Args:
        rate: Share of the letters that are changed.
        operations: Some of `OPERATIONS`.
        keyboard: Neighbouring keys by key.
        protected: Words that are left as they are, in any case.
    """

    def __init__(
        self, rate: float, operations: Sequence[str], keyboard: Mapping[str, str], protected: Sequence[str]
    ):
        self.rate = rate
        self.operations = tuple(operations)
        self._keys = key_table(keyboard)
        words = sorted({word.lower().encode() for word in protected})
        self._protected = np.array(words, object)

    def __call__(self, texts: Any, draw: Draw) -> Any:
        """Changes string[batch]; a text in which no letter was drawn is the same to the byte."""
        ragged = tf.strings.unicode_decode(texts, "UTF-8")
        characters = self._characters(ragged.flat_values, tf.cast(ragged.value_rowids(), tf.int32))
        size = tf.shape(characters.codes)
        drawn = characters.letter & (draw(size) < self.rate) & ~self._is_protected(characters)
        operation = self._operation(characters, drawn, draw(size), draw(size))
        codes, counts = self._apply(characters, operation, draw(size))
        kept = tf.repeat(codes, counts)
        rows = tf.repeat(characters.text, counts)
        changed = tf.strings.unicode_encode(
            tf.RaggedTensor.from_value_rowids(kept, rows, nrows=tf.shape(texts)[0]), "UTF-8"
        )
        touched = tf.math.unsorted_segment_max(
            tf.cast(operation >= 0, tf.int32), characters.text, tf.shape(texts)[0]
        )
        return tf.where(touched > 0, changed, texts)

    def _characters(self, codes: Any, text: Any) -> _Characters:
        any_letter, mark = _is(codes, "L"), _is(codes, "M")
        letter = any_letter & ~(_next(mark, False) & tf.equal(_next(text, -1), text))
        same = tf.equal(_next(text, -1), text)
        follows = letter & _next(letter, False) & same
        begins = letter & ~_previous(follows, False)
        return _Characters(codes, text, letter, begins, follows)

    def _is_protected(self, characters: _Characters) -> Any:
        if not len(self._protected):
            return tf.zeros_like(characters.letter)
        word = tf.cumsum(tf.cast(characters.begins, tf.int32)) - 1
        letters = tf.boolean_mask(characters.codes, characters.letter)
        of_words = tf.RaggedTensor.from_value_rowids(
            letters,
            tf.boolean_mask(word, characters.letter),
            nrows=tf.reduce_sum(tf.cast(characters.begins, tf.int32)),
        )
        words = tf.strings.lower(tf.strings.unicode_encode(of_words, "UTF-8"), "utf-8")
        known = tf.reduce_any(tf.equal(words[:, None], tf.constant(self._protected, tf.string)), axis=1)
        # One more, so that there is something to gather where no text has a letter.
        known = tf.concat([known, [False]], 0)
        return characters.letter & tf.gather(known, tf.maximum(word, 0))

    def _operation(self, characters: _Characters, drawn: Any, first: Any, second: Any) -> Any:
        """The number of each drawn letter's operation, -1 where there is none.

        An operation that is not possible at a letter is replaced by one of the others.
        """
        possible = {
            "swap": characters.follows
            & ~_next(drawn, False)
            & ~tf.equal(_next(characters.codes, 0), characters.codes),
            "delete": ~characters.begins,
            "duplicate": tf.ones_like(drawn),
            "neighbour": self._near(characters.codes)[1] > 0,
        }
        table = tf.stack([possible[name] for name in self.operations], axis=-1)
        count = len(self.operations)
        choice = tf.minimum(tf.cast(first * count, tf.int32), count - 1)
        fits = tf.gather(table, choice, batch_dims=1)
        numbers = tf.cumsum(tf.cast(table, tf.int32), axis=1)
        place = tf.cast(second * tf.cast(numbers[:, -1], tf.float32), tf.int32) + 1
        place = tf.minimum(place, numbers[:, -1])
        other = tf.argmax(table & tf.equal(numbers, place[:, None]), axis=1, output_type=tf.int32)
        found = tf.where(fits, choice, tf.where(numbers[:, -1] > 0, other, -1))
        return tf.where(drawn, found, -1)

    def _apply(self, characters: _Characters, operation: Any, numbers: Any) -> tuple[Any, Any]:
        """The new characters, and how often each stands there."""
        is_ = {name: tf.equal(operation, self.operations.index(name)) for name in self.operations}
        codes = characters.codes
        counts = tf.ones_like(operation)
        if "swap" in is_:
            swapped = tf.where(is_["swap"], _next(codes, 0), codes)
            codes = tf.where(_previous(is_["swap"], False), _previous(codes, 0), swapped)
        if "neighbour" in is_:
            near, count = self._near(characters.codes)
            place = tf.minimum(
                tf.cast(numbers * tf.cast(count, tf.float32), tf.int32), tf.maximum(count - 1, 0)
            )
            codes = tf.where(is_["neighbour"], tf.gather(near, place, batch_dims=1), codes)
        if "delete" in is_:
            counts = tf.where(is_["delete"], 0, counts)
        if "duplicate" in is_:
            counts = tf.where(is_["duplicate"], 2, counts)
        return codes, counts

    def _near(self, codes: Any) -> tuple[Any, Any]:
        keys, table, counts = self._keys
        if not len(keys):
            return tf.zeros([tf.size(codes), 1], tf.int32), tf.zeros_like(codes)
        row = tf.minimum(tf.searchsorted(tf.constant(keys), codes), len(keys) - 1)
        known = tf.equal(tf.gather(tf.constant(keys), row), codes)
        return tf.gather(tf.constant(table), row), tf.where(known, tf.gather(tf.constant(counts), row), 0)


def _is(codes: Any, kind: str) -> Any:
    edges = tf.constant(classes(kind))
    return tf.equal(tf.searchsorted(edges, codes, side="right") % 2, 1)


def _next(values: Any, last: Any) -> Any:
    return tf.concat([values[1:], [tf.cast(last, values.dtype)]], 0)[: tf.shape(values)[0]]


def _previous(values: Any, first: Any) -> Any:
    return tf.concat([[tf.cast(first, values.dtype)], values[:-1]], 0)[: tf.shape(values)[0]]
