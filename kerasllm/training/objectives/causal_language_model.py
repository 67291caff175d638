"""Each token from those before it."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.training.objectives.language_head import LanguageOutputs, language_losses, token_vectors
from kerasllm.training.objectives.language_metrics import language_metrics
from kerasllm.training.objectives.objective import LossValue, Objective

__all__ = ["CausalLanguageModel"]


class CausalLanguageModel(Objective):
    """Minimises the cross-entropy of the next token; the metrics are perplexity and token accuracy.

    The logits of a batch are never held (`kerasllm.training.losses.chunked`), and tokens of weight zero cost
    no product with the vocabulary.

    Args:
        label_smoothing: Share of the target spread over the vocabulary. Defaults to 0.
        chunk_size: Most tokens whose logits are held. Defaults to `None`: as many as fit in 64 MiB.
        skip_unweighted: `False` for XLA. Defaults to `True`.

    Call arguments of `loss`: `targets` are the ids `(batch, sequence)` of the token that comes after each
    place, and `weights`, of the same shape, how much it counts: 0 for padding, prompts and what comes after
    the last token of a text. Nothing is shifted here.
    """

    def __init__(
        self, *, label_smoothing: float = 0.0, chunk_size: int | None = None, skip_unweighted: bool = True
    ):
        self.label_smoothing = label_smoothing
        self.chunk_size = chunk_size
        self.skip_unweighted = skip_unweighted

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`; the outputs are `LanguageOutputs`."""
        hidden = token_vectors(model, inputs, training=training)
        weights = tf.ones(tf.shape(targets)) if weights is None else tf.cast(weights, tf.float32)
        weights = tf.reshape(weights, [-1])
        losses = language_losses(
            model,
            tf.reshape(hidden, [-1, hidden.shape[-1]]),
            tf.reshape(targets, [-1]),
            weights,
            training=training,
            label_smoothing=self.label_smoothing,
            chunk_size=self.chunk_size,
            skip_unweighted=self.skip_unweighted,
        )
        outputs = LanguageOutputs(losses.log_losses, losses.right, weights)
        return LossValue(losses.total, tf.reduce_sum(weights), outputs)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Perplexity and token accuracy."""
        return language_metrics()
