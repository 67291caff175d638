"""Tensors -> the body of a REST predict answer, laid out as TensorFlow Serving does."""

from collections.abc import Mapping

import numpy as np

from kerasllm.serving.dtypes import tensor_type
from kerasllm.serving.json_text import array_texts, quote
from kerasllm.serving.status import StatusError

__all__ = ["predict_answer"]

_INDENT = b"    "


def predict_answer(outputs: Mapping[str, np.ndarray], *, by_rows: bool) -> bytes:
    """Writes the outputs of a signature.

    Args:
        outputs: Arrays by name; strings are object arrays of bytes.
        by_rows: Whether the request had `instances`, so that the answer has `predictions`.

    Raises:
        StatusError: INVALID_ARGUMENT, if rows were asked for but the outputs do not share a first
            dimension, or if JSON cannot hold a type.
    """
    names = sorted(outputs)
    if not names:
        raise StatusError("INVALID_ARGUMENT", "Cannot convert empty tensor map to JSON")
    return _rows(outputs, names) if by_rows else _columns(outputs, names)


def _columns(outputs: Mapping[str, np.ndarray], names: list[str]) -> bytes:
    start = b'{\n    "outputs": '
    level = 1 if len(names) == 1 else 2
    texts = [
        _nested(_values(name, outputs[name], level + outputs[name].ndim), outputs[name].shape, level)
        for name in names
    ]
    if len(names) == 1:
        return start + texts[0] + b"\n}"
    members = [
        b"\n" + _INDENT * 2 + quote(name.encode()) + b": " + text
        for name, text in zip(names, texts, strict=True)
    ]
    return start + b"{" + b",".join(members) + b"\n    }\n}"


def _nested(values: list[bytes], shape: tuple[int, ...], level: int) -> bytes:
    """Lays out values with one number a line."""
    for axis in range(len(shape) - 1, -1, -1):
        break_in = b"\n" + _INDENT * (level + axis + 1)
        break_out = b"\n" + _INDENT * (level + axis)
        values = _grouped(values, shape, axis, b"[" + break_in, b"," + break_in, break_out + b"]")
    return values[0]


def _rows(outputs: Mapping[str, np.ndarray], names: list[str]) -> bytes:
    batch_size = None
    for name in reversed(names):
        shape = outputs[name].shape
        if not shape:
            raise StatusError("INVALID_ARGUMENT", f"Tensor name: {name} has no shape information ")
        if batch_size is not None and shape[0] != batch_size:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {batch_size}",
            )
        batch_size = shape[0]
    level = 1 if len(names) == 1 else 2
    columns = [
        _lines(_values(name, outputs[name], level + outputs[name].ndim), outputs[name].shape)
        for name in names
    ]
    if len(names) == 1:
        return b'{\n    "predictions": [' + _inline(columns[0])
    keys = [b"\n" + _INDENT * 3 + quote(name.encode()) + b": " for name in names]
    rows = [
        b"\n        {" + b",".join(map(bytes.__add__, keys, row)) + b"\n        }"
        for row in zip(*columns, strict=True)
    ]
    return b'{\n    "predictions": [' + b",".join(rows) + (b"\n    ]\n}" if rows else b"]\n}")


def _inline(rows: list[bytes]) -> bytes:
    return b", ".join(rows) + (b"\n    ]\n}" if rows else b"]\n}")


def _lines(values: list[bytes], shape: tuple[int, ...]) -> list[bytes]:
    """Lays out each row on one line."""
    for axis in range(len(shape) - 1, 0, -1):
        values = _grouped(values, shape, axis, b"[", b", ", b"]")
    return values


def _grouped(
    values: list[bytes], shape: tuple[int, ...], axis: int, left: bytes, between: bytes, right: bytes
) -> list[bytes]:
    """Joins each run of `shape[axis]` values into a list."""
    size = shape[axis]
    if size == 0:
        return [b"[]"] * int(np.prod(shape[:axis], dtype=np.int64))
    return [
        left + between.join(values[start : start + size]) + right for start in range(0, len(values), size)
    ]


def _values(name: str, array: np.ndarray, depth: int) -> list[bytes]:
    """Formats the values; `depth` is the number of containers around each."""
    as_bytes = array.dtype == object and name.endswith("_bytes")
    texts = array_texts(array, as_bytes=as_bytes) if array.size else []
    if texts is None:
        raise StatusError(
            "INVALID_ARGUMENT", f"Failed to write JSON value for tensor type: {tensor_type(array).name}"
        )
    if not as_bytes:
        return texts
    left = b"{\n" + _INDENT * (depth + 1) + b'"b64": "'
    right = b'"\n' + _INDENT * depth + b"}"
    return [left + text + right for text in texts]
