"""The base of all objectives."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

__all__ = ["LossValue", "Objective", "weighted"]


class LossValue(NamedTuple):
    """The loss of one micro-batch, in parts that add up over micro-batches.

    The mean over k micro-batches is the sum of their totals over the sum of their weights, whatever their
    sizes: the mean over one batch of them all.

    Attributes:
        total: float32 scalar, the sum of weight * loss over the elements.
        weight: float32 scalar, the sum of the weights; zero if the batch has nothing to learn from.
        outputs: What the objective's metrics see, or `None`.
    """

    total: Any
    weight: Any
    outputs: Any = None


class Objective:
    """What a training step minimises.

    Subclasses write `loss`, and `metrics` where there is more to show than the loss. An object of this kind
    may own variables, such as the state of a random generator: a checkpoint must hold `variables`.
    """

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """The loss of one micro-batch; called inside a `tf.function`.

        Args:
            model: The model.
            inputs: What the model takes.
            targets: What is to be learnt; its shape is the objective's.
            weights: How much each element counts, of the shape of the elements (texts or tokens), or `None`
                for one each. An element of weight zero contributes nothing.
            training: Whether dropout and other noise is on.
        """
        raise NotImplementedError

    def metrics(self) -> list[keras.metrics.Metric]:
        """New metrics, whose `update_state(targets, outputs, sample_weight)` takes `LossValue.outputs`."""
        return []

    def figures(self, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Further figures on a data set, beside the metrics.

        Args:
            seen: Targets and outputs of each of its batches.
        """
        return {}

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables that the next step depends on, to be kept in checkpoints. Defaults to none."""
        return []


def weighted(losses: Any, weights: Any, outputs: Any = None) -> LossValue:
    """Sums losses of single elements.

    Args:
        losses: float32, one an element.
        weights: The same shape, or `None` for one each.
        outputs: What the metrics see. Defaults to `None`.
    """
    if weights is None:
        return LossValue(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32), outputs)
    weights = tf.cast(weights, tf.float32)
    # A loss that is infinite or NaN must not leak through a weight of zero.
    losses = tf.where(weights > 0, losses, tf.zeros_like(losses))
    return LossValue(tf.reduce_sum(weights * losses), tf.reduce_sum(weights), outputs)
