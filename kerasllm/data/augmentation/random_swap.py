"""Words that change places."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.rebuilding import with_spacing
from kerasllm.data.augmentation.token_layer import Draw, TokenAugmentation
from kerasllm.data.augmentation.words import Words, gather_words

__all__ = ["RandomSwap"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomSwap(TokenAugmentation):
    """Lets pairs of words of the same text change places (EDA; Wei and Zou, 2019).

    `rate` is the share of the words that are moved: `rate * words / 2` pairs are drawn, rounded at random so
    that the mean is exact, and no word is in two of them. Labels move with their words; the space before a
    word stays with its place. Further arguments, inputs and what is never changed: see `TokenAugmentation`.
    """

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        ids = inputs["token_ids"]
        first = words.of_first_pieces(ids)
        turned = with_spacing(first, ~words.bare, self.vocabulary)
        partner = self._partners(words, draw)
        # Where one has a space before it and the other none, both pieces must exist with and without it.
        alike = tf.equal(words.bare, gather_words(words.bare, partner))
        can_turn = ~tf.equal(turned, first)
        partner = tf.where(
            alike | (can_turn & gather_words(can_turn, partner)), partner, tf.range(tf.shape(ids)[1])
        )
        moves_bare = gather_words(words.bare, partner)
        spaced = with_spacing(first, moves_bare, self.vocabulary)
        begins = words.real & tf.equal(words.piece, 0)
        batch = {**inputs, "token_ids": tf.where(begins, words.of_tokens(spaced), ids)}
        # A word goes where its partner is; its pieces stay together.
        width = tf.shape(ids)[1]
        places = tf.range(width)
        key = words.of_tokens(partner) * width + words.piece
        order = tf.argsort(tf.where(words.real, key, width * width + places), axis=1)
        return {
            name: tf.ensure_shape(gather_words(values, order), values.shape) for name, values in batch.items()
        }

    def _partners(self, words: Words, draw: Draw) -> Any:
        """Of each word the one that it changes places with; itself for most."""
        numbers = draw(tf.shape(words.start))
        places = tf.range(tf.shape(numbers)[1])
        count = tf.cast(words.reduce_texts(tf.cast(words.changeable, tf.int32), "sum"), tf.float32)
        total = self._num_pairs(words, count, draw)
        # Changeable words of a text in a drawn order; the first of them are pairs.
        last = tf.cast(tf.shape(numbers)[1] + 1, tf.float64)
        key = tf.where(words.changeable, tf.cast(words.text, tf.float64) + tf.cast(numbers, tf.float64), last)
        order = tf.argsort(key, axis=1)
        rank_of = tf.argsort(order, axis=1)
        begin = words.reduce_texts(tf.where(words.changeable, rank_of, tf.shape(numbers)[1]), "min")
        rank = rank_of - begin
        other = begin + tf.bitwise.bitwise_xor(rank, 1)
        paired = words.changeable & (rank < 2 * total)
        other = tf.clip_by_value(other, 0, tf.shape(numbers)[1] - 1)
        return tf.where(paired, gather_words(order, other), places)

    def _num_pairs(self, words: Words, count: Any, draw: Draw) -> Any:
        rounding = words.one_a_text(draw(tf.shape(words.start)))
        pairs = tf.floor(count * self.rate / 2 + rounding)
        return tf.cast(tf.minimum(pairs, tf.floor(count / 2)), tf.int32)
