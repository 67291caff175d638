"""Classes of texts, or of tokens."""

from typing import Any

import keras

from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.losses import ClassificationLoss
from kerasllm.training.objectives.objective import LossValue, Objective, weighted

__all__ = ["Classification"]


class Classification(Objective):
    """Minimises the loss of a classifier's logits; the metrics are accuracy and F1.

    Class weights are weights of texts: `kerasllm.data.pipeline.EncodedTexts` makes them.

    Args:
        loss: A `ClassificationLoss`, see `kerasllm.training.losses.classification_loss`.
        num_classes: Number of logits.

    Call arguments of `loss`: `targets` are class numbers `(batch,)`, for multi-label zeros and ones
    `(batch, num_classes)`; `weights` are `(batch,)`; the outputs are the logits.
    """

    def __init__(self, loss: ClassificationLoss, num_classes: int):
        self.classification_loss = loss
        self.num_classes = num_classes

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`."""
        logits = model(inputs, training=training)
        return weighted(self.classification_loss.call(targets, logits), weights, logits)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy, macro and weighted F1."""
        return classification_metrics(self.num_classes, multi_label=self.classification_loss.multi_label)
