"""Trains a model: from any step on, with our batches, optimizer and checkpoints."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kerasllm.config.schema import TrainingConfig
from kerasllm.errors import CheckpointError, TrainingError
from kerasllm.models.quantization import check_trainable
from kerasllm.training.callbacks import RunCheckpoints
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.final_average import keep_average_if_better
from kerasllm.training.interrupts import StopBetweenBatches, Stopped
from kerasllm.training.loop import run_epochs
from kerasllm.training.optimizers import EvaluateAverages, GradualUnfreezing, build_optimizer
from kerasllm.training.out_of_memory import MemoryPlan
from kerasllm.training.problem import Problem
from kerasllm.training.progress import progress
from kerasllm.training.run_directory import RunDirectory
from kerasllm.training.step import NotFiniteError, TrainingStep
from kerasllm.training.step_counts import step_counts
from kerasllm.training.tensorboard import tensorboard_callback
from kerasllm.training.timetable import Timetable, windows
from kerasllm.training.watchdog import describe, diagnose, safer_policy

_log = logging.getLogger("kerasllm.training")
_FEW_STEPS = 5
_MUCH_SMOOTHING = 0.5


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes:
        model: The model, with the best weights; another object than was passed where the dtype policy had to
            change.
        state: History and best epoch.
        stopped: The signal that ended it early, if one did.
        averaged: Whether the weights are the mean of several checkpoints.
    """

    model: keras.Model
    state: RunState
    stopped: Stopped | None = None
    averaged: bool = False

    def how_to_go_on(self, run: Path) -> str:
        """What to tell a user who stopped the run."""
        best = self.state
        value = "" if best.best_value is None else f", value {best.best_value:.4g}"
        return (
            f"Interrupted after epoch {best.epoch}, step {best.step}. The best model so far (epoch "
            f"{best.best_epoch}{value}) is in {run / 'model'}. "
            f"Go on with `kerasllm finetune {run / 'config.yaml'} --resume`."
        )


