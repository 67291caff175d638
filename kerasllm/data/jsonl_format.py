"""JSON Lines: one object a line, read strictly, each fault with its line."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from kerasllm.data.decoding import NumberedLines
from kerasllm.data.problems import Problems, quote
from kerasllm.errors import DataError


class _NotStrictError(ValueError):
    """JSON that Python reads but the standard, or reason, does not."""


def jsonl_rows(lines: NumberedLines, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Gives `(line, object)` of every line that holds one; empty lines are skipped."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    for line in lines:
        number = lines.number
        if number in lines.bad:
            problems.num_bad_rows += 1
            continue
        text = line.strip(" \t\r\n")
        if not text:
            continue
        row = _parse(decoder, text, number, problems)
        if row is not None:
            yield number, row


def _parse(decoder: json.JSONDecoder, text: str, number: int, problems: Problems) -> dict[str, Any] | None:
    try:
        row = decoder.decode(text)
    except RecursionError:
        fault = "nested too deeply"
    except _NotStrictError as error:
        fault = str(error)
    except json.JSONDecodeError as error:
        _check_array(text, number, problems)
        fault = f"{error.msg} at column {error.colno:,}"
    except ValueError:  # Python refuses integers of more than 4,300 digits
        fault = "a number of more than 4,300 digits"
    else:
        if isinstance(row, dict):
            return row
        _check_array(text, number, problems)
        fault = f"{quote(row)} is no object"
    problems.add("invalid JSON", number, fault)
    problems.hint('Each line must be one object, e.g. `{"text": "A joy.", "label": "positive"}`.')
    problems.num_bad_rows += 1
    return None


def _check_array(text: str, number: int, problems: Problems) -> None:
    shown = problems.origin.name
    if number == 1 and text.startswith("["):
        raise DataError(
            f"`{shown}` is a JSON array, not JSON Lines: each line must be one object. "
            f"Convert it, e.g. `jq -c '.[]' {shown} > rows.jsonl`."
        )
    if number == 1 and text == "{":
        raise DataError(
            f"`{shown}` spreads an object over several lines; each line must be one object. "
            f"Convert it, e.g. `jq -c . {shown} > rows.jsonl`."
        )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _NotStrictError(f"the key {quote(twice)} twice")
    return row


def _no_constant(name: str) -> NoReturn:
    raise _NotStrictError(f"{name} is not JSON; write null")
