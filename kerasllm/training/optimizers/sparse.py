"""Sparse gradients of embeddings: `tf.IndexedSlices`, in which a token that occurs twice has two rows."""

from typing import Any

import tensorflow as tf

__all__ = ["densify", "sum_repeated_rows", "values_of"]


def sum_repeated_rows(gradient: Any) -> Any:
    """Gives each row of a sparse gradient once, as the sum of its occurrences.

    Only then is the norm of the values that of the gradient. Dense gradients and `None` pass through.

    Args:
        gradient: A tensor, `tf.IndexedSlices` with values `(occurrences, ...)`, or `None`.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(values, rows, dense_shape=gradient.dense_shape)


def densify(gradient: Any, shape: Any) -> tf.Tensor:
    """Turns a sparse gradient into a dense one; rows that occur several times are summed.

    Args:
        gradient: A tensor, or `tf.IndexedSlices`.
        shape: Shape of the variable, with a known first dimension.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    # Not `tf.convert_to_tensor`, which does the same but warns of the memory.
    dense = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, shape[0])
    return tf.ensure_shape(dense, shape)


def values_of(gradient: Any) -> Any:
    """The numbers of a gradient, sparse or dense."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
