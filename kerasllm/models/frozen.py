"""The weights that adapters are trained on: which they are, and a hash of them."""

import hashlib
from typing import Any

import keras
import numpy as np

from kerasllm.models.adapters import adapted_layers, base_weights

__all__ = ["base_fingerprint", "fingerprint", "frozen_weights"]


def frozen_weights(model: keras.Model) -> list[Any]:
    """The weights that training leaves as they are because adapters are trained instead.

    Args:
        model: A model with a head, or any other.

    Returns:
        Keras variables of the backbone, and of a language model's head, in the model's order; none where the
        model has no adapters. What somebody has made trainable again is not among them.
    """
    if not adapted_layers(model):
        return []
    own = {id(weight) for weight in getattr(model, "backbone", model).weights}
    if "language" in getattr(model, "kind", ""):
        own |= {id(weight) for weight in model.head.weights}
    return [weight for weight in base_weights(model) if id(weight) in own and not weight.trainable]


def fingerprint(weights: list[Any]) -> str:
    """SHA-256 of values, types and shapes, as 64 hexadecimal digits; the order does matter."""
    total = hashlib.sha256()
    for weight in weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        total.update(f"{values.dtype} {values.shape}\n".encode())
        total.update(values.view(np.uint8).reshape(-1).data)
    return total.hexdigest()


def base_fingerprint(model: keras.Model) -> str:
    """A hash of the backbone without its adapters, whatever is trained of it."""
    backbone = getattr(model, "backbone", model)
    own = {weight.path for weight in backbone.weights}
    weights = {weight.path: weight for weight in base_weights(model) if weight.path in own}
    return fingerprint([weights[path] for path in sorted(weights)])
