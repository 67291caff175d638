"""Text classification, as the trainer sees it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.pipeline import (
    EncodedTexts,
    epoch_batches,
    evaluation_batches,
    num_batches_of,
    training_batches,
)
from kerasllm.models.builders import with_dtype_policy
from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.losses import classification_loss
from kerasllm.training.objectives import Classification
from kerasllm.training.problem import Problem

__all__ = ["TrainingData", "classification_problem"]


@dataclass(frozen=True)
class TrainingData:
    """What a training run reads.

    Attributes:
        train: Encoded training texts.
        validation: Encoded validation texts, or `None`.
        pad_id: Id that fills short rows.
        num_classes: Number of classes.
        multi_label: Whether a text may have several labels.
        augmentation: Layers that change the token ids in training, in order.
    """

    train: EncodedTexts
    validation: EncodedTexts | None
    pad_id: int
    num_classes: int
    multi_label: bool
    augmentation: tuple[Any, ...] = ()


def classification_problem(data: TrainingData, config: TrainingConfig, *, seed: int = 0) -> Problem:
    """What a classifier is trained on.

    Args:
        data: What to train and validate on.
        config: The `training` section.
        seed: Seed of the order of the batches. Defaults to 0.
    """
    loss = classification_loss(multi_label=data.multi_label, label_smoothing=config.label_smoothing)
    validation = None
    if data.validation is not None:
        validation = evaluation_batches(data.validation, 2 * config.batch_size, pad_id=data.pad_id)
    return Problem(
        objective=Classification(loss, data.num_classes),
        train=_Grouped(data.train, config.batch_size, data.pad_id, seed),
        validation=validation,
        rebuild=with_dtype_policy,
        loss=loss,
        metrics=classification_metrics(data.num_classes, multi_label=data.multi_label),
        augmentation=data.augmentation,
        longest=int(data.train.lengths.max()),
    )


@dataclass(frozen=True)
class _Grouped:
    texts: EncodedTexts
    batch_size: int
    pad_id: int
    seed: int
    padding_share: float = 0.0

    @cached_property
    def element_spec(self) -> Any:
        return self.dataset().element_spec

    def num_batches(self, epoch: int) -> int:
        return num_batches_of(self.texts, self.batch_size)

    def rows(self, epoch: int, batch: int) -> np.ndarray:
        return epoch_batches(self.texts.lengths, self.batch_size, seed=self.seed, epoch=epoch)[batch]

    def dataset(self, first_epoch: int = 0, first_batch: int = 0) -> Any:
        first = first_epoch * self.num_batches(0) + first_batch
        return training_batches(
            self.texts, self.batch_size, pad_id=self.pad_id, seed=self.seed, first_step=first
        )
