"""`TaskMetrics`: the project's own metrics of the whole validation set, in anyone's `fit`."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config.fields import close_match
from kerasllm.errors import ConfigError, DataError
from kerasllm.metrics import accuracy, brier_score, expected_calibration_error, f1, log_loss

if TYPE_CHECKING:
    from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["TaskMetrics"]

_log = logging.getLogger("kerasllm.training")
# Each takes targets, predicted classes and probabilities.
_METRICS: dict[str, Callable[[Any, Any, Any], float]] = {
    "accuracy": lambda true, guess, table: accuracy(true, guess),
    "brier_score": lambda true, guess, table: brier_score(true, table),
    "calibration_error": lambda true, guess, table: expected_calibration_error(true, table),
    "log_loss": lambda true, guess, table: log_loss(true, table),
    "macro_f1": lambda true, guess, table: f1(true, guess, num_classes=table.shape[1]),
    "micro_f1": lambda true, guess, table: f1(true, guess, average="micro", num_classes=table.shape[1]),
    "weighted_f1": lambda true, guess, table: f1(true, guess, average="weighted", num_classes=table.shape[1]),
}


class TaskMetrics(keras.callbacks.Callback):
    """Measures a classifier on labelled data after each epoch, and adds `val_…` to the logs.

    The metrics are those of `kerasllm.metrics`, of all examples at once: no means over batches. Callbacks
    behind it (`EarlyStopping`, `ModelCheckpoint`, TensorBoard) and `History` see them; a Keras metric of
    the same name is replaced. Sample weights do not count.

    Args:
        data: `(x, y)`, arrays or dicts of arrays, or a finite `tf.data.Dataset` of such batches. With a
            `tokenizer`, x is a list of texts. y holds class numbers, rows of zeros and ones, or labels.
        labels: Name of each class, where y holds names. Defaults to `None`.
        tokenizer: Turns texts into the inputs `token_ids`, `padding_mask` and `segment_ids`, as far as the
            model has them. Defaults to `None`.
        sequence_length: Tokens kept of a text. Defaults to `None`, all.
        metrics: Names out of `accuracy`, `brier_score`, `calibration_error`, `log_loss`, `macro_f1`,
            `micro_f1` and `weighted_f1`, or a dict of your own: functions of the targets and the
            probabilities `float64[examples, classes]`. Defaults to `accuracy`, `macro_f1` and `log_loss`.
        multi_label: Whether an example may have several labels. Defaults to `False`.
        from_logits: Whether the model's output is logits. Defaults to `None`: it is, unless each row is
            probabilities that sum to 1. Where an output by itself is yes or no, it has to be said.
        batch_size: Examples a forward pass, of arrays and texts. Defaults to 64.
        every: Steps between two measurements, beside the one after each epoch; their results stand in the
            logs of that step, and in `history`. Defaults to `None`, none.

    Attributes:
        history: All results, `{"step": …, "val_accuracy": …}` each, steps counted from the first `fit`.

    Raises:
        ConfigError: If a metric does not exist, or `from_logits` has to be said.
        DataError: If the data is empty or has no end, or targets and outputs do not fit.

    Example:
    >>> metrics = TaskMetrics((x_validation, y_validation), metrics=["macro_f1"])
    >>> best = keras.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=2)
    >>> model.fit(x, y, epochs=9, callbacks=[metrics, best])
    """

    def __init__(
        self,
        data: Any,
        *,
        labels: Sequence[str] | None = None,
        tokenizer: "Tokenizer | None" = None,
        sequence_length: int | None = None,
        metrics: Sequence[str] | Mapping[str, Callable[[Any, Any], float]] = (
            "accuracy",
            "macro_f1",
            "log_loss",
        ),
        multi_label: bool = False,
        from_logits: bool | None = None,
        batch_size: int = 64,
        every: int | None = None,
    ):
        super().__init__()
        self._functions = _functions(metrics)
        self._labels = None if labels is None else {name: number for number, name in enumerate(labels)}
        self._tokenizer, self._sequence_length = tokenizer, sequence_length
        self._multi_label, self._from_logits = multi_label, from_logits
        self._batch_size, self._every = batch_size, every
        self._data = self._checked(data)
        self._step = 0
        self.history: list[dict[str, float]] = []

    def measure(self) -> dict[str, float]:
        """The metrics now, their names with `val_` before them."""
        outputs, targets = [], []
        for inputs, truth in self._batches():
            outputs.append(keras.ops.convert_to_numpy(self.model.predict_on_batch(inputs)))
            targets.append(np.asarray(truth))
        if not outputs:
            raise DataError("There are no examples to measure; give `TaskMetrics` some.")
        table = np.concatenate(outputs).astype(np.float64)
        truth = self._targets(np.concatenate(targets))
        if not np.isfinite(table).all():
            _log.warning("The model's outputs are not finite, so no metric can be computed.")
            return {f"val_{name}": float("nan") for name in self._functions}
        probabilities = self._probabilities(table)
        guesses = probabilities > 0.5 if self._multi_label else probabilities.argmax(axis=1)
        results = {
            f"val_{name}": float(function(truth, guesses, probabilities))
            for name, function in self._functions.items()
        }
        self.history.append({"step": self._step, **results})
        return results

    def on_train_batch_end(self, batch, logs=None):
        """Measures when it is time."""
        self._step += 1
        if self._every and self._step % self._every == 0:
            results = self.measure()
            if logs is not None:
                logs.update(results)

    def on_epoch_end(self, epoch, logs=None):
        """Measures, and adds the results to the logs."""
        last = self.history[-1] if self.history else {}
        known = {name: value for name, value in last.items() if name != "step"}
        results = known if last.get("step") == self._step and self._step else self.measure()
        if logs is not None:
            logs.update(results)

    # Data --------------------------------------------------------------------------------------------------

    def _checked(self, data: Any) -> Any:
        if isinstance(data, tf.data.Dataset):
            if data.cardinality() == tf.data.INFINITE_CARDINALITY:
                raise DataError("The dataset has no end, so it cannot be measured whole; use `.take(…)`.")
            return data
        if not isinstance(data, tuple) or len(data) not in (2, 3):
            raise DataError(
                f"The data is of type {type(data).__name__}; expected a pair `(x, y)` or a `tf.data.Dataset`."
            )
        x, y = data[0], np.asarray(data[1])
        sizes = {len(part) for part in keras.tree.flatten(x)} if self._tokenizer is None else {len(x)}
        if sizes != {len(y)}:
            raise DataError(f"There are {sorted(sizes)} inputs for {len(y)} targets; give one for each.")
        return x, y

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        if isinstance(self._data, tf.data.Dataset):
            for batch in self._data:
                inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
                yield inputs, targets
            return
        x, y = self._data
        rows = range(0, len(y), self._batch_size)
        if self._tokenizer is None:
            for row in rows:
                end = row + self._batch_size
                yield keras.tree.map_structure(lambda part, a=row, b=end: part[a:b], x), y[row:end]
            return
        pairs = None if isinstance(x[0], str) else [row[1] for row in x]
        ids, segments = self._tokenizer.encode_for_model(
            list(x) if pairs is None else [row[0] for row in x], pairs, sequence_length=self._sequence_length
        )
        order = np.argsort([len(row) for row in ids], kind="stable")
        for row in rows:
            chosen = order[row : row + self._batch_size]
            yield self._padded([ids[i] for i in chosen], [segments[i] for i in chosen]), y[chosen]

    def _padded(self, ids: list[list[int]], segments: list[list[int]]) -> dict[str, np.ndarray]:
        pad_id = self._tokenizer.pad_id if self._tokenizer else 0
        width = max(map(len, ids))
        inputs = {
            "token_ids": [row + [pad_id] * (width - len(row)) for row in ids],
            "padding_mask": [[1] * len(row) + [0] * (width - len(row)) for row in ids],
            "segment_ids": [row + [0] * (width - len(row)) for row in segments],
        }
        wanted = [tensor.name for tensor in self.model.inputs]
        return {name: np.asarray(inputs[name], np.int32) for name in wanted if name in inputs}

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind in "OSU":
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in y.ravel()]
            unknown = sorted(set(names) - set(self._labels or {}))
            if unknown:
                raise DataError(
                    f"The labels {unknown[:5]} are not among {sorted(self._labels or {})}. Give `labels`, "
                    "the name of each class in the order of the model's outputs."
                )
            return np.asarray([(self._labels or {})[name] for name in names])
        if self._multi_label or y.ndim == 1:
            return y
        if y.shape[1] == 1:
            return y[:, 0].astype(np.int64)
        if not (y.sum(axis=1) == 1).all():
            raise DataError(
                "The targets are rows of which some have not exactly one 1. For examples that may have "
                "several labels, or none, pass `multi_label=True`."
            )
        return y.argmax(axis=1)

    def _probabilities(self, table: np.ndarray) -> np.ndarray:
        """`float64[examples, classes]`, of an output by itself the two classes no and yes."""
        is_single = table.ndim == 1 or table.shape[1] == 1
        if self._multi_label or is_single:
            if self._from_logits is None:
                raise ConfigError(
                    "Each output by itself is a yes or no here, and may be a probability or a logit. Say "
                    "which: `from_logits=True`, or `False` for a model that ends in a sigmoid."
                )
            yes = 1 / (1 + np.exp(-np.clip(table, -700, 700))) if self._from_logits else table
            if not is_single:
                return yes
            return np.column_stack([1 - yes.reshape(-1), yes.reshape(-1)])
        sums = table.sum(axis=1)
        are_probabilities = bool((table >= 0).all() and (abs(sums - 1) < 1e-2).all())
        if self._from_logits is False or (self._from_logits is None and are_probabilities):
            return table / sums[:, None]  # from float32, or less: not exactly 1
        powers = np.exp(table - table.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def _functions(metrics: Any) -> dict[str, Callable[[Any, Any, Any], float]]:
    if isinstance(metrics, Mapping):
        return {name: _of_probabilities(function) for name, function in metrics.items()}
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in _METRICS:
            match = close_match(name, _METRICS)
            raise ConfigError(
                f"There is no metric {name!r}{f'; did you mean {match!r}?' if match else '.'} Choose from "
                f"{sorted(_METRICS)}, or pass a dict of functions."
            )
    return {name: _METRICS[name] for name in names}


def _of_probabilities(function: Callable[[Any, Any], float]) -> Callable[[Any, Any, Any], float]:
    return lambda true, guess, table: function(true, table)
