"""What a run shows while it trains: a bar on a terminal, plain lines in a pipe."""

import logging
import sys
import time

import keras

_log = logging.getLogger("kerasllm.training")
_LINES_PER_EPOCH = 5


def progress(*, num_epochs: int, steps_per_epoch: int) -> "ProgressBar | ProgressLines":
    """The callback that fits standard error: `ProgressBar` on a terminal, else `ProgressLines`.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each.
    """
    kind: type[ProgressBar | ProgressLines] = ProgressBar if sys.stderr.isatty() else ProgressLines
    return kind(num_epochs=num_epochs, steps_per_epoch=steps_per_epoch)


def format_logs(logs: dict) -> str:
    """Formats Keras logs for a line: `loss 0.412 · val_macro_f1 0.831`."""
    return " · ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())


class ProgressLines(keras.callbacks.Callback):
    """Logs a few lines an epoch, for pipes and log files.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each.
    """

    def __init__(self, *, num_epochs: int, steps_per_epoch: int):
        super().__init__()
        self.num_epochs = num_epochs
        self.steps_per_epoch = steps_per_epoch
        self._every = max(1, steps_per_epoch // _LINES_PER_EPOCH)
        self._epoch = 0
        self._began = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock of an epoch."""
        self._epoch, self._began = epoch, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Logs a line now and then."""
        step = batch + 1
        if step % self._every == 0 and step < self.steps_per_epoch:
            rate = step / max(time.monotonic() - self._began, 1e-9)
            left = (self.steps_per_epoch - step) / rate
            _log.info(
                "Epoch %d/%d, step %d/%d (%.1f steps/s, %.0f s left): %s",
                self._epoch + 1,
                self.num_epochs,
                step,
                self.steps_per_epoch,
                rate,
                left,
                format_logs(logs),
            )

    def on_epoch_end(self, epoch, logs=None):
        """Logs the figures of the epoch."""
        seconds = time.monotonic() - self._began
        _log.info("Epoch %d/%d done in %.0f s: %s", epoch + 1, self.num_epochs, seconds, format_logs(logs))

    def close(self) -> None:
        """Nothing to put back."""


class ProgressBar(keras.callbacks.Callback):
    """Draws a rich progress bar on standard error.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each.
    """

    def __init__(self, *, num_epochs: int, steps_per_epoch: int):
        super().__init__()
        from rich import progress as bars
        from rich.console import Console

        self.num_epochs = num_epochs
        self.steps_per_epoch = steps_per_epoch
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[logs]}"),
            console=Console(stderr=True),
        )
        self._task = bars.TaskID(0)

    def on_train_begin(self, logs=None):
        """Shows the bar."""
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Adds the bar of an epoch."""
        name = f"Epoch {epoch + 1}/{self.num_epochs}"
        self._task = self._bar.add_task(name, total=self.steps_per_epoch, logs="")

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        shown = {name: logs[name] for name in ("loss", "accuracy") if name in (logs or {})}
        self._bar.update(self._task, completed=batch + 1, logs=format_logs(shown))

    def on_epoch_end(self, epoch, logs=None):
        """Prints the figures of the epoch above the bar: beside it there is no room for them."""
        shown = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        self._bar.update(self._task, completed=self.steps_per_epoch, visible=False)
        line = f"Epoch {epoch + 1}/{self.num_epochs}: {format_logs(shown or logs or {})}"
        self._bar.console.print(line, markup=False)

    def on_train_end(self, logs=None):
        """Puts the terminal back."""
        self.close()

    def close(self) -> None:
        """Puts the terminal back, also after an interruption."""
        self._bar.stop()
