"""Classes of texts, or of tokens."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasllm.metrics.calibration import brier_score, expected_calibration_error, log_loss
from kerasllm.metrics.classification import count
from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.losses import ClassificationLoss
from kerasllm.training.objectives.objective import LossValue, Objective, weighted

__all__ = ["Classification"]


class Classification(Objective):
    """Minimises the loss of a classifier's logits; the metrics are accuracy and F1.

    Class weights are weights of texts: `kerasllm.data.token_ids.EncodedTexts` makes them.

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

    def figures(self, seen: Sequence[tuple[Any, Any]]) -> dict[str, float]:
        """What the evaluator says of all texts at once, beside the metrics."""
        targets = np.concatenate([np.asarray(truth) for truth, _ in seen])
        logits = np.concatenate([np.asarray(outputs, np.float64) for _, outputs in seen])
        if self.classification_loss.multi_label:
            probabilities, predicted = 1 / (1 + np.exp(-logits)), logits > 0
            targets = targets > 0.5
        else:
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities, predicted = shifted / shifted.sum(axis=1, keepdims=True), logits.argmax(axis=1)
        if not np.isfinite(logits).all():
            return {}
        counts = count(targets, predicted, num_classes=self.num_classes)
        return {
            "micro_f1": float(counts.average_f1("micro")),
            "log_loss": log_loss(targets, probabilities),
            "brier_score": brier_score(targets, probabilities),
            "calibration_error": expected_calibration_error(targets, probabilities),
        }
