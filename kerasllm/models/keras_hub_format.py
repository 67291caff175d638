"""Reads presets in KerasHub's own format, as Kaggle has them, without KerasHub's converters.

Such a directory has a `config.json` that names a KerasHub class, `model.weights.h5`, and a
vocabulary among its assets. The config is turned into the Hugging Face one that computes the
same, so that everything else, saving included, knows one format only.
"""

import difflib
import functools
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import StoredTensor
from kerasllm.models.families.family import Family
from kerasllm.models.keras_hub_layouts import LAYOUTS, Layout, Piece
from kerasllm.models.tensors import TensorSpec, join_parts
from kerasllm.models.transformer.layout import backbone_weights, head_weights

if TYPE_CHECKING:
    import keras


_WEIGHTS = ("model.weights.h5", "model.weights.json")
# Layers that KerasHub does not name; the number that Keras gives them depends on what was built before.
_UNNAMED = r"(?<=/)(t5_layer_norm|mixtral_sparse_moe_block)_\d+(?=/)"
_OTHER_NAMES = {"gamma": ("scale", "weight")}
# What a weights file may hold beside the tensors.
_SLACK_BYTES = 2**20


def is_keras_hub_config(content: Mapping) -> bool:
    """Whether a `config.json` is KerasHub's and not Hugging Face's."""
    return str(content.get("registered_name", "")).startswith(("keras_hub>", "keras_nlp>"))


def read_keras_hub_config(content: Mapping, *, source: str) -> dict:
    """Turns KerasHub's config into the Hugging Face config that computes the same.

    Args:
        content: The `config.json`.
        source: Names the preset in messages.

    Returns:
        A config with a `model_type`.

    Raises:
        PresetError: If the class or one of its settings is not supported, or settings are missing.
    """
    name, layout = _layout(content, source)
    try:
        if not isinstance(content["config"], Mapping):
            raise KeyError("config")
        return layout.config(content["config"])
    except KeyError as error:
        raise PresetError(
            f"The `config.json` of `{source}` lacks the setting {error} of `{name}`: fetch the preset again."
        ) from error
    except (ArithmeticError, TypeError, ValueError) as error:
        raise PresetError(
            f"`{source}` is a `{name}` with settings that are not supported: {error}. Take another preset."
        ) from error


def _layout(content: Mapping, source: str) -> tuple[str, Layout]:
    name = str(content["registered_name"]).partition(">")[2]
    if name not in LAYOUTS:
        close = difflib.get_close_matches(name, LAYOUTS, n=1, cutoff=0.8)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise PresetError(
            f"`{source}` is KerasHub's `{name}`, which is not supported.{hint} Supported: "
            f"{', '.join(sorted(LAYOUTS))}."
        )
    return name, LAYOUTS[name]


