"""Streaming metrics for `compile`: F1 from counts, so that an epoch has its exact figure, not a mean."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasllm")
class F1(keras.metrics.Metric):
    """Macro or weighted F1 of a classifier's logits.

    Keras' `F1Score` wants one-hot targets; this one takes class numbers (single-label) or rows of zeros
    and ones (multi-label, a label is predicted when its logit is above zero). A class with neither a target
    nor a prediction is left out of the macro mean, as scikit-learn does when it is not given the labels.

    Args:
        num_classes: Number of classes.
        average: `"macro"` or `"weighted"` (by the number of targets). Defaults to `"macro"`.
        multi_label: Whether a text may have several labels. Defaults to `False`.
    """

    def __init__(
        self, num_classes: int, average: str = "macro", multi_label: bool = False, name: str | None = None
    ):
        super().__init__(name=name or f"{average}_f1", dtype="float32")
        self.num_classes = num_classes
        self.average = average
        self.multi_label = multi_label
        # Rows: true positives, predictions, targets.
        self.counts = self.add_weight(shape=(3, num_classes), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch; sample weights are ignored, since they belong to the loss."""
        if self.multi_label:
            truth = ops.cast(y_true, "float32")
            predicted = ops.cast(y_pred > 0, "float32")
        else:
            truth = ops.one_hot(ops.cast(y_true, "int32"), self.num_classes)
            predicted = ops.one_hot(ops.argmax(y_pred, axis=-1), self.num_classes)
        batch = [ops.sum(truth * predicted, axis=0), ops.sum(predicted, axis=0), ops.sum(truth, axis=0)]
        self.counts.assign_add(ops.stack(batch))

    def result(self):
        """The mean F1 over what has been added since the last reset."""
        right, predicted, true = self.counts[0], self.counts[1], self.counts[2]
        f1 = ops.divide_no_nan(2.0 * right, predicted + true)
        weights = true if self.average == "weighted" else ops.cast(predicted + true > 0, "float32")
        return ops.divide_no_nan(ops.sum(f1 * weights), ops.sum(weights))

    def reset_state(self):
        """Forgets all batches."""
        self.counts.assign(ops.zeros_like(self.counts))

    def get_config(self):
        """The arguments, for serialisation."""
        return {
            "num_classes": self.num_classes,
            "average": self.average,
            "multi_label": self.multi_label,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="kerasllm")
class Accuracy(keras.metrics.Mean):
    """Share of texts whose label (multi-label: whose every label) is right.

    Args:
        multi_label: Whether a text may have several labels. Defaults to `False`.
    """

    def __init__(self, multi_label: bool = False, name: str = "accuracy"):
        super().__init__(name=name, dtype="float32")
        self.multi_label = multi_label

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch; sample weights are ignored, since they belong to the loss."""
        if self.multi_label:
            right = ops.all(ops.equal(ops.cast(y_pred > 0, "int32"), ops.cast(y_true, "int32")), axis=-1)
        else:
            right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), ops.cast(y_true, "int32"))
        super().update_state(ops.cast(right, "float32"))

    def get_config(self):
        """The arguments, for serialisation."""
        return {"multi_label": self.multi_label, "name": self.name}


def classification_metrics(num_classes: int, *, multi_label: bool) -> list[keras.metrics.Metric]:
    """What every classification run shows: accuracy, macro and weighted F1."""
    return [
        Accuracy(multi_label),
        F1(num_classes, "macro", multi_label),
        F1(num_classes, "weighted", multi_label),
    ]
