"""The callbacks of a run: keep its state, know the best one, stop on numbers that are no numbers."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence

import keras

from kerasllm.errors import ResourceError, TrainingError
from kerasllm.training.callback_state import callback_state
from kerasllm.training.checkpoints import Checkpoints, RunState, checkpoint_name
from kerasllm.training.run_directory import RunDirectory
from kerasllm.training.timetable import Timetable

_log = logging.getLogger("kerasllm.training")
# Ends of the names of figures of which less is better.
_LOW = ("loss", "error", "perplexity", "brier_score")


def is_better_low(monitor: str) -> bool:
    """Whether less of a monitored figure is better, by its name."""
    return monitor.endswith(_LOW)


def is_better(monitor: str, now: tuple[float, float | None], best: tuple[float | None, float | None]) -> bool:
    """Whether a state is better than the best so far; of equal figures, that with the lower loss is.

    Args:
        monitor: Name of the figure that decides.
        now: Its value, and the validation loss.
        best: The same of the best state, `None` before there is one.
    """
    value, loss = now
    best_value, best_loss = best
    if math.isnan(value):
        return False
    if best_value is None:
        return True
    if value == best_value:
        return loss is not None and best_loss is not None and loss < best_loss
    return value < best_value if is_better_low(monitor) else value > best_value


class RunCheckpoints(keras.callbacks.Callback):
    """Keeps the state of a run, remembers the best one, and stops when it gets no better.

    It must be the last callback, so that what it saves of the others is what they knew after the step.

    Args:
        run: Run directory, which gets `checkpoints/` and `history.csv`.
        checkpoints: Where the state is saved.
        state: Where the run stands; updated in place.
        table: Steps of each epoch.
        monitor: Name of the log entry that decides; where it is missing, the last epoch is the best.
        patience: Epochs without improvement after which training stops, `None` for never.
        patience_steps: The same in steps.
        every: Steps between two checkpoints, beside those at the end of each epoch; `None` for none.
        evaluate: Returns the validation logs, or `None` without validation rows.
        evaluate_every: Steps between two evaluations, beside those at the end of each epoch.
        others: The user's callbacks, whose counters (numbers, texts) are saved too.
        show: Shows the logs of an evaluation in the middle of an epoch. Defaults to `None`.
    """

    def __init__(
        self,
        run: RunDirectory,
        checkpoints: Checkpoints,
        state: RunState,
        table: Timetable,
        *,
        monitor: str,
        patience: int | None = None,
        patience_steps: int | None = None,
        every: int | None = None,
        evaluate: Callable[[], dict[str, float]] | None = None,
        evaluate_every: int | None = None,
        others: Sequence[keras.callbacks.Callback] = (),
        show: Callable[[dict[str, float]], None] | None = None,
    ):
        super().__init__()
        self.run = run
        self.checkpoints = checkpoints
        self.state = state
        self.table = table
        self.monitor = monitor
        self.patience = patience
        self.patience_steps = patience_steps
        self.every = every
        self.evaluate = evaluate
        self.evaluate_every = evaluate_every
        self.others = list(others)
        self.show = show
        self._in_evaluation = False

    def on_train_begin(self, logs=None):
        """Gives the user's callbacks back what they knew; `on_train_begin` of most resets it."""
        for callback, known in zip(self.others, self.state.callbacks, strict=False):
            if known["class"] == type(callback).__qualname__:  # else it is another one, and begins anew
                vars(callback).update(known["state"])
        if self.state.history:  # a kill may have come between a checkpoint and this file
            self.run.write_history(self.state.history)
        if self._is_due_at(self.state.step) and not self.table.ends_epoch(self.state.step):
            self._evaluate()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step, and saves or evaluates when it is time."""
        self.state.step += 1
        step, ends_epoch = self.state.step, self.table.ends_epoch(self.state.step)
        due = self._is_due_at(step) and not ends_epoch
        # Before an evaluation too: it may take long, and its end is not the place to lose an epoch.
        if due or (self.every and step % self.every == 0) or (ends_epoch and self.evaluate is not None):
            self.save()
        if due:
            self._evaluate()

    def on_epoch_end(self, epoch, logs=None):
        """Saves, and decides whether to go on."""
        logs = {name: float(value) for name, value in (logs or {}).items()}
        self.state.epoch = epoch + 1
        self.state.history.append(logs)
        self._judge(logs, ends_epoch=True)
        self.run.write_history(self.state.history)

    def save(self, *, ends_epoch: bool = False) -> bool:
        """Saves the state; a full disk costs a warning and this checkpoint, never the run.

        Returns:
            Whether it was saved.
        """
        self.state.callbacks = [
            {"class": type(callback).__qualname__, "state": callback_state(callback)}
            for callback in self.others
        ]
        try:
            self.checkpoints.save(self.model, self.state, ends_epoch=ends_epoch)
        except (ResourceError, OSError) as error:
            free = shutil.disk_usage(self.checkpoints.directory).free
            _log.warning(
                "The checkpoint of step %d was not written (%s; %.1f MB free). Training goes on; the last "
                "good one is %s.",
                self.state.step,
                error,
                free / 1e6,
                (self.checkpoints.names() or ["none"])[-1],
            )
            return False
        return True

    def save_if_new(self) -> None:
        """Saves a run that is being stopped between two steps, where the newest checkpoint is older."""
        newest = (self.checkpoints.names() or [""])[-1]
        if not self._in_evaluation and self.state.step and newest < checkpoint_name(self.state.step):
            self.save()

    def _judge(self, logs: dict[str, float], *, ends_epoch: bool) -> None:
        """Saves, as the best one so far where it is."""
        state = self.state
        before = (state.best, state.best_step, state.best_epoch, state.best_value, state.best_loss)
        value, loss = logs.get(self.monitor), logs.get("val_loss")
        if value is None or is_better(self.monitor, (value, loss), (state.best_value, state.best_loss)):
            state.best = checkpoint_name(state.step, ends_epoch=ends_epoch)
            state.best_step, state.best_value, state.best_loss = state.step, value, loss
            state.best_epoch = state.epoch if ends_epoch else state.epoch + 1
        if self._has_waited_enough(ends_epoch):
            self.model.stop_training = True
        state.is_over = ends_epoch and bool(self.model.stop_training)
        if not self.save(ends_epoch=ends_epoch):
            state.best, state.best_step, state.best_epoch, state.best_value, state.best_loss = before

    def _has_waited_enough(self, ends_epoch: bool) -> bool:
        steps = self.state.step - self.state.best_step
        if self.patience_steps is not None and steps >= self.patience_steps:
            return True
        return ends_epoch and self.patience is not None and self.state.epochs_since_best >= self.patience

    def _evaluate(self) -> None:
        """Evaluates in the middle of an epoch."""
        self._in_evaluation = True
        logs = {name: float(value) for name, value in self.evaluate().items()}  # type: ignore[misc]
        self._in_evaluation = False
        self.state.evaluations.append({"step": self.state.step, **logs})
        self.run.write_evaluations(self.state.evaluations)
        if self.show is not None:
            self.show(logs)
        self._judge(logs, ends_epoch=False)

    def _is_due_at(self, step: int) -> bool:
        if self.evaluate is None or not self.evaluate_every or not step or step % self.evaluate_every:
            return False
        return all(logs["step"] != step for logs in self.state.evaluations)


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
