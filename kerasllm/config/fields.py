"""Questions about the schema: which field is at a path, what it takes, what a wrong name was meant to be."""

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kerasllm.config.schema import RunConfig

__all__ = [
    "Path",
    "annotation_at",
    "close_match",
    "describe",
    "dotted",
    "entry_fields",
    "field_names",
    "meant_field",
    "section_of",
    "takes",
]

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """Writes a path as people do: `data.labels[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def field_names(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """Lists the dotted name of every field and section."""
    names = []
    for name, annotation in get_type_hints(model, include_extras=True).items():
        if name in model.model_fields:
            names.append(prefix + name)
            if (section := section_of(annotation)) is not None:
                names += field_names(section, f"{prefix}{name}.")
    return names


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Returns the section that a field is, or may be where it is not none."""
    return next((choice for choice in map(_bare, _choices(annotation)) if _is_model(choice)), None)


def annotation_at(path: Path, model: type[BaseModel] = RunConfig) -> Any | None:
    """Returns what the schema says about the value at `path`, `None` where it knows no such field."""
    annotation: Any = model
    for part in path:
        annotation = _step(annotation, part)
        if annotation is None:
            return None
    return annotation


def entry_fields(path: Path, value: Any) -> list[str]:
    """Returns the names of the fields of a section that stands in a list, by the `name` that it has.

    Args:
        path: Where the section is.
        value: What stands there.
    """
    models = [_bare(choice) for choice in _choices(annotation_at(path)) if _is_model(_bare(choice))]
    named = [model for model in models if _has_name(model, value)]
    return sorted({name for model in named or models for name in model.model_fields})


def _has_name(model: type[BaseModel], value: Any) -> bool:
    field = model.model_fields.get("name")
    return field is not None and isinstance(value, dict) and value.get("name") in get_args(field.annotation)


def takes(annotation: Any, kind: Any) -> bool:
    """Tells whether a value of `kind` (`float`, `type(None)`, ...) may stand at a field."""
    return any(_bare(choice) is kind for choice in _choices(annotation))


def close_match(word: str, choices: Iterable[str]) -> str | None:
    """Returns the choice that `word` was probably meant to be."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return matches[0] if matches else None


def meant_field(path: Path) -> str | None:
    """Returns the field that an unknown one was probably meant to be.

    A field of the right name in another section comes before one of a similar name.
    """
    names, leaf = field_names(), str(path[-1])
    elsewhere = [name for name in names if name.rpartition(".")[2] == leaf]
    if len(elsewhere) == 1:
        return elsewhere[0]
    section = dotted(path[:-1])
    siblings = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == section]
    if match := close_match(leaf, siblings):
        return dotted((*path[:-1], match))
    leaves = {name.rpartition(".")[2]: name for name in names}
    match = close_match(leaf, leaves)
    return leaves[match] if match else None


def describe(annotation: Any) -> str:
    """Says in words what a field takes, e.g. `a whole number of at least 1`."""
    choices = [choice for choice in _choices(annotation) if _bare(choice) is not type(None)]
    parts = list(dict.fromkeys(_describe_one(choice) for choice in choices))
    if len(choices) < len(_choices(annotation)):
        parts.append("none")
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else parts[0]


def _describe_one(annotation: Any) -> str:
    bare = _bare(annotation)
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        values = ", ".join(repr(value) for value in arguments)
        return values if len(arguments) == 1 else f"one of {values}"
    if origin is list:
        return f"a list (each {describe(arguments[0])})"
    if origin is dict:
        return f"a mapping of {describe(arguments[0])} to {describe(arguments[1])}"
    if _is_model(bare):
        return "a section of `key: value` lines"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    name = _title(annotation) or words[bare]
    limits = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    found = [
        f"{limits[name]} {getattr(item, name)}"
        for extra in _field_infos(annotation)
        for item in extra.metadata
        for name in limits
        if hasattr(item, name)
    ]
    return f"{name} {' and '.join(found)}" if found else name


def _title(annotation: Any) -> str | None:
    return next((extra.title for extra in _field_infos(annotation) if extra.title), None)


def _field_infos(annotation: Any) -> list[FieldInfo]:
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [extra for extra in extras if isinstance(extra, FieldInfo)]


def _step(annotation: Any, part: str | int) -> Any | None:
    for choice in _choices(annotation):
        bare = _bare(choice)
        if _is_model(bare) and part in bare.model_fields:
            return get_type_hints(bare, include_extras=True)[str(part)]
        if get_origin(bare) is list and isinstance(part, int):
            return get_args(bare)[0]
        if get_origin(bare) is dict and isinstance(part, str):
            return get_args(bare)[1]
    return None


def _choices(annotation: Any) -> list[Any]:
    bare = _bare(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        return [choice for part in get_args(bare) for choice in _choices(part)]
    return [annotation]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
