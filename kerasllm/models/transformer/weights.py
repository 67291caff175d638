"""Layers whose weights begin as those of a checkpoint, so that no second copy is ever in memory."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

__all__ = ["Weighted", "weights_from"]

# Gives the values of the weight of that path and shape, or `None` for a new weight.
Source = Callable[[str, tuple[int, ...]], "np.ndarray | None"]
_source: ContextVar[Source | None] = ContextVar("source", default=None)


@contextlib.contextmanager
def weights_from(source: Source) -> Iterator[None]:
    """Weights of `Weighted` layers that are built inside begin with the values that `source` gives."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


class Weighted:
    """A layer that asks `weights_from` for its weights; the first among the bases."""

    path: str

    def add_weight(
        self, shape: Any = None, initializer: Any = None, *args: Any, name: str | None = None, **kwargs: Any
    ) -> Any:
        """Like Keras' own; the initial values come from the checkpoint where it has them."""
        source = _source.get()
        values = None if source is None else source(f"{self.path}/{name}", tuple(shape))
        if values is not None:
            initializer = _Values(values)
        weight: Any = super().add_weight(shape, initializer, *args, name=name, **kwargs)  # type: ignore[misc]
        return weight


class _Values:
    """An initializer that gives values once, and forgets them."""

    def __init__(self, values: np.ndarray):
        self._values: np.ndarray | None = values

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        import tensorflow as tf

        values, self._values = self._values, None
        return tf.convert_to_tensor(values, dtype)
