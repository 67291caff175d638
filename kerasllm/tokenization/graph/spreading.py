"""Marked places of an array, and values spread over the stretches between them."""

from typing import Any

import tensorflow as tf

__all__ = ["marked", "spread"]

_BITS = 31  # places fit in them


def marked(mask: Any) -> Any:
    """int64[m]: where a bool[n] is true."""
    return tf.squeeze(tf.where(mask), axis=1)


def spread(values: Any, starts: Any, limits: Any) -> Any:
    """Repeats each value over a stretch.

    One operation writes ranges, each of which counts up from a value's multiple of 2**31; dividing takes the
    count away. That is several times faster than a cumulative sum and a look-up.

    Args:
        values: int64[stretches], between -2**31 and 2**31.
        starts: int64[stretches], where the stretches begin; the first one at 0, the others at a limit.
        limits: int64[stretches], where they end.

    Returns:
        int32[last limit].
    """
    firsts = tf.bitwise.left_shift(values, tf.constant(_BITS, tf.int64))
    ranges = tf.raw_ops.RaggedRange(
        starts=firsts, limits=firsts + (limits - starts), deltas=tf.constant(1, tf.int64)
    )
    return tf.cast(tf.bitwise.right_shift(ranges.rt_dense_values, tf.constant(_BITS, tf.int64)), tf.int32)