class KerasHubCheckpoint:
    """The weights of a KerasHub preset, under the names that they have in Hugging Face format.

    KerasHub's model is built to read them, so that loading takes twice the memory of the weights.

    Args:
        directory: Holds `model.weights.h5`, or `model.weights.json` and its shards.
        content: The `config.json` of the directory.
        config: What `read_keras_hub_config` returned.
        family: The family of that config.

    Attributes:
        tensors: Read-only mapping from a tensor's name to its `StoredTensor`.

    Raises:
        PresetError: If the weights are missing.
    """

    def __init__(self, directory: Path, content: Mapping, config: Mapping, family: Family):
        files = [directory / name for name in _WEIGHTS]
        self._file = next((file for file in files if file.is_file()), files[0])
        if not self._file.is_file():
            raise PresetError(f"`{directory}` has no `{_WEIGHTS[0]}`. Check that the download is complete.")
        self._content, self._config, self._family = content, config, family
        self._layout = _layout(content, str(directory))[1]
        self._specs: dict[str, list[TensorSpec]] = {}
        settings, head = family.backbone(config), family.head_kind(config, ())
        self._shapes = backbone_weights(settings)
        if head is not None:
            self._shapes |= head_weights(family.head(config, head), settings)
        for spec in self._list_specs(head):
            self._specs.setdefault(spec.name, []).append(spec)
        self.tensors: Mapping[str, StoredTensor] = MappingProxyType(
            {name: StoredTensor(self._file, specs[0].shape, "F32") for name, specs in self._specs.items()}
        )

    def prepare(self) -> None:
        """Loads the file: that builds a model, which must not happen while another one is being built."""
        _ = self._variables

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32; a `PresetError` if the file is damaged."""
        return join_parts((spec, self._value(spec)) for spec in self._specs[name])[name]

    def _list_specs(self, head: str | None) -> list[TensorSpec]:
        family, config, paths = self._family, self._config, self._layout.paths
        specs = family.backbone_tensors(config)
        if "pooler" in paths:
            specs += family.pooler_tensors(config)
        if head is not None:
            specs += family.head_tensors(config, head)
        return specs

    @functools.cached_property
    def _variables(self) -> dict[str, "keras.Variable"]:
        """KerasHub's weights by path; what has a path that was there before gets `@1`, `@2` ..."""
        backbone = self._build()
        try:
            self._check_size()
            with warnings.catch_warnings():
                # Keras only warns of layers that it leaves as they were.
                warnings.simplefilter("error", UserWarning)
                backbone.load_weights(self._file)
        except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as error:
            reason = " ".join(str(error).split())
            raise PresetError(
                f"`{self._file}` is damaged, cut short or of another model ({reason[:300]}). Delete it and "
                "fetch it again."
            ) from error
        variables: dict[str, keras.Variable] = {}
        seen: dict[str, int] = {}
        for variable in backbone.weights:
            layer, _, kind = re.sub(_UNNAMED, r"\1", variable.path).rpartition("/")
            number = seen[f"{layer}/{kind}"] = seen.get(f"{layer}/{kind}", -1) + 1
            variables[f"{layer}@{number}/{kind}"] = variable
        return variables

    def _build(self) -> "keras.Model":
        import inspect

        import keras_hub

        kind = getattr(keras_hub.models, _layout(self._content, str(self._file))[0])
        settings = self._content["config"]
        known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs", "dtype"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of KerasHub's, about masks in its own layers
            backbone: keras.Model = kind(**{name: settings[name] for name in known & set(settings)})
        return backbone

    def _check_size(self) -> None:
        """Refuses a small file that unpacks to terabytes: Keras reads a tensor before its shape."""
        import h5py

        sizes: list[int] = []
        files = [self._file] if self._file.suffix == ".h5" else self._file.parent.glob("model_*.weights.h5")
        for path in files:
            with h5py.File(path) as file:
                file.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
        expected = 4 * sum(math.prod(tensor.shape) for tensor in self.tensors.values())
        if sum(sizes) > 2 * expected + _SLACK_BYTES:
            raise PresetError(
                f"`{self._file}` holds {sum(sizes):,} bytes of tensors, but its `config.json` asks for "
                f"{expected:,}. Weights and config are of different models: fetch the preset again."
            )

    def _value(self, spec: TensorSpec) -> np.ndarray:
        """The values of our variable, from KerasHub's."""
        shape = self._shapes[spec.path]
        layer, _, kind = spec.path.rpartition("/")
        numbers = [int(number) for number in re.findall(r"(?<=_)\d+(?=/)", spec.path)]
        whole, part = (re.sub(r"(?<=_)\d+(?=/|$)", "{}", path) for path in (spec.path, layer))
        paths = self._layout.paths
        entry = paths[whole] if whole in paths else paths[part]
        if entry is None:
            return np.zeros(shape, np.float32)
        numbers = self._family.renumber(self._config, numbers)
        values = np.asarray(self._find(entry, numbers, kind), np.float32)
        if isinstance(entry, Piece):
            values = entry.take(values, numbers)
        if self._layout.heads_first and values.ndim == 3 and not part.endswith("/output"):
            values = values.transpose(1, 0, 2)
        if whole.endswith("positions/embeddings") and len(values) < shape[0]:
            # The first rows of some families' tables are never used, and KerasHub leaves them out.
            values = np.pad(values, ((shape[0] - len(values), 0), (0, 0)))
        return values.reshape(shape)  # heads have an axis of their own in KerasHub

    def _find(self, entry: Piece | tuple[str, ...] | str, numbers: list[int], kind: str) -> "keras.Variable":
        path = entry.path if isinstance(entry, Piece) else entry
        for candidate in path if isinstance(path, tuple) else (path,):
            layer = candidate.format(*numbers)
            parent, _, name = layer.rpartition("/")
            layer = layer if "@" in layer else f"{layer}@0"
            names = [f"{layer}/{known}" for known in (kind, *_OTHER_NAMES.get(kind, ()))]
            for known in (*names, f"{parent}@0/{name}"):  # the last is a path of a variable, not of a layer
                if known in self._variables:
                    return self._variables[known]
        raise KeyError(f"{path} of {numbers}: KerasHub's model has no such weight")
