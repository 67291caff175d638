"""Ctrl-C while a model trains."""

import os
import signal
import threading

import keras
import numpy as np
import pytest

from kerasllm.training.interrupts import StopBetweenBatches, Stopped


class PressCtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C in a destructor, where Python forgets a `KeyboardInterrupt`."""

    def __init__(self, times=1):
        super().__init__()
        self.times = times
        self.batches = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.batches += 1
        for _ in range(self.times if batch == 2 else 0):
            _InDestructor()

    def __deepcopy__(self, memo):
        return self


class _InDestructor:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler runs between two byte codes of this method
            pass


@pytest.fixture
def model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(model, interrupts, press):
    rows = np.zeros([40, 2], "float32")
    with interrupts.listening():
        model.fit(rows, rows[:, :1], batch_size=4, verbose=0, callbacks=[interrupts, press])


def test_a_key_press_that_python_forgets_ends_training_after_the_batch(model, caplog):
    press = PressCtrlC()
    with pytest.raises(KeyboardInterrupt):
        fit(model, StopBetweenBatches(), press)
    assert press.batches == 3
    assert "Stopping after this batch. Press Ctrl-C again to stop at once." in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_key_press_after_the_last_batch_is_not_lost():
    with pytest.raises(KeyboardInterrupt), StopBetweenBatches().listening():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_key_press_stops_at_once():
    with pytest.raises(Stopped, match="Stopped at once") as stopped, StopBetweenBatches().listening():
        press_twice()
    assert (stopped.value.status, stopped.value.at_once) == (130, True)


def press_twice():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("not stopped")


def test_the_handler_of_a_user_and_other_threads_are_left_alone(model):
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        fit(model, StopBetweenBatches(), PressCtrlC())
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed
    thread = threading.Thread(target=fit, args=(model, StopBetweenBatches(), PressCtrlC(times=0)))
    thread.start()
    thread.join()
