"""`TensorProto` <-> NumPy, with the rules of the server; no TensorFlow, and no memory that was not sent.

`tf.make_ndarray` allocates whatever the shape says and raises four kinds of exceptions on hostile input.
"""

import math
from typing import Any

import numpy as np

from kerasllm.serving.dtypes import BFLOAT16, STRING, TYPES, TensorType, tensor_type

__all__ = ["array_from_proto", "fill_proto"]

_MAX_RANK = 64  # NumPy's


def array_from_proto(proto: Any, *, max_filled_elements: int = 2**20) -> np.ndarray:
    """Reads a tensor.

    A list of values that is too short is continued with its last value (none at all: with zeros), one that
    is too long is cut; `tensor_content` must fit exactly.

    Args:
        proto: A `TensorProto`.
        max_filled_elements: Most elements of a tensor that does not carry a value for each.

    Raises:
        ValueError: If it is not a valid tensor, or too large for the values in it.
    """
    kind = TYPES.get(proto.dtype)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if kind is None or proto.tensor_shape.unknown_rank or len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        raise ValueError(f"not a tensor: type {proto.dtype}, shape {shape}")
    size = math.prod(shape)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, kind, size).reshape(shape)
    values = _listed(proto, kind)
    if len(values) < size:
        if size > max_filled_elements:
            raise ValueError(f"{size} elements from {len(values)} values; at most {max_filled_elements}")
        filler = values[-1:] if len(values) else _zero(kind)
        values = np.concatenate([values, np.repeat(filler, size - len(values))])
    return values[:size].reshape(shape)


def _zero(kind: TensorType) -> np.ndarray:
    return np.array([b""], object) if kind.number == STRING else np.zeros(1, _numpy(kind))


def _numpy(kind: TensorType) -> Any:
    if kind.number == BFLOAT16:
        import ml_dtypes  # a dependency of TensorFlow

        return ml_dtypes.bfloat16
    return kind.numpy


def _from_content(content: bytes, kind: TensorType, size: int) -> np.ndarray:
    if kind.number == STRING:
        return _strings_from_content(content, size)
    dtype = np.dtype(_numpy(kind))
    if len(content) != size * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {size} elements of {dtype.itemsize}")
    return np.frombuffer(content, dtype)


def _strings_from_content(content: bytes, size: int) -> np.ndarray:
    """All lengths as varints, then all bytes."""
    lengths, at = [], 0
    if size > len(content):
        raise ValueError(f"{size} strings in {len(content)} bytes")
    for _ in range(size):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                raise ValueError("string lengths are cut off")
            byte = content[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError("string lengths do not add up")
    strings = np.empty(size, object)
    for index, length in enumerate(lengths):
        strings[index] = content[at : at + length]
        at += length
    return strings


def _listed(proto: Any, kind: TensorType) -> np.ndarray:
    values = getattr(proto, kind.proto_field)
    if kind.number == STRING:
        strings = np.empty(len(values), object)
        strings[:] = list(values)
        return strings
    if kind.proto_field == "half_val":
        bits = np.array(values, np.int64).astype(np.uint16)
        return bits.view(_numpy(kind))
    if kind.name.startswith("complex"):
        parts = np.array(values, np.float32 if kind.name == "complex64" else np.float64)
        return parts[: len(parts) // 2 * 2].view(kind.numpy)
    if kind.proto_field == "int_val":
        return np.array(values, np.int64).astype(kind.numpy)
    return np.array(values, kind.numpy)


def fill_proto(proto: Any, array: np.ndarray) -> None:
    """Writes an array into an empty `TensorProto`, one by one in the field of its type as the server does."""
    kind = tensor_type(array)
    proto.dtype = kind.number
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    values = array.ravel()
    if kind.proto_field == "half_val":
        values = values.view(np.uint16)
    elif kind.name.startswith("complex"):
        values = values.view(np.float32 if kind.name == "complex64" else np.float64)
    getattr(proto, kind.proto_field).extend(values.tolist())
