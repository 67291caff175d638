"""TensorBoard's logs of a run, an extra: TensorFlow no longer brings the package that writes them."""

import importlib.util
import os
from pathlib import Path

import keras

from kerasllm.errors import DependencyError

__all__ = ["check_tensorboard", "tensorboard_callback"]


def check_tensorboard() -> None:
    """Raises a `DependencyError` if the package `tensorboard` is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise DependencyError(
            "TensorBoard's logs need the package `tensorboard`, which is not installed. Run "
            "`pip install 'kerasllm[tensorboard]'`, or leave `training.tensorboard` at false."
        )


def tensorboard_callback(directory: str | os.PathLike[str]) -> keras.callbacks.TensorBoard:
    """The callback that writes the logs of each epoch, and the learning rate, for TensorBoard.

    A run that goes on writes into the same folder, and its curves go on.

    Args:
        directory: Folder of the logs, `logs/` of a run directory.

    Raises:
        DependencyError: If the package `tensorboard` is not installed.

    Example:
    >>> model.fit(batches, callbacks=[tensorboard_callback("runs/reviews/logs")])
    """
    check_tensorboard()
    return keras.callbacks.TensorBoard(str(Path(directory)), write_graph=False)
