"""Pre-tokenizers: how the text is cut into words."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.library import pre_tokenizer_state, run_pre_tokenizer
from kerasllm.tokenization.patterns import Pattern, class_pattern, literal_pattern, parse_pattern
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = [
    "ByteAlphabet",
    "PreTokenizer",
    "PreTokenizerStep",
    "Prefix",
    "Split",
    "Substitute",
    "parse_pre_tokenizer",
]

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")


@dataclass(frozen=True)
class Split:
    """Cuts texts at the matches of a pattern.

    Attributes:
        pattern: The pattern.
        behavior: What becomes of the matches, by the library's name.
        invert: Whether matches are what stands between the pattern's matches.
    """

    pattern: Pattern
    behavior: str
    invert: bool = False


@dataclass(frozen=True)
class Prefix:
    """Puts a character before each segment that does not begin with it.

    Attributes:
        character: The character.
        first: Whether only segments at the beginning of the text get it.
    """

    character: str
    first: bool = False


@dataclass(frozen=True)
class Substitute:
    """Puts one character in the place of another."""

    old: str
    new: str


@dataclass(frozen=True)
class ByteAlphabet:
    """Turns characters into those that stand for the bytes of their UTF-8."""


PreTokenizerStep = Split | Prefix | Substitute | ByteAlphabet


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer.

    Attributes:
        specification: JSON that the `tokenizers` library makes it from; `"null"` where there is none.
        steps: What it does, one after the other, on characters.
        byte_level: Whether the last thing it does is to turn each character into those that stand for its
            bytes. That is not among the steps: the model does it.
        fusable: Whether each character by itself is part of a word, a word, or white space that separates
            words and is dropped, so that one table can say which.
    """

    specification: str
    steps: tuple[PreTokenizerStep, ...]
    byte_level: bool
    fusable: bool

    @property
    def needs_starts(self) -> bool:
        """Whether a step asks where in the original text a character stood."""
        return any(isinstance(step, Prefix) and step.first for step in self.steps)

    def can_begin(self, prefix: str) -> bool:
        """Whether there are words that begin with `prefix`."""
        if self.specification == "null":
            return True
        return [word for word, _ in run_pre_tokenizer(self.specification)(prefix)] == [prefix]


def parse_pre_tokenizer(value: Any) -> PreTokenizer:
    """Reads the `pre_tokenizer` of a `tokenizer.json`.

    Raises:
        TokenizerError: If it has a component or parameter without an exact implementation in the graph.
    """
    if value is None:
        return PreTokenizer("null", (), byte_level=False, fusable=False)
    members = _members(value)
    steps: list[PreTokenizerStep] = []
    for index, (member, found) in enumerate(members):
        steps += found
        if member["type"] == "ByteLevel" and index < len(members) - 1:
            steps.append(ByteAlphabet())  # what follows works on characters that stand for bytes
    checked = [member for member, _ in members]
    specification = checked[0] if len(checked) == 1 else {"type": "Sequence", "pretokenizers": checked}
    return PreTokenizer(
        json.dumps(specification),
        tuple(steps),
        byte_level=bool(checked) and checked[-1]["type"] == "ByteLevel",
        fusable=_is_fusable(checked),
    )


def _members(value: Any) -> list[tuple[dict[str, Any], list[PreTokenizerStep]]]:
    """The JSON of each member of a sequence, made only of what was understood, and its steps."""
    component = Component("pre-tokenizer", value)
    if component.type == "Sequence":
        found = [member for inner in component.take("pretokenizers", list) for member in _members(inner)]
        component.finish()
        return found
    if component.type not in _READERS:
        raise refuse("pre-tokenizer", component.type, [*_READERS, "Sequence", "none"])
    checked, steps = _READERS[component.type](component)
    component.finish()
    return [({"type": component.type, **checked}, steps)]


def _is_fusable(members: list[dict[str, Any]]) -> bool:
    alone = ({"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": True})
    separating = ({"type": "BertPreTokenizer"}, {"type": "WhitespaceSplit"})
    return all(member in (*alone, *separating) for member in members) and any(
        member in separating for member in members
    )


