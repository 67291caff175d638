"""R-Drop: what a model says must not depend on which units dropout hides."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.training.losses.divergence import binary_divergence, divergence
from kerasllm.training.objectives.classification import Classification
from kerasllm.training.objectives.objective import LossValue, Objective, weighted

__all__ = ["RDrop"]


class RDrop(Objective):
    """Minimises the mean loss of two passes with different dropout, and how much their answers differ.

    Both passes are one of a batch twice as large. Evaluation is that of the objective alone.

    Args:
        objective: A `Classification`.
        alpha: Weight of the symmetric divergence, half the sum of both directions. The paper adds up the
            losses of the passes where we take their mean, so that the learning rate means the same with and
            without; its `alpha` is twice ours, that of the authors' code the same. Defaults to 1.

    Raises:
        ConfigError: If the objective has no logits of classes, or alpha is not above zero.

    Source: Liang et al., 2021 (https://arxiv.org/abs/2106.14448), equations 2 to 4.
    """

    def __init__(self, objective: Classification, alpha: float = 1.0):
        if not isinstance(objective, Classification):
            raise ConfigError(
                f"R-Drop compares the classes of two passes, but `{type(objective).__name__}` has none; use "
                "it with `Classification`."
            )
        if alpha <= 0:
            raise ConfigError(f"`alpha` of R-Drop is {alpha}, but must be above 0.")
        self.objective = objective
        self.alpha = alpha

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`; the outputs are those of the first pass."""
        if not training:
            return self.objective.loss(model, inputs, targets, weights, training=False)
        if weights is None:
            weights = tf.ones(tf.shape(targets)[:1])
        twice = tf.nest.map_structure(lambda part: tf.concat([part, part], 0), (inputs, targets, weights))
        both = self.objective.loss(model, *twice, training=True)
        first, second = tf.split(both.outputs, 2)
        measure = binary_divergence if self.objective.classification_loss.multi_label else divergence
        apart = weighted(measure(first, second), weights)
        return LossValue(0.5 * both.total + self.alpha * apart.total, 0.5 * both.weight, first)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of the objective."""
        return self.objective.metrics()

    def figures(self, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """Those of the objective."""
        return self.objective.figures(seen)

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of the objective."""
        return self.objective.variables
