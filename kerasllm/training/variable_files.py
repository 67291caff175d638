"""Variables in a safetensors file: hashed while it is written, and read back all of them or none."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
import tensorflow as tf

from kerasllm.errors import CheckpointError, ResourceError

__all__ = ["assign_arrays", "read_arrays", "write_variables"]

_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}
_ALIGNMENT = 8


def write_variables(path: Path, variables: Sequence[Any], *, finite: bool = True) -> str:
    """Writes variables as safetensors.

    `safetensors.numpy.save_file` copies each array first, and the file would have to be read again for its
    hash; a checkpoint is written often enough for both to count.

    Args:
        path: File to write.
        variables: Variables; their order is kept.
        finite: Whether a value that is not finite is an error. Defaults to `True`.

    Returns:
        SHA-256 of the file.

    Raises:
        CheckpointError: If a variable has values that are not finite.
        OSError: If the file cannot be written.
    """
    # `keras.ops.convert_to_numpy` copies, which took as long as all the rest; a tensor lends its memory.
    arrays = [np.asarray(tf.convert_to_tensor(variable), order="C") for variable in variables]
    header: dict[str, Any] = {}
    end = 0
    for key, array in zip(_keys(variables), arrays, strict=True):
        begin, end = end, end + array.nbytes
        header[key] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    parts = (len(text).to_bytes(8, "little"), text, *map(_bytes, arrays))
    # Reading is as much work as writing; both let the other thread run.
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(_sha256, parts)
        checked = pool.submit(_check_finite, variables, arrays) if finite else None
        with open(path, "wb") as file:
            for part in parts:
                file.write(part)
        if checked is not None:
            checked.result()
        return digest.result()


def _sha256(parts: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _check_finite(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        # bfloat16 is no floating type to NumPy, but it knows what is finite.
        if array.dtype.kind in "fV" and not np.isfinite(array).all():
            raise CheckpointError(
                f"The variable `{_path(variable)}` has values that are not finite; no checkpoint was "
                "written. Lower `training.learning_rate`, or use the dtype policy float32 or mixed_bfloat16."
            )


def read_arrays(path: Path, variables: Sequence[Any]) -> list[np.ndarray]:
    """Reads an array for each variable; a set of others, another shape or dtype is an error.

    Args:
        path: File that `write_variables` wrote.
        variables: Variables that it was written from, in this process or another.

    Raises:
        CheckpointError: If it does not fit the variables.
        ResourceError: If it cannot be read.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ResourceError(f"{path} could not be read: {error}") from error
    keys = _keys(variables)
    if sorted(arrays) != sorted(keys):
        differing = sorted(set(arrays) ^ set(keys))
        raise CheckpointError(
            f"{path} does not fit the model: {len(differing)} variables differ, the first is "
            f"`{differing[0]}`. Resume with the model and training settings that the run began with."
        )
    for key, variable in zip(keys, variables, strict=True):
        there, wanted = arrays[key], keras.backend.standardize_dtype(variable.dtype)
        if tuple(there.shape) != tuple(variable.shape) or there.dtype.name != wanted:
            raise CheckpointError(
                f"{path} has `{key}` as {there.dtype}{list(there.shape)}, the model wants "
                f"{wanted}{list(variable.shape)}. Resume with the model and training settings that the run "
                "began with."
            )
    return [arrays[key] for key in keys]


def assign_arrays(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Gives each variable its array."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def arrays_of(named: Mapping[str, np.ndarray], variables: Sequence[Any]) -> list[np.ndarray]:
    """The arrays of a file, by the names in it, in the order of the variables that it was written from."""
    return [named[key] for key in _keys(variables)]


def _keys(variables: Sequence[Any]) -> list[str]:
    # The order is what identifies a variable. Keras numbers layers through the whole process (`dense_7`),
    # so that the same model has other paths the second time: the numbers are left out.
    names = [re.sub(r"_\d+(?=[/_]|$)", "", _path(variable)) for variable in variables]
    return [f"{number:04d} {name}" for number, name in enumerate(names)]


def _path(variable: Any) -> str:
    return str(getattr(variable, "path", variable.name))


def _bytes(array: np.ndarray) -> Any:
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)
