"""What a run shows while it trains: a bar on a terminal, plain lines in a pipe."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import keras

from kerasllm.training.meter import UNKNOWN, CountBatch, Meter

_log = logging.getLogger("kerasllm.training")
_LINES_PER_EPOCH = 5


def progress(
    *,
    num_epochs: int,
    steps_per_epoch: int,
    count: CountBatch | None = None,
    monitor: str | None = None,
) -> "ProgressBar | ProgressLines":
    """The callback that fits standard error: `ProgressBar` on a terminal, else `ProgressLines`.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each; where `fit` tells another number for an epoch, that one counts.
        count: What is in a batch, by epoch and number in the epoch: then tokens a second and the padding
            are shown. Defaults to `None`.
        monitor: Name of the log entry that decides, which is shown once it is known. Defaults to `None`.
    """
    kind: type[ProgressBar | ProgressLines] = ProgressBar if sys.stderr.isatty() else ProgressLines
    return kind(num_epochs=num_epochs, steps_per_epoch=steps_per_epoch, count=count, monitor=monitor)


def format_logs(logs: Mapping[str, Any]) -> str:
    """Formats Keras logs for a line: `loss 0.412 · val_macro_f1 0.831`."""
    return " · ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())


def format_seconds(seconds: float) -> str:
    """Formats a duration: `0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Progress(keras.callbacks.Callback):
    """What both know: the steps of this process, the last figures, and the time that is left."""

    def __init__(
        self,
        *,
        num_epochs: int,
        steps_per_epoch: int,
        count: CountBatch | None = None,
        monitor: str | None = None,
    ):
        super().__init__()
        self.num_epochs = num_epochs
        self.steps_per_epoch = steps_per_epoch
        self.count = count
        self.monitor = monitor
        self._meter = Meter()
        self._known: dict[str, float] = {}
        self._epoch = self._first = self._done = 0
        self._began = self._ended = self._between = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock of an epoch."""
        self._epoch, self._first, self._done = epoch, -1, 0
        self._began = self._ended = time.monotonic()
        self.steps_per_epoch = (self.params or {}).get("steps") or self.steps_per_epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock of a step."""
        self._meter.begin_step()
        if self._first < 0:
            self._first = batch

    def on_train_batch_end(self, batch, logs=None):
        """Notes the figures of a step."""
        counts = UNKNOWN if self.count is None else self.count(self._epoch, batch)
        self._meter.end_step(counts)
        self._done, self._ended = batch + 1, time.monotonic()
        self._known.update(logs or {})

    def on_epoch_end(self, epoch, logs=None):
        """Notes the figures of an epoch, and how long validation took."""
        self._between = time.monotonic() - self._ended
        self._known.update(logs or {})

    def show(self, logs: Mapping[str, float]) -> None:
        """Notes figures that were measured between two steps, to be shown from now on."""
        self._known.update(logs)

    def close(self) -> None:
        """Puts back what was changed on the terminal."""

    @property
    def figures(self) -> str:
        """The loss and the metric that decides: `loss 0.412 · accuracy 0.84 · val_macro_f1 0.831`."""
        names = ["loss", (self.monitor or "").removeprefix("val_") or "accuracy", self.monitor or ""]
        names = names if names[1] in self._known else ["loss", "accuracy", self.monitor or ""]
        return format_logs({name: self._known[name] for name in names if name in self._known})

    @property
    def speed(self) -> str:
        """Steps and tokens a second, and the padding: `4.2 steps/s · 8,100 tokens/s · 7 % padding`."""
        meter = self._meter
        parts = [f"{1 / meter.mean_seconds:.3g} steps/s"] if meter.mean_seconds else []
        if meter.tokens_per_second:
            parts.append(f"{meter.tokens_per_second:,.0f} tokens/s")
        if meter.padding_share is not None:
            parts.append(f"{meter.padding_share:.0%} padding".replace("%", " %"))
        return " · ".join(parts)

    @property
    def seconds_left(self) -> tuple[float, float]:
        """Seconds left of the epoch, validation left out, and of the whole run."""
        seconds = self._meter.mean_seconds
        epoch = (self.steps_per_epoch - self._done) * seconds
        rest = self.num_epochs - self._epoch - 1
        return epoch, epoch + self._between + rest * (self.steps_per_epoch * seconds + self._between)

    @property
    def time_left(self) -> str:
        """`0:41 left, 12:10 of the run`; in the last epoch they are one."""
        epoch, run = self.seconds_left
        if self._epoch + 1 >= self.num_epochs:
            return f"{format_seconds(epoch)} left"
        return f"{format_seconds(epoch)} left, {format_seconds(run)} of the run"


class ProgressLines(_Progress):
    """Logs a few lines an epoch, for pipes and log files.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each.
        count: What is in a batch, by epoch and number. Defaults to `None`.
        monitor: Name of the log entry that decides. Defaults to `None`.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Logs a line now and then."""
        super().on_train_batch_end(batch, logs)
        step = batch + 1
        every = max(1, self.steps_per_epoch // _LINES_PER_EPOCH)
        if step % every == 0 and step < self.steps_per_epoch:
            _log.info(
                "Epoch %d/%d, step %d/%d (%s, %s): %s",
                self._epoch + 1,
                self.num_epochs,
                step,
                self.steps_per_epoch,
                self.speed,
                self.time_left,
                self.figures,
            )

    def show(self, logs):
        """Logs figures that were measured between two steps."""
        super().show(logs)
        _log.info("Epoch %d, evaluated after step %d: %s", self._epoch + 1, self._done, format_logs(logs))

    def on_epoch_end(self, epoch, logs=None):
        """Logs the figures of the epoch."""
        super().on_epoch_end(epoch, logs)
        seconds = time.monotonic() - self._began
        steps = "" if self._first <= 0 else f", from step {self._first + 1} on"
        _log.info(
            "Epoch %d/%d done in %.0f s%s: %s", epoch + 1, self.num_epochs, seconds, steps, format_logs(logs)
        )


class ProgressBar(_Progress):
    """Draws a rich progress bar on standard error.

    Args:
        num_epochs: Epochs of the run.
        steps_per_epoch: Steps of each.
        count: What is in a batch, by epoch and number. Defaults to `None`.
        monitor: Name of the log entry that decides. Defaults to `None`.
    """

    def __init__(
        self,
        *,
        num_epochs: int,
        steps_per_epoch: int,
        count: CountBatch | None = None,
        monitor: str | None = None,
    ):
        super().__init__(num_epochs=num_epochs, steps_per_epoch=steps_per_epoch, count=count, monitor=monitor)
        from rich import progress as bars
        from rich.console import Console

        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[left]}"),
            bars.TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def on_train_begin(self, logs=None):
        """Shows the bar."""
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Adds the bar of an epoch."""
        super().on_epoch_begin(epoch, logs)
        name = f"Epoch {epoch + 1}/{self.num_epochs}"
        self._task = self._bar.add_task(name, total=self.steps_per_epoch, left="", figures="")

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        super().on_train_batch_end(batch, logs)
        self._move(batch + 1)

    def show(self, logs):
        """Shows figures that were measured between two steps."""
        super().show(logs)
        line = f"Epoch {self._epoch + 1}, evaluated after step {self._done}: {format_logs(logs)}"
        self._bar.console.print(line, markup=False)
        self._move(self._done)

    def _move(self, step: int) -> None:
        if self._task is not None:
            figures = " · ".join(filter(None, (self.figures, self.speed)))
            self._bar.update(self._task, completed=step, left=self.time_left, figures=figures)

    def on_epoch_end(self, epoch, logs=None):
        """Prints the figures of the epoch above the bar: beside it there is no room for them."""
        super().on_epoch_end(epoch, logs)
        shown = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        self._bar.update(self._task, completed=self.steps_per_epoch, visible=False)
        line = f"Epoch {epoch + 1}/{self.num_epochs}: {format_logs(shown or logs or {})}"
        self._bar.console.print(f"{line} · {self.speed}" if self.speed else line, markup=False)

    def on_train_end(self, logs=None):
        """Puts the terminal back."""
        self.close()

    def close(self) -> None:
        """Puts the terminal back, also after an interruption."""
        self._bar.stop()
