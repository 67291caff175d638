"""`SavedModelExport`: a version for the server out of the middle of anyone's `fit`."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from kerasllm.config.fields import close_match
from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.serving.exported_model import ExportedModel
    from kerasllm.tasks.text_classification import TextClassifier

__all__ = ["SavedModelExport"]

_log = logging.getLogger("kerasllm.export")


class SavedModelExport(keras.callbacks.Callback):
    """Exports a task model while it is trained, each time as the next version of one served model.

    An export is whole and checked, or it is not there: it is written under a temporary name, its answers are
    compared with Python's, and only then it gets its number. A server that watches the folder serves the
    best model so far while training goes on. An export that fails is logged, and training goes on.

    Args:
        path: Folder of the served model; it gets `1/`, `2/`, …
        task_model: What is exported: a task model that holds the model that `fit` trains, or a function that
            makes one from it.
        when: `"end"`, after training; `"best"`, after each epoch that is better than all before; or a
            number of epochs, after each so many. Defaults to `"end"`.
        monitor: Name of the log entry that decides what is best. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, the default: the least of a name that ends in `loss`, `error` or
            `brier_score`, the most of any other.
        dtype: Precision of the exported weights. Defaults to `"float32"`.
        probes: Texts that the comparison uses beside the built-in ones. Defaults to none.
        stop_on_error: Whether an export that fails ends the training. Defaults to `False`.

    Attributes:
        exports: What was exported, oldest first.

    Raises:
        ConfigError: If `when` or `mode` is none of these.

    Example:
    >>> classifier = kerasllm.load("hf://org/reviews-classifier")
    >>> classifier.keras_model.compile("adam", loss)
    >>> export = SavedModelExport("models/reviews", classifier, when="best")
    >>> classifier.keras_model.fit(batches, validation_data=validation, epochs=5, callbacks=[export])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        task_model: "TextClassifier | Callable[[keras.Model], TextClassifier]",
        *,
        when: str | int = "end",
        monitor: str = "val_loss",
        mode: str = "auto",
        dtype: str = "float32",
        probes: Sequence[Any] = (),
        stop_on_error: bool = False,
    ):
        super().__init__()
        if when not in ("end", "best") and not (isinstance(when, int) and when > 0):
            raise ConfigError(f"`when` is {when!r}, but must be 'end', 'best' or a number of epochs from 1.")
        if mode not in ("auto", "min", "max"):
            raise ConfigError(f"`mode` is {mode!r}, but must be 'auto', 'min' or 'max'.")
        self.path = Path(os.path.abspath(path))
        self.when, self.monitor = when, monitor
        self.best: float | None = None
        self.exports: list[ExportedModel] = []
        self._is_least_best = (
            monitor.endswith(("loss", "error", "brier_score")) if mode == "auto" else mode == "min"
        )
        self._task_model = task_model
        self._dtype, self._probes = dtype, tuple(probes)
        self._stop_on_error = stop_on_error

    def on_epoch_end(self, epoch, logs=None):
        """Exports, where the epoch is one to be exported."""
        if self.when == "best":
            if self._is_best(logs or {}):
                self._export(f"after epoch {epoch + 1}")
        elif self.when != "end" and (epoch + 1) % int(self.when) == 0:
            self._export(f"after epoch {epoch + 1}")

    def on_train_end(self, logs=None):
        """Exports the model as training leaves it."""
        if self.when == "end":
            self._export("after training")

    def _is_best(self, logs: dict[str, float]) -> bool:
        if self.monitor not in logs:
            match = close_match(self.monitor, logs)
            _log.warning(
                "The logs have no `%s` to tell the best model by, so none is exported. They have %s.%s",
                self.monitor,
                sorted(logs),
                f" Did you mean `{match}`?" if match else "",
            )
            return False
        value = logs[self.monitor]
        if self.best is None:
            is_better = value == value  # not NaN
        else:
            is_better = value < self.best if self._is_least_best else value > self.best
        if is_better:
            self.best = value
        return is_better

    def _export(self, moment: str) -> None:
        task_model: Any = self._task_model
        try:
            if not hasattr(task_model, "export"):
                task_model = task_model(self.model)
            self.exports.append(task_model.export(self.path, dtype=self._dtype, probes=self._probes))
        except Exception as error:
            if self._stop_on_error:
                raise
            _log.exception("The export %s failed (%s). Training goes on.", moment, error)
            return
        _log.info("Exported %s: %s", moment, self.exports[-1].path)
