"""Spans of words, one a text, drawn in the graph."""

from typing import Any

import tensorflow as tf

from kerasllm.data.augmentation.token_layer import Draw
from kerasllm.data.augmentation.words import Words

__all__ = ["draw_spans"]


def draw_spans(words: Words, draw: Draw, rate: float, *, cut_off: bool) -> tuple[Any, Any, Any, Any]:
    """Draws a span of the words of each text; at least one word is left by it.

    Args:
        words: The words.
        draw: See `TokenAugmentation.change`.
        rate: Share of the words of a text.
        cut_off: Whether that is the share outside of the span, else the share inside.

    Returns:
        Of each word, int32 `(batch, sequence)`: its number in its text, the number of the first word of the
        span and of the one after its last, and how many words the text has.
    """
    ones = tf.cast(words.is_word, tf.int32)
    place = tf.cumsum(ones, axis=1, exclusive=True)
    place -= words.reduce_texts(place, "min")
    count = words.reduce_texts(ones, "sum")
    shape = tf.shape(words.start)
    rounding, position = words.one_a_text(draw(shape)), words.one_a_text(draw(shape))
    share = tf.cast(tf.floor(tf.cast(count, tf.float32) * rate + rounding), tf.int32)
    share = tf.minimum(share, tf.maximum(count - 1, 0))
    length = count - share if cut_off else share
    places = count - length + 1
    first = tf.cast(tf.floor(tf.cast(places, tf.float32) * position), tf.int32)
    first = tf.minimum(first, places - 1)
    return place, first, first + length, count