def train(
    model: keras.Model,
    problem: Problem,
    config: TrainingConfig,
    *,
    run: RunDirectory,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Trains to the end, or from the newest checkpoint to the end, and leaves the best weights in the model.

    Ctrl-C and SIGTERM end training early, after a checkpoint: with an epoch done, the best one so far is the
    result.

    Args:
        model: What is trained.
        problem: What it is trained on, and what is minimised.
        config: The `training` section, fully resolved.
        run: Run directory; its newest checkpoint, if it has one, is where training goes on.
        callbacks: The user's own; they run last and see plain Keras logs.

    Returns:
        The model and the state at the end, with the history of all epochs, and the signal that ended it.

    Raises:
        TrainingError: If the loss is no number any more, or memory runs out.
        CheckpointError: If there are checkpoints, but none fits or is intact.
        Stopped: If a signal ended it before the first evaluation.
    """
    stopped = None
    session = _Session(model, problem, config, run, callbacks)
    try:
        while not session.state.is_over:
            try:
                session.fit()
                break
            except NotFiniteError as error:
                session = session.after(error)
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped()
        if stopped.at_once:
            raise
        if not session.state.best:
            raise Stopped(
                "Interrupted before the first epoch ended, so there is no model to keep yet. Go on with "
                f"`kerasllm finetune {run.path / 'config.yaml'} --resume`.",
                status=stopped.status,
            ) from None
    session.checkpoints.restore_best(session.model, session.state, averaged=config.ema is not None)
    averaged = stopped is None and session.average()
    return TrainingResult(session.model, session.state, stopped, averaged)


def prepare_step(
    model: keras.Model, problem: Problem, config: TrainingConfig, table: Timetable, *, policy: str = ""
) -> TrainingStep:
    """Compiles a model with the optimizer of the config, and makes its training step.

    Args:
        model: What is trained.
        problem: What it is trained on.
        config: The `training` section.
        table: Steps of each epoch.
        policy: Dtype policy that the model computes in. Defaults to that of the config.
    """
    check_trainable(model)
    optimizer = build_optimizer(
        {
            "name": config.optimizer,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "beta_1": config.beta_1,
            "beta_2": config.beta_2,
            "epsilon": config.epsilon,
            "clip_norm": config.gradient_clip,
            "clip_by": config.clip_by,
            "schedule": config.schedule,
            "warmup": config.warmup,
            "groups": [group.model_dump() for group in config.groups or ()],
            "layer_decay": config.layer_decay,
            "ema": config.ema,
        },
        model.trainable_variables,
        table.total,
    )
    model.compile(
        optimizer=optimizer,
        loss=problem.loss,
        metrics=list(problem.metrics) or None,
        jit_compile=False,  # each batch width would compile anew
        auto_scale_loss=False,  # the step has a loss scale of its own
    )
    getattr(model, "backbone", model).recompute_layers(config.gradient_checkpointing)
    return TrainingStep(
        model,
        problem.objective,
        problem.train.element_spec,
        augmentation=problem.augmentation,
        loss_scaling=(policy or config.dtype_policy) == "mixed_float16",
        jit_compile=config.jit_compile,
    )


class _Session:
    """A run in one dtype policy."""

    def __init__(
        self,
        model: keras.Model,
        problem: Problem,
        config: TrainingConfig,
        run: RunDirectory,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        policy: str | None = None,
    ):
        self.problem, self.config, self.run, self.callbacks = problem, config, run, callbacks
        batches = [problem.train.num_batches(epoch) for epoch in range(config.epochs)]
        self.table = Timetable(batches, accumulate=config.gradient_accumulation)
        known = Checkpoints(run.checkpoints).newest_state()
        self.policy = policy or (known and known.dtype_policy) or config.dtype_policy
        self.model = model if self.policy == config.dtype_policy else problem.rebuild(model, self.policy)
        if self.table.total < _FEW_STEPS:
            _log.warning(
                "The whole run has %d optimizer steps, which learn little. Lower `training.batch_size` (%d) "
                "or `training.gradient_accumulation` (%d), or train for more than %d epochs.",
                *(self.table.total, config.batch_size, config.gradient_accumulation, config.epochs),
            )
        if config.label_smoothing > _MUCH_SMOOTHING:
            _log.warning(
                "`training.label_smoothing` is %g: the targets are nearly alike, and little is learned; 0.1 "
                "is usual.",
                config.label_smoothing,
            )
        self.step = prepare_step(self.model, problem, config, self.table, policy=self.policy)
        self.checkpoints = Checkpoints(
            run.checkpoints,
            parts={"metrics": self.step.metric_variables, "others": self.step.own_variables},
            num_ends=config.average_checkpoints or 0,
        )
        self.state = self.checkpoints.restore_newest(self.model) or RunState()
        self.state.dtype_policy = self.policy
        if self.state.step:
            _log.info(
                "Going on after epoch %d of %d, step %d.", self.state.epoch, config.epochs, self.state.step
            )
        self._losses: list[float] = []
        self.keeper: RunCheckpoints | None = None

    def fit(self) -> None:
        """Trains to the end."""
        config, table, state = self.config, self.table, self.state
        own: list[keras.callbacks.Callback] = []
        if config.unfreeze is not None:
            layers = config.unfreeze
            own.append(GradualUnfreezing(lambda epoch: layers[min(epoch, len(layers) - 1)]))
        warning = self._memory().warning()
        if warning is not None:
            _log.warning(warning)
        bar = progress(
            num_epochs=config.epochs,
            steps_per_epoch=table.steps[0],
            count=step_counts(self.problem.train, table),
            monitor=config.monitor,
        )
        if config.tensorboard:
            own.append(tensorboard_callback(self.run.path / "logs"))
        interrupts = StopBetweenBatches()
        evaluate = self._evaluation([*self.callbacks, interrupts])
        self.keeper = RunCheckpoints(
            self.run,
            self.checkpoints,
            state,
            table,
            monitor=config.monitor or "val_loss",
            patience=config.patience,
            patience_steps=config.patience_steps,
            every=config.checkpoint_every,
            evaluate=evaluate,
            evaluate_every=config.evaluate_every,
            others=self.callbacks,
            show=bar.show,
        )
        try:
            with interrupts.listening():
                run_epochs(
                    self.step,
                    windows(self.problem.train.dataset, table, first_step=state.step),
                    table,
                    first_step=state.step,
                    epochs_done=state.epoch,
                    evaluate=evaluate,
                    callbacks=[*own, _Losses(self._losses), bar, *self.callbacks, self.keeper, interrupts],
                )
        except Stopped as stopped:
            if not stopped.at_once:
                self.keeper.save_if_new()
            raise
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(self._memory().out_of_memory()) from error
        finally:
            bar.close()

    def _memory(self) -> MemoryPlan:
        """What the longest batch takes."""
        rows, width = self.problem.train.shape(0, 0)  # the first is the longest
        accumulate = self.config.gradient_accumulation
        return MemoryPlan(self.model, batch_size=rows, width=width, accumulate=accumulate)

    def average(self) -> bool:
        """Keeps the mean of the last checkpoints, where that is asked for and better."""
        number, evaluate = self.config.average_checkpoints, self._evaluation([])
        if number is None or evaluate is None:
            return False
        return keep_average_if_better(
            self.model,
            self.checkpoints,
            self.state,
            num_checkpoints=number,
            monitor=self.config.monitor or "val_loss",
            evaluate=evaluate,
        )

    def after(self, error: NotFiniteError) -> "_Session":
        """The run in a safer dtype policy, from the last good state; or the error, if it is to stop.

        Raises:
            TrainingError: If the run is to stop, or nothing is safer.
        """
        step, (epoch, numbers) = self.state.step, self.table.batches_of(self.state.step)
        rows = [self.problem.train.rows(epoch, number) for number in numbers]
        reason = diagnose(self.step, error, rows=rows, losses=self._losses, policy=self.policy)
        sentence = describe(
            error,
            self.step,
            epoch=epoch,
            place=step - self.table.start(epoch),
            rows=rows,
            losses=self._losses,
        )
        sentence = f"{sentence} {reason}"
        policy = safer_policy(self.policy)
        if self.config.on_nonfinite == "stop" or policy is None:
            raise TrainingError(
                f"{sentence} No checkpoint holds numbers that are not finite; the last good one is "
                f"{(self.checkpoints.names() or ['none'])[-1]}."
            ) from error
        _log.warning("%s Going on in %s from the last good state.", sentence, policy)
        if self.keeper is not None:
            # Not where a weight is no number: then the newest checkpoint is the last good state.
            with contextlib.suppress(CheckpointError):
                self.keeper.save_if_new()
        if not self.checkpoints.names():
            raise TrainingError(f"{sentence} There is no good state to go on from yet.") from error
        return _Session(self.model, self.problem, self.config, self.run, self.callbacks, policy=policy)

    def _evaluation(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> Callable[[], dict[str, float]] | None:
        """What measures the validation rows, or `None` without any."""
        validation = self.problem.validation
        if validation is None:
            return None
        told = [*callbacks]
        if self.config.ema is not None:
            averages = EvaluateAverages()
            averages.set_model(self.model)
            told.insert(0, averages)

        def evaluate() -> dict[str, float]:
            logs = self.step.evaluate(validation, told)
            return {f"val_{name}": float(value) for name, value in logs.items()}

        return evaluate


class _Losses(keras.callbacks.Callback):
    """Keeps the mean losses of the epoch, for the diagnosis."""

    def __init__(self, losses: list[float]):
        super().__init__()
        self.losses = losses

    def on_epoch_begin(self, epoch, logs=None):
        """Forgets those of the epoch before."""
        self.losses.clear()

    def on_train_batch_end(self, batch, logs=None):
        """Keeps one."""
        self.losses.append(float((logs or {}).get("loss", 0.0)))
