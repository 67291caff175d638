"""A frozen backbone whose matrices are in 8 bits, for adapters to be trained on it (QLoRA)."""

import keras
import numpy as np

from kerasllm.errors import AdapterError
from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.int8 import Int8Matrix
from kerasllm.models.transformer.paths import dense_layers, in_scope_of, unlocked

__all__ = ["check_trainable", "quantize_backbone", "quantized_layers"]


def quantize_backbone(model: keras.Model) -> list[str]:
    """Freezes the backbone, and rounds the matrices of its dense layers to 8 bits, in place.

    Of a matrix of float32, a quarter of the memory is left. Embeddings, norms, biases, routers of experts and
    the head stay as they are, as in QLoRA. The rounding cannot be undone.

    Args:
        model: A backbone, or a model with a head on one. It may have adapters already.

    Returns:
        Paths of the layers.

    Raises:
        AdapterError: If it has been rounded already, has no such layers, or a matrix is not finite.

    Example:
    >>> len(quantize_backbone(model))
    12
    """
    if quantized_layers(model):
        raise AdapterError("The backbone is in 8 bits already. Load the model anew, or go on with it.")
    chosen = {
        path: layer
        for path, layer in dense_layers(model).items()
        if layer.built and not path.endswith("/router")
    }
    if not chosen:
        raise AdapterError("The model has no dense layers whose matrices could be kept in 8 bits.")
    for path, layer in chosen.items():
        if not np.isfinite(np.asarray(layer.kernel, np.float32)).all():
            raise AdapterError(
                f"The matrix of `{path}` has values that are not finite, which 8 bits cannot hold. Load the "
                "checkpoint anew."
            )
    getattr(model, "backbone", model).trainable = False
    for layer in chosen.values():
        matrix = np.asarray(layer.kernel, np.float32)
        replace_by_int8(layer)
        layer.int8.assign(matrix)
    return list(chosen)


def quantized_layers(model: keras.Model) -> dict[str, Dense]:
    """The dense layers whose matrices are in 8 bits, by their paths."""
    return {path: layer for path, layer in dense_layers(model).items() if layer.int8 is not None}


def check_trainable(model: keras.Model) -> None:
    """Refuses to train what has nothing to train, as a backbone in 8 bits without adapters.

    Raises:
        AdapterError: If the backbone is in 8 bits and has no adapters, or nothing is trainable at all.
    """
    if quantized_layers(model) and not any(
        layer.adapter is not None for layer in dense_layers(model).values()
    ):
        raise AdapterError(
            "The backbone is in 8 bits, which cannot be trained. Put adapters on it (`add_lora`, "
            "`-s model.lora.rank=8`), or train all weights in floating point (`model.lora: none`)."
        )
    if not model.trainable_weights:
        raise AdapterError(
            "Nothing of the model is trainable. Put adapters on it (`add_lora`), or set `trainable` of what "
            "is to be trained."
        )


def copy_quantization(source: keras.Model, target: keras.Model) -> None:
    """Makes room for matrices in 8 bits where another model with the same backbone has them."""
    layers = dense_layers(target)
    for path in quantized_layers(source):
        replace_by_int8(layers[path])


def replace_by_int8(layer: Dense) -> None:
    """Takes a dense layer's matrix away, and makes one in 8 bits, of zeros, instead."""
    matrix = Int8Matrix(layer.units, dtype=layer.dtype_policy, name="kernel_int8")
    with in_scope_of(layer):
        matrix.build((None, layer.input_dim))
    with unlocked(layer):
        layer._untrack_variable(layer._kernel)
        layer._delete_tracking("_kernel")  # else TensorFlow would hold the matrix for ever
        layer._kernel = None
        layer.int8 = matrix
