"""The loss of a classifier's logits, chosen by name, as a Keras loss."""

from typing import Any

import keras

from kerasllm.errors import ConfigError
from kerasllm.training.losses.crossentropy import binary_crossentropy, crossentropy
from kerasllm.training.losses.focal import binary_focal, focal

__all__ = ["ClassificationLoss", "classification_loss"]

KINDS = ("crossentropy", "focal")


@keras.saving.register_keras_serializable(package="kerasllm")
class ClassificationLoss(keras.losses.Loss):
    """Cross-entropy or focal loss, of one class a text or of labels that are each a yes or no.

    `call` gives the loss of each text. Called as a Keras loss, weighted texts count as a weighted mean
    (Keras' default divides by the number of texts instead, so that class weights would change the learning
    rate).

    Args:
        kind: `"crossentropy"` or `"focal"`. Defaults to `"crossentropy"`.
        multi_label: Whether a text may have several labels. Defaults to `False`.
        label_smoothing: Share of the target spread over the other classes, for cross-entropy. Defaults to 0.
        focal_gamma: How strongly the focal loss passes over easy texts. Defaults to 2.

    Raises:
        ConfigError: If the kind is unknown, or smoothing is asked of the focal loss.
    """

    def __init__(
        self,
        kind: str = "crossentropy",
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        focal_gamma: float = 2.0,
        name: str = "crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, reduction="mean_with_sample_weight", **kwargs)
        if kind not in KINDS:
            raise ConfigError(f"The loss {kind!r} is unknown; choose one of {', '.join(map(repr, KINDS))}.")
        if kind == "focal" and label_smoothing:
            raise ConfigError(
                f"The focal loss has no label smoothing, but `label_smoothing` is {label_smoothing}; set it "
                "to 0, or choose the loss 'crossentropy'."
            )
        self.kind = kind
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma

    def call(self, y_true, y_pred):
        """The loss of each text, `float32[batch]`."""
        if self.kind == "focal":
            away = binary_focal if self.multi_label else focal
            return away(y_true, y_pred, gamma=self.focal_gamma)
        loss = binary_crossentropy if self.multi_label else crossentropy
        return loss(y_true, y_pred, label_smoothing=self.label_smoothing)

    def get_config(self):
        """The arguments, for serialisation."""
        names = ("kind", "multi_label", "label_smoothing", "focal_gamma", "name")
        return {name: getattr(self, name) for name in names}


def classification_loss(
    *, multi_label: bool, label_smoothing: float = 0.0, kind: str = "auto", focal_gamma: float = 2.0
) -> ClassificationLoss:
    """The loss of a classifier's logits.

    Args:
        multi_label: Whether a text may have several labels: then each label is its own yes or no.
        label_smoothing: Share of the target spread over the other classes. Defaults to 0.
        kind: `"auto"`, which is cross-entropy, `"crossentropy"` or `"focal"`. Defaults to `"auto"`.
        focal_gamma: How strongly the focal loss passes over easy texts. Defaults to 2.
    """
    return ClassificationLoss(
        "crossentropy" if kind == "auto" else kind, multi_label, label_smoothing, focal_gamma
    )
