"""Rows of texts -> one list a named input, the way all `predict`s take them."""

from collections.abc import Sequence
from typing import Any

from kerasllm.errors import DataError

__all__ = ["columns_of_rows", "text_columns"]

_PAIR = ("text", "text_pair")


def text_columns(rows: str | Sequence[Any]) -> dict[str, list[str]]:
    """Turns texts into the column `text`, or pairs of them into `text` and `text_pair`.

    Args:
        rows: One text or many, or `(text, text_pair)` tuples; the first one decides.

    Raises:
        DataError: If a row is not of the same kind as the first.
    """
    listed = [rows] if isinstance(rows, str) else list(rows)
    pairs = bool(listed) and isinstance(listed[0], (tuple, list))
    return columns_of_rows(listed, _PAIR if pairs else _PAIR[:1])


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
            columns[name].append(_checked(part, number))
    return columns


def _checked(text: str, number: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"Input {number} has the invalid character U+{ord(text[error.start]):04X} at position "
            f"{error.start}: half of a surrogate pair, which no server takes. Repair the text, e.g. with "
            "`text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`."
        ) from error
    return text
