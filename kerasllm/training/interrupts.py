"""Ctrl-C while a model trains: between two batches, so that no file is half written and no key press lost."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras

_log = logging.getLogger("kerasllm.training")


class StopBetweenBatches(keras.callbacks.Callback):
    """Ends training after the batch in which Ctrl-C was pressed; pressed again, at once.

    Python raises `KeyboardInterrupt` wherever it happens to be. In a destructor or a callback of the garbage
    collector, of which TensorFlow has many, it is printed and forgotten, and training goes on.
    """

    def __init__(self):
        super().__init__()
        self._pressed = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes Ctrl-C over until the end, where it is Python's own to handle and this is the main thread.

        Raises:
            KeyboardInterrupt: At the end, if Ctrl-C was pressed and no batch came after.
        """
        ours_to_take = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if not ours_to_take:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._stop_if_pressed()

    def on_train_batch_end(self, batch, logs=None):
        """Ends training if Ctrl-C was pressed."""
        self._stop_if_pressed()

    def on_test_batch_end(self, batch, logs=None):
        """Ends training if Ctrl-C was pressed."""
        self._stop_if_pressed()

    def _press(self, number: int, frame: Any) -> None:
        if self._pressed:
            signal.default_int_handler(number, frame)
        self._pressed = True
        _log.warning("Stopping after this batch. Press Ctrl-C again to stop at once.")

    def _stop_if_pressed(self) -> None:
        if self._pressed:
            raise KeyboardInterrupt
