"""What a request may ask of generation, checked before TensorFlow sees it."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kerasllm.errors import ConfigError

__all__ = ["DEFAULTS", "LONGEST_STOP", "MOST_STOPS", "check_settings", "check_stops"]

LONGEST_STOP = 256  # bytes
MOST_STOPS = 16

DEFAULTS: dict[str, int | float] = {
    "max_new_tokens": 128,
    "min_new_tokens": 0,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "seed": -1,
}


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    expected: str


_RULES = {
    "max_new_tokens": _Rule(lambda v: 1 <= v < 2**31, "a whole number from 1 up"),
    "min_new_tokens": _Rule(lambda v: 0 <= v < 2**31, "a whole number from 0 up"),
    "temperature": _Rule(lambda v: v >= 0, "a number from 0 up; 0 takes the likeliest token each time"),
    "top_k": _Rule(lambda v: 0 <= v < 2**31, "a whole number from 0 up; 0 leaves all tokens"),
    "top_p": _Rule(lambda v: 0 < v <= 1, "a number above 0 and up to 1; 1 leaves all tokens"),
    "min_p": _Rule(lambda v: 0 <= v <= 1, "a number from 0 to 1; 0 leaves all tokens"),
    "repetition_penalty": _Rule(lambda v: v > 0, "a number above 0; 1 is no penalty"),
    "presence_penalty": _Rule(lambda v: -100 <= v <= 100, "a number from -100 to 100; 0 is no penalty"),
    "no_repeat_ngram_size": _Rule(lambda v: 0 <= v < 2**31, "a whole number from 0 up; 0 is no rule"),
    "seed": _Rule(lambda v: 0 <= v < 2**63, "a whole number from 0 up, or none for another one each time"),
}


def check_settings(given: Mapping[str, Any], rows: int) -> dict[str, list[int | float]]:
    """Checks settings, and gives each as one value a row.

    Args:
        given: By name, a value for all rows, or a sequence of one for each; `None` for the default.
        rows: How many rows there are.

    Raises:
        ConfigError: If a name is unknown or a value impossible; lists all of them.
    """
    problems, found = [], {}
    for name, value in given.items():
        if name not in _RULES:
            close = difflib.get_close_matches(name, _RULES, n=1)
            hint = f"; did you mean `{close[0]}`" if close else ""
            known = ", ".join(sorted([*_RULES, "stop"]))
            problems.append(f"there is no setting `{name}`{hint}; there are {known}")
            continue
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * rows
        values = [DEFAULTS[name] if each is None else each for each in values]
        if len(values) != rows:
            problems.append(
                f"`{name}` has {len(values)} values for {rows} prompts; give one, or one for each"
            )
        bad = next((each for each in values if not _holds(name, each)), None)
        if bad is not None:
            problems.append(f"`{name}` is {bad!r}; expected {_RULES[name].expected}")
        found[name] = values
    if problems:
        raise ConfigError("Generation cannot be set so: " + "; ".join(problems) + ".")
    return found


def _holds(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if isinstance(DEFAULTS[name], int) and not isinstance(value, int):
        return False
    return value == DEFAULTS[name] or _RULES[name].holds(value)


def check_stops(stop: Any, rows: int) -> list[list[str]]:
    """Checks stop strings, and gives as many for each row.

    Args:
        stop: A string, a list of strings for all rows, or a list of lists, one for each row; `None` for none.
        rows: How many rows there are.

    Raises:
        ConfigError: If they are something else, or too many or too long.
    """
    stops: list[Any] = [stop] if isinstance(stop, str) else list(stop or ())
    if not any(isinstance(each, Sequence) and not isinstance(each, str) for each in stops):
        stops = [stops] * rows
    for own in stops:
        for each in own:
            if not isinstance(each, str) or not each:
                raise ConfigError(
                    f"`stop` has {each!r}; expected texts that are not empty, such as ['\\n\\n']."
                )
            size = len(each.encode("utf-8", "replace"))
            if size > LONGEST_STOP:
                raise ConfigError(
                    f"`stop` has a text of {size:,} bytes, {each[:20]!r}…; expected {LONGEST_STOP} at most."
                )
        if len(own) > MOST_STOPS:
            raise ConfigError(f"`stop` has {len(own)} texts for one prompt; expected {MOST_STOPS} at most.")
    if len(stops) != rows:
        raise ConfigError(
            f"`stop` has {len(stops)} lists for {rows} prompts; give one list of texts, or one for each."
        )
    most = max((len(own) for own in stops), default=0)
    return [[*own, *[""] * (most - len(own))] for own in stops]
