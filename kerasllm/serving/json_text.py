"""Writes JSON as TensorFlow Serving does: its number format, its escapes, its indentation."""

import base64
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasllm.serving.grisu import double_text
from kerasllm.serving.rapidjson import JsonObject

__all__ = ["array_texts", "error_body", "quote", "value_text"]

_INDENT = b"    "
_TO_ESCAPE = re.compile(rb'[\x00-\x1f"\\]')
_SHORT = {8: rb"\b", 9: rb"\t", 10: rb"\n", 12: rb"\f", 13: rb"\r", 34: rb"\"", 92: rb"\\"}
_ESCAPED = {bytes([code]): _SHORT.get(code, b"\\u%04X" % code) for code in (*range(32), 34, 92)}
_QUOTED_BYTES = 256  # a quoted value in an error message is cut here


def quote(text: bytes) -> bytes:
    """Returns a JSON string; bytes that are not UTF-8 stay as they are."""
    return b'"' + _TO_ESCAPE.sub(lambda match: _ESCAPED[match.group()], text) + b'"'


def error_body(message: str) -> bytes:
    """Returns the body of an answer that is an error."""
    return b'{\n    "error": ' + quote(message.encode("utf-8", "surrogateescape")) + b"\n}"


def array_texts(array: np.ndarray, *, as_bytes: bool = False) -> list[bytes] | None:
    """Formats each value of an array, in order.

    Args:
        array: Values of any shape; strings are an object array of bytes.
        as_bytes: Whether strings become base64 without quotes, for the caller to wrap. Defaults to `False`.

    Returns:
        One text a value, or `None` for a type that the server cannot write.
    """
    values = array.ravel()
    if array.dtype == object:
        return [base64.b64encode(text) if as_bytes else quote(text) for text in values]
    if array.dtype in (np.float32, np.float64):
        return _decimals(values)
    if array.dtype == np.bool_:
        return [b"true" if value else b"false" for value in values]
    if array.dtype.kind in "iu" and array.dtype != np.uint16:
        return [b"%d" % value for value in values.tolist()]
    return None


def _decimals(values: np.ndarray) -> list[bytes]:
    """Six significant digits where they give the number back, otherwise as many as always do."""
    single = values.dtype == np.float32
    smallest = np.finfo(values.dtype).tiny
    flushed = np.where(np.abs(values) < smallest, np.copysign(values.dtype.type(0), values), values)
    texts = [format(value, "g") for value in flushed.tolist()]
    with np.errstate(over="ignore"):
        same = np.array([float(text) for text in texts]).astype(values.dtype) == flushed
    precise = ".9g" if single else ".17g"
    return [
        _finish(text if kept else format(value, precise))
        for text, kept, value in zip(texts, same.tolist(), flushed.tolist(), strict=True)
    ]


def _finish(text: str) -> bytes:
    if "n" in text:
        return {"nan": b"NaN", "-nan": b"NaN", "inf": b"Infinity"}.get(text, b"-Infinity")
    return (text if "." in text or "e" in text else text + ".0").encode()


def value_text(value: Any) -> bytes:
    """Returns a parsed value as error messages quote it: pretty-printed, arrays on one line, cut if long."""
    parts: list[bytes] = []
    length = 0
    for part in _value_parts(value, 0):
        parts.append(part)
        length += len(part)
        if length > _QUOTED_BYTES:
            break
    return b"".join(parts)[:_QUOTED_BYTES]


def _value_parts(value: Any, level: int) -> Iterator[bytes]:
    if isinstance(value, JsonObject):
        yield b"{"
        for number, (name, member) in enumerate(value):
            yield (b",\n" if number else b"\n") + _INDENT * (level + 1) + quote(name) + b": "
            yield from _value_parts(member, level + 1)
        yield (b"\n" + _INDENT * level if value else b"") + b"}"
    elif isinstance(value, list):
        yield b"["
        for number, element in enumerate(value):
            yield b", " if number else b""
            yield from _value_parts(element, level + 1)
        yield b"]"
    else:
        yield _scalar_text(value)


def _scalar_text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {None: b"null", True: b"true", False: b"false"}[value]
    if isinstance(value, int):
        return b"%d" % value
    return double_text(value).encode() if math.isfinite(value) else b""  # it writes nothing for NaN and Inf
