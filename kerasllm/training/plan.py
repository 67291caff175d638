"""What a run would do, without doing it: the answer of `--dry-run`."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from kerasllm.config.schema import TrainingConfig
from kerasllm.training.out_of_memory import MemoryPlan
from kerasllm.training.problem import Problem
from kerasllm.training.timetable import Timetable
from kerasllm.training.trainer import prepare_step

_GIB = 2**30
_ANY_RATE = 5.0e-5
_log = logging.getLogger("kerasllm.training")


@dataclass(frozen=True)
class Plan:
    """A run in figures.

    Attributes:
        num_train, num_validation, num_test: Rows of each split.
        labels: Classes.
        sequence_length: Tokens kept of each text.
        steps_per_epoch, num_steps: Optimizer steps.
        tokens_per_epoch: Tokens of the training rows, after truncation.
        truncated_share: Share of training rows that are cut.
        padding_share: Share of the places in the batches that hold no token.
        num_parameters, num_trainable: Of the whole model.
        training: Optimizer, schedule and batches in words.
        dtype_policy: Precision.
        memory_gib: Estimated peak memory of training beside TensorFlow itself.
        memory: The same in words, with what takes it.
        memory_warning: What to change where there is too little, else `None`.
        first_loss: Loss of one step on the longest batch, which was really run.
    """

    num_train: int
    num_validation: int
    num_test: int
    labels: tuple[str, ...]
    sequence_length: int
    steps_per_epoch: int
    num_steps: int
    tokens_per_epoch: int
    truncated_share: float
    padding_share: float
    num_parameters: int
    num_trainable: int
    training: str
    dtype_policy: str
    memory_gib: float
    memory: str
    memory_warning: str | None
    first_loss: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        labels = f"labels       {', '.join(self.labels)}\n" if self.labels else ""
        return (
            f"rows         {self.num_train:,} train · {self.num_validation:,} validation · "
            f"{self.num_test:,} test\n{labels}"
            f"tokens       {self.tokens_per_epoch:,} an epoch · at most {self.sequence_length} a text · "
            f"{self.truncated_share:.1%} of the texts are cut\n"
            f"padding      {self.padding_share:.1%} of the places in the batches\n"
            f"steps        {self.num_steps:,} ({self.steps_per_epoch:,} an epoch)\n"
            f"training     {self.training}\n"
            f"parameters   {self.num_parameters:,} ({self.num_trainable:,} trained) · {self.dtype_policy}\n"
            f"memory       {self.memory}\n"
            f"first loss   {self.first_loss:.4f} on the longest batch"
        )


def make_plan(
    model: keras.Model,
    problem: Problem,
    config: TrainingConfig,
    *,
    sequence_length: int,
    num_train: int,
    num_validation: int = 0,
    num_test: int = 0,
    labels: tuple[str, ...] = (),
    truncated_share: float = 0.0,
) -> Plan:
    """Runs one step on the longest batch and counts the rest.

    Args:
        model: What would be trained.
        problem: What it would be trained on.
        config: The `training` section.
        sequence_length: Tokens kept of each text.
        num_train: Rows of the training split.
        num_validation: Rows of the validation split. Defaults to 0.
        num_test: Rows of the test split. Defaults to 0.
        labels: Classes. Defaults to none.
        truncated_share: Share of training rows that are cut. Defaults to 0.
    """
    training = _in_words(config)
    if config.learning_rate == "auto":  # the search is for the run
        config = config.model_copy(update={"learning_rate": _ANY_RATE})
    batches = [problem.train.num_batches(epoch) for epoch in range(config.epochs)]
    table = Timetable(batches, accumulate=config.gradient_accumulation)
    step = prepare_step(model, problem, config, table)
    inputs, targets, weights = next(iter(problem.train.dataset()))  # the longest
    rows, width = (int(size) for size in inputs["token_ids"].shape)
    memory = MemoryPlan(model, batch_size=rows, width=width, accumulate=config.gradient_accumulation)
    warning = memory.warning()
    if warning is not None:
        _log.warning(warning)
    first_loss = step([(inputs, targets, weights)])["loss"]
    trainable = int(sum(np.prod(variable.shape) for variable in model.trainable_variables))
    total = int(model.count_params())
    return Plan(
        num_train=num_train,
        num_validation=num_validation,
        num_test=num_test,
        labels=labels,
        sequence_length=sequence_length,
        steps_per_epoch=table.steps[0],
        num_steps=table.total,
        tokens_per_epoch=int(problem.train.num_tokens(0).sum()),
        truncated_share=truncated_share,
        padding_share=problem.train.padding_share,
        num_parameters=total,
        num_trainable=trainable,
        training=training,
        dtype_policy=config.dtype_policy,
        memory_gib=memory.estimate.total / _GIB,
        memory=str(memory.estimate),
        memory_warning=warning,
        first_loss=float(first_loss),
    )


def _in_words(config: TrainingConfig) -> str:
    rate = config.learning_rate if config.learning_rate == "auto" else f"{config.learning_rate:g}"
    rise = f"{config.warmup:.0%} of the" if isinstance(config.warmup, float) else f"{config.warmup:,}"
    size = f"{config.batch_tokens:,} tokens" if config.batch_tokens else str(config.batch_size)
    accumulated = f" x {config.gradient_accumulation}" if config.gradient_accumulation > 1 else ""
    return (
        f"{config.optimizer} · learning rate {rate}, {config.schedule}, {rise} steps of warm-up · "
        f"{config.epochs} epochs of batches of {size}{accumulated}"
    )
