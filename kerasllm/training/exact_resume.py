"""`ExactResume`: anyone's `fit`, killed anywhere, goes on with the very next batch, bit for bit."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from kerasllm.errors import ConfigError, ResourceError, TrainingError
from kerasllm.training.callback_state import callback_state
from kerasllm.training.checkpoints import Checkpoints, RunState, checkpoint_name
from kerasllm.training.drawn_batches import DrawnBatches, Position

__all__ = ["ExactResume"]

_log = logging.getLogger("kerasllm.training")


class ExactResume(keras.callbacks.Callback):
    """Keeps the state of a `fit`, so that the same `fit` in a new process goes on as if never interrupted.

    Kept are the weights and all other variables of the model (the states of dropout's random generators
    too), the optimizer, the running sums of the metrics, the history, what `callbacks` know, and the place
    in the data, to the batch. All of it is written atomically, with checksums; the last two checkpoints
    stay, and of a damaged one the one before it is used. On one machine, weights and history come out
    bit-equal to those of a run that was not interrupted. A `fit` that has finished is not trained again:
    its weights are put back.

    The data must come in the same order in a new process: either the same in each epoch (arrays with
    `shuffle=False`; a `tf.data` pipeline shuffled with a seed and `reshuffle_each_iteration=False`), or one
    stream of batches over all epochs (`steps_per_epoch` and a pipeline without end). What Keras shuffles
    itself (`shuffle=True`, its default for arrays) is neither. The batches that are done are drawn again
    and compared with a fingerprint; others are refused.

    Give the other callbacks to this one instead of beside it: they are run first, what they know (numbers
    and texts; of `EarlyStopping` the best weights too) is kept, and they do not see the batches that are
    drawn again. An epoch that is gone on with gets its `on_epoch_begin` a second time, before what the
    callbacks know is put back.

    Args:
        directory: Folder of the checkpoints, one for each `fit`.
        callbacks: The other callbacks of the `fit`. Defaults to none.
        every: Steps between two checkpoints. Defaults to `None`: only before each validation, and after
            each epoch, when the first batch of the next one is there.

    Raises:
        ConfigError: If `every` is below 1.
        TrainingError: In `fit`, if the model has no weights yet, is trained on several replicas, or its
            data is not what it was.
        CheckpointError: In `fit`, if there are checkpoints, but none is intact or none fits the model.

    Example:
    >>> stop = keras.callbacks.EarlyStopping(patience=2)
    >>> resume = ExactResume("runs/mine", callbacks=[stop], every=100)
    >>> model.fit(batches, epochs=10, validation_data=validation, callbacks=[resume])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        every: int | None = None,
    ):
        super().__init__()
        if every is not None and every < 1:
            raise ConfigError(f"`every` is {every}, but must be a number of steps from 1, or None for none.")
        self.directory = Path(os.path.abspath(directory))
        self.callbacks = list(callbacks)
        self.every = every
        self._is_armed = self._is_skipped = self._ends_epoch = self._in_epoch = False

    def set_params(self, params):
        """Hands them on."""
        super().set_params(params)
        self._tell("set_params", params)

    def set_model(self, model):
        """Hands it on."""
        super().set_model(model)
        self._tell("set_model", model)

    # Where the run stands ----------------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Finds the newest checkpoint, and tells `fit` the epoch to begin with."""
        self._check_model()
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._is_armed = self._is_skipped = self._ends_epoch = self._in_epoch = False
        self._checkpoints = Checkpoints(self.directory)
        self._tell("on_train_begin", logs)
        self._state = self._checkpoints.newest_state() or RunState()
        self._is_restored = not self._state.callbacks
        resumed = None if self._is_restored else Position(**self._state.callbacks[0])
        self._is_begun = resumed is None or resumed.begun
        self._batches = DrawnBatches(self.params["steps"], resumed=resumed, epoch=self._state.epoch)
        if self._is_restored:
            return
        epochs = self.params["epochs"]
        if self._state.is_over or self._state.epoch >= epochs:
            _log.warning("The training in %s has finished; its weights are put back.", self.directory)
            self.model._initial_epoch = epochs
            self._restore()
        else:
            _log.info("Going on after step %d, in epoch %d.", self._state.step, self._state.epoch + 1)
            self.model._initial_epoch = self._state.epoch

    def _check_model(self) -> None:
        if not self.model.built:
            raise TrainingError(
                "The model has no weights yet, so there is nothing to put a checkpoint into. Build it "
                "before `fit`: let it begin with a `keras.Input`, or call it once on a batch."
            )
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise TrainingError(
                f"`ExactResume` keeps the place in the data of one replica, but this model is trained on "
                f"{replicas}. Train it without a distribution strategy."
            )

    def _restore(self, batch: Any = None) -> None:
        """Puts everything back, after what `fit` and the callbacks do when an epoch begins."""
        self._is_restored = True
        if batch is not None:  # metrics get their variables with their first batch
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            self.model.test_on_batch(x, y, sample_weight=sample_weight)
            self.model.reset_metrics()
        for callback in self._holders():
            if self._state.best:
                self._checkpoints.restore_weights(self.model, self._state.best)
                callback.best_weights = self.model.get_weights()
        self._state = self._checkpoints.restore_newest(self.model) or self._state
        for callback, known in zip(self.callbacks, self._state.callbacks[1:], strict=True):
            vars(callback).update(known)

    def _holders(self) -> list[Any]:
        """Callbacks that hold the best weights in memory, which a kill would take."""
        return [
            callback
            for callback in self.callbacks
            if isinstance(callback, keras.callbacks.EarlyStopping) and callback.restore_best_weights
        ]

    # Training ----------------------------------------------------------------------------------------------

    def on_epoch_begin(self, epoch, logs=None):
        """Begins to count the steps of an epoch."""
        self.model._initial_epoch = None
        self._give_history_back()
        self._batches.begin_epoch()
        self._in_epoch = True
        self._epoch = epoch
        self._tell("on_epoch_begin", epoch, logs)

    def _give_history_back(self) -> None:
        history = self.model.history
        if not history.epoch:
            history.epoch = list(range(len(self._state.history)))
            names = dict.fromkeys(name for logs in self._state.history for name in logs)
            history.history = {
                name: [logs[name] for logs in self._state.history if name in logs] for name in names
            }

    def on_train_batch_begin(self, batch, logs=None):
        """Sees to it that this step is made by `make_step`."""
        if not self._batches.to_skip:
            self._tell("on_train_batch_begin", batch, logs)
        self._batch = batch
        function = self.model.train_function
        if not isinstance(function, _TrainFunction) or function.resume is not self:  # callbacks make it anew
            self.model.train_function = _TrainFunction(self, function)
        self._is_armed = True

    def make_step(self, train: Callable[[Iterator[Any]], Any], iterator: Iterator[Any]) -> Any:
        """Trains on the next batches, or draws and skips them where an earlier process has done so."""
        if not self._is_armed:  # a later `fit` without this callback
            return train(iterator)
        self._is_armed = False
        batches = self._batches.draw(iterator, self.model.steps_per_execution)
        if not batches:
            raise StopIteration
        if not self._is_restored:
            self._restore(batches[0])
            if not self._is_begun:  # they forgot again what they were told of this epoch
                self._tell("on_epoch_begin", self._epoch, None)
                self._tell("on_train_batch_begin", self._batch, None)
        self._is_skipped = self._batches.to_skip > 0
        if self._is_skipped:
            self._batches.to_skip -= len(batches)
            return self.model.get_metrics_result()
        if self._ends_epoch:
            self._ends_epoch = False
            self._save(ends_epoch=True, done=0)
        logs = train(iter(batches))
        self._state.step += len(batches)
        return logs

    def on_train_batch_end(self, batch, logs=None):
        """Saves when it is time."""
        if self._is_armed:
            raise TrainingError(
                "`ExactResume` is for Keras' own `fit`. `kerasllm.finetune` keeps its state by itself: leave "
                "this callback out, and go on with `kerasllm finetune RUN/config.yaml --resume`."
            )
        if self._is_skipped:
            return
        self._tell("on_train_batch_end", batch, logs)
        step = self._state.step
        if self.every and step // self.every > (step - self.model.steps_per_execution) // self.every:
            self._save()

    def on_test_begin(self, logs=None):
        """Saves, since a validation may take long."""
        self._tell("on_test_begin", logs)
        if self._in_epoch and checkpoint_name(self._state.step) not in self._checkpoints.names():
            self._save()

    def on_test_batch_begin(self, batch, logs=None):
        """Hands it on."""
        self._tell("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        """Hands it on."""
        self._tell("on_test_batch_end", batch, logs)

    def on_test_end(self, logs=None):
        """Hands it on."""
        self._tell("on_test_end", logs)

    def on_epoch_end(self, epoch, logs=None):
        """Notes the history, and has it saved: with the first batch of the next epoch, or now after the last.

        That batch tells whether the order of the data is the one that the next process will find.
        """
        self._in_epoch = False
        self._tell("on_epoch_end", epoch, logs)
        state = self._state
        state.epoch = epoch + 1
        state.history.append({k: v for k, v in (logs or {}).items() if isinstance(v, (int, float))})
        state.is_over = bool(self.model.stop_training)
        if state.is_over or state.epoch == self.params["epochs"]:
            self._save(ends_epoch=True, done=0, begun=False)
        else:
            self._ends_epoch = True

    def on_train_end(self, logs=None):
        """Leaves the model as it was found."""
        self._give_history_back()
        self._tell("on_train_end", logs)
        self.model._initial_epoch = None
        if isinstance(self.model.train_function, _TrainFunction):
            self.model.train_function = self.model.train_function.train

    def _save(self, *, ends_epoch: bool = False, done: int | None = None, begun: bool = True) -> None:
        position = {**asdict(self._batches.position), "begun": begun}
        if done is not None:
            position["done"] = done
        state = self._state
        state.callbacks = [position, *map(callback_state, self.callbacks)]
        best = state.best
        if ends_epoch and any(callback.best_epoch == state.epoch - 1 for callback in self._holders()):
            state.best = checkpoint_name(state.step, ends_epoch=True)  # which is therefore not removed
        try:
            self._checkpoints.save(self.model, state, ends_epoch=ends_epoch)
        except (ResourceError, OSError) as error:
            state.best = best
            _log.warning(
                "The checkpoint of step %d was not written (%s). Training goes on; the last good one is %s.",
                state.step,
                error,
                (self._checkpoints.names() or ["none"])[-1],
            )

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)


class _TrainFunction:
    """What stands in the place of `model.train_function`."""

    def __init__(self, resume: ExactResume, train: Callable[[Iterator[Any]], Any]):
        self.resume = resume
        self.train = train

    def __call__(self, iterator: Iterator[Any]) -> Any:
        return self.resume.make_step(self.train, iterator)
