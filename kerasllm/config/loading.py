"""A file, a packaged name or a dict, and `key=value` overrides, become one checked `RunConfig`.

All problems are reported at once, each with its dotted path, before anything heavy is imported.
"""

import copy
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kerasllm.config.dumping import dump_config
from kerasllm.config.fields import Path as FieldPath
from kerasllm.config.fields import annotation_at, dotted, takes
from kerasllm.config.packaged import find_config
from kerasllm.config.problems import describe_problems
from kerasllm.config.schema import DataConfig, RunConfig
from kerasllm.config.yaml_text import Document, Written, parse_yaml
from kerasllm.errors import ConfigError

__all__ = ["dump_config", "load_config", "load_data_config", "read_config"]

log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def load_config(
    source: str | Path | dict[str, Any], overrides: Sequence[str] = (), *, require_data: bool = False
) -> RunConfig:
    """Loads and checks a config.

    Args:
        source: A YAML file, the name of a packaged config such as
            `text_classification/sentiment_minilm`, a run directory, or a dict.
        overrides: `KEY=VALUE` texts that win over the source: dotted keys, YAML
            values, e.g. `training.epochs=5`, `data.labels=[fresh, rotten]`. Defaults to none.
        require_data: Whether `data.train` must be there. Defaults to `False`,
            because Python may pass the data itself.

    Returns:
        The config; fields that are derived later are still `None`.

    Raises:
        ConfigError: With every problem: unknown fields, wrong types, values
            out of range, duplicate keys, overrides that cannot be read.

    Example:
    >>> config = load_config("text_classification/sentiment_minilm", ["training.epochs=5"])
    >>> config.training.epochs
    5
    """
    name, document = _read(source)
    _stay_in_its_run(source, document)
    places: dict[FieldPath, str] = {path: f"line {line}" for path, line in document.lines.items()}
    problems = list(document.problems)
    for override in overrides:
        problems += _apply(override, document, places)
    _read_as_the_field_takes(document, places)
    return _validate(name, document, places, problems, require_data=require_data)


def load_data_config(overrides: Sequence[str] = (), *, train: str | list[str] | None = None) -> DataConfig:
    """Makes the `data` section of a config from overrides alone, for commands that only read data.

    Args:
        overrides: `KEY=VALUE` texts whose keys begin with `data.`. Defaults to none.
        train: File or files. Defaults to `None`.

    Raises:
        ConfigError: With every problem, as `load_config`.
    """
    others = [f"`-s {item}`" for item in overrides if "=" in item and not item.strip().startswith("data.")]
    if others:
        raise ConfigError(
            f"{', '.join(others)}: only fields of `data` matter here, e.g. `data.columns.text=review`."
        )
    data = {"train": train, "validation": None}
    source = {"task": "text_classification", "preset": "none", "data": data}
    return load_config(source, overrides).data


def read_config(source: str | Path) -> dict[str, Any]:
    """Reads a config as it is written, unchecked, to be changed and given to `load_config`.

    Args:
        source: A YAML file, the name of a packaged config, or a run directory.

    Raises:
        ConfigError: If it is not there, or is not YAML of unique text keys.
    """
    name, document = _read(source)
    if document.problems:
        raise _error(name, document.problems)
    return document.value


def _validate(
    name: str, document: Document, places: dict[FieldPath, str], problems: list[str], *, require_data: bool
) -> RunConfig:
    config = None
    try:
        config = RunConfig.model_validate(document.value)
    except ValidationError as error:
        problems += describe_problems(error, document.value, written=document.written, places=places)
    problems += _octal(document, places)
    data = document.value.get("data")
    if require_data and (data is None or (isinstance(data, dict) and data.get("train") is None)):
        problems.append(
            "`data.train` is missing: give the file to learn from, e.g. `-s data.train=reviews.csv`."
        )
    if problems or config is None:
        raise _error(name, problems)
    return config


