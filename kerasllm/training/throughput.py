"""`Throughput`: how many examples and tokens a second anyone's `fit` trains on."""

import collections
import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import DataError
from kerasllm.training.meter import UNKNOWN, BatchCounts, CountBatch, Meter

__all__ = ["Throughput"]

_log = logging.getLogger("kerasllm.training")
_REMEMBERED = 100_000


class Throughput(keras.callbacks.Callback):
    """Adds the speed of training to the logs of each epoch, for `History`, TensorBoard and other callbacks.

    The logs get `step_seconds` (the median), and where the batches are counted `examples_per_second`,
    `tokens_per_second` (padding left out) and `padding_share`. Only the steps themselves are timed, with
    their wait for data, not validation or other callbacks; the first step of a process, in which TensorFlow
    traces the graph, is left out. Put it before the callbacks that are to see its numbers.

    A callback does not see the batches. They are counted by one of two: a dataset that `watch` returned, or
    `count`, for data whose sizes are known.

    Args:
        count: Function of the epoch and the number of the batch in it, both from 0, that returns
            `BatchCounts(rows, tokens, slots)`. Defaults to `None`: what `watch` has seen.

    Example:
    >>> throughput = Throughput()
    >>> history = model.fit(throughput.watch(batches), epochs=2, callbacks=[throughput])
    >>> history.history["tokens_per_second"]
    [4127.3, 4210.8]
    """

    def __init__(self, count: CountBatch | None = None):
        super().__init__()
        self._count = count
        self._meter = Meter()
        self._watched: collections.deque[BatchCounts] = collections.deque(maxlen=_REMEMBERED)
        self._epoch = self._begin = 0

    def watch(self, dataset: tf.data.Dataset, *, pad_id: int | None = None) -> tf.data.Dataset:
        """Counts the batches of a dataset as they pass by; they are not changed.

        Args:
            dataset: Batches for `fit`: inputs, or a tuple that begins with them. Tokens are counted by the
                input named `padding_mask` (1 for a token), else with `pad_id`.
            pad_id: Id that fills short rows, for inputs that are token ids alone or named `token_ids`.
                Defaults to `None`.

        Returns:
            The dataset to give to `fit`.

        Raises:
            DataError: If `pad_id` is given and there are no token ids.
        """

        inputs = _named_inputs(dataset.element_spec)
        if pad_id is not None and not {"padding_mask", "token_ids"} & set(inputs):
            raise DataError(
                f"`pad_id` is given, but no token ids to find it in: the inputs are {sorted(inputs)}. "
                "Name them `token_ids`, or add a `padding_mask`."
            )

        def note(index: Any, batch: Any) -> Any:
            counts = [tf.cast(number, tf.int64) for number in _count(batch, pad_id)]
            noted = tf.numpy_function(self._note, [index, *counts], tf.int64)
            with tf.control_dependencies([noted]):
                return index + 1, tf.nest.map_structure(tf.identity, batch)

        return dataset.scan(np.int64(0), note)

    def _note(self, index: Any, *counts: Any) -> np.int64:
        if index == 0:  # a new iterator; what the one before has drawn ahead is not trained on
            self._watched.clear()
        self._watched.append(BatchCounts(*map(int, counts)))
        return np.int64(index)

    def on_epoch_begin(self, epoch, logs=None):
        """Begins anew."""
        self._epoch = epoch
        self._meter.restart()

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._begin = batch
        self._meter.begin_step()

    def on_train_batch_end(self, batch, logs=None):
        """Stops the clock, and counts what was in the step."""
        numbers = range(self._begin, batch + 1)
        counts = [self._counts(number) for number in numbers]
        self._meter.end_step(
            BatchCounts(*(sum(part) for part in zip(*counts, strict=True))), num_batches=len(numbers)
        )

    def _counts(self, number: int) -> BatchCounts:
        if self._count is not None:
            return self._count(self._epoch, number)
        return self._watched.popleft() if self._watched else UNKNOWN

    def on_epoch_end(self, epoch, logs=None):
        """Adds the figures of the epoch to the logs."""
        meter = self._meter
        figures = {
            "step_seconds": meter.median_seconds,
            "examples_per_second": meter.rows_per_second,
            "tokens_per_second": meter.tokens_per_second,
        }
        figures = {name: value for name, value in figures.items() if value}
        if meter.padding_share is not None:
            figures["padding_share"] = meter.padding_share
        if logs is not None:
            logs.update(figures)
        _log.info("Epoch %d: %s", epoch + 1, ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))


def _named_inputs(batch: Any) -> dict[str, Any]:
    inputs = batch[0] if isinstance(batch, tuple) else batch
    return inputs if isinstance(inputs, dict) else {"token_ids": inputs}


def _count(batch: Any, pad_id: int | None) -> tuple[Any, Any, Any]:
    inputs = _named_inputs(batch)
    rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
    if "padding_mask" in inputs:
        mask = inputs["padding_mask"]
    elif pad_id is None:
        return rows, 0, 0
    else:
        mask = inputs["token_ids"] != tf.cast(pad_id, inputs["token_ids"].dtype)
    return rows, tf.reduce_sum(tf.cast(mask, tf.int64)), tf.size(mask)
