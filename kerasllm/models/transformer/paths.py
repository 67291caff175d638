"""Finds the dense layers of a backbone by their paths, and changes what a built one is made of."""

import contextlib
from collections.abc import Iterator

import keras

from kerasllm.models.transformer.dense import Dense

__all__ = ["dense_layers", "in_scope_of", "unlocked"]


def dense_layers(model: keras.Model) -> dict[str, Dense]:
    """The dense layers of a backbone's stacks by their paths."""
    backbone = getattr(model, "backbone", model)
    return {
        layer.path: layer
        for layer in backbone._flatten_layers()
        if isinstance(layer, Dense) and "_layer_" in layer.path
    }


@contextlib.contextmanager
def in_scope_of(layer: keras.layers.Layer) -> Iterator[None]:
    """Paths of weights that are made inside begin with the layer's."""
    with contextlib.ExitStack() as scopes:
        for name in layer.path.split("/"):
            scopes.enter_context(keras.name_scope(name))
        yield


@contextlib.contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """Inside, a built layer may get and lose weights and layers, as in Keras' own `enable_lora`."""
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()
