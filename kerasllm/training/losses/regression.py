"""Losses on numbers: squared error, Huber, and the similarity of two vectors."""

from typing import Any

from keras import ops

__all__ = ["cosine_similarity", "huber", "similarity_error", "squared_error"]

_SHORTEST = 1e-8  # length that shorter vectors count as having: no direction, no NaN


def squared_error(targets: Any, outputs: Any) -> Any:
    """Squared error, its mean over the numbers of a text where it has several.

    Args:
        targets: Numbers of shape `(batch,)` or `(batch, numbers)`.
        outputs: `(batch,)`, `(batch, 1)` or the shape of `targets`, of any float type.

    Returns:
        `float32[batch]`.
    """
    return _mean_of_text(ops.square(_errors(targets, outputs)))


def huber(targets: Any, outputs: Any, *, delta: float = 1.0) -> Any:
    """Huber loss: half the squared error up to `delta`, from there on a straight line.

    Args:
        targets: Numbers of shape `(batch,)` or `(batch, numbers)`.
        outputs: `(batch,)`, `(batch, 1)` or the shape of `targets`, of any float type.
        delta: Error from which on outliers count less. Defaults to 1.

    Returns:
        `float32[batch]`.

    Source: Huber, 1964 (https://doi.org/10.1214/aoms/1177703732); scaled as in Keras and PyTorch.
    """
    distance = ops.abs(_errors(targets, outputs))
    small = ops.minimum(distance, delta)
    return _mean_of_text(0.5 * ops.square(small) + delta * (distance - small))


def cosine_similarity(first: Any, second: Any) -> Any:
    """Cosine of the angle between vectors, `float32[batch]` from -1 to 1; 0 where one of them is zero.

    Args:
        first: Vectors `(batch, dim)` of any float type.
        second: The same shape.
    """
    return ops.sum(_unit(first) * _unit(second), axis=-1)


def similarity_error(scores: Any, first: Any, second: Any) -> Any:
    """Squared error of the cosine similarity of two vectors.

    What sentence-transformers calls `CosineSimilarityLoss`.

    Args:
        scores: How similar the texts of each pair are, `(batch,)`, from -1 or 0 to 1.
        first: Vectors `(batch, dim)` of the first texts, of any float type.
        second: Vectors of the second texts.

    Returns:
        `float32[batch]`.

    Source: Reimers and Gurevych, 2019 (https://arxiv.org/abs/1908.10084), section 3.
    """
    return ops.square(cosine_similarity(first, second) - ops.cast(scores, "float32"))


def _unit(vectors: Any) -> Any:
    vectors = ops.cast(vectors, "float32")
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    # A vector without a direction has no gradient either: one over its length would be infinite in float16.
    known = squares > _SHORTEST**2
    return vectors * ops.where(known, ops.rsqrt(ops.where(known, squares, 1.0)), 0.0)


def _errors(targets: Any, outputs: Any) -> Any:
    targets, outputs = ops.cast(targets, "float32"), ops.cast(outputs, "float32")
    if len(targets.shape) == len(outputs.shape) - 1 and outputs.shape[-1] == 1:
        outputs = ops.squeeze(outputs, -1)
    if len(targets.shape) != len(outputs.shape):
        raise ValueError(
            f"The targets have the shape {tuple(targets.shape)} and the outputs {tuple(outputs.shape)}; "
            "give the model as many outputs a text as there are numbers to learn."
        )
    return outputs - targets


def _mean_of_text(losses: Any) -> Any:
    return losses if len(losses.shape) == 1 else ops.mean(losses, axis=-1)
