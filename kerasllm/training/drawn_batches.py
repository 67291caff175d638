"""The place of a `fit` in its data: how many batches it has drawn, and which, as one fingerprint."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.errors import TrainingError

__all__ = ["DrawnBatches", "Position"]


@dataclass
class Position:
    """Where in its data a `fit` stands.

    Attributes:
        steps: Steps of an epoch, `None` where Keras does not know them.
        done: Steps of the running epoch that are done.
        is_endless: Whether one stream of batches goes on over all epochs (`steps_per_epoch`) or each begins
            anew; `None` before the second epoch has told.
        drawn: Batches that the fingerprint is of, from the beginning of the stream or of the epoch.
        digest: The fingerprint.
        begun: Whether what the callbacks remember is from after the beginning of the running epoch.
    """

    steps: int | None = None
    done: int = 0
    is_endless: bool | None = None
    drawn: int = 0
    digest: str = ""
    begun: bool = True


class DrawnBatches:
    """Draws the batches of a `fit` one by one, and finds the place again where an earlier process stood.

    Args:
        steps: Steps of an epoch, `None` where Keras does not know them.
        resumed: Where the earlier process stood. Defaults to `None`, there was none.
        epoch: Epoch in which it stood, from 0. Defaults to 0.

    Attributes:
        position: Where this process stands.
        to_skip: Batches still to be drawn that the earlier process has trained on.

    Raises:
        TrainingError: If an epoch has another number of steps.
    """

    def __init__(self, steps: int | None, *, resumed: Position | None = None, epoch: int = 0):
        self.position = Position(steps=steps)
        self.to_skip = 0 if resumed is None else resumed.done
        self._resumed, self._epoch = resumed, epoch
        self._iterator: Any = None
        self._is_begun = False
        if resumed is not None and resumed.steps != steps:
            raise TrainingError(
                f"An epoch has {steps} steps, but had {resumed.steps} when the checkpoint was written. Go on "
                "with the same data and batch size, or take a new directory."
            )

    def begin_epoch(self) -> None:
        """Begins to count an epoch anew."""
        self.position.done = 0
        self._is_begun = False

    def draw(self, iterator: Iterator[Any], number: int) -> list[Any]:
        """Draws the batches of the next step.

        Args:
            iterator: What `fit` hands to the train function.
            number: Batches a step (`steps_per_execution`).

        Returns:
            So many batches; fewer, or none, where an epoch of unknown length ends.

        Raises:
            TrainingError: If the data ends too early, or is not what the earlier process was trained on.
        """
        if not self._is_begun:
            self._begin(iterator)
        batches = self._drawn(iterator, number)
        self.position.done += len(batches)
        if not batches and (self.to_skip or self.position.done < (self.position.steps or 0)):
            raise TrainingError(
                f"The data ended after {self.position.done} steps of the epoch, but it should have "
                f"{self.position.steps or 'more'}. With `steps_per_epoch` the data must not end: use "
                "`dataset.repeat()`."
            )
        return batches

    def _begin(self, iterator: Iterator[Any]) -> None:
        self._is_begun = True
        if self._iterator is not None:
            self.position.is_endless = iterator is self._iterator
        elif self._resumed is not None:
            self.position.is_endless = self._resumed.is_endless
        if not self.position.is_endless:
            self.position.drawn, self.position.digest = 0, ""
        elif self._iterator is None:
            self._drawn(iterator, self._epoch * (self.position.steps or 0))
        self._iterator = iterator  # kept, so that no other can have its identity

    def _drawn(self, iterator: Iterator[Any], number: int) -> list[Any]:
        batches = list(itertools.islice(iterator, number))
        for batch in batches:
            self.position.drawn += 1
            self.position.digest = _digest(self.position.digest, batch)
            self._compare()
        return batches

    def _compare(self) -> None:
        resumed = self._resumed
        if resumed is None or self.position.drawn != resumed.drawn:
            return
        self._resumed = None
        if self.position.digest != resumed.digest:
            raise TrainingError(
                f"The first {resumed.drawn} batches are not those that were trained on before: the data has "
                "changed, or comes in another order. The order must be the same in every process and epoch "
                "(arrays with `shuffle=False`; a pipeline shuffled with a seed and "
                "`reshuffle_each_iteration=False`), or be one endless pipeline with `steps_per_epoch`."
            )


def _digest(before: str, batch: Any) -> str:
    sha = hashlib.blake2b(before.encode(), digest_size=16)
    for part in tf.nest.flatten(batch):
        if isinstance(part, tf.experimental.Optional):  # how Keras hands on what is missing
            continue
        for tensor in tf.nest.flatten(part, expand_composites=True):
            array = np.asarray(tensor)
            sha.update(f"{array.dtype} {array.shape}".encode())
            sha.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return sha.hexdigest()
