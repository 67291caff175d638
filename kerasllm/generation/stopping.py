"""Where a text ends: at the first of its stop strings."""

from typing import Any

import tensorflow as tf

__all__ = ["cut_at_stops"]


def cut_at_stops(texts: Any, stops: Any) -> tuple[Any, Any]:
    """Cuts each text before the first stop string in it.

    Args:
        texts: string[rows].
        stops: string[rows, n]; empty ones stand for none.

    Returns:
        The texts string[rows], and whether there was a stop string in them, bool[rows].
    """

    def before_first(row: Any) -> Any:
        text, own = row
        own = tf.boolean_mask(own, own != "")

        def before(shortest: Any, number: Any) -> Any:
            # Splitting looks for bytes, where regular expressions would have to be escaped.
            return tf.strings.split(shortest, own[number])[0]

        return tf.foldl(before, tf.range(tf.size(own)), text)

    def cut() -> tuple[Any, Any]:
        shorter = tf.map_fn(before_first, (texts, stops), fn_output_signature=tf.string)
        return shorter, shorter != texts

    nothing = texts, tf.zeros(tf.shape(texts), tf.bool)
    return tf.cond(tf.reduce_any(stops != ""), cut, lambda: nothing)
