"""The mean of the last checkpoints of a run, kept where it is better than the best of them."""

import logging
from collections.abc import Callable

import keras
import numpy as np

from kerasllm.training.callbacks import is_better
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.frozen_base import changing_variables
from kerasllm.training.optimizers import average_weights
from kerasllm.training.variable_files import arrays_of, assign_arrays

__all__ = ["keep_average_if_better"]

_log = logging.getLogger("kerasllm.training")


def keep_average_if_better(
    model: keras.Model,
    checkpoints: Checkpoints,
    state: RunState,
    *,
    num_checkpoints: int,
    monitor: str,
    evaluate: Callable[[], dict[str, float]],
) -> bool:
    """Averages the weights at the ends of the last epochs, and keeps them if the monitored figure is better.

    Args:
        model: Compiled and built, with the best weights.
        checkpoints: Those of the run.
        state: Where the run stands; says afterwards which figure the kept weights have.
        num_checkpoints: How many are averaged.
        monitor: Name of the figure that decides.
        evaluate: Returns the validation logs of the model.

    Returns:
        Whether the average was kept; else the model has the best weights as before.

    Source: Izmailov et al., 2018 (https://arxiv.org/abs/1803.05407).
    """
    names = [name for name in checkpoints.names() if name.endswith("-end")][-num_checkpoints:]
    if len(names) < 2 or state.best_value is None:
        return False
    variables = changing_variables(model)
    best = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    means = average_weights([checkpoints.directory / name for name in names])
    assign_arrays(variables, arrays_of(means, variables))
    logs = evaluate()
    value, loss = logs.get(monitor, float("nan")), logs.get("val_loss")
    better = is_better(monitor, (value, loss), (state.best_value, state.best_loss))
    _log.info(
        "The mean of %d checkpoints has %s %.4g, the best of them %.4g; the %s is kept.",
        len(names),
        monitor,
        value,
        state.best_value,
        "mean" if better else "best",
    )
    if not better:
        assign_arrays(variables, best)
        return False
    state.best_value, state.best_loss = value, loss
    state.best_step, state.best_epoch = state.step, state.epoch
    return True
