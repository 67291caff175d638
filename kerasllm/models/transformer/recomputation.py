"""Gradient checkpointing: what a layer computes is not kept for its gradient but computed once more."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

__all__ = ["recomputed"]


def recomputed(layer: keras.layers.Layer, function: Callable[..., Any], tensors: Any) -> Any:
    """Calls `function(*tensors)` so that only `tensors` are kept for the gradient.

    Source: Chen et al., 2016, https://arxiv.org/abs/1604.06174. `tf.recompute_grad` ties the second
    computation to the arriving gradient, so that neither TensorFlow's graph optimizer nor XLA makes one of
    the two. Random numbers are its trap: the second computation has to draw the same ones, and the
    generators must move on once, not twice. So both computations see the generators as they were before.

    Args:
        layer: Owner of the generators: of all its Keras variables that are integers.
        function: What is computed, without changes to any other variable.
        tensors: Its arguments: a tuple of tensors, tuples of tensors, and `None`.
    """
    states = [variable for variable in layer.non_trainable_variables if not _is_floating(variable.dtype)]
    before = [(state, tf.identity(state.value)) for state in states]
    flat = tf.nest.flatten(tensors)
    # Integers have no gradient; the gradient's tape would complain about them.
    places = [place for place, tensor in enumerate(flat) if _has_gradient(tensor)]
    after: list[tuple[keras.Variable, Any]] = []

    def segment(*values: Any) -> Any:
        arguments = list(flat)
        for place, value in zip(places, values, strict=True):
            arguments[place] = value
        with keras.StatelessScope(state_mapping=before) as scope:
            result = function(*tf.nest.pack_sequence_as(tensors, arguments))
        if not after:
            after.extend((state, scope.get_current_value(state)) for state in states)
        return result

    result = tf.recompute_grad(segment)(*(flat[place] for place in places))
    for state, value in after:
        state.assign(value)
    return result


def _has_gradient(tensor: Any) -> bool:
    return tensor is not None and tensor.dtype.is_floating


def _is_floating(dtype: str) -> bool:
    return tf.as_dtype(dtype).is_floating
