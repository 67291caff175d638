"""Rows of texts -> one list a named input, the way all `predict`s take them."""

from collections.abc import Sequence
from typing import Any

from kerasllm.errors import DataError

__all__ = ["columns_of_rows"]


def columns_of_rows(rows: str | Sequence[Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Turns texts, or tuples of them, into columns.

    Args:
        rows: One text or many; with several inputs, a tuple of as many texts each.
        names: Names of the inputs, in alphabetical order, which is the order of `text` and `text_pair`.

    Raises:
        DataError: If a row is not a text, or not as many texts as there are inputs.

    Example:
    >>> columns_of_rows([("It rains.", "It is wet.")], ["text", "text_pair"])
    {'text': ['It rains.'], 'text_pair': ['It is wet.']}
    """
    columns: dict[str, list[str]] = {name: [] for name in names}
    for number, row in enumerate([rows] if isinstance(rows, str) else rows):
        parts = (row,) if isinstance(row, str) else tuple(row) if isinstance(row, (tuple, list)) else ()
        if len(parts) != len(names) or not all(isinstance(part, str) for part in parts):
            wanted = "a text" if len(names) == 1 else f"a tuple of {len(names)} texts {tuple(names)}"
            raise DataError(
                f"Input {number} is {str(row)[:40]!r} ({type(row).__name__}), but the model takes {wanted} "
                f"each. Pass a list of {'texts' if len(names) == 1 else 'such tuples'}."
            )
        for name, part in zip(names, parts, strict=True):
            columns[name].append(part)
    return columns
