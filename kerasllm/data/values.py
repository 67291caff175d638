"""Checks the values of one column, row by row: texts must be text, labels must be labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasllm.data import limits
from kerasllm.data.problems import Problems, quote

_NUMBERS = (bool, int, float)
# Spreadsheets and pandas write a missing value so; nobody calls a class that.
_MISSING_LABELS = frozenset({"", "nan", "NaN", "#N/A"})


def check_texts(
    values: Sequence[Any],
    positions: Sequence[int],
    problems: Problems,
    *,
    role: str,
    cast_text: bool,
    fix_unicode: bool,
) -> list[str | None]:
    """Gives the texts of a column, `None` for each that was noted as a problem.

    Args:
        values: Raw values.
        positions: Line of each.
        problems: Where to note what is wrong.
        role: `text` or `text_pair`, for messages.
        cast_text: Whether numbers are read as text.
        fix_unicode: Whether lone surrogates become U+FFFD.
    """
    texts = [
        value if type(value) is str else _to_text(value, position, problems, role, cast_text)
        for value, position in zip(values, positions, strict=True)
    ]
    for index, text in enumerate(texts):
        if text is not None and len(text) > limits.MAX_CHARACTERS:
            detail = f"{len(text):,}"
            kind = f"a {role} longer than {limits.MAX_CHARACTERS:,} characters"
            problems.add(kind, positions[index], detail)
            texts[index] = None
    try:
        "".join(text for text in texts if text is not None).encode()
    except UnicodeEncodeError:
        return [
            _without_surrogates(text, position, problems, role, fix_unicode)
            for text, position in zip(texts, positions, strict=True)
        ]
    return texts


def _to_text(value: Any, position: int, problems: Problems, role: str, cast_text: bool) -> str | None:
    value = _plain(value)
    if is_missing(value):
        problems.add(f"no {role}", position)
        return None
    if isinstance(value, str):  # numpy's and other subclasses
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            problems.add(f"bytes that are not UTF-8 as {role}", position, f"byte {error.start:,}")
            return None
    if isinstance(value, _NUMBERS) and cast_text:
        return _number_to_text(value, position, problems, role)
    if isinstance(value, _NUMBERS):
        problems.add(f"a number instead of {role}", position, quote(value))
        problems.hint("To read numbers as text, pass `cast_text=True` or `-s data.cast_text=true`.")
        return None
    problems.add(f"a `{type(value).__name__}` instead of {role}", position, quote(value))
    return None


def _number_to_text(value: Any, position: int, problems: Problems, role: str) -> str | None:
    try:
        return str(value)
    except ValueError:  # more than 4,300 digits
        problems.add(f"a number that is too long as {role}", position)
        return None


def _without_surrogates(
    text: str | None, position: int, problems: Problems, role: str, fix_unicode: bool
) -> str | None:
    try:
        return text if text is None else text.encode().decode()
    except UnicodeEncodeError as error:
        if fix_unicode:
            return error.object.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        code = f"U+{ord(error.object[error.start]):04X}"
        problems.add(f"invalid Unicode in the {role}", position, f"{code} at character {error.start:,}")
        problems.hint(
            "A lone surrogate is half of a character: write the text out again from its source, or pass "
            "`fix_unicode=True` or `-s data.fix_unicode=true` to read U+FFFD instead."
        )
        return None


def _plain(value: Any) -> Any:
    """The Python value of a NumPy one."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: `None`, NaN, pandas' `NA` and `NaT`."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def check_labels(
    values: Sequence[Any],
    positions: Sequence[int],
    problems: Problems,
    *,
    class_names: Sequence[str] | None = None,
) -> list[Any]:
    """Gives the labels of a column by name, `None` for each that was noted as a problem.

    Strings lose white space around them; integers and booleans become `"3"`, `"True"`; lists become
    lists of such names (multi-label). All of a column must be of one kind.

    Args:
        values: Raw values.
        positions: Line of each.
        problems: Where to note what is wrong.
        class_names: Names of integer labels, where the source has them.
    """
    labels: list[Any] = []
    cache: dict[str, str] = {}
    for value, position in zip(values, positions, strict=True):
        if type(value) is str and value in cache:
            labels.append(cache[value])
            continue
        value = _plain(value)
        if isinstance(value, list | tuple):
            label: Any = _label_list(value, position, problems, class_names)
        else:
            label = _label_name(value, position, problems, class_names)
        if type(value) is str and label is not None:
            cache[value] = label
        labels.append(label)
    return labels


def _label_list(
    value: Sequence[Any], position: int, problems: Problems, class_names: Sequence[str] | None
) -> list[str] | None:
    if any(isinstance(item, float | list | tuple) for item in value):
        problems.add("a list that holds no labels", position, quote(value), is_label=True)
        problems.hint("Give the names of the labels that apply, not a vector of zeros and ones.")
        return None
    names = [_label_name(item, position, problems, class_names) for item in value]
    if len(set(names)) < len(names):
        problems.add("the same label twice in a list", position, quote(value), is_label=True)
        problems.hint("Give the names of the labels that apply, not a vector of zeros and ones.")
        return None
    return None if None in names else [name for name in names if name is not None]


def _label_name(
    value: Any, position: int, problems: Problems, class_names: Sequence[str] | None
) -> str | None:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            problems.add("bytes that are not UTF-8 as label", position, quote(value), is_label=True)
            return None
    if isinstance(value, str):
        value = value.strip()
    if is_missing(value) or (isinstance(value, str) and value in _MISSING_LABELS):
        problems.add("no label", position, is_label=True)
        return None
    if isinstance(value, float) and not value.is_integer():
        problems.add("a number with decimals as label", position, quote(value), is_label=True)
        problems.hint("Classes are strings, integers or booleans.")
        return None
    if isinstance(value, str):
        return _checked_string(value, position, problems)
    if not isinstance(value, _NUMBERS):
        kind = f"a `{type(value).__name__}` instead of a label"
        problems.add(kind, position, quote(value), is_label=True)
        return None
    if isinstance(value, bool):
        return str(value)
    return _integer_name(int(value), position, problems, class_names)


def _checked_string(value: str, position: int, problems: Problems) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        problems.add("invalid Unicode in the label", position, quote(value), is_label=True)
        return None
    if len(value) > limits.MAX_LABEL_CHARACTERS:
        problems.add(
            f"a label longer than {limits.MAX_LABEL_CHARACTERS:,} characters",
            position,
            f"{len(value):,}",
            is_label=True,
        )
        problems.hint("Is that column the text?")
        return None
    return value


def _integer_name(
    value: int, position: int, problems: Problems, class_names: Sequence[str] | None
) -> str | None:
    if class_names is None:
        if abs(value) >= 10**18:
            problems.add("a number that is too large for a label", position, is_label=True)
            return None
        return str(value)
    if value == -1:  # Hugging Face's mark for rows without a label
        problems.add("no label", position, "-1", is_label=True)
        return None
    if not 0 <= value < len(class_names):
        kind = f"a label out of the range 0 to {len(class_names) - 1}"
        problems.add(kind, position, quote(value), is_label=True)
        return None
    return class_names[value]
