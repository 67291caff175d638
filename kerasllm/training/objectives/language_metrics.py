"""Perplexity and token accuracy, from the losses of tokens."""

import keras
from keras import ops

__all__ = ["Perplexity", "TokenAccuracy", "language_metrics"]


@keras.saving.register_keras_serializable(package="kerasllm")
class Perplexity(keras.metrics.Mean):
    """The exponential of the weighted mean negative log-probability of all tokens since the last reset.

    Takes `LanguageOutputs`; targets and sample weights are passed over.
    """

    def __init__(self, name: str = "perplexity"):
        super().__init__(name=name, dtype="float32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch."""
        super().update_state(y_pred.log_losses, sample_weight=y_pred.weights)

    def result(self):
        """At least 1; infinite beyond the range of float32."""
        return ops.exp(super().result())

    def get_config(self):
        """The arguments, for serialisation."""
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="kerasllm")
class TokenAccuracy(keras.metrics.Mean):
    """Weighted share of tokens that the model holds for the most probable ones.

    Takes `LanguageOutputs`; targets and sample weights are passed over.
    """

    def __init__(self, name: str = "token_accuracy"):
        super().__init__(name=name, dtype="float32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch."""
        super().update_state(y_pred.right, sample_weight=y_pred.weights)

    def get_config(self):
        """The arguments, for serialisation."""
        return {"name": self.name}


def language_metrics() -> list[keras.metrics.Metric]:
    """What every run of a language model shows beside the loss."""
    return [Perplexity(), TokenAccuracy()]
