"""From a language model and its inputs to losses of tokens, without the logits of a whole batch."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerasllm.errors import TrainingError
from kerasllm.models.heads import ModelWithHead
from kerasllm.training.losses.chunked import TokenLosses, chunked_crossentropy_sum
from kerasllm.training.losses.crossentropy import crossentropy

__all__ = ["LanguageOutputs", "language_losses", "token_vectors"]


class LanguageOutputs(NamedTuple):
    """What the metrics of language models see, of each token or some of them; no gradients.

    Attributes:
        log_losses: float32, the negative log-probability of the right token.
        right: float32, 1 where the right token is the most probable.
        weights: float32, how much each counts.
    """

    log_losses: Any
    right: Any
    weights: Any


def token_vectors(model: keras.Model, inputs: Any, *, training: bool) -> Any:
    """The backbone's vectors `(batch, sequence, dim)`, in the precision of the head.

    Raises:
        TrainingError: If the model's head does not predict tokens.
    """
    if not isinstance(model, ModelWithHead) or "language" not in model.kind:
        kind = getattr(model, "kind", type(model).__name__)
        raise TrainingError(
            f"A language-model objective needs a model with a language head, but this one is a `{kind}`. "
            "Build it with `kerasllm.models.builders.build_with_head` from a checkpoint with such a head."
        )
    fed = {name: inputs[name] for name in model.backbone.input}
    hidden = model.backbone(fed, training=training)["sequence_output"]
    return tf.cast(hidden, model.head.compute_dtype)


def language_losses(
    model: ModelWithHead,
    hidden: Any,
    labels: Any,
    weights: Any,
    *,
    training: bool,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
    skip_unweighted: bool = True,
) -> TokenLosses:
    """Losses of tokens from their vectors, through the model's own head.

    Args:
        model: With a language head.
        hidden: Vectors `(n, dim)` of `token_vectors`.
        labels: Ids of the right tokens, `(n,)`; anything where the weight is zero.
        weights: `float32[n]`.
        training: Whether dropout is on.
        label_smoothing: Share of the target spread over the vocabulary. Defaults to 0.
        chunk_size: See `chunked_crossentropy_sum`.
        skip_unweighted: See `chunked_crossentropy_sum`.
    """
    head = model.head
    features = head.features(hidden, training=training)
    output, tied = head.output_dense, head.settings.tied
    if not tied and _has_more_than_a_matrix(output):
        return _plain(head.logits(features), labels, weights, label_smoothing)
    matrix = model.backbone.token_embedding.embeddings if tied else output.kernel
    return chunked_crossentropy_sum(
        features,
        matrix,
        labels,
        weights,
        bias=output.bias,
        vocabulary_axis=0 if tied else 1,
        label_smoothing=label_smoothing,
        softcap=head.settings.softcap,
        chunk_size=chunk_size,
        table_gradient=any(
            getattr(weight, "trainable", True) for weight in (matrix, output.bias) if weight is not None
        ),
        skip_unweighted=skip_unweighted,
        gradient=training,
    )


def _has_more_than_a_matrix(output: Any) -> bool:
    """Whether the output layer has an adapter or a quantized matrix, which only its own `call` knows."""
    names = ("adapter", "int8", "lora_enabled", "quantization_mode")
    return any(getattr(output, name, None) for name in names)


def _plain(logits: Any, labels: Any, weights: Any, label_smoothing: float) -> TokenLosses:
    counts = tf.not_equal(weights, 0.0)
    labels = tf.where(counts, tf.cast(labels, tf.int32), 0)
    losses = tf.where(counts, crossentropy(labels, logits, label_smoothing=label_smoothing), 0.0)
    chosen = tf.gather(logits, labels, batch_dims=1)
    right = tf.cast(chosen >= tf.reduce_max(logits, axis=-1), tf.float32)
    log_losses = tf.where(counts, crossentropy(labels, logits), 0.0)
    rest = (tf.stop_gradient(value) for value in (losses, log_losses, tf.where(counts, right, 0.0)))
    return TokenLosses(tf.reduce_sum(weights * losses), *rest)
