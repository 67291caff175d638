"""How much two answers to one text differ: the Kullback-Leibler divergence, taken in both directions."""

from typing import Any

from keras import ops

__all__ = ["binary_divergence", "divergence"]


def divergence(first: Any, second: Any) -> Any:
    """Half the sum of the divergences of two softmax distributions from each other.

    Args:
        first: Logits `(…, num_classes)` of any float type; computed in float32.
        second: The same shape.

    Returns:
        float32 of that shape without its last dimension, at least 0.
    """
    first, second = (ops.log_softmax(ops.cast(part, "float32"), axis=-1) for part in (first, second))
    # KL(p, q) + KL(q, p) is the sum of (p - q) (log p - log q).
    each = (ops.exp(first) - ops.exp(second)) * (first - second)
    return 0.5 * ops.sum(each, axis=-1)


def binary_divergence(first: Any, second: Any) -> Any:
    """Mean over the labels of half the sum of the divergences of two yes-or-no distributions.

    Args:
        first: Logits `(…, num_labels)` of any float type; computed in float32.
        second: The same shape.

    Returns:
        float32 of that shape without its last dimension, at least 0.
    """
    first, second = ops.cast(first, "float32"), ops.cast(second, "float32")
    # The log odds differ by the logits' difference, in both of the two outcomes.
    each = (ops.sigmoid(first) - ops.sigmoid(second)) * (first - second)
    return 0.5 * ops.mean(each, axis=-1)
