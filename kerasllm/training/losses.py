"""Losses for classification, on logits, in float32."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasllm")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers against logits, with label smoothing.

    Keras' own `SparseCategoricalCrossentropy` has no label smoothing. With smoothing `s` and `k` classes
    the target is `1 - s + s / k` for the right class and `s / k` for each other. Weighted texts count as a
    weighted mean (Keras' default divides by the number of texts instead, so that class weights would
    change the learning rate).

    Args:
        label_smoothing: `s`, at least 0 and below 1. Defaults to 0.

    Source: Szegedy et al., 2016 (https://arxiv.org/abs/1512.00567).
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "crossentropy", **kwargs: Any):
        super().__init__(name=name, reduction="mean_with_sample_weight", **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each text, shape `(batch,)`."""
        logits = ops.cast(y_pred, "float32")
        log_probabilities = ops.log_softmax(logits, axis=-1)
        right = ops.one_hot(ops.cast(y_true, "int32"), logits.shape[-1])
        loss = -ops.sum(right * log_probabilities, axis=-1)
        if not self.label_smoothing:
            return loss
        uniform = -ops.mean(log_probabilities, axis=-1)
        return (1.0 - self.label_smoothing) * loss + self.label_smoothing * uniform

    def get_config(self):
        """The arguments, for serialisation."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def classification_loss(*, multi_label: bool, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss of a classifier's logits.

    Args:
        multi_label: Whether a text may have several labels: then each label is its own yes or no.
        label_smoothing: Share of the target spread over the other classes. Defaults to 0.
    """
    if not multi_label:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.BinaryCrossentropy(
        from_logits=True,
        label_smoothing=label_smoothing,
        reduction="mean_with_sample_weight",
        name="crossentropy",
    )
