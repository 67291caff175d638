"""Finds a learning rate: one short run with rates that grow from step to step."""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import ConfigError

__all__ = ["RateSearch", "find_learning_rate"]

_log = logging.getLogger("kerasllm.training")


@dataclass(frozen=True)
class RateSearch:
    """What a search found.

    Attributes:
        rates: The learning rates that were tried, growing.
        losses: Loss of each step, before its update.
        smoothed: The same, smoothed.
        suggestion: Rate at which the smoothed loss fell most steeply, `None` where it never fell.
        diverged: Whether the search ended early because the loss exploded.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    diverged: bool

    @property
    def table(self) -> list[tuple[float, float]]:
        """Pairs of rate and smoothed loss."""
        return list(zip(self.rates, self.smoothed, strict=True))


def find_learning_rate(
    step: Any,
    batches: Iterable[Any],
    *,
    variables: Sequence[Any] | None = None,
    lowest: float = 1e-7,
    highest: float = 1.0,
    num_steps: int = 100,
    smoothing: float = 0.9,
    stop_ratio: float = 4.0,
) -> RateSearch:
    """Trains with learning rates that grow exponentially, and puts everything back afterwards.

    A rate somewhat below the suggestion is a good peak for a schedule with a warm-up.

    Args:
        step: A compiled Keras model, of which optimizer and metrics are left as they are; or a function of
            batch and learning rate that makes one training step and returns the loss.
        batches: What the steps get, a `tf.data.Dataset` for instance; from the start again when it ends.
        variables: What to restore after the search, where `step` is a function: weights and the state of the
            optimizer. Defaults to all variables of the model.
        lowest: First rate. Defaults to 1e-7.
        highest: Last rate. Defaults to 1.
        num_steps: Steps, at most. Defaults to 100.
        smoothing: Weight of the past in the smoothed loss. Defaults to 0.9.
        stop_ratio: The search ends where the smoothed loss is this many times its lowest value, or is no
            number. Defaults to 4.

    Returns:
        Rates, losses and the suggestion.

    Raises:
        ConfigError: If an argument is out of its range, `variables` are missing, or there are no batches.

    Example:
    >>> search = find_learning_rate(model, training_batches)
    >>> model.optimizer.learning_rate = search.suggestion / 3
    """
    if not 0 < lowest < highest or num_steps < 2 or not 0 <= smoothing < 1 or stop_ratio <= 1:
        raise ConfigError(
            f"Got lowest={lowest}, highest={highest}, num_steps={num_steps}, smoothing={smoothing}, "
            f"stop_ratio={stop_ratio}; expected 0 < lowest < highest, at least 2 steps, a smoothing from 0 "
            "to below 1 and a ratio above 1."
        )
    if isinstance(step, keras.Model):
        variables = step.variables if variables is None else variables
        step = _step_of(step)
    elif variables is None:
        raise ConfigError(
            "`step` is a function, so that `variables` have to say what it changes: pass weights and "
            "optimizer state, e.g. `variables=[*model.variables, *optimizer.variables]`."
        )
    with _restored(variables):
        rates = np.geomspace(lowest, highest, num_steps).tolist()
        rates, losses, smoothed, diverged = _search(step, batches, rates, smoothing, stop_ratio)
    suggestion = _steepest(rates, smoothed)
    if suggestion is None:
        _log.warning(
            "The loss never fell between the learning rates %.2g and %.2g, so none is suggested. Try others, "
            "or more steps than %d.",
            rates[0],
            rates[-1],
            len(rates),
        )
    return RateSearch(rates, losses, smoothed, suggestion, diverged)


def _search(
    step: Callable[[Any, float], Any],
    batches: Iterable[Any],
    rates: list[float],
    smoothing: float,
    stop_ratio: float,
) -> tuple[list[float], list[float], list[float], bool]:
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    for rate, batch in zip(rates, _again_and_again(batches), strict=False):
        loss = float(step(batch, rate))
        if not math.isfinite(loss):
            return rates[: len(losses)], losses, smoothed, True
        average = smoothing * average + (1 - smoothing) * loss
        losses.append(loss)
        smoothed.append(average / (1 - smoothing ** len(losses)))
        if smoothed[-1] > stop_ratio * min(smoothed) > 0:
            return rates[: len(losses)], losses, smoothed, True
    return rates, losses, smoothed, False


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    for _ in itertools.count():
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            raise ConfigError("`batches` has no batch, or is an iterator that was used up; pass a data set.")


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    if len(rates) < 2:
        return None
    slopes = np.gradient(np.array(smoothed), np.log(rates))
    place = int(np.argmin(slopes))
    return rates[place] if slopes[place] < 0 else None


@contextlib.contextmanager
def _restored(variables: Sequence[Any]) -> Iterator[None]:
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(values)


def _step_of(model: keras.Model) -> Callable[[Any, float], Any]:
    """A training step of its own: neither the model's optimizer nor its train function change."""
    if not model.compiled or model.optimizer is None:
        raise ConfigError("The model has no optimizer; call `model.compile(optimizer=…, loss=…)` before.")
    rate = tf.Variable(0.0, trainable=False)
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(model.optimizer))
    # A function in place of the rate, because a schedule cannot be assigned to.
    getattr(optimizer, "inner_optimizer", optimizer).learning_rate = lambda: tf.convert_to_tensor(rate)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def train(batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), sample_weight, training=True)
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss

    def step(batch, value):
        rate.assign(value)
        return train(batch)

    return step
