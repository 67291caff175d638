"""`training.learning_rate: auto`: a short search before the run."""

import logging

import keras
import tensorflow as tf

from kerasllm.config.schema import TrainingConfig
from kerasllm.errors import TrainingError
from kerasllm.training.optimizers import find_learning_rate
from kerasllm.training.problem import Problem
from kerasllm.training.timetable import Timetable
from kerasllm.training.trainer import prepare_step

__all__ = ["automatic_learning_rate"]

_NUM_STEPS = 60
# The loss falls fastest at about the highest rate that a step survives; a run needs some distance.
_SHARE = 1 / 3
_log = logging.getLogger("kerasllm.training")


def automatic_learning_rate(model: keras.Model, problem: Problem, config: TrainingConfig) -> float:
    """Searches a learning rate on the first batches of a run; the model is as before afterwards.

    Args:
        model: What will be trained.
        problem: What it will be trained on.
        config: The `training` section; its `learning_rate` is not looked at.

    Returns:
        A third of the rate at which the loss fell fastest, two digits of it.

    Raises:
        TrainingError: If the loss fell at no rate.
    """
    _log.info("Searching a learning rate, in at most %d steps.", _NUM_STEPS)
    constant = config.model_copy(
        update={"learning_rate": 1.0e-3, "schedule": "constant", "warmup": 0, "gradient_accumulation": 1}
    )
    table = Timetable([_NUM_STEPS])
    step = prepare_step(model, problem, constant, table)
    rate = tf.Variable(0.0, trainable=False)
    # A function in place of the rate, because a schedule cannot be assigned to.
    model.optimizer.learning_rate = lambda: tf.convert_to_tensor(rate)

    def train(batch, value):
        rate.assign(value)
        step.reset_metrics()
        return step([batch])["loss"]

    search = find_learning_rate(
        train,
        problem.train.dataset(),
        variables=[*model.variables, *step.own_variables],
        num_steps=_NUM_STEPS,
    )
    if search.suggestion is None:
        raise TrainingError(
            "The search found no learning rate at which the loss falls. Give `training.learning_rate` a "
            "number: 5.0e-5 is usual to fine-tune all weights, 1.0e-4 to 1.0e-3 for adapters."
        )
    found = float(f"{search.suggestion * _SHARE:.1e}")
    _log.info("The learning rate %g was found in %d steps.", found, len(search.rates))
    return found
