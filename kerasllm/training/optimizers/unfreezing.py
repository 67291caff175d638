"""Gradual unfreezing: the head first, then layer by layer downwards."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kerasllm.errors import ConfigError
from kerasllm.training.optimizers.depth import distances_from_top

__all__ = ["GradualUnfreezing"]

_log = logging.getLogger("kerasllm.training")


class GradualUnfreezing(keras.callbacks.Callback):
    """Trains only the top layers of a model at first, in any `fit`.

    Layers are counted by the numbers in the paths of their variables (see `distances_from_top`); where there
    are none, the layers of `model.layers` that have weights are counted, from the last. Variables that are
    not trainable when training begins are never made so. When it ends all flags are as before.

    The train function is traced anew whenever the layers change. Our `AdamW` starts the bias correction of a
    variable when it joins; Keras' own optimizers take it for one that had no gradient so far, and Adam's
    first updates of it are about three times too large.

    Args:
        schedule: Number of layers below the head that are trained, by the epoch, from 0, from which it holds;
            or a function of the epoch. 0 is the head alone.

    Raises:
        ConfigError: If the schedule says nothing about the first epoch, or a number is negative.

    Source: Howard and Ruder, 2018 (https://arxiv.org/abs/1801.06146), section 3.3.

    Example:
    >>> model.fit(batches, epochs=4, callbacks=[GradualUnfreezing({0: 0, 1: 2, 3: 99})])
    """

    def __init__(self, schedule: Mapping[int, int] | Callable[[int], int]):
        super().__init__()
        if isinstance(schedule, Mapping) and 0 not in schedule:
            raise ConfigError(
                f"The schedule has the epochs {sorted(schedule)}, but not 0, with which training begins. Add "
                "e.g. `0: 0`, to train the head alone at first."
            )
        self.schedule = schedule
        self._distances: list[tuple[Any, int]] = []

    def num_layers(self, epoch: int) -> int:
        """Number of layers below the head that are trained in an epoch."""
        if isinstance(self.schedule, Mapping):
            number = self.schedule[max(start for start in self.schedule if start <= epoch)]
        else:
            number = self.schedule(epoch)
        if number < 0:
            raise ConfigError(f"The schedule has {number} layers in epoch {epoch}; expected 0 or more.")
        return number

    def on_train_begin(self, logs=None):
        """Finds the layers."""
        variables = self.model.trainable_variables
        if not self.model.optimizer.built:
            # Later it would be built with the head alone.
            self.model.optimizer.build(variables)
        self._distances = list(zip(variables, _distances(self.model, variables), strict=True))

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the flags of the variables."""
        number = self.num_layers(epoch)
        trained = [variable for variable, distance in self._distances if distance <= number]
        before = set()
        if epoch > 0:
            last = self.num_layers(epoch - 1)
            before = {id(variable) for variable, distance in self._distances if distance <= last}
        new = [variable for variable in trained if id(variable) not in before]
        if [v.trainable for v, _ in self._distances] == [d <= number for _, d in self._distances]:
            return
        for variable, distance in self._distances:
            variable.trainable = distance <= number
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if epoch > 0 and new and hasattr(optimizer, "start"):
            optimizer.start(new)
        _log.info(
            "Epoch %d trains %d of %d variables: %d layers below the head.",
            epoch + 1,
            len(trained),
            len(self._distances),
            number,
        )
        self.model.make_train_function(force=True)

    def on_train_end(self, logs=None):
        """Makes everything trainable that was so before."""
        for variable, _ in self._distances:
            variable.trainable = True
        self.model.make_train_function(force=True)


def _distances(model: Any, variables: list[Any]) -> list[int]:
    try:
        return distances_from_top([variable.path for variable in variables])
    except ConfigError:
        layers = [layer for layer in model.layers if layer.trainable_variables]
        places: dict[int, int] = {}
        for place, layer in enumerate(reversed(layers)):
            for variable in layer.trainable_variables:
                places.setdefault(id(variable), place)
        return [places.get(id(variable), 0) for variable in variables]
