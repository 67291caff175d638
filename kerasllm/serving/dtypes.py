"""Tensor types by their numbers in TensorFlow's `DataType`, with the names that the server prints.

Kept apart from TensorFlow so that reading and writing JSON does not need it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BFLOAT16", "DOUBLE", "STRING", "TYPES", "TensorType", "tensor_type"]


@dataclass(frozen=True)
class TensorType:
    """A tensor's element type.

    Attributes:
        number: Value of the `DataType` enum.
        name: As `DataTypeString` prints it in error messages.
        numpy: Matching NumPy type; strings are `object` (bytes).
        proto_field: Field of `TensorProto` that lists the values one by one.
    """

    number: int
    name: str
    numpy: Any
    proto_field: str


DOUBLE = 2
STRING = 7
BFLOAT16 = 14

TYPES = {
    entry.number: entry
    for entry in (
        TensorType(1, "float", np.float32, "float_val"),
        TensorType(DOUBLE, "double", np.float64, "double_val"),
        TensorType(3, "int32", np.int32, "int_val"),
        TensorType(4, "uint8", np.uint8, "int_val"),
        TensorType(5, "int16", np.int16, "int_val"),
        TensorType(6, "int8", np.int8, "int_val"),
        TensorType(STRING, "string", object, "string_val"),
        TensorType(8, "complex64", np.complex64, "scomplex_val"),
        TensorType(9, "int64", np.int64, "int64_val"),
        TensorType(10, "bool", np.bool_, "bool_val"),
        TensorType(BFLOAT16, "bfloat16", None, "half_val"),
        TensorType(17, "uint16", np.uint16, "int_val"),
        TensorType(18, "complex128", np.complex128, "dcomplex_val"),
        TensorType(19, "half", np.float16, "half_val"),
        TensorType(22, "uint32", np.uint32, "uint32_val"),
        TensorType(23, "uint64", np.uint64, "uint64_val"),
    )
}
_BY_KIND = {np.dtype(entry.numpy): entry for entry in TYPES.values() if entry.numpy is not None}


def tensor_type(array: np.ndarray) -> TensorType:
    """Returns the tensor type of a NumPy array."""
    if array.dtype.name == "bfloat16":
        return TYPES[BFLOAT16]
    return _BY_KIND[array.dtype]
