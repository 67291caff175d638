"""Words put in between others."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.new_words import NewWords, within_room
from kerasllm.data.augmentation.rebuilding import put_in
from kerasllm.data.augmentation.token_layer import Draw
from kerasllm.data.augmentation.words import Words, gather_words

__all__ = ["RandomInsertion"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomInsertion(NewWords):
    """Puts a new word behind each word with probability `rate` (EDA; Wei and Zou, 2019).

    The new word is drawn as in `RandomReplacement`; where it is one that belongs to another word (a neighbour
    or a synonym), that is a word drawn from the same text. Nothing that was there is dropped: words are put
    in only while the batch is wider than the row, so the longest rows of a batch get few or none. New words
    have no label. Arguments: see `NewWords` and `TokenAugmentation`.
    """

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        shape = tf.shape(words.start)
        numbers = draw(shape)
        ids, lengths = self.source.draw(words, tf.cast(inputs["token_ids"], tf.int32), draw(shape))
        lengths = tf.where(words.changeable, lengths, 0)
        donor = self._donors(words, lengths > 0, draw(shape))
        ids, lengths = gather_words(ids, donor), gather_words(lengths, donor)
        chosen = words.changeable & (numbers < self.rate) & (lengths > 0)
        room = shape[1] - tf.reduce_sum(tf.cast(words.real, tf.int32), axis=1)
        chosen &= within_room(tf.where(chosen, lengths, 0), numbers, room)
        return put_in(
            inputs,
            words,
            ids,
            tf.where(chosen, lengths, 0),
            replaced=tf.zeros_like(chosen),
            after=tf.ones_like(chosen),
            fillers=self.fillers,
        )

    def _donors(self, words: Words, have: Any, numbers: Any) -> Any:
        """For each word one of its text, drawn among those that have a new word to give; else itself."""
        width = tf.shape(have)[1]
        places = tf.range(width)
        # Words that have one stand first, in their order, so those of one text stand together.
        order = tf.argsort(tf.where(have, places, places + width), axis=1)
        begin = tf.cumsum(tf.cast(have, tf.int32), axis=1, exclusive=True)
        begin = words.reduce_texts(begin, "min")
        count = words.reduce_texts(tf.cast(have, tf.int32), "sum")
        place = tf.cast(numbers * tf.cast(count, tf.float32), tf.int32)
        place = begin + tf.minimum(place, tf.maximum(count - 1, 0))
        drawn = gather_words(order, tf.minimum(place, width - 1))
        return tf.where(count > 0, drawn, places)
