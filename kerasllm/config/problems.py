"""Turns what pydantic found into sentences: the field, what was received, what is expected, the remedy."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError

from kerasllm.config.fields import (
    Path,
    annotation_at,
    close_match,
    describe,
    dotted,
    entry_fields,
    field_names,
    meant_field,
    takes,
)
from kerasllm.config.yaml_text import Written

__all__ = ["describe_problems"]

_MAX_QUOTED = 60


def describe_problems(
    error: ValidationError, value: Any, *, written: Mapping[Path, Written], places: Mapping[Path, str]
) -> list[str]:
    """Describes each wrong field once, in the order of the file.

    Args:
        error: What pydantic raised for `value`.
        value: The config as dicts, lists and scalars.
        written: Scalars as they were written, by path.
        places: Where a path was written, e.g. `line 12`, by path.

    Returns:
        One sentence or two a problem.
    """
    found: dict[Path, list[dict[str, Any]]] = {}
    for item in error.errors():
        path = _path_in(value, item["loc"], missing=item["type"] == "missing")
        found.setdefault(path, []).append(dict(item))
    deepest = [path for path in found if not any(_is_inside(other, path) for other in found)]
    return [_describe(path, found[path], value, written, places) for path in deepest]


def _describe(
    path: Path,
    errors: list[dict[str, Any]],
    value: Any,
    written: Mapping[Path, Written],
    places: Mapping[Path, str],
) -> str:
    first = errors[0]
    if first["type"] == "value_error":
        return f"{first['ctx']['error']}."
    where = f"`{dotted(path)}`" if path else "the config"
    if place := next(
        (places[known] for known in sorted(places, key=len) if known[: len(path)] == path), None
    ):
        where += f" ({place})"
    if first["type"] == "invalid_key":
        return f"`{dotted(path[:-1]) or 'the config'}`: the key {path[-1]!r} is no text; put it in quotes."
    if first["type"] == "missing":
        return f"{where} is missing: it takes {_expected(path)}."
    if first["type"] == "extra_forbidden":
        return f"{where} is not a field.{_meant(path, value)}"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{where}: {_which_entry(first)}"
    if first["loc"][-1] == "[key]":
        return f"{where}: {_quote(path[-1])} is not a key of `{dotted(path[:-1])}`. {_choose(first)}"
    received = _value_at(value, path)
    sentence = f"{where}: {_received(received, written.get(path))}, expected {_expected(path)}."
    return sentence + _remedy(path, received, written)


def _received(value: Any, written: Written | None) -> str:
    if value is None:
        return "received nothing"
    if written is not None and not written.quoted and not isinstance(value, str):
        kind = {bool: "true or false", int: "a number", float: "a number"}.get(type(value), "a date")
        as_value = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
        same = written.text.lower() == str(as_value).lower()
        return f"received {written.text}" + (f" ({kind})" if same else f" (YAML reads it as {as_value})")
    kinds = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    kind = kinds.get(type(value), f"a {type(value).__name__}")
    kind = {"a dict": "a mapping"}.get(kind, kind)
    return f"received {_quote(value)} ({kind})"


def _expected(path: Path) -> str:
    annotation = annotation_at(path)
    return describe(annotation) if annotation is not None else "another value"


def _remedy(path: Path, received: Any, written: Mapping[Path, Written]) -> str:
    annotation = annotation_at(path)
    if isinstance(received, str) and path and isinstance(path[-1], int) and _is_entry(annotation):
        return f" Write `{{name: {received}}}`."
    source = written.get(path)
    if source is not None and not source.quoted and not isinstance(received, str) and takes(annotation, str):
        return f' Put it in quotes: "{source.text}".'
    if isinstance(received, str) and (match := close_match(received, _choices(annotation))):
        return f" Did you mean {match!r}?"
    if source is not None and source.quoted and isinstance(received, str):
        return " Leave out the quotes if it is not meant as text."
    return ""


def _is_entry(annotation: Any) -> bool:
    parts = _parts(annotation)
    return bool(parts) and all("name" in getattr(part, "model_fields", {}) for part in parts)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _choose(error: dict[str, Any]) -> str:
    expected = str(error["ctx"]["expected"]) if "ctx" in error else "text"
    match = close_match(
        str(error["input"]), [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    )
    return f"Did you mean {match!r}?" if match else f"Use {expected}."


def _which_entry(error: dict[str, Any]) -> str:
    key = str(error["ctx"]["discriminator"]).strip("'")
    annotation = annotation_at(error["loc"])
    names = [name for part in _parts(annotation) for name in _choices(part.model_fields[key].annotation)]
    expected = f"expected one of {', '.join(repr(name) for name in sorted(names))}."
    found = error["input"].get(key)
    if found is None:
        return f"the `{key}` is missing, {expected}"
    match = close_match(str(found), names)
    return f"received the `{key}` {_quote(found)}, {expected}" + (
        f" Did you mean {match!r}?" if match else ""
    )


def _parts(annotation: Any) -> list[Any]:
    """The sections that may stand at a place where one of several does."""
    if isinstance(annotation, type):
        return [annotation]
    inside = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [part for choice in inside for part in _parts(choice)]


def _meant(path: Path, value: Any) -> str:
    if any(isinstance(part, int) for part in path):
        names = entry_fields(path[:-1], _value_at(value, path[:-1]))
        found = close_match(str(path[-1]), names)
        return f" Did you mean `{found}`?" if found else f" There is {', '.join(names)}."
    match = meant_field(path)
    if match:
        return f" Did you mean `{match}`?"
    section = dotted(path[:-1])
    parts = [name.rpartition(".") for name in field_names()]
    fields = ", ".join(field for parent, _, field in parts if parent == section)
    return f" {f'`{section}`' if section else 'The config'} has {fields}."


def _path_in(value: Any, loc: tuple[int | str, ...], *, missing: bool) -> Path:
    """Leaves out what pydantic adds to a location: the branches of unions and the mark of a key."""
    path: list[int | str] = []
    for part in loc:
        inside = (
            part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        )
        if inside:
            path.append(part)
            value = value[part]  # type: ignore[index]
    return (*path, loc[-1]) if missing else tuple(path)


def _is_inside(path: Path, other: Path) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[: _MAX_QUOTED - 1]}…"
