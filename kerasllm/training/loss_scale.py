"""The dynamic loss scale of float16: as large as it may be without an overflow of the gradients."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

__all__ = ["LossScale"]

_FIRST = 2.0**15
_GROWS_AFTER = 2000
# Keras halves the scale down to 0, after which the next good batch makes the weights NaN for ever.
_LEAST = 1.0
_MOST_SKIPPED = 20


class LossScale:
    """Multiplies a loss, so that small gradients are not zero in float16, and divides the gradients again.

    The scale is halved when a gradient is not finite and doubled after 2000 good steps, as in
    Micikevicius et al., 2018 (https://arxiv.org/abs/1710.03740).

    Args:
        active: Whether to scale at all.

    Attributes:
        variables: Scale, good steps since it last changed, and steps skipped in a row.
    """

    def __init__(self, *, active: bool = True):
        self.active = active
        self._scale = tf.Variable(_FIRST if active else 1.0, trainable=False, name="loss_scale")
        self._good = tf.Variable(0, trainable=False, dtype=tf.int32, name="good_steps")
        self._skipped = tf.Variable(0, trainable=False, dtype=tf.int32, name="skipped_steps")

    @property
    def variables(self) -> list[tf.Variable]:
        """What a checkpoint keeps."""
        return [self._scale, self._good, self._skipped]

    @property
    def value(self) -> float:
        """The scale."""
        return float(self._scale)

    @property
    def num_skipped(self) -> int:
        """Steps that were skipped, up to the last one."""
        return int(self._skipped)

    @property
    def has_collapsed(self) -> bool:
        """Whether no scale helps: 20 steps skipped in a row, or a scale below 1."""
        return self.num_skipped >= _MOST_SKIPPED or self.value < _LEAST

    def scaled(self, loss: Any) -> Any:
        """The loss to differentiate."""
        return loss * self._scale if self.active else loss

    def unscaled(self, gradients: Sequence[Any]) -> list[Any]:
        """The gradients of the loss itself."""
        if not self.active:
            return list(gradients)
        factor = 1.0 / self._scale
        return [None if gradient is None else _times(gradient, factor) for gradient in gradients]

    def update(self, finite: Any) -> None:
        """Changes the scale after a step, in the graph."""
        if not self.active:
            return
        good = tf.where(finite, self._good + 1, 0)
        grows = good >= _GROWS_AFTER
        factor = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5)
        scale = tf.minimum(self._scale * factor, tf.float32.max / 2)
        # Below 1 it stays where it is: the run is stopped, and the state must be fit to go on from.
        self._scale.assign(tf.maximum(scale, _LEAST / 2))
        self._good.assign(tf.where(grows, 0, good))
        self._skipped.assign(tf.where(finite, 0, self._skipped + 1))


def _times(gradient: Any, factor: Any) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.cast(gradient.values, tf.float32) * factor, gradient.indices, gradient.dense_shape
        )
    return tf.cast(gradient, tf.float32) * factor
