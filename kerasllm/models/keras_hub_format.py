"""Reads presets in KerasHub's own format, as Kaggle has them, without KerasHub's converters.

Such a directory has a `config.json` that names a KerasHub class, `model.weights.h5`, and a
vocabulary among its assets. The config is turned into the Hugging Face one that computes the
same, so that everything else, saving included, knows one format only.
"""

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
from kerasllm.models.tensors import join_parts

if TYPE_CHECKING:
    import keras

_WEIGHTS = "model.weights.h5"
# What a weights file may hold beside the tensors.
_SLACK_BYTES = 2**20


def is_keras_hub_config(content: Mapping) -> bool:
    """Whether a `config.json` is KerasHub's and not Hugging Face's."""
    return str(content.get("registered_name", "")).startswith(("keras_hub>", "keras_nlp>"))


def read_keras_hub_config(content: Mapping, families: Mapping[str, Family], *, source: str) -> dict:
    """Turns KerasHub's config into the Hugging Face config that computes the same.

    Args:
        content: The `config.json`.
        families: The families that may know the class.
        source: Names the preset in messages.

    Returns:
        A config with a `model_type`.

    Raises:
        PresetError: If the class is not supported, or settings are missing.
    """
    name = str(content["registered_name"]).partition(">")[2]
    known = {family.keras_hub_class: family for family in families.values() if family.keras_hub_class}
    if name not in known:
        raise PresetError(
            f"`{source}` is KerasHub's `{name}`, which is not supported. Supported: "
            f"{', '.join(sorted(known))}."
        )
    try:
        return known[name].from_keras_hub(content["config"])
    except (KeyError, TypeError) as error:
        raise PresetError(
            f"The `config.json` of `{source}` lacks the setting {error} of `{name}`: fetch the preset again."
        ) from error


class KerasHubCheckpoint:
    """The weights of a KerasHub preset, under the names that they have in Hugging Face format.

    Args:
        directory: Holds `model.weights.h5`.
        config: What `read_keras_hub_config` returned.
        family: The family of that config.

    Attributes:
        tensors: Read-only mapping from a tensor's name to its `StoredTensor`.

    Raises:
        PresetError: If the weights are missing.
    """

    def __init__(self, directory: Path, config: Mapping, family: Family):
        self._file = directory / _WEIGHTS
        if not self._file.is_file():
            raise PresetError(f"`{directory}` has no `{_WEIGHTS}`. Check that the download is complete.")
        self._config, self._family = config, family
        self._specs = family.backbone_tensors(config) + family.pooler_tensors(config)
        self.tensors: Mapping[str, StoredTensor] = MappingProxyType(
            {spec.name: StoredTensor(self._file, spec.shape, "F32") for spec in self._specs}
        )

    def prepare(self) -> None:
        """Loads the file: that builds a model, which must not happen while another one is being built."""
        _ = self._values

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32; a `PresetError` if the file is damaged."""
        return self._values[name]

    @functools.cached_property
    def _values(self) -> dict[str, np.ndarray]:
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
        variables = {variable.path: variable for variable in backbone.weights}
        paths = self._family.keras_hub_paths
        return join_parts((spec, _value(variables, paths, spec.path)) for spec in self._specs)

    def _build(self) -> "keras.Model":
        import keras_hub

        kind = getattr(keras_hub.models, str(self._family.keras_hub_class))
        backbone: keras.Model = kind(**self._family.keras_hub_settings(self._config))
        return backbone

    def _check_size(self) -> None:
        """Refuses a small file that unpacks to terabytes: Keras reads a tensor before its shape."""
        import h5py

        sizes: list[int] = []
        with h5py.File(self._file) as file:
            file.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
        expected = 4 * sum(math.prod(spec.shape) for spec in self._specs)
        if sum(sizes) > 2 * expected + _SLACK_BYTES:
            raise PresetError(
                f"`{self._file}` holds {sum(sizes):,} bytes of tensors, but its `config.json` asks for "
                f"{expected:,}. Weights and config are of different models: fetch the preset again."
            )


def _value(variables: Mapping[str, "keras.Variable"], paths: Mapping[str, str], path: str) -> np.ndarray:
    """The value of our variable of that path, from KerasHub's; dense kernels without their split axes."""
    layer, _, kind = path.rpartition("/")
    numbers = re.findall(r"(?<=_)\d+(?=/|$)", layer)
    theirs = paths[re.sub(r"(?<=_)\d+(?=/|$)", "{}", layer)].format(*numbers)
    value = np.asarray(variables[f"{theirs}/{kind}"], np.float32)
    if kind == "bias":
        return value.reshape(-1)
    if kind != "kernel" or value.ndim == 2:
        return value
    # Outputs of queries, keys and values are split into heads; the output of attention has split inputs.
    return (
        value.reshape(-1, value.shape[-1]) if theirs.endswith("output") else value.reshape(value.shape[0], -1)
    )
