"""Trains a classifier: Keras' `fit` from any step on, with our batches, optimizer and checkpoints."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.pipeline import EncodedTexts, collate, evaluation_batches, num_batches_of, training_batches
from kerasllm.errors import TrainingError
from kerasllm.training.callbacks import FiniteLoss, RunCheckpoints
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.interrupts import StopBetweenBatches, Stopped
from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.loop import run_epochs
from kerasllm.training.losses import classification_loss
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.progress import progress
from kerasllm.training.run_directory import RunDirectory

_log = logging.getLogger("kerasllm.training")


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes:
        state: History and best epoch.
        stopped: The signal that ended it early, if one did.
    """

    state: RunState
    stopped: Stopped | None = None

    def how_to_go_on(self, run: Path) -> str:
        """What to tell a user who stopped the run."""
        best = self.state
        value = "" if best.best_value is None else f", value {best.best_value:.4g}"
        return (
            f"Interrupted after epoch {best.epoch}, step {best.step}. The best model so far (epoch "
            f"{best.best_epoch}{value}) is in {run / 'model'}. "
            f"Go on with `kerasllm finetune {run / 'config.yaml'} --resume`."
        )


@dataclass(frozen=True)
class TrainingData:
    """What a training run reads.

    Attributes:
        train: Encoded training texts.
        validation: Encoded validation texts, or `None`.
        pad_id: Id that fills short rows.
        num_classes: Number of classes.
        multi_label: Whether a text may have several labels.
    """

    train: EncodedTexts
    validation: EncodedTexts | None
    pad_id: int
    num_classes: int
    multi_label: bool


def compile_classifier(model: keras.Model, data: TrainingData, config: TrainingConfig) -> None:
    """Compiles the model with loss, optimizer and metrics of the config."""
    steps_per_epoch = num_batches_of(data.train, config.batch_size)
    optimizer: keras.optimizers.Optimizer = build_optimizer(
        model,
        learning_rate=config.learning_rate,
        num_steps=config.epochs * steps_per_epoch,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        schedule=config.schedule,
        gradient_clip=config.gradient_clip,
    )
    if config.dtype_policy == "mixed_float16":
        # Keras does this by itself only where the outermost model has the policy; ours has float32 logits.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss=classification_loss(multi_label=data.multi_label, label_smoothing=config.label_smoothing),
        metrics=classification_metrics(data.num_classes, multi_label=data.multi_label),
        jit_compile=False,  # each batch width would compile anew
    )


def train_classifier(
    model: keras.Model,
    data: TrainingData,
    config: TrainingConfig,
    *,
    run: RunDirectory,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Trains to the end, or from the newest checkpoint to the end, and leaves the best weights in the model.

    Ctrl-C and SIGTERM end training early, after a checkpoint: with an epoch done, the best one so far is the
    result.

    Args:
        model: Classifier whose output is logits `float32[batch, num_classes]`.
        data: What to train and validate on.
        config: The `training` section.
        run: Run directory; its newest checkpoint, if it has one, is where training goes on.
        seed: Seed of the order of the batches.
        callbacks: The user's own; they run last and see plain Keras logs.

    Returns:
        The state at the end, with the history of all epochs, and the signal that ended it, if any.

    Raises:
        TrainingError: If the loss is no number any more, or memory runs out.
        CheckpointError: If there are checkpoints, but none fits or is intact.
        Stopped: If a signal ended it before the first evaluation.
    """
    compile_classifier(model, data, config)
    checkpoints = Checkpoints(run.checkpoints)
    state = RunState()
    if checkpoints.names():
        _build_metrics(model, data)
        state = checkpoints.restore_newest(model) or state
        _log.info("Going on after epoch %d of %d, step %d.", state.epoch, config.epochs, state.step)
    stopped = None
    try:
        _fit(
            model, data, config, run=run, checkpoints=checkpoints, state=state, seed=seed, callbacks=callbacks
        )
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped()
        if stopped.at_once:
            raise
        if not state.best:
            raise Stopped(
                "Interrupted before the first epoch ended, so there is no model to keep yet. Go on with "
                f"`kerasllm finetune {run.path / 'config.yaml'} --resume`.",
                status=stopped.status,
            ) from None
    if state.best:  # else the disk was full at each of them
        checkpoints.restore_weights(model, state.best)
    return TrainingResult(state, stopped)


def _build_metrics(model: keras.Model, data: TrainingData) -> None:
    """Gives the metrics their variables, which Keras makes with the first batch."""
    inputs, targets, weights = collate(data.train, np.arange(1), pad_id=data.pad_id)
    model.test_on_batch(inputs, targets, sample_weight=weights)
    model.reset_metrics()


def _fit(
    model: keras.Model,
    data: TrainingData,
    config: TrainingConfig,
    *,
    run: RunDirectory,
    checkpoints: Checkpoints,
    state: RunState,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    steps_per_epoch = num_batches_of(data.train, config.batch_size)
    bar = progress(num_epochs=config.epochs, steps_per_epoch=steps_per_epoch)
    interrupts = StopBetweenBatches()
    evaluate = _evaluation(model, data, config, [*callbacks, interrupts])
    keeper = RunCheckpoints(
        run,
        checkpoints,
        state,
        monitor=config.monitor,
        patience=config.patience,
        patience_steps=config.patience_steps,
        every=config.checkpoint_every,
        evaluate=evaluate,
        evaluate_every=config.evaluate_every,
        others=callbacks,
    )
    batches = training_batches(
        data.train, config.batch_size, pad_id=data.pad_id, seed=seed, first_step=state.step
    )
    if state.is_over:
        return
    try:
        with interrupts.listening():
            run_epochs(
                model,
                iter(batches),
                epochs=config.epochs,
                steps_per_epoch=steps_per_epoch,
                first_step=state.step,
                epochs_done=state.epoch,
                evaluate=evaluate,
                callbacks=[FiniteLoss(), bar, *callbacks, keeper, interrupts],
            )
    except Stopped as stopped:
        if not stopped.at_once:
            keeper.save_if_new()
        raise
    except tf.errors.ResourceExhaustedError as error:
        longest = int(data.train.lengths.max())
        raise TrainingError(
            f"Out of memory with batches of {config.batch_size} texts of up to {longest} tokens. "
            f"Try `-s training.batch_size={max(1, config.batch_size // 2)}` or a shorter "
            f"`-s data.sequence_length={max(8, longest // 2)}`."
        ) from error
    finally:
        bar.close()


def _evaluation(
    model: keras.Model,
    data: TrainingData,
    config: TrainingConfig,
    callbacks: list[keras.callbacks.Callback],
) -> Callable[[], dict[str, float]] | None:
    """What measures the validation rows, or `None` without any."""
    if data.validation is None:
        return None
    batches = evaluation_batches(data.validation, 2 * config.batch_size, pad_id=data.pad_id)

    def evaluate() -> dict[str, float]:
        logs = model.evaluate(batches, verbose=0, return_dict=True, callbacks=callbacks)
        return {f"val_{name}": float(value) for name, value in logs.items()}

    return evaluate
