"""A part of each text, cut out as one span of words."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.rebuilding import keep_tokens
from kerasllm.data.augmentation.spans import draw_spans
from kerasllm.data.augmentation.token_layer import Draw, TokenAugmentation
from kerasllm.data.augmentation.words import Words

__all__ = ["RandomSpanCrop"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomSpanCrop(TokenAugmentation):
    """Keeps one span of the words of each text, and cuts off the share `rate` before and after it.

    Where the span lies is drawn; how many words it has is `rate` of them less, rounded at random so that the
    mean is exact. Of a pair, each text is cropped by itself. Protected words outside of the span stay, and
    punctuation outside goes. Further arguments and inputs: see `TokenAugmentation`.
    """

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        place, first, last, count = draw_spans(words, draw, self.rate, cut_off=True)
        inside = tf.where(words.is_word, (place >= first) & (place < last), (place > first) & (place <= last))
        gone = words.removable & ~inside & (last - first < count)
        keep = words.real & ~words.of_tokens(gone)
        return keep_tokens(inputs, keep, words, self.vocabulary, self.fillers)
