"""Reads `pytorch_model.bin`, which is a pickle, through PyTorch's own reader that runs no code from it.

`torch.load(weights_only=True)` unpickles tensors and plain containers only
(https://docs.pytorch.org/docs/stable/generated/torch.load.html). kerasllm does not depend on PyTorch: where
it is not installed, the message says how to get safetensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import StoredTensor

__all__ = ["PickledCheckpoint"]

_SINGLE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_REMEDY = (
    'Convert it to safetensors where PyTorch and transformers are installed: `python -c "from transformers '
    "import AutoModel as M; M.from_pretrained('{directory}').save_pretrained('converted')\"`, and copy "
    "`tokenizer.json` to it."
)


class PickledCheckpoint:
    """The tensors of a directory with `pytorch_model.bin`, in one file or several.

    Args:
        directory: Holds the files.

    Attributes:
        tensors: Read-only mapping from a tensor's name to its `StoredTensor`.

    Raises:
        PresetError: If PyTorch is missing, a file is missing or damaged, or holds more than tensors.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._values: dict[str, Any] = {}
        tensors: dict[str, StoredTensor] = {}
        for path in _files(directory):
            for name, value in _load(path).items():
                self._values[name] = value
                tensors[name] = StoredTensor(
                    path, tuple(value.shape), str(value.dtype).removeprefix("torch.")
                )
        self.tensors: Mapping[str, StoredTensor] = MappingProxyType(tensors)

    @staticmethod
    def is_in(directory: Path) -> bool:
        """Whether a directory holds such weights."""
        return (directory / _SINGLE).is_file() or (directory / _INDEX).is_file()

    def prepare(self) -> None:
        """Nothing: tensors are read one by one."""

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32; a `PresetError` if its values are not floats or not finite."""
        value = self._values[name]
        if not value.is_floating_point():
            raise PresetError(
                f"`{name}` in `{self.tensors[name].file}` is {value.dtype}, but weights are floats."
            )
        values: np.ndarray = value.detach().float().numpy()
        if not np.isfinite(values).all():
            raise PresetError(
                f"`{name}` in `{self.tensors[name].file}` has values that are NaN or infinite. Fetch it "
                "again, or use an earlier checkpoint."
            )
        return values


def _files(directory: Path) -> list[Path]:
    if (directory / _SINGLE).is_file():
        return [directory / _SINGLE]
    index = directory / _INDEX
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(f"`{index}` is damaged ({error}). Fetch the checkpoint again.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise PresetError(
                f"`{index}` names the shard {name!r}, which is not beside it. Fetch the missing file."
            )
    return [directory / name for name in names]


def _load(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise PresetError(
            f"`{path}` is a pickle, which can run code when it is loaded. It is read through PyTorch's "
            f"`weights_only` only, and PyTorch is not installed. {_REMEDY.format(directory=path.parent)}"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it raises whatever the bytes lead it to
        reason = " ".join(str(error).split())[:200]
        raise PresetError(
            f"`{path}` holds more than tensors, or is damaged, so it was not loaded ({reason}). "
            f"{_REMEDY.format(directory=path.parent)}"
        ) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise PresetError(f"`{path}` does not hold tensors by name, so it is no checkpoint of a model.")
    return content