_Read = tuple[dict[str, Any], list[PreTokenizerStep]]


def _set_of(kind: Literal["space", "isolated", "word"], name: str, *, runs: bool = False) -> Pattern:
    """The characters that a pre-tokenizer without parameters treats alike."""
    parameters: dict[str, dict[str, Any]] = {
        "Digits": {"individual_digits": True},
        "Punctuation": {"behavior": "Isolated"},
    }
    return class_pattern(kind, json.dumps({"type": name, **parameters.get(name, {})}), runs=runs)


def _bert(component: Component) -> _Read:
    white = Split(_set_of("space", "WhitespaceSplit"), "Removed")
    return {}, [white, Split(_set_of("isolated", "Punctuation"), "Isolated")]


def _whitespace(component: Component) -> _Read:
    words, others = (_set_of(kind, "Whitespace", runs=True) for kind in ("word", "isolated"))
    return {}, [Split(words | others, "Removed", invert=True)]


def _whitespace_split(component: Component) -> _Read:
    return {}, [Split(_set_of("space", "WhitespaceSplit"), "Removed")]


def _punctuation(component: Component) -> _Read:
    behavior = component.require("behavior", _BEHAVIORS, "Isolated")
    return {"behavior": behavior}, [Split(_set_of("isolated", "Punctuation"), behavior)]


def _digits(component: Component) -> _Read:
    individual = component.take("individual_digits", bool)
    behavior = "Isolated" if individual else "Contiguous"
    return {"individual_digits": individual}, [Split(_set_of("isolated", "Digits"), behavior)]


def _delimiter(component: Component) -> _Read:
    delimiter = component.take("delimiter", str)
    return {"delimiter": delimiter}, [Split(literal_pattern(delimiter), "Removed")]


def _split(component: Component) -> _Read:
    pattern = component.take("pattern", dict)
    behavior = component.require("behavior", _BEHAVIORS)
    invert = component.take("invert", bool)
    kind, text = next(iter(pattern.items()), ("nothing", ""))
    if len(pattern) != 1 or kind not in ("String", "Regex") or not isinstance(text, str):
        raise TokenizerError(
            f"`pattern` of the pre-tokenizer `Split` is {pattern!r:.60}, expected `String` or `Regex` with a "
            "text. The `tokenizer.json` is damaged: download it again."
        )
    read: Callable[[str], Pattern] = literal_pattern if kind == "String" else parse_pattern
    checked = {"pattern": pattern, "behavior": behavior, "invert": invert}
    return checked, [Split(read(text), behavior, invert)]


def _metaspace(component: Component) -> _Read:
    # Older files say `add_prefix_space`; the library knows what it means.
    given = {
        name: value
        for name in ("replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep")
        if (value := component.take(name, object, None)) is not None
    }
    checked = pre_tokenizer_state({"type": "Metaspace", **given})
    checked.pop("type")
    replacement, scheme = checked["replacement"], checked["prepend_scheme"]
    steps: list[PreTokenizerStep] = [Substitute(" ", replacement)]
    if scheme != "never":
        steps.append(Prefix(replacement, first=scheme == "first"))
    if checked["split"]:
        steps.append(Split(literal_pattern(replacement), "MergedWithNext"))
    return checked, steps


def _byte_level(component: Component) -> _Read:
    prefix = component.take("add_prefix_space", bool)
    regex = component.take("use_regex", bool, True)
    checked = {
        "add_prefix_space": prefix,
        "use_regex": regex,
        "trim_offsets": component.take("trim_offsets", bool),
    }
    steps: list[PreTokenizerStep] = [Prefix(" ")] if prefix else []
    return checked, [*steps, Split(parse_pattern(_GPT2), "Isolated")] if regex else steps


_READERS: dict[str, Callable[[Component], _Read]] = {
    "BertPreTokenizer": _bert,
    "ByteLevel": _byte_level,
    "CharDelimiterSplit": _delimiter,
    "Digits": _digits,
    "Metaspace": _metaspace,
    "Punctuation": _punctuation,
    "Split": _split,
    "Whitespace": _whitespace,
    "WhitespaceSplit": _whitespace_split,
}
