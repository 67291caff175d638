"""Words replaced by others."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.new_words import NewWords, within_room
from kerasllm.data.augmentation.rebuilding import put_in, with_spacing
from kerasllm.data.augmentation.token_layer import Draw
from kerasllm.data.augmentation.words import Words

__all__ = ["RandomReplacement"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomReplacement(NewWords):
    """Puts another word in place of each word with probability `rate`.

    The other word is any word of the vocabulary (`"uniform"`), a frequent one (`"unigram"`; Xie et al.,
    2017), one of the nearest in the embedding matrix (`"neighbours"`, for words of one token), or a synonym
    of a table (`"synonyms"`; EDA, Wei and Zou, 2019). `rate` counts the words for which the source has
    another one. A longer word is only put in while the row has room for it. A new word's first pieces have
    the labels of the old one's; further pieces have none. Arguments: see `NewWords` and `TokenAugmentation`.

    Example:
    >>> synonyms = {"good": ["fine", "very nice"], "film": ["movie"]}
    >>> layer = RandomReplacement(tokenizer, 0.1, source="synonyms", synonyms=synonyms, seed=0)
    """

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        shape = tf.shape(words.start)
        numbers = draw(shape)
        ids, lengths = self.source.draw(words, tf.cast(inputs["token_ids"], tf.int32), draw(shape))
        chosen = words.changeable & (numbers < self.rate) & (lengths > 0)
        room = shape[1] - tf.reduce_sum(tf.cast(words.real, tf.int32), axis=1)
        growth = tf.where(chosen, lengths - words.length, 0)
        chosen &= within_room(growth, numbers, room)
        first = with_spacing(ids[..., :1], words.bare[..., None], self.vocabulary)
        return put_in(
            inputs,
            words,
            tf.concat([first, ids[..., 1:]], axis=-1),
            tf.where(chosen, lengths, 0),
            replaced=chosen,
            after=tf.zeros_like(chosen),
            fillers=self.fillers,
        )
