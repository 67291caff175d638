"""What a Keras callback remembers, in plain values that a checkpoint can hold."""

import json
from typing import Any

import keras
import numpy as np

__all__ = ["callback_state"]

_NOT_ITS_OWN = ("params", "_model")


def callback_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The attributes of a callback that are numbers, texts, or lists and dicts of them.

    Put them back with `vars(callback).update(state)`.

    Args:
        callback: Any Keras callback. Arrays and objects that it keeps are left out.

    Example:
    >>> callback_state(keras.callbacks.EarlyStopping(patience=2))["patience"]
    2
    """
    state = {}
    for name, value in vars(callback).items():
        if name in _NOT_ITS_OWN or name.startswith("__"):
            continue
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            json.dumps(plain)
        except (TypeError, ValueError):
            continue
        state[name] = plain
    return state
