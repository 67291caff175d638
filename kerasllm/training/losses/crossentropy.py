"""Cross-entropy of class numbers, and of labels that are each a yes or no, with label smoothing."""

from typing import Any

from keras import ops

__all__ = ["binary_crossentropy", "crossentropy"]


def crossentropy(targets: Any, logits: Any, *, label_smoothing: float = 0.0) -> Any:
    """Cross-entropy of class numbers against logits.

    Keras' own `SparseCategoricalCrossentropy` has no label smoothing. With smoothing `s` and `k` classes
    the target is `1 - s + s / k` for the right class and `s / k` for each other, as in PyTorch.

    Args:
        targets: Class numbers, integers of shape `(…)`.
        logits: `(…, num_classes)` of any float type; computed in float32.
        label_smoothing: `s`, at least 0 and below 1. Defaults to 0.

    Returns:
        float32 of the shape of `targets`.

    Source: Szegedy et al., 2016 (https://arxiv.org/abs/1512.00567).
    """
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    loss = -log_probability_of(targets, log_probabilities)
    if not label_smoothing:
        return loss
    uniform = -ops.mean(log_probabilities, axis=-1)
    return (1.0 - label_smoothing) * loss + label_smoothing * uniform


def log_probability_of(targets: Any, log_probabilities: Any) -> Any:
    """The log-probability of each target.

    A product with one-hot targets would be NaN where a logit is so low that its log-probability is minus
    infinity.
    """
    places = ops.expand_dims(ops.cast(targets, "int32"), -1)
    return ops.squeeze(ops.take_along_axis(log_probabilities, places, axis=-1), -1)


def binary_crossentropy(targets: Any, logits: Any, *, label_smoothing: float = 0.0) -> Any:
    """Mean over the labels of the cross-entropy of each label's yes or no.

    Args:
        targets: Zeros and ones, `(…, num_labels)`.
        logits: The same shape, of any float type; computed in float32.
        label_smoothing: Share `s` of each target that becomes a half: `(1 - s) * target + s / 2`, as in
            Keras. Defaults to 0.

    Returns:
        float32 of the shape of `targets` without its last dimension.
    """
    logits, targets = ops.cast(logits, "float32"), ops.cast(targets, "float32")
    targets = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    each = ops.relu(logits) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
    return ops.mean(each, axis=-1)
