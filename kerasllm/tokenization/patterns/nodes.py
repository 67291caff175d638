"""The trees that patterns are read into."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Anchor",
    "Atomic",
    "Choice",
    "Look",
    "Mode",
    "Node",
    "OneOf",
    "Pattern",
    "Repeat",
    "Sequence",
    "Source",
    "Text",
    "longest",
    "shortest",
]

Mode = Literal["greedy", "lazy", "possessive"]


@dataclass(frozen=True)
class Source:
    """A set of characters, told by what the library says about each code point.

    Attributes:
        kind: `"character"`, that one; `"regex"`, what a regular expression of one character matches;
            `"space"`, `"isolated"` or `"word"`, what a pre-tokenizer drops, makes a word by itself, or
            leaves in a word.
        text: The character, the regular expression, or the JSON of the pre-tokenizer.
    """

    kind: Literal["character", "regex", "space", "isolated", "word"]
    text: str


@dataclass(frozen=True)
class OneOf:
    """One character, of any of the sources."""

    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Text:
    """A text, character by character; long enough that looking for its first one pays."""

    text: str


@dataclass(frozen=True)
class Sequence:
    """All parts, one after the other; without parts it matches the empty text."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """The first option with which the whole pattern matches."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """A part several times; `most` is `None` where there is no limit."""

    part: "Node"
    least: int
    most: int | None
    mode: Mode = "greedy"


@dataclass(frozen=True)
class Atomic:
    """A part of which only the first way to match it counts."""

    part: "Node"


@dataclass(frozen=True)
class Look:
    """Whether a part matches here, without moving on; looking behind, the part is one character."""

    part: "Node"
    behind: bool
    negative: bool


@dataclass(frozen=True)
class Anchor:
    r"""A place: `^`, `$`, `\A`, `\z` or `\Z`."""

    kind: str


Node = OneOf | Text | Sequence | Choice | Repeat | Atomic | Look | Anchor


@dataclass(frozen=True)
class Pattern:
    """A pattern that can be matched exactly in a graph.

    Attributes:
        text: As it was given, for messages.
        root: Its tree.
    """

    text: str
    root: Node

    def __or__(self, other: "Pattern") -> "Pattern":
        """What matches this pattern or, where it does not, the other one."""
        return Pattern(f"{self.text}|{other.text}", Choice((self.root, other.root)))


def shortest(node: Node) -> int:
    """The least number of characters that a node matches."""
    return int(_length(node, min, lambda repeat: repeat.least))


def longest(node: Node) -> float:
    """The largest number of characters that a node matches; infinite where there is none."""
    return _length(node, max, lambda repeat: float("inf") if repeat.most is None else repeat.most)


def _length(
    node: Node, of_options: Callable[[list[float]], float], times: Callable[[Repeat], float]
) -> float:
    def length(part: Node) -> float:
        return _length(part, of_options, times)

    match node:
        case OneOf():
            return 1
        case Text(text):
            return len(text)
        case Sequence(parts):
            return sum(map(length, parts))
        case Choice(options):
            return of_options([length(option) for option in options])
        case Repeat(part):
            once = length(part)
            return once and once * times(node)  # nothing, however often, is nothing
        case Atomic(part):
            return length(part)
        case _:
            return 0
