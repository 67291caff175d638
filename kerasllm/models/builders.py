"""From a preset to a Keras model with a head, to files, and back."""

import dataclasses
import difflib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kerasllm.errors import ConfigError, PresetError
from kerasllm.models.families import FAMILIES
from kerasllm.models.families.family import MEAN_POOLED
from kerasllm.models.labels import PROBLEM_TYPES
from kerasllm.models.presets import Preset
from kerasllm.models.tensors import TensorSpec, extract_tensors

if TYPE_CHECKING:
    from kerasllm.models.heads import Classifier, ModelWithHead

    Model = TypeVar("Model", bound=ModelWithHead)

logger = logging.getLogger(__name__)

# "auto" is resolved by the preset.
POOLINGS = ("auto", "cls", "mean")
# What of a config speaks about a file or a library, and not about the model.
_NOT_SAVED = (
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
)


def build_classifier(
    preset: Preset,
    *,
    num_classes: int,
    pooling: str = "auto",
    dropout: float | None = None,
    dtype_policy: str = "float32",
    labels: Sequence[str] | None = None,
    problem_type: str = "single_label_classification",
) -> "Classifier":
    """Puts a new classification head on a pretrained backbone.

    The weights of the head come from Keras' seeded generators: call
    `keras.utils.set_random_seed` first for the same model twice.

    Args:
        preset: The pretrained checkpoint.
        num_classes: Number of logits.
        pooling: `"cls"` (as the family's own classifiers: the first token of an encoder, the last one of a
            decoder), `"mean"` (of the token vectors), or `"auto"`, as the checkpoint is meant:
            `preset.default_pooling`. Defaults to `"auto"`.
        dropout: Rate of every dropout in backbone and head. Defaults to `None`, the
            checkpoint's own rates.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.
        labels: Class names, to be saved with the model. Defaults to `None`.
        problem_type: What the logits mean, to be saved with the model. Defaults to
            `"single_label_classification"`.

    Returns:
        A Keras model from `token_ids`, `padding_mask` and, where the family has them, `segment_ids` (int32 of
        shape `(batch, sequence)`) to float32 logits of shape `(batch, num_classes)`.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
    >>> model = build_classifier(Preset.load(tiny_bert("tiny")), num_classes=2)
    >>> model.output.shape
    (None, 2)
    """
    _check_arguments(num_classes, pooling, dropout, labels, problem_type)
    if pooling == "cls" and preset.default_pooling == "mean" and preset.lacks_decoder:
        raise ConfigError(
            f"`{preset.handle}` is an encoder without its decoder, whose family classifies with both: only "
            "`pooling='mean'` works."
        )
    pooling = preset.default_pooling if pooling == "auto" else pooling
    model = _new_classifier(
        preset,
        MEAN_POOLED if pooling == "mean" else "pooled_classifier",
        num_classes,
        dropout=dropout,
        dtype_policy=dtype_policy,
        labels=labels,
        problem_type=problem_type,
    )
    if model.head.settings.pool == "pooled" and not preset.has_pooler:
        logger.warning(
            "`%s` has no trained pooler, so `pooling='cls'` starts from a new one; `pooling='mean'` needs "
            "none.",
            preset.handle,
        )
    logger.info(
        "A new classification head (%d classes, pooling %s) is put on `%s`.",
        num_classes,
        pooling,
        preset.handle.partition("?")[0],
    )
    return model


def build_with_head(preset: Preset, *, dtype_policy: str = "float32") -> "ModelWithHead":
    """Builds the model that a checkpoint was trained to be, head included.

    Args:
        preset: A checkpoint with a trained head.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Returns:
        The model; a `Classifier` with the checkpoint's `labels` and `problem_type` where it classifies texts
        or tokens.

    Raises:
        PresetError: If the checkpoint has no trained head.
    """
    from kerasllm.models.heads import Classifier, ModelWithHead

    if preset.head is None:
        raise PresetError(
            f"`{preset.handle}` has no trained head. Its `architectures`: {_architectures(preset)}."
        )
    family, config, kind = preset.family, preset.config, preset.head
    units = preset.num_classes or 0
    head = family.head(config, kind, units, tied=preset.tied)
    backbone = preset.build_backbone(dtype_policy=dtype_policy, pooler=head.pool == "pooled")
    options: dict[str, Any] = {}
    if preset.num_classes is not None:
        options = {"labels": preset.labels, "problem_type": preset.problem_type}
    with preset.weights_of(family.head_tensors(config, kind, units, tied=preset.tied)):
        return (Classifier if preset.num_classes is not None else ModelWithHead)(
            backbone,
            head,
            kind=kind,
            start_id=preset.start_id if "language" not in kind else None,
            initializer_range=_deviation(preset),
            checkpoint_config=config,
            name="classifier" if preset.num_classes is not None else "language_model",
            **options,
        )


