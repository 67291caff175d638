"""Ctrl-C and SIGTERM while a model trains: between two batches, so that no file is half written."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras

_log = logging.getLogger("kerasllm.training")


class Stopped(KeyboardInterrupt):
    """A signal ended the run.

    Attributes:
        status: What the process should exit with: 130 after Ctrl-C, 143 after SIGTERM, as shells have it.
        at_once: Whether it was the second one, after which nothing more may be saved.
    """

    def __init__(self, message: str = "", *, status: int = 128 + signal.SIGINT, at_once: bool = False):
        super().__init__(message)
        self.status = int(status)
        self.at_once = at_once


class StopBetweenBatches(keras.callbacks.Callback):
    """Ends training after the batch in which Ctrl-C or SIGTERM came; at the second one, at once.

    Python raises `KeyboardInterrupt` wherever it happens to be. In a destructor or a callback of the garbage
    collector, of which TensorFlow has many, it is printed and forgotten, and training goes on.
    """

    def __init__(self):
        super().__init__()
        self._signal = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals over until the end, where they are Python's own and this is the main thread.

        Raises:
            Stopped: At the end, if one came and no batch came after.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number, default in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
            ):
                if signal.getsignal(number) is default:
                    before[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._stop_if_asked()

    def on_train_batch_end(self, batch, logs=None):
        """Ends training if a signal came."""
        self._stop_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        """Ends training if a signal came."""
        self._stop_if_asked()

    def _note(self, number: int, frame: Any) -> None:
        if self._signal:
            sentence = "Stopped at once; the newest checkpoint is what is left of the run."
            raise Stopped(sentence, status=128 + number, at_once=True)
        self._signal = number
        _log.warning("Stopping after this batch. Press Ctrl-C again to stop at once.")

    def _stop_if_asked(self) -> None:
        if self._signal:
            raise Stopped(status=128 + self._signal)
