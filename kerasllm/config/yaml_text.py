"""YAML in, plain values out, together with what was written where.

PyYAML reads `no` as false, `010` as 8 and `5e-5` as text. The words as they were written are kept
beside each value, so that a message can quote them and name the line.
"""

import dataclasses
from typing import Any

import yaml

from kerasllm.config.fields import Path, dotted

__all__ = ["Document", "Written", "parse_yaml"]

_MAX_VALUES = 100_000  # anchors can make a small file expand without end
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclasses.dataclass(frozen=True)
class Written:
    """A scalar as it stands in the text.

    Attributes:
        text: The characters, without quotes.
        line: Line number, counted from 1.
        quoted: Whether it was put in quotes (or is a block of text).
    """

    text: str
    line: int
    quoted: bool


@dataclasses.dataclass
class Document:
    """A parsed text.

    Attributes:
        value: Dicts, lists and scalars.
        written: The scalars as they were written, by path.
        lines: Line number of every key and value, by path.
        problems: Sentences about what must not be in a config: duplicate keys, keys that are not text.
    """

    value: Any
    written: dict[Path, Written] = dataclasses.field(default_factory=dict)
    lines: dict[Path, int] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


def parse_yaml(text: str) -> Document:
    """Parses YAML with the safe loader.

    Args:
        text: The text of one document.

    Returns:
        The document; the problems in it are listed, not raised.

    Raises:
        yaml.YAMLError: If the text is not YAML, with the place in its message.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(value=None)
        document = Document(value=None)
        document.value = _read(node, (), document, loader)
        return document
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except ValueError as error:  # e.g. the date 2026-13-99
        raise yaml.YAMLError(f"{error}; put it in quotes if it is meant as text") from error
    finally:
        loader.dispose()


def _read(node: yaml.Node, path: Path, document: Document, loader: yaml.SafeLoader) -> Any:
    line = node.start_mark.line + 1
    document.lines.setdefault(path, line)
    if len(document.lines) > _MAX_VALUES:
        raise yaml.YAMLError(f"it has more than {_MAX_VALUES:,} values")
    if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
        raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not allowed", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, path, document, loader)
    if isinstance(node, yaml.SequenceNode):
        return [_read(item, (*path, index), document, loader) for index, item in enumerate(node.value)]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    document.written[path] = Written(node.value, line, quoted=quoted)
    return loader.construct_object(node)


def _read_mapping(
    node: yaml.MappingNode, path: Path, document: Document, loader: yaml.SafeLoader
) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            document.problems.append(f"line {line}: a key must be a word, not a list or a mapping.")
            continue
        here = (*path, key.value)
        where = f"`{dotted(here)}` (line {line})"
        if key.value in value:
            first = document.lines[here]
            document.problems.append(f"{where}: the key is already on line {first}; keep one.")
            continue
        if key.tag != "tag:yaml.org,2002:str":
            document.problems.append(
                f'{where}: YAML does not read the key {key.value} as text; put it in quotes: "{key.value}".'
            )
        document.lines[here] = line
        value[key.value] = _read(item, here, document, loader)
    return value
