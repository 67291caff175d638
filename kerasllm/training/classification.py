"""Text classification, as the trainer sees it."""

import logging
from dataclasses import dataclass
from typing import Any

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.batching import evaluation_source, make_source
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.errors import ConfigError
from kerasllm.models.packing import rebuild
from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.losses import classification_loss
from kerasllm.training.objectives import Classification, Objective, RDrop
from kerasllm.training.problem import Problem

__all__ = ["TrainingData", "classification_problem"]

_log = logging.getLogger("kerasllm.training")
_MUCH_PADDING = 0.1


@dataclass(frozen=True)
class TrainingData:
    """What a training run reads.

    Attributes:
        train: Encoded training texts.
        validation: Encoded validation texts, or `None`.
        pad_id: Id that fills short rows.
        num_classes: Number of classes.
        multi_label: Whether a text may have several labels.
        augmentation: Layers that change the token ids in training, in order.
    """

    train: EncodedTexts
    validation: EncodedTexts | None
    pad_id: int
    num_classes: int
    multi_label: bool
    augmentation: tuple[Any, ...] = ()


def classification_problem(data: TrainingData, config: TrainingConfig, *, seed: int = 0) -> Problem:
    """What a classifier is trained on.

    Args:
        data: What to train and validate on.
        config: The `training` section.
        seed: Seed of the order of the batches. Defaults to 0.

    Raises:
        ConfigError: If batches cannot be made as configured.
    """
    if config.packing and data.augmentation:
        raise ConfigError(
            "`training.packing` puts several texts into a row, but augmentation in the graph changes rows as "
            "if each were one text. Leave out `augmentation`, or set `training.packing` to false and "
            "`training.batch_tokens` against padding."
        )
    loss = classification_loss(
        multi_label=data.multi_label,
        label_smoothing=config.label_smoothing,
        kind=config.loss,
        focal_gamma=config.focal_gamma,
    )
    classification = Classification(loss, data.num_classes)
    objective: Objective = RDrop(classification, config.r_drop) if config.r_drop else classification
    validation = None
    if data.validation is not None:
        # A packed model reads single texts too, and gives the same answers for them.
        validation = evaluation_source(data.validation, 2 * config.batch_size, pad_id=data.pad_id).epoch()
    train = make_source(data.train, config, pad_id=data.pad_id, seed=seed)
    if config.packing and train.padding_share > _MUCH_PADDING:
        _log.warning(
            "%.0f %% of the places in packed rows are padding: rows of %s tokens hold too few texts. Set "
            "`training.packing_length` to several times that, and `training.batch_size`, which counts rows, "
            "lower.",
            100 * train.padding_share,
            config.packing_length or max(train.widths),
        )
    _log.info(
        "%d batches an epoch; %.1f %% of the places in them are padding.",
        train.num_batches(0),
        100 * train.padding_share,
    )
    return Problem(
        objective=objective,
        train=train,
        validation=validation,
        rebuild=rebuild,
        loss=loss,
        metrics=classification_metrics(data.num_classes, multi_label=data.multi_label),
        augmentation=data.augmentation,
        longest=int(data.train.lengths.max()),
    )
