"""Keras' `fit`, able to begin at any step: the loop of a run."""

from collections.abc import Callable, Iterator
from typing import Any

import keras


def run_epochs(
    model: keras.Model,
    batches: Iterator[Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    first_step: int = 0,
    epochs_done: int = 0,
    evaluate: Callable[[], dict[str, float]] | None = None,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Trains as `fit(batches, epochs=…, steps_per_epoch=…, shuffle=False)` does, from any step on.

    `fit` begins at an epoch only. Here an epoch may begin in its middle (the metrics must then hold
    their sums, as `Checkpoints.restore_newest` leaves them), or after its last step, when only
    validation and `on_epoch_end` are left. Callbacks are called as by `fit`; an epoch that is gone on
    with gets its `on_epoch_begin` again, as a new process needs it.

    Args:
        model: Compiled and built.
        batches: An iterator of the batches from `first_step` on, without end.
        epochs: Epochs of the whole run.
        steps_per_epoch: Optimizer steps of each.
        first_step: Steps that are done. Defaults to 0.
        epochs_done: Epochs that are done, `on_epoch_end` included. Defaults to 0.
        evaluate: Returns the validation logs, their names beginning with `val_`. Defaults to `None`.
        callbacks: Plain Keras callbacks.
    """
    model.make_train_function()
    model.stop_training = False
    everyone = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=False,
        verbose=0,
        epochs=epochs,
        steps=steps_per_epoch,
        model=model,
    )
    everyone.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(epochs_done, epochs):
        if model.stop_training:
            break
        done = max(0, first_step - epoch * steps_per_epoch)
        if not done:
            model.reset_metrics()
        everyone.on_epoch_begin(epoch)
        for step in range(done, steps_per_epoch):
            everyone.on_train_batch_begin(step)
            everyone.on_train_batch_end(step, model.train_function(batches))
            if model.stop_training:
                break
        logs = _numbers(model.get_metrics_result())
        if evaluate is not None:
            logs.update(evaluate())
        everyone.on_epoch_end(epoch, logs)
    if epochs_done < epochs:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    everyone.on_train_end(logs)


def _numbers(logs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() if hasattr(value, "numpy") else value for name, value in logs.items()}
