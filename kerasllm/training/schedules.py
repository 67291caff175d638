"""Learning-rate schedules: a warm-up from zero, then a decay, in the numbers of transformers and PyTorch."""

import math
from typing import Any, ClassVar

import keras
from keras import ops

from kerasllm.errors import ConfigError

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "Schedule",
    "make_schedule",
    "warmup_steps_of",
]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from zero, then what a subclass says.

    Args:
        peak: Highest learning rate.
        total_steps: Optimizer steps of the whole run.
        warmup_steps: Steps of the warm-up; step `i`, from 0, has the rate `peak * i / warmup_steps`. Defaults
            to 0.

    Raises:
        ConfigError: If there are no steps, or the warm-up is longer than the run.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0):
        super().__init__()
        if total_steps < 1:
            raise ConfigError(
                f"The run has {total_steps} optimizer steps; a schedule needs at least 1. Give more rows or "
                "epochs."
            )
        if not 0 <= warmup_steps <= total_steps:
            raise ConfigError(
                f"The warm-up has {warmup_steps} steps, the whole run {total_steps}; expected 0 to "
                f"{total_steps}. Give a smaller `warmup`, e.g. 0.1 for {math.ceil(0.1 * total_steps)} steps, "
                "or train longer."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        """The learning rate, float32, at an optimizer step, from 0."""
        # In float64: float32 would be off by more than its last digit, and steps above 2**24 by whole steps.
        step = ops.cast(step, "float64")
        rising = step / max(self.warmup_steps, 1)
        share = ops.where(step < self.warmup_steps, rising, self._after_warmup(step))
        return ops.cast(self.peak * share, "float32")

    def _after_warmup(self, step: Any) -> Any:
        """Share of the peak at a step at or after `warmup_steps`, float64."""
        raise NotImplementedError

    def _done(self, step: Any) -> Any:
        rest = max(self.total_steps - self.warmup_steps, 1)
        return ops.clip((step - self.warmup_steps) / rest, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for serialisation."""
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="kerasllm")
class Constant(Schedule):
    """Stays at the peak, as transformers' `get_constant_schedule_with_warmup`."""

    def _after_warmup(self, step):
        return ops.ones_like(step)


@keras.saving.register_keras_serializable(package="kerasllm")
class Linear(Schedule):
    """Falls to zero in a line, as transformers' `get_linear_schedule_with_warmup`."""

    def _after_warmup(self, step):
        return 1.0 - self._done(step)


@keras.saving.register_keras_serializable(package="kerasllm")
class Cosine(Schedule):
    """Falls to zero along half a cosine, as transformers' `get_cosine_schedule_with_warmup`."""

    def _after_warmup(self, step):
        return 0.5 * (1.0 + ops.cos(math.pi * self._done(step)))


@keras.saving.register_keras_serializable(package="kerasllm")
class InverseSqrt(Schedule):
    """Falls with the root of the steps, as transformers' `get_inverse_sqrt_schedule`.

    Without a warm-up, as there, as if 10,000 steps had been before.
    """

    def _after_warmup(self, step):
        timescale = self.warmup_steps or 10_000
        # Inside the warm-up the root would be that of a negative number.
        behind = ops.maximum(step - self.warmup_steps, 0.0)
        return 1.0 / ops.sqrt((behind + timescale) / timescale)


@keras.saving.register_keras_serializable(package="kerasllm")
class OneCycle(Schedule):
    """Up along half a cosine and far down along another, as `torch.optim.lr_scheduler.OneCycleLR`.

    Begins at `peak / 25` and ends at `peak / 250,000`. The peak is reached with the last step of the warm-up,
    which has to have two at least. As in PyTorch, the first and the last step are points of the curve.

    Source: Smith and Topin, 2018 (https://arxiv.org/abs/1708.07120).
    """

    _FIRST: ClassVar[float] = 1.0 / 25.0
    _LAST: ClassVar[float] = 1.0 / 250_000.0

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0):
        super().__init__(peak, total_steps, warmup_steps)
        if not 2 <= warmup_steps < total_steps:
            raise ConfigError(
                f"`one_cycle` has a warm-up of {warmup_steps} of {total_steps} steps; it needs 2 steps at "
                "least to rise in, and 1 to fall. Its usual `warmup` is 0.3."
            )

    def __call__(self, step):
        """The learning rate, float32, at an optimizer step, from 0."""
        step = ops.cast(step, "float64")
        top = self.warmup_steps - 1
        up = _between(self._FIRST, 1.0, step / top)
        down = _between(1.0, self._LAST, (step - top) / (self.total_steps - 1 - top))
        return ops.cast(self.peak * ops.where(step <= top, up, down), "float32")


def _between(first, last, done):
    return last + (first - last) / 2.0 * (1.0 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "inverse_sqrt": InverseSqrt,
    "linear": Linear,
    "one_cycle": OneCycle,
}


def warmup_steps_of(warmup: float, total_steps: int) -> int:
    """Steps of a warm-up that is given in steps (an integer) or as a share of the run (a float below 1).

    Raises:
        ConfigError: If it is neither, or longer than the run.

    Example:
    >>> warmup_steps_of(100, 2000), warmup_steps_of(0.06, 2000)
    (100, 120)
    """
    if isinstance(warmup, float) and not 0 <= warmup < 1:
        raise ConfigError(
            f"`warmup` is {warmup}; expected a share of the steps, from 0.0 to below 1.0, or an integer "
            f"number of them, such as {round(0.1 * total_steps)}."
        )
    # Rounded up, as in transformers; but 0.06 * 2000 is 120.00000000000001 to none but a computer.
    steps = math.ceil(round(warmup * total_steps, 9)) if isinstance(warmup, float) else warmup
    if isinstance(warmup, float):
        steps = min(
            steps, total_steps - 1
        )  # a run of one step would have the rate 0 in it, and learn nothing
    if not 0 <= steps <= total_steps:
        raise ConfigError(
            f"`warmup` is {warmup} steps, the whole run has {total_steps}; expected 0 to {total_steps}. Give "
            "a share such as 0.1, fewer steps, or train longer."
        )
    return steps


def make_schedule(name: str, peak: float, total_steps: int, warmup: float = 0) -> Schedule:
    """Makes the schedule of that name.

    Args:
        name: A key of `SCHEDULES`.
        peak: Highest learning rate.
        total_steps: Optimizer steps of the whole run.
        warmup: Steps of the warm-up, an integer, or their share, a float below 1. Defaults to 0.

    Raises:
        ConfigError: If there is no such schedule, or the warm-up does not fit.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"There is no schedule `{name}`; expected one of {sorted(SCHEDULES)}.")
    return SCHEDULES[name](peak, total_steps, warmup_steps_of(warmup, total_steps))
