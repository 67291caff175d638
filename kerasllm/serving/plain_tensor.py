"""Tensors from what Python's `json` parsed: the fast road, for requests that are right.

Each function returns `None` when anything is out of the ordinary; the request is then read again, exactly.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasllm.serving.base64_text import decode_base64
from kerasllm.serving.dtypes import STRING, TensorType

__all__ = ["INTEGER_RANGES", "flush_denormals", "plain_tensors"]

# The server takes any 32-bit integer for the small types, and lets it wrap.
INTEGER_RANGES = {
    **dict.fromkeys(("int8", "uint8", "int16", "int32"), (-(2**31), 2**31 - 1)),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}

_MAX_RANK = 32  # beyond NumPy's own limit the slow road answers


def plain_tensors(document: dict[str, Any], inputs: Mapping[str, TensorType]) -> dict[str, np.ndarray] | None:
    """Returns the tensors of a predict request by name, or `None`."""
    if ("instances" in document) == ("inputs" in document):
        return None
    if "instances" in document:
        columns = _columns(document["instances"], inputs)
    else:
        value = document["inputs"]
        named = type(value) is dict and not _is_base64(value)
        columns = value if named else {next(iter(inputs)): value} if len(inputs) == 1 else None
    if columns is None:
        return None
    tensors = {}
    for name, kind in inputs.items():
        tensor = _tensor(columns[name], kind) if name in columns else None
        if tensor is None:
            return None
        tensors[name] = tensor
    return tensors


def _columns(rows: Any, inputs: Mapping[str, TensorType]) -> dict[str, list[Any]] | None:
    if type(rows) is not list or not rows:
        return None
    if type(rows[0]) is not dict or _is_base64(rows[0]):
        return {next(iter(inputs)): rows} if len(inputs) == 1 else None
    names = inputs.keys()
    if not all(type(row) is dict and row.keys() == names and not _is_base64(row) for row in rows):
        return None
    return {name: [row[name] for row in rows] for name in names}


def _is_base64(value: dict[str, Any]) -> bool:
    return value.keys() == {"b64"} and type(value["b64"]) is str


def _tensor(value: Any, kind: TensorType) -> np.ndarray | None:
    shape: list[int] = []
    leaves = [value]
    while leaves and type(leaves[0]) is list:
        size = len(leaves[0])
        if len(shape) == _MAX_RANK or not all(type(part) is list and len(part) == size for part in leaves):
            return None
        shape.append(size)
        leaves = [leaf for part in leaves for leaf in part]
    array = _strings(leaves) if kind.number == STRING else _numbers(leaves, kind)
    return None if array is None else array.reshape(shape)


def _strings(leaves: list[Any]) -> np.ndarray | None:
    texts = np.empty(len(leaves), object)
    for index, leaf in enumerate(leaves):
        if type(leaf) is str:
            texts[index] = leaf.encode()
        elif type(leaf) is dict and _is_base64(leaf):
            texts[index] = decode_base64(leaf["b64"].encode())
        if texts[index] is None:
            return None
    return texts


def _numbers(leaves: list[Any], kind: TensorType) -> np.ndarray | None:
    types = set(map(type, leaves))
    if kind.name == "float" and types <= {int, float}:
        wide = np.array(leaves, np.float64)
        if not np.isfinite(wide).all():
            return None
        with np.errstate(over="ignore"):
            return flush_denormals(wide.astype(np.float32))
    if kind.name == "bool" and types <= {bool}:
        return np.array(leaves, np.bool_)
    if kind.name in INTEGER_RANGES and types <= {int}:
        lowest, highest = INTEGER_RANGES[kind.name]
        if not leaves or (lowest <= min(leaves) and max(leaves) <= highest):
            return np.array(leaves, np.uint64 if kind.name == "uint64" else np.int64).astype(kind.numpy)
    return None


def flush_denormals(values: np.ndarray) -> np.ndarray:
    """Sets denormal numbers to zero, as the server's threads do; the sign stays."""
    tiny = np.finfo(values.dtype).tiny
    small = np.abs(values) < tiny
    return np.where(small, np.copysign(values.dtype.type(0), values), values) if small.any() else values