def build_trained_classifier(preset: Preset, *, dtype_policy: str = "float32") -> "Classifier":
    """Builds the classifier of texts that a checkpoint was trained to be, head included.

    Args:
        preset: A checkpoint with a classification head.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Returns:
        The model, with the checkpoint's `labels` and `problem_type`.

    Raises:
        PresetError: If the checkpoint has no trained classification head.
    """
    if preset.head not in ("pooled_classifier", MEAN_POOLED):
        raise PresetError(
            f"`{preset.handle}` has no trained classification head (its `architectures`: "
            f"{_architectures(preset)}). Fine-tune it first: `kerasllm.finetune`."
        )
    model: Classifier = build_with_head(preset, dtype_policy=dtype_policy)
    return model


def with_dtype_policy(model: "Model", dtype_policy: str) -> "Model":
    """Copies a model into a fresh one that computes in another precision.

    Variables are float32 under every policy, so nothing is lost: a model trained in mixed
    precision becomes the float32 model that is exported.

    Args:
        model: The model, which stays as it is.
        dtype_policy: Keras dtype policy of the copy.

    Returns:
        A new model with equal weights, adapters and matrices in 8 bits included.
    """
    from kerasllm.models.adapters import copy_adapters, values_by_path
    from kerasllm.models.quantization import copy_quantization

    copy = like(model, dtype_policy)
    copy_quantization(model, copy)
    values = values_by_path(model)
    for weight in copy.weights:
        weight.assign(values[weight.path])
    copy_adapters(model, copy)
    return copy


def like(model: "Model", dtype_policy: str) -> "Model":
    """A model of the same architecture in a dtype policy, with new weights and no adapters."""
    backbone = type(model.backbone).from_config({**model.backbone.get_config(), "dtype": dtype_policy})
    return type(model)(**{**_head_config(model), "backbone": backbone})


