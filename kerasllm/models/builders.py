"""From a preset to a Keras model with a head, to files, and back."""

import difflib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import ConfigError, PresetError
from kerasllm.models.families import FAMILIES
from kerasllm.models.labels import PROBLEM_TYPES
from kerasllm.models.presets import Preset
from kerasllm.models.tensors import TensorSpec, assign_tensors, extract_tensors

if TYPE_CHECKING:
    import keras

    from kerasllm.models.heads import Classifier

logger = logging.getLogger(__name__)

# "auto" is resolved by the preset.
POOLINGS = ("auto", "cls", "mean")
_HEADS = {"cls": "pooled_classifier", "mean": "mean_pooled_classifier"}
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
        pooling: `"cls"` (the pooler on the first token), `"mean"` (of the token vectors), or
            `"auto"`, as the checkpoint is meant: `preset.default_pooling`. Defaults to `"auto"`.
        dropout: Rate of every dropout in backbone and head. Defaults to `None`, the
            checkpoint's own rates.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.
        labels: Class names, to be saved with the model. Defaults to `None`.
        problem_type: What the logits mean, to be saved with the model. Defaults to
            `"single_label_classification"`.

    Returns:
        A Keras model from `token_ids`, `padding_mask` and `segment_ids` (int32 of shape
        `(batch, sequence)`) to float32 logits of shape `(batch, num_classes)`.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
    >>> model = build_classifier(Preset.load(tiny_bert("tiny")), num_classes=2)
    >>> model.output.shape
    (None, 2)
    """
    _check_arguments(num_classes, pooling, dropout, labels, problem_type)
    pooling = preset.default_pooling if pooling == "auto" else pooling
    model = _classifier(
        preset,
        num_classes,
        pooling=pooling,
        dropout=dropout,
        dtype_policy=dtype_policy,
        labels=labels,
        problem_type=problem_type,
    )
    if pooling == "cls" and not preset.has_pooler:
        _initialise_pooler(model, preset)
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


def build_trained_classifier(preset: Preset, *, dtype_policy: str = "float32") -> "Classifier":
    """Builds the classifier that a checkpoint was trained to be, head included.

    Args:
        preset: A checkpoint with a classification head.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Returns:
        The model, with the checkpoint's `labels` and `problem_type`.

    Raises:
        PresetError: If the checkpoint has no trained classification head.
    """
    if preset.num_classes is None or preset.head is None:
        raise PresetError(
            f"`{preset.handle}` has no trained classification head (its `architectures`: "
            f"{preset.config.get('architectures')}). Fine-tune it first: `kerasllm.finetune`."
        )
    model = _classifier(
        preset,
        preset.num_classes,
        pooling="cls" if preset.head == "pooled_classifier" else "mean",
        dropout=None,
        dtype_policy=dtype_policy,
        labels=preset.labels,
        problem_type=preset.problem_type or "single_label_classification",
    )
    assign_tensors(
        model, preset.family.head_tensors(preset.config, preset.head, preset.num_classes), preset.read_tensor
    )
    return model


def build_masked_language_model(preset: Preset) -> "keras.Model":
    """Builds the model that fills in masked tokens, for checking a checkpoint's logits.

    Args:
        preset: A checkpoint with a masked-language head.

    Returns:
        A Keras model from the inputs of the backbone to logits of shape
        `(batch, sequence, vocabulary_size)`; the decoder is a copy of the embeddings.

    Raises:
        PresetError: If the checkpoint has no masked-language head.
    """
    if preset.head != "masked_language":
        raise PresetError(f"`{preset.handle}` has no masked-language head; its head is {preset.head!r}.")
    model = preset.family.build_masked_language_model(preset.config, preset.build_backbone())
    assign_tensors(model, preset.family.head_tensors(preset.config, preset.head), preset.read_tensor)
    return model


def with_dtype_policy(model: "Classifier", dtype_policy: str) -> "Classifier":
    """Copies a classifier into a fresh one that computes in another precision.

    Variables are float32 under every policy, so nothing is lost: a model trained in mixed
    precision becomes the float32 model that is exported.

    Args:
        model: The classifier, which stays as it is.
        dtype_policy: Keras dtype policy of the copy.

    Returns:
        A new classifier with equal weights.
    """
    from kerasllm.models.heads import Classifier

    backbone = type(model.backbone).from_config({**model.backbone.get_config(), "dtype": dtype_policy})
    copy = Classifier(**{**model.get_config(), "backbone": backbone})
    copy.set_weights(model.get_weights())
    return copy


def save_weights(model: "Classifier", directory: str | Path) -> None:
    """Writes a classifier in Hugging Face format: `config.json` and `model.safetensors`.

    A classifier on the pooler is a `BertForSequenceClassification` to transformers. One on
    the mean of the token vectors is a `BertModel` to it, with the head's tensors
    (`mean_pooled_classifier.weight`, `.bias`) beside. The same weights give the same bytes.

    Args:
        model: The classifier.
        directory: An existing directory, made atomic by the caller. Files of these names
            are overwritten.

    Example:
    >>> save_weights(model, "model")
    >>> load_classifier("model").labels
    ('negative', 'positive')
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    family, head = FAMILIES[model.checkpoint_config["model_type"]], _HEADS[model.pooling]
    tensors = {
        family.stored_name(name, head): values
        for name, values in extract_tensors(model, _saved_tensors(model)).items()
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


def _classifier(
    preset: Preset, num_classes: int, *, dropout: float | None, dtype_policy: str, **options: Any
) -> "Classifier":
    """A classifier with the preset's backbone and a new head."""
    from kerasllm.models.heads import Classifier

    config = dict(preset.config)
    if dropout is not None:
        config |= preset.family.dropout_settings(dropout)
    return Classifier(
        preset.build_backbone(dropout=dropout, dtype_policy=dtype_policy),
        num_classes,
        dropout=preset.family.head_dropout(config),
        initializer_range=preset.family.setting(config, "initializer_range"),
        checkpoint_config=config,
        name="classifier",
        **options,
    )


def _initialise_pooler(model: "Classifier", preset: Preset) -> None:
    import keras

    deviation = preset.family.setting(preset.config, "initializer_range")
    dense = model.backbone.pooled_dense
    dense.kernel.assign(keras.initializers.TruncatedNormal(stddev=deviation)(dense.kernel.shape))


def _saved_tensors(model: "Classifier") -> list[TensorSpec]:
    config, family = model.checkpoint_config, FAMILIES[model.checkpoint_config["model_type"]]
    pooler = family.pooler_tensors(config) if model.pooling == "cls" else []
    return [
        *family.backbone_tensors(config),
        *pooler,
        *family.head_tensors(config, _HEADS[model.pooling], model.num_classes),
    ]


def _saved_config(model: "Classifier") -> dict:
    labels = model.labels or [f"LABEL_{i}" for i in range(model.num_classes)]
    family = FAMILIES[model.checkpoint_config["model_type"]]
    return {
        **{key: value for key, value in model.checkpoint_config.items() if key not in _NOT_SAVED},
        "architectures": [family.ARCHITECTURES[_HEADS[model.pooling]]],
        "dtype": "float32",
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        "problem_type": model.problem_type,
    }
