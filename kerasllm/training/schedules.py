"""Learning-rate schedules: a warm-up, then linear, cosine or no decay."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasllm")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from zero, then decays to zero over the rest of the run.

    The first step already moves: step `i` (from 0) of a warm-up of `n` steps has the rate
    `(i + 1) / (n + 1)` of the peak.

    Args:
        peak: Highest learning rate.
        num_steps: Optimizer steps of the whole run.
        num_warmup_steps: Steps of the warm-up.
        decay: `"linear"`, `"cosine"` or `"constant"`. Defaults to `"linear"`.

    Source: the schedule of Devlin et al., 2018, as in transformers' `get_linear_schedule_with_warmup`.
    """

    def __init__(self, peak: float, num_steps: int, num_warmup_steps: int = 0, decay: str = "linear"):
        super().__init__()
        self.peak = peak
        self.num_steps = num_steps
        self.num_warmup_steps = num_warmup_steps
        self.decay = decay

    def __call__(self, step):
        """The learning rate at an optimizer step, from 0."""
        step = ops.cast(step, "float32")
        rising = (step + 1.0) / (self.num_warmup_steps + 1.0)
        rest = max(self.num_steps - self.num_warmup_steps, 1)
        done = ops.clip((step - self.num_warmup_steps) / rest, 0.0, 1.0)
        if self.decay == "linear":
            falling = 1.0 - done
        elif self.decay == "cosine":
            falling = 0.5 * (1.0 + ops.cos(math.pi * done))
        else:
            falling = ops.ones_like(done)
        return self.peak * ops.where(step < self.num_warmup_steps, rising, falling)

    def get_config(self):
        """The arguments, for serialisation."""
        return {
            "peak": self.peak,
            "num_steps": self.num_steps,
            "num_warmup_steps": self.num_warmup_steps,
            "decay": self.decay,
        }
