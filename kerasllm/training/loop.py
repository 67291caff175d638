"""Keras' `fit`, able to begin at any step: the loop of a run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from kerasllm.training.step import TrainingStep
from kerasllm.training.timetable import Timetable


def run_epochs(
    step: TrainingStep,
    batches: Iterator[Sequence[Any]],
    table: Timetable,
    *,
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
        step: What makes one optimizer step.
        batches: The micro-batches of each step, from `first_step` on.
        table: Steps of each epoch.
        first_step: Steps that are done. Defaults to 0.
        epochs_done: Epochs that are done, `on_epoch_end` included. Defaults to 0.
        evaluate: Returns the validation logs, their names beginning with `val_`. Defaults to `None`.
        callbacks: Plain Keras callbacks.
    """
    model, epochs = step.model, len(table.steps)
    model.stop_training = False
    everyone = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=False,
        verbose=0,
        epochs=epochs,
        steps=table.steps[min(epochs_done, epochs - 1)],
        model=model,
    )
    everyone.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(epochs_done, epochs):
        if model.stop_training:
            break
        done = max(0, first_step - table.start(epoch))
        if not done:
            step.reset_metrics()
        if table.steps[epoch] != everyone.params["steps"]:
            everyone.set_params({**everyone.params, "steps": table.steps[epoch]})
        everyone.on_epoch_begin(epoch)
        for place in range(done, table.steps[epoch]):
            everyone.on_train_batch_begin(place)
            everyone.on_train_batch_end(place, step(next(batches)))
            if model.stop_training:
                break
        logs = step.results()
        if evaluate is not None:
            logs.update(evaluate())
        everyone.on_epoch_end(epoch, logs)
    if epochs_done < epochs:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    everyone.on_train_end(logs)
