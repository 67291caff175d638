"""Reads the weights of a checkpoint directory: safetensors, one file or several.

Pickled weights run code when they are loaded, so they are never opened here; `pickled` reads
`pytorch_model.bin` in a way that runs none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from kerasllm.errors import PresetError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_OTHER_WEIGHTS = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.keras"),
    *("*.msgpack", "*.gguf", "*.onnx", "*.npz"),
)
# safetensors' names of the types whose values float32 training can start from.
_FLOATS = ("BF16", "F16", "F32", "F64")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, and what its header says of it.

    Attributes:
        file: The safetensors file.
        shape: Its shape.
        dtype: Its type as safetensors names it, e.g. `"BF16"`.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """The tensors of a checkpoint directory; headers are read at once, values when asked for.

    Args:
        directory: Holds `model.safetensors`, or `model.safetensors.index.json` and its shards.

    Attributes:
        tensors: Read-only mapping from a tensor's name to its `StoredTensor`.

    Raises:
        PresetError: If there are no safetensors weights, or a file is missing or damaged.

    Example:
    >>> Checkpoint(tiny_bert("tiny")).tensors["pooler.dense.bias"].shape
    (16,)
    """

    def __init__(self, directory: Path):
        self.directory = directory
        if (directory / _SINGLE).is_file():
            tensors = _read_header(directory / _SINGLE)
        elif (directory / _INDEX).is_file():
            tensors = _read_shards(directory)
        else:
            raise PresetError(_no_weights(directory))
        self.tensors: Mapping[str, StoredTensor] = MappingProxyType(tensors)

    def prepare(self) -> None:
        """Nothing: tensors are read one by one."""

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32.

        Args:
            name: A key of `tensors`.

        Returns:
            The values, whatever float type they are stored in.

        Raises:
            PresetError: If the values are not floats, not finite, or cannot be read.
        """
        import ml_dtypes  # noqa: F401, makes NumPy know bfloat16; comes with TensorFlow
        from safetensors import SafetensorError, safe_open

        stored = self.tensors[name]
        if stored.dtype not in _FLOATS:
            raise PresetError(
                f"`{stored.file}` stores `{name}` as {stored.dtype}, but weights are read from "
                f"{', '.join(_FLOATS)} only. Save the checkpoint unquantized, e.g. in float32 or bfloat16."
            )
        try:
            with safe_open(stored.file, framework="np") as file:
                values = file.get_tensor(name).astype(np.float32)
        except (OSError, SafetensorError) as error:
            raise PresetError(_damaged(stored.file, error)) from error
        if not np.isfinite(values).all():
            raise PresetError(
                f"`{name}` in `{stored.file}` has values that are NaN or infinite. The file is damaged or "
                "comes "
                "from a run that diverged: fetch it again, or use an earlier checkpoint."
            )
        return values


def has_safetensors(directory: Path) -> bool:
    """Whether a directory holds weights as safetensors."""
    return (directory / _SINGLE).is_file() or (directory / _INDEX).is_file()


def _read_header(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, not a dict
            return {
                name: StoredTensor(path, tuple(piece.get_shape()), piece.get_dtype())
                for name, piece in slices.items()
            }
    except (OSError, SafetensorError) as error:
        raise PresetError(_damaged(path, error)) from error


def _read_shards(directory: Path) -> dict[str, StoredTensor]:
    index = directory / _INDEX
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(
            f"`{index}` is damaged: expected a JSON object with a `weight_map` from tensor names to file "
            "names "
            f"({type(error).__name__}: {error}). Fetch the checkpoint again."
        ) from error
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or shard in (".", ".."):
            raise PresetError(
                f"`{index}` names the shard {shard!r}, but shards must be files beside the index."
            )
        if not (directory / shard).is_file():
            raise PresetError(
                f"`{index}` names the shard `{shard}`, which is not in `{directory}`. Fetch the missing "
                "file: "
                f"{len(shards)} shards are needed."
            )
        tensors |= _read_header(directory / shard)
    absent = sorted(name for name in weight_map if name not in tensors)
    if absent:
        raise PresetError(
            f"`{index}` names tensors that its shards do not hold: {_some(absent)}. "
            "Index and shards are of different versions: fetch the checkpoint again."
        )
    return tensors


def _no_weights(directory: Path) -> str:
    found = sorted({path.name for pattern in _OTHER_WEIGHTS for path in directory.glob(pattern)})
    message = f"`{directory}` has no `{_SINGLE}` (or `{_INDEX}`)"
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in found):
        return (
            f"{message}, only {_some(found)}. Pickled weights can run code when loaded, so they are never "
            "opened. "
            "Convert them where you trust their source, with transformers and torch installed: `python -c "
            f"\"from transformers import AutoModel as M; M.from_pretrained('{directory}')"
            ".save_pretrained('converted')\"`, and copy `tokenizer.json` to it."
        )
    if found:
        return f"{message}, only {_some(found)}. Save the checkpoint as safetensors."
    return f"{message}, nor any other weights. Check that the download is complete."


def _damaged(path: Path, error: Exception) -> str:
    return f"`{path}` is damaged or cut short ({error}). Delete it and fetch it again."


def _some(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