def save_weights(model: "ModelWithHead", directory: str | Path) -> None:
    """Writes a model in Hugging Face format: `config.json` and `model.safetensors`.

    transformers loads it as the class that its family has for such a head. A classifier on
    the mean of the token vectors, for which it has none, is a model without a head to it, with the head's
    tensors (`mean_pooled_classifier.weight`, `.bias`) beside. The same weights give the same bytes.

    Args:
        model: The model.
        directory: An existing directory, made atomic by the caller. Files of these names
            are overwritten.

    Example:
    >>> save_weights(model, "model")
    >>> load_classifier("model").labels
    ('negative', 'positive')
    """
    from safetensors.numpy import save_file

    from kerasllm.models.adapters import adapted_layers, merge_lora
    from kerasllm.models.quantization import quantized_layers

    if adapted_layers(model) or quantized_layers(model):
        model = merge_lora(model)
    directory = Path(directory)
    family = FAMILIES[model.checkpoint_config["model_type"]]
    values = extract_tensors(model, saved_tensors(model))
    form = family.head_format(model.kind)
    tied_bias, own_bias = (names.get("head/output/bias") for names in (form.names, form.untied_names))
    if isinstance(tied_bias, str) and own_bias in values:
        values[tied_bias] = values[own_bias]  # transformers has both, and uses the one beside the matrix
    tensors = {
        family.stored_name(name, model.kind): np.ascontiguousarray(value) for name, value in values.items()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps(_saved_config(model), indent=2, sort_keys=True, ensure_ascii=False)
    (directory / "config.json").write_text(config + "\n", encoding="utf-8")


def load_classifier(directory: str | Path, *, dtype_policy: str = "float32") -> "Classifier":
    """Loads what `save_weights` wrote, or any checkpoint with a sequence-classification head.

    Args:
        directory: Holds `config.json` and the weights.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Returns:
        The classifier; its logits are those of the saved model, bit for bit.

    Raises:
        PresetError: If the directory holds no classifier, or it is damaged.
    """
    return build_trained_classifier(Preset.load(directory), dtype_policy=dtype_policy)


def _check_arguments(
    num_classes: int, pooling: str, dropout: float | None, labels: Sequence[str] | None, problem_type: str
) -> None:
    problems = []
    if not isinstance(num_classes, int) or num_classes < 1:
        problems.append(f"`num_classes` is {num_classes!r}, but must be a positive integer")
    for name, value, known in (("pooling", pooling, POOLINGS), ("problem_type", problem_type, PROBLEM_TYPES)):
        if value not in known:
            close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(f"`{name}` is {value!r}, but must be one of {', '.join(map(repr, known))}{hint}")
    if dropout is not None and not 0 <= dropout < 1:
        problems.append(f"`dropout` is {dropout!r}, but must be from 0 to below 1")
    if labels is not None and len(set(labels)) != num_classes:
        problems.append(f"`labels` has {len(set(labels))} different names for {num_classes} classes")
    if problems:
        raise ConfigError(f"The classifier cannot be built: {'; '.join(problems)}.")


def _new_classifier(
    preset: Preset, kind: str, num_classes: int, *, dropout: float | None, dtype_policy: str, **options: Any
) -> "Classifier":
    """A classifier with the preset's backbone and a new head."""
    from kerasllm.models.heads import Classifier

    config, family = dict(preset.config), preset.family
    if dropout is not None:
        config |= family.dropout_settings(dropout)
    head = family.head(config, kind, num_classes)
    if kind == MEAN_POOLED:
        usual = family.heads.get("pooled_classifier")
        rate = usual.settings(family, config, num_classes).dropout if usual is not None else 0.0
        head = dataclasses.replace(head, dropout=rate)
    return Classifier(
        preset.build_backbone(dropout=dropout, dtype_policy=dtype_policy, pooler=head.pool == "pooled"),
        head,
        kind=kind,
        start_id=preset.start_id,
        initializer_range=_deviation(preset),
        checkpoint_config=config,
        name="classifier",
        **options,
    )


def _deviation(preset: Preset) -> float:
    return float(preset.config.get(preset.family.deviation) or 0.02)


def _architectures(preset: Preset) -> Any:
    return preset.config.get("architectures")


def _head_config(model: "ModelWithHead") -> dict[str, Any]:
    config = model.get_config()
    del config["backbone"]
    return config


def saved_tensors(model: "ModelWithHead") -> list[TensorSpec]:
    """Lists the tensors that `save_weights` writes, and the variables that they come from."""
    config, family = _config_of_kind(model), FAMILIES[model.checkpoint_config["model_type"]]
    head = model.head.settings
    tensors = family.backbone_tensors(config)
    if head.pool == "pooled":
        tensors += family.pooler_tensors(config)
    return tensors + family.head_tensors(config, model.kind, head.units, tied=head.tied)


def _config_of_kind(model: "ModelWithHead") -> dict[str, Any]:
    """The checkpoint's config, with the architecture that the model has now."""
    config, family = dict(model.checkpoint_config), FAMILIES[model.checkpoint_config["model_type"]]
    form = family.head_format(model.kind)
    config["architectures"] = [form.architecture[0] if form.architecture else family.base_class(config)]
    return family.saved_config(config)


def _saved_config(model: "ModelWithHead") -> dict[str, Any]:
    config = {key: value for key, value in _config_of_kind(model).items() if key not in _NOT_SAVED}
    config["dtype"] = "float32"
    if "classifier" not in model.kind:
        if "tie_word_embeddings" in config and model.checkpoint_config["model_type"] not in ("t5", "mt5"):
            config["tie_word_embeddings"] = model.head.settings.tied
        return config
    labels = model.labels or [f"LABEL_{i}" for i in range(model.head.settings.units)]
    return {
        **config,
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        "problem_type": model.problem_type,
    }
