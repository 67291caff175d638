"""What a run trains on and what it minimises: all that the trainer needs to know about a task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kerasllm.training.objectives import Objective

__all__ = ["Batches", "Problem"]


class Batches(Protocol):
    """Where the batches of a run come from: a pure function of data, settings, seed and epoch."""

    @property
    def padding_share(self) -> float:
        """Share of the places in the batches that hold no token."""

    @property
    def element_spec(self) -> Any:
        """Of `(inputs, targets, weights)`."""

    def num_batches(self, epoch: int) -> int:
        """How many there are in an epoch."""

    def num_tokens(self, epoch: int) -> np.ndarray:
        """Tokens of each batch of an epoch, padding aside."""

    def rows(self, epoch: int, batch: int) -> np.ndarray:
        """Numbers of the examples in a batch."""

    def shape(self, epoch: int, batch: int) -> tuple[int, int]:
        """Rows and width of a batch."""

    def dataset(self, first_epoch: int = 0, first_batch: int = 0) -> tf.data.Dataset:
        """The batches from one on, epoch after epoch, without end."""


@dataclass(frozen=True)
class Problem:
    """A task, as the trainer sees it.

    Attributes:
        objective: What is minimised.
        train: Batches to train on.
        validation: Finite data set of `(inputs, targets, weights)` to measure, or `None`.
        rebuild: Copies a model into one that computes in another dtype policy.
        loss, metrics: For `compile`, so that plain Keras' `evaluate` works on the model too.
        augmentation: Layers that change the inputs in training, in order.
        longest: Tokens of the longest training text.
    """

    objective: Objective
    train: Batches
    validation: tf.data.Dataset | None
    rebuild: Callable[[keras.Model, str], keras.Model]
    loss: Any = None
    metrics: Sequence[Any] = ()
    augmentation: tuple[Any, ...] = ()
    longest: int = 0