def _read(source: str | Path | dict[str, Any]) -> tuple[str, Document]:
    if isinstance(source, dict):
        return "The config", Document(value=copy.deepcopy(source))
    file = find_config(source)
    name = f"`{file}`" if Path(source).exists() else f"`{source}`"
    try:
        content = file.read_bytes()
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"{name} has {len(content):,} bytes; a config has less than {_MAX_BYTES:,}.")
        document = parse_yaml(content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 at byte {error.start:,}; save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {_syntax(error)}.") from error
    if not isinstance(document.value, dict):
        found = "nothing" if document.value is None else f"a {type(document.value).__name__}"
        raise ConfigError(f"{name}: expected `key: value` lines, found {found}.")
    return name, document


def _stay_in_its_run(source: str | Path | dict[str, Any], document: Document) -> None:
    """Makes a run's own config mean that run, also where the directory was moved."""
    if not isinstance(source, dict):
        folder = find_config(source).parent
        if (folder / "manifest.json").is_file():
            document.value["output_dir"] = str(folder.resolve())


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).partition("\n")[0]
    what = getattr(error, "problem", None) or "cannot be read"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"


def _apply(override: str, document: Document, places: dict[FieldPath, str]) -> list[str]:
    """Puts one override into the document; returns what is wrong with it."""
    option = f"-s {override}"
    key, equals, text = override.partition("=")
    path: FieldPath = tuple(key.strip().split("."))
    if not equals or not all(path):
        return [f"`{option}` is not an override; write `KEY=VALUE`, e.g. `-s training.epochs=5`."]
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        return [f"`{option}`: the value is not YAML: {_syntax(error)}. Put text with : or # in quotes."]
    problems = [*value.problems, *_without_space(value.value)]
    if problems:
        return [f"`{option}`: {problem.replace(' (line 1)', '')}" for problem in problems]
    section = document.value
    for depth, part in enumerate(path[:-1]):
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            return [f"`{option}`: `{dotted(path[: depth + 1])}` is {section!r} and has no fields."]
    section[path[-1]] = value.value
    for known in [known for known in document.lines if known[: len(path)] == path]:
        document.written.pop(known, None)
        places.pop(known, None)
    places |= {(*path, *inside): option for inside in value.lines or {(): 1}}
    document.written |= {(*path, *inside): written for inside, written in value.written.items()}
    return []


def _without_space(value: Any) -> list[str]:
    """What is wrong with `{a:2}`, which YAML reads as the key `a:2` without a value."""
    names = [name for name in value if value[name] is None] if isinstance(value, dict) else []
    return [
        f"YAML wants a space after the colon; write `{{{name.replace(':', ': ', 1)}}}`."
        for name in map(str, names)
        if ":" in name
    ]


def _read_as_the_field_takes(document: Document, places: dict[FieldPath, str]) -> None:
    """Reads numbers and `none` that YAML takes for text, where the field says which is meant."""
    for path, value in list(_texts(document.value, ())):
        annotation = annotation_at(path)
        if annotation is None:
            continue
        written = document.written.get(path, Written(value, 0, quoted=True))
        if value.lower() == "none" and not written.quoted and takes(annotation, type(None)):
            _put(document.value, path, None)
        elif takes(annotation, float) and _NUMBER.fullmatch(value):
            number = float(value)
            _put(document.value, path, number)
            place = places.get(path, "")
            if place.startswith("line"):  # a shell has no other way to write it
                log.warning(
                    "`%s` (%s) is written %s, which YAML reads as text; taken as a number. Write %s.",
                    *(dotted(path), place, value, yaml.safe_dump(number).partition("\n")[0]),
                )


def _octal(document: Document, places: dict[FieldPath, str]) -> list[str]:
    return [
        f"`{dotted(path)}` ({places[path]}): YAML reads {written.text} as {int(written.text, 8)}, in base 8; "
        f"leave out the leading zero."
        for path, written in document.written.items()
        if not written.quoted
        and re.fullmatch(r"0[0-7]+", written.text)
        and takes(annotation_at(path), int)
        and path in places
    ]


def _texts(value: Any, path: FieldPath) -> list[tuple[FieldPath, str]]:
    if isinstance(value, str):
        return [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in _texts(item, (*path, key))]


def _put(value: Any, path: FieldPath, new: Any) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = new


def _error(name: str, problems: list[str]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(f"{name}: {problems[0]}")
    return ConfigError(
        f"{name} has {len(problems)} problems:\n" + "\n".join(f"  {item}" for item in problems)
    )
