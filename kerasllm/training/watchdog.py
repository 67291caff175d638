"""What to say, and what to do, when a loss or a gradient is no number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.models.precision import resolve_dtype_policy
from kerasllm.training.optimizers.building import ABSURD_RATE
from kerasllm.training.step import NotFiniteError, TrainingStep

__all__ = ["diagnose", "safer_policy"]

# A loss this many times the first one says that the steps were too long.
_EXPLODED = 4.0
_MOST_ROWS = 5


def safer_policy(policy: str) -> str | None:
    """The next more exact dtype policy, or `None` after float32.

    From float16 that is bfloat16, whose range is that of float32, where the device computes it natively.

    >>> safer_policy("mixed_bfloat16")
    'float32'
    """
    if policy == "mixed_float16" and resolve_dtype_policy("auto") == "mixed_bfloat16":
        return "mixed_bfloat16"
    return None if policy == "float32" else "float32"


def describe(
    error: NotFiniteError,
    step: TrainingStep,
    *,
    epoch: int,
    place: int,
    rows: Sequence[np.ndarray],
    losses: Sequence[float],
) -> str:
    """Says what happened where: the step, the rate, the rows of the batch, and the loss before.

    Args:
        error: What the step raised.
        step: The step.
        epoch: Number of the epoch, from 0.
        place: Number of the step in it, from 0.
        rows: Numbers of the training rows in each of its micro-batches.
        losses: Mean losses of the epoch after the steps before, the oldest first.
    """
    what = "A gradient is not finite" if np.isfinite(error.loss) else f"The loss became {error.loss:g}"
    rate = float(np.asarray(step.model.optimizer.learning_rate))
    before = f"a mean loss of {losses[-1]:.4g}" if losses else "the epoch began"
    if not losses and epoch == 0:
        before = "no step at all"
    return (
        f"{what} in epoch {epoch + 1}, step {place + 1}, at learning rate {rate:.2g}, after {before}, with "
        f"the training rows {_listed(np.concatenate(rows))}."
    )


def diagnose(
    step: TrainingStep,
    error: NotFiniteError,
    *,
    rows: Sequence[np.ndarray],
    losses: Sequence[float],
    policy: str,
) -> str:
    """Says what made a step not finite: the weights, single rows, the rate, or the precision.

    Args:
        step: The step, whose model has the weights from before the error.
        error: What it raised.
        rows: Numbers of the training rows in each of its micro-batches.
        losses: Mean losses of the epoch after the steps before, the oldest first.
        policy: Dtype policy of the run.

    Returns:
        A sentence with the cause and one with the remedy.
    """
    rate = float(np.asarray(step.model.optimizer.learning_rate))
    broken = [weight.path for weight in step.model.variables if not _is_finite(weight)]
    if broken:
        return (
            f"{len(broken)} weights are not finite, the first is `{broken[0]}`: a step before was too long. "
            f"The learning rate {rate:.2g} is the cause; lower `training.learning_rate`, e.g. to "
            f"{rate / 10:.1g}."
        )
    if step.loss_scale.has_collapsed:
        return (
            f"The loss scale of float16 has collapsed ({step.loss_scale.value:g} after "
            f"{step.loss_scale.num_skipped} skipped steps in a row). Use "
            "`training.dtype_policy=mixed_bfloat16` or float32, or lower `training.learning_rate`."
        )
    is_first = int(step.model.optimizer.iterations) == 0
    if rate > ABSURD_RATE and not is_first:
        return (
            f"The learning rate {rate:.2g} is the cause: each step changes weights by about as much. Lower "
            "`training.learning_rate`, e.g. to 5.0e-5."
        )
    bad = _bad_rows(step, error.batches, rows)
    if bad and len(bad) == sum(map(len, rows)) and (not is_first or policy != "float32"):
        if is_first:
            return _precision(policy)
        return (
            f"All rows of this step give it by themselves, those of the steps before did not: the learning "
            f"rate {rate:.2g} is the cause. Lower `training.learning_rate`, e.g. to {rate / 10:.1g}."
        )
    if bad:
        return (
            f"By themselves, {len(bad)} of the {sum(map(len, rows))} training rows of this step give it "
            f"(rows {_listed(bad)}, counted from 0 after cleaning), with weights that are finite: the cause "
            "is their data or their weights in the loss, not the learning rate. Look at these rows and at "
            "`training.class_weights`."
        )
    if len(losses) > 1 and losses[-1] > _EXPLODED * losses[0]:
        return (
            f"The mean loss rose from {losses[0]:.4g} to {losses[-1]:.4g} before: the learning rate "
            f"{rate:.2g} is the cause. Lower `training.learning_rate`, e.g. to {rate / 10:.1g}."
        )
    if policy != "float32":
        return _precision(policy)
    return (
        f"No row of the step gives it without dropout: the gradients overflow. Lower "
        f"`training.learning_rate` (now {rate:.2g}) or `training.gradient_clip`."
    )


def _precision(policy: str) -> str:
    return (
        f"Neither the weights nor single rows are the cause, so that the precision {policy} is the likely "
        "one. Use `training.dtype_policy=float32`, or lower `training.learning_rate`."
    )


def _bad_rows(step: TrainingStep, batches: Sequence[Any], rows: Sequence[np.ndarray]) -> list[int]:
    """Numbers of the rows whose loss alone is not finite."""
    bad = []
    for batch, numbers in zip(batches, rows, strict=True):
        if len(tf.nest.flatten(batch[0])[0]) != len(numbers):
            continue  # packed: a row holds several texts
        for place, number in enumerate(numbers):
            one = tf.nest.map_structure(lambda part, at=place: part[at : at + 1], batch)
            if not np.isfinite(float(step.measure(one).total)):
                bad.append(int(number))
    return sorted(bad)


def _listed(rows: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:_MOST_ROWS]) + (", …" if len(rows) > _MOST_ROWS else "")


def _is_finite(variable: Any) -> bool:
    values = np.asarray(variable)
    return not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())
