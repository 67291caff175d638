"""The loss of texts that were mixed with others."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasllm.data.augmentation.mixup import Mixup
from kerasllm.errors import TrainingError
from kerasllm.training.objectives import LossValue, Objective

__all__ = ["mixed_loss"]


def mixed_loss(
    objective: Objective,
    model: keras.Model,
    augmentation: Sequence[Any],
    inputs: Any,
    targets: Any,
    weights: Any,
) -> LossValue:
    """The loss of a training batch; of rows that `Mixup` mixed, of both targets by their shares.

    Both losses are of the same outputs, so the model runs once.

    Args:
        objective: What is minimised; with `Mixup`, one whose `LossValue.outputs` are what the model returned.
        model: The model.
        augmentation: The layers of the step; at most one is a `Mixup`.
        inputs: The batch, as `kerasllm.data.augmentation.augmented` gave it.
        targets: See `Objective.loss`.
        weights: See `Objective.loss`.

    Raises:
        TrainingError: If there are several `Mixup`s, or the objective has no outputs.
    """
    mixups = [layer for layer in augmentation if isinstance(layer, Mixup)]
    if not mixups:
        return objective.loss(model, inputs, targets, weights, training=True)
    if len(mixups) > 1:
        raise TrainingError(
            f"`augmentation` has {len(mixups)} `Mixup` layers; leave one, as each mixes all rows."
        )
    mixing: Any = mixups[0].mixing
    own, other = mixing.parts(targets, weights)
    first = objective.loss(model, inputs, *own, training=True)
    if first.outputs is None:
        raise TrainingError(
            f"`Mixup` cannot mix the targets of `{type(objective).__name__}`: expected an objective of one "
            "row, one target, such as classification. Leave `mixup` out of `augmentation`."
        )

    def outputs_again(*_: Any, **__: Any) -> Any:
        return first.outputs

    second = objective.loss(outputs_again, inputs, *other, training=True)  # type: ignore[arg-type]
    return LossValue(first.total + second.total, first.weight + second.weight, first.outputs)
