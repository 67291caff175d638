"""Focal loss: cross-entropy that looks away from what the model gets right already."""

from typing import Any

from keras import ops

from kerasllm.training.losses.crossentropy import log_probability_of

__all__ = ["binary_focal", "focal"]

# Below it `1 - p` of a certain answer counts as this, since its power has no finite slope at zero.
_SMALLEST = 1e-12


def focal(targets: Any, logits: Any, *, gamma: float = 2.0) -> Any:
    """Focal loss of class numbers against logits: `-(1 - p)^gamma * log p` of the right class' probability.

    The paper's `alpha` is the weight of a class, which goes into the weights of the texts.

    Args:
        targets: Class numbers, integers of shape `(…)`.
        logits: `(…, num_classes)` of any float type; computed in float32.
        gamma: How strongly easy texts are passed over; 0 is the cross-entropy. Defaults to 2.

    Returns:
        float32 of the shape of `targets`.

    Source: Lin et al., 2017 (https://arxiv.org/abs/1708.02002), equation 4.
    """
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    right = log_probability_of(targets, log_probabilities)
    wrong = ops.maximum(-ops.expm1(right), _SMALLEST)
    return -ops.power(wrong, gamma) * right


def binary_focal(targets: Any, logits: Any, *, gamma: float = 2.0) -> Any:
    """Mean over the labels of the focal loss of each label's yes or no.

    Args:
        targets: Zeros and ones, `(…, num_labels)`.
        logits: The same shape, of any float type; computed in float32.
        gamma: How strongly easy labels are passed over; 0 is the cross-entropy. Defaults to 2.

    Returns:
        float32 of the shape of `targets` without its last dimension.

    Source: Lin et al., 2017 (https://arxiv.org/abs/1708.02002), equation 4.
    """
    logits, targets = ops.cast(logits, "float32"), ops.cast(targets, "float32")
    towards_right = logits * (2.0 * targets - 1.0)
    # log(1 - p) is -softplus of the logit, so the power of `1 - p` is exact also where `p` rounds to one.
    each = ops.exp(-gamma * ops.softplus(towards_right)) * ops.softplus(-towards_right)
    return ops.mean(each, axis=-1)
