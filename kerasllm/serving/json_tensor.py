"""Tensors from an exactly parsed request: every rule and every error message of TensorFlow Serving 2.20.

The rules are those of `json_tensor.cc`. In row format (`instances`) errors name the element and are always
INVALID_ARGUMENT; in column format (`inputs`) they keep their code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasllm.serving.base64_text import decode_base64
from kerasllm.serving.dtypes import STRING, TYPES, TensorType
from kerasllm.serving.json_text import value_text
from kerasllm.serving.plain_tensor import INTEGER_RANGES, flush_denormals
from kerasllm.serving.rapidjson import JsonObject
from kerasllm.serving.status import StatusError

__all__ = ["is_base64", "json_type", "named_tensors"]

_MAX_RANK = 64  # NumPy's; TensorFlow's is 254


def named_tensors(value: Any, inputs: Mapping[str, TensorType], *, by_rows: bool) -> dict[str, np.ndarray]:
    """Reads the value of `instances` or `inputs`.

    Args:
        value: Parsed JSON.
        inputs: Types of the signature's inputs, by name.
        by_rows: Whether it is the value of `instances`.

    Raises:
        StatusError: INVALID_ARGUMENT or UNIMPLEMENTED.
    """
    if by_rows:
        return _from_rows(value, inputs)
    if not isinstance(value, JsonObject) or is_base64(value):
        if len(inputs) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        name, kind = next(iter(inputs.items()))
        return {name: _Column(kind).add(value).array(name, None)}
    tensors = {}
    for name, kind in inputs.items():
        if name.encode() not in value:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = _Column(kind).add(value.find(name.encode())).array(name, None)
    return tensors


def _from_rows(rows: list[Any], inputs: Mapping[str, TensorType]) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], JsonObject) and len(inputs) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    by_name = _is_named(rows[0])
    columns: dict[str, _Column] = {}
    for number, row in enumerate(rows):
        if by_name:
            if not _is_named(row):
                raise _invalid(f"Expecting object but got list at item {number} of input list")
            _add_members(row, number, inputs, columns)
        elif _is_named(row):
            raise _invalid(f"Expecting value/list but got object at item {number} of input list")
        else:
            _add_item(row, next(iter(inputs)), f"{number} of", inputs, columns)
    return {name: column.array(name, len(rows)) for name, column in columns.items()}


def _add_members(
    row: JsonObject, number: int, inputs: Mapping[str, TensorType], columns: dict[str, "_Column"]
) -> None:
    names = set()
    for key, member in row:
        name = key.split(b"\0")[0].decode("utf-8", "surrogateescape")  # the server reads it as a C string
        names.add(name)
        _add_item(member, name, f"{number} key: {name} of", inputs, columns)
    if names != set(inputs):
        raise _invalid(
            f"Failed to process element: {number} of 'instances' list. JSON object: {_text(row)} "
            f"keys must be equal to: {','.join(sorted(inputs))}"
        )


def _add_item(
    value: Any, name: str, where: str, inputs: Mapping[str, TensorType], columns: dict[str, "_Column"]
) -> None:
    try:
        if name not in inputs:
            raise _invalid(f"JSON object: does not have named input: {name}")
        columns.setdefault(name, _Column(inputs[name])).add(value)
    except StatusError as error:
        raise _invalid(f"Failed to process element: {where} 'instances' list. Error: {error}") from error


class _Column:
    """Values of one input, collected in order; the shape is that of the first."""

    def __init__(self, kind: TensorType):
        self.kind = kind
        self.values: list[Any] = []
        self.shape: list[int] | None = None
        self.size = 0

    def add(self, value: Any) -> "_Column":
        shape: list[int] = []
        first = value
        while _is_list(first):
            shape.append(len(first))
            first = first[0] if first else None
        before = len(self.values)
        self._fill(value, shape)
        size = len(self.values) - before
        if self.shape is None:
            self.shape, self.size = shape, size
        elif size != self.size:
            raise _invalid(f"Expecting tensor size: {self.size} but got: {size}")
        elif shape != self.shape:
            raise _invalid(f"Expecting shape {_shape(self.shape)} but got: {_shape(shape)}")
        return self

    def _fill(self, value: Any, shape: list[int]) -> None:
        """Walks the nested lists depth first, without recursion."""
        rank = len(shape)
        todo = [iter([value])]
        while todo:
            for part in todo[-1]:
                level = len(todo) - 1
                if not _is_list(part):
                    if level != rank:
                        raise _invalid(
                            f"JSON Value: {_text(part)} found at incorrect level: {level + 1} in the JSON "
                            f"DOM. Expected at level: {rank}"
                        )
                    self.values.append(_leaf(part, self.kind))
                    continue
                if level >= rank:
                    raise _invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
                if len(part) != shape[level]:
                    raise _invalid(
                        f"Encountered list at unexpected size: {len(part)} at level: {level} "
                        f"expected size: {shape[level]}"
                    )
                todo.append(iter(part))
                break
            else:
                todo.pop()

    def array(self, name: str, num_rows: int | None) -> np.ndarray:
        shape = [*([] if num_rows is None else [num_rows]), *(self.shape or [])]
        if len(shape) > _MAX_RANK:
            raise _invalid(f"tensor parsing error: {name}")
        # A name given twice in a row added its values twice; like the server, drop what is too many.
        count = int(np.prod(shape, dtype=np.int64))
        values = self.values[:count]
        if self.kind.number == STRING:
            strings = np.empty(count, object)
            strings[:] = values
            return strings.reshape(shape)
        if self.kind.name in ("float", "double"):
            with np.errstate(over="ignore", invalid="ignore"):
                wide = np.array(values, np.float64)
                return flush_denormals(wide.astype(self.kind.numpy)).reshape(shape)
        if self.kind.name in INTEGER_RANGES:
            wide = np.array(values, np.uint64 if self.kind.name == "uint64" else np.int64)
            return wide.astype(self.kind.numpy).reshape(shape)
        return np.array(values, self.kind.numpy or np.float32).reshape(shape)


def _leaf(value: Any, kind: TensorType) -> Any:
    if isinstance(value, JsonObject):
        if kind.number != STRING:
            raise _type_error(value, kind)
        return _base64(value)
    if kind.name in ("float", "double"):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif kind.name in INTEGER_RANGES:
        lowest, highest = INTEGER_RANGES[kind.name]
        fits = type(value) is int and lowest <= value <= highest
    elif kind.name == "bool":
        fits = isinstance(value, bool)
    elif kind.number == STRING:
        fits = isinstance(value, bytes)
    else:
        raise StatusError(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {_text(value)} to type: {TYPES[kind.number].name}"
        )
    if not fits:
        raise _type_error(value, kind)
    return value


def is_base64(value: Any) -> bool:
    """Whether a value is an object with nothing but a string called `b64`."""
    return (
        isinstance(value, JsonObject)
        and len(value) == 1
        and value[0][0] == b"b64"
        and isinstance(value[0][1], bytes)
    )


def json_type(value: Any) -> str:
    """Returns RapidJSON's name of a value's type."""
    if isinstance(value, JsonObject):
        return "Object"
    names = {type(None): "Null", list: "Array", bytes: "String", int: "Number", float: "Number"}
    return str(value) if isinstance(value, bool) else names[type(value)]


def _base64(value: JsonObject) -> bytes:
    if not is_base64(value):
        raise _invalid(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    decoded = decode_base64(value[0][1])
    if decoded is None:
        raise _invalid("Unable to base64 decode")
    return decoded


def _is_named(value: Any) -> bool:
    return isinstance(value, JsonObject) and not is_base64(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not isinstance(value, JsonObject)


def _shape(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _text(value: Any) -> str:
    return value_text(value).decode("utf-8", "surrogateescape")


def _type_error(value: Any, kind: TensorType) -> StatusError:
    return _invalid(
        f"JSON Value: {_text(value)} Type: {json_type(value)} is not of expected type: {kind.name}"
    )


def _invalid(message: str) -> StatusError:
    return StatusError("INVALID_ARGUMENT", message)
