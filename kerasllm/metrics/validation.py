"""What metrics refuse: NaN, classes that are not there, lengths that differ. A number from those is a lie."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasllm.errors import DataError

__all__ = ["check_classes", "check_multi_hot", "check_probabilities", "check_same_length"]

_SUM_TOLERANCE = 1e-2  # of a row of probabilities; bfloat16 has three digits


def check_same_length(**arrays: NDArray) -> None:
    """Raises `DataError` unless the named arrays have the same number of rows, and at least one."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The arrays differ in length: {lengths}. Give one row an example, in the same order, in each."
        )
    if 0 in lengths.values():
        raise DataError("There is nothing to measure: the arrays have no rows. Give at least one example.")


def check_classes(values: ArrayLike, *, what: str, num_classes: int | None = None) -> NDArray[np.int64]:
    """Returns class indices as integers of one dimension.

    Args:
        values: Class indices from 0; floats are accepted where they are whole.
        what: What to call them in a message, such as `"targets"`.
        num_classes: Number of classes, where known.

    Raises:
        DataError: If a value is NaN, not whole, negative, or not below `num_classes`.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(
            f"The {what} have the shape {array.shape}, but one class index an example is needed. For several "
            "labels an example, use the multi-label form with a column a label."
        )
    if array.dtype.kind not in "iufb":
        raise DataError(
            f"The {what} are of type {array.dtype}, but class indices from 0 are needed. Map them first."
        )
    wrong = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    if wrong.any():
        raise DataError(
            f"{_rows(wrong)} of the {what} {_verb(wrong)} not finite (NaN or infinite). {_REMOVE}"
        )
    wrong = array != np.floor(array)
    if wrong.any():
        raise DataError(
            f"{_rows(wrong)} of the {what} {_verb(wrong)} not a whole number. Give class indices from 0."
        )
    wrong = (array < 0) if num_classes is None else (array < 0) | (array >= num_classes)
    if wrong.any():
        limit = "" if num_classes is None else f" to {num_classes - 1}"
        raise DataError(
            f"{_rows(wrong)} of the {what} {_verb(wrong)} no class: {array[wrong][0]:g}. Classes go from "
            f"0{limit}."
        )
    return array.astype(np.int64)


def check_multi_hot(values: ArrayLike, *, what: str) -> NDArray[np.bool_]:
    """Returns a table of yes and no, a row an example and a column a label.

    Raises:
        DataError: If it is not a table, or holds anything but 0 and 1.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"The {what} have the shape {array.shape}, but a row an example and a column a label is needed."
        )
    wrong = ~((array == 0) | (array == 1)).all(axis=1)
    if wrong.any():
        raise DataError(f"{_rows(wrong)} of the {what} {_verb(wrong)} not made of 0 and 1. {_REMOVE}")
    return array.astype(bool)


def check_probabilities(values: ArrayLike, *, multi_label: bool = False) -> NDArray[np.float64]:
    """Returns probabilities in float64, a row an example and a column a class.

    Args:
        values: Probabilities.
        multi_label: Whether columns are independent; otherwise each row must sum to 1. Defaults to `False`.

    Raises:
        DataError: If it is not a table, or a value is NaN or outside 0 to 1, or a row does not sum to 1.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "iufbV":
        raise DataError(
            f"The probabilities have the shape {array.shape} and the type {array.dtype}, but numbers, a "
            "row an example and a column a class, are needed."
        )
    array = array.astype(np.float64)
    wrong = ~np.isfinite(array).all(axis=1)
    if wrong.any():
        raise DataError(
            f"{_rows(wrong)} of the probabilities {_verb(wrong)} not finite (NaN or infinite). The model "
            "computes no usable numbers: lower the learning rate, or choose another `dtype_policy`."
        )
    wrong = ((array < -1e-6) | (array > 1 + 1e-6)).any(axis=1)
    if not multi_label:
        wrong |= np.abs(array.sum(axis=1) - 1) > _SUM_TOLERANCE
    if wrong.any():
        rule = "between 0 and 1" if multi_label else "between 0 and 1 and sum to 1 in each row"
        function = "sigmoid" if multi_label else "softmax"
        raise DataError(
            f"{_rows(wrong)} of the probabilities {_verb(wrong)} none: they must be {rule}. Are these "
            f"logits? Apply {function} first."
        )
    return np.clip(array, 0, 1)


_REMOVE = "Remove or repair these examples."


def _rows(wrong: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(wrong)
    if len(rows) == 1:
        return f"Row {rows[0]}"
    return f"{len(rows):,} rows ({', '.join(map(str, rows[:3]))}{', …' if len(rows) > 3 else ''})"


def _verb(wrong: NDArray[np.bool_]) -> str:
    return "is" if wrong.sum() == 1 else "are"
