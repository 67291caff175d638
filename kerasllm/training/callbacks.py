"""The callbacks of a run: checkpoint each epoch, know the best, stop on numbers that are no numbers."""

import math

import keras

from kerasllm.errors import TrainingError
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.run_directory import RunDirectory


class EpochCheckpoint(keras.callbacks.Callback):
    """Saves the state after each epoch, remembers the best one, and stops when it gets no better.

    Args:
        run: Run directory, which gets `checkpoints/` and `history.csv`.
        checkpoints: Where the state is saved.
        state: Where the run stands; updated in place.
        monitor: Name of the log entry that decides; where it is missing, the last epoch is the best.
        patience: Epochs without improvement after which training stops, `None` for never.
    """

    def __init__(
        self,
        run: RunDirectory,
        checkpoints: Checkpoints,
        state: RunState,
        *,
        monitor: str,
        patience: int | None = None,
    ):
        super().__init__()
        self.run = run
        self.checkpoints = checkpoints
        self.state = state
        self.monitor = monitor
        self.patience = patience

    def on_epoch_end(self, epoch, logs=None):
        """Saves, and decides whether to go on."""
        logs = {name: float(value) for name, value in (logs or {}).items()}
        state = self.state
        state.epoch = epoch + 1
        state.history.append(logs)
        value = logs.get(self.monitor)
        if value is None or self._is_better(value):
            state.best_epoch, state.best_value = state.epoch, value
        self.checkpoints.save(self.model, state)
        self.run.write_history(state.history)
        if self.patience is not None and state.epochs_since_best >= self.patience:
            self.model.stop_training = True

    def _is_better(self, value: float) -> bool:
        best = self.state.best_value
        if math.isnan(value):
            return False
        return best is None or (value < best if self.monitor.endswith("loss") else value > best)


class FiniteLoss(keras.callbacks.Callback):
    """Stops the run at the first loss that is not a number, before anything is saved.

    Keras' `TerminateOnNaN` ends training as if all were well, and other callbacks then save the broken
    weights (keras #21771).
    """

    def __init__(self):
        super().__init__()
        self._last: float | None = None
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch, for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the mean loss of the epoch so far."""
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            self._last = loss
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        before = "the very first step" if self._last is None else f"a mean loss of {self._last:.4g}"
        raise TrainingError(
            f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}, at learning rate "
            f"{rate:.2g}, after {before}. Lower `training.learning_rate`, or use the dtype policy float32 or "
            "mixed_bfloat16. No checkpoint holds these weights."
        )
