"""Reads regular expressions in Oniguruma's syntax, and refuses by name what has no exact match in a graph."""

import re
from typing import TypeGuard

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.patterns.folding import check_folding, check_neighbours
from kerasllm.tokenization.patterns.measure import run_regex
from kerasllm.tokenization.patterns.nodes import (
    Anchor,
    Atomic,
    Choice,
    Look,
    Mode,
    Node,
    OneOf,
    Pattern,
    Repeat,
    Sequence,
    Source,
    longest,
    shortest,
)
from kerasllm.tokenization.patterns.refusal import refuse_pattern
from kerasllm.tokenization.patterns.simplify import simplify

__all__ = ["parse_pattern"]

_LARGEST_COUNT = 16  # of a repetition that is written out
_INTERVAL = re.compile(r"\{(\d*)(,?)(\d*)\}")
_GROUPS = {
    "?:": "group",
    "?=": "ahead",
    "?!": "not ahead",
    "?<=": "behind",
    "?<!": "not behind",
    "?>": "atomic",
}
_PROPERTY = re.compile(r"\\[pP]\{\^?[\w ]+\}")
_NUMBERED = re.compile(r"\\x\{[0-9A-Fa-f]{1,8}\}|\\x[0-9A-Fa-f]{1,2}|\\u[0-9A-Fa-f]{4}")
_PLAIN_ESCAPES = frozenset("sSdDwWhHnrtfvae")
_ANCHORS = frozenset("AzZ")


def parse_pattern(text: str) -> Pattern:
    """Reads a regular expression.

    Args:
        text: In the syntax of the `tokenizers` library, which is Oniguruma's.

    Returns:
        The pattern.

    Raises:
        TokenizerError: If the library does not accept it, or if it holds something that has no exact
            implementation in the graph: named here, with what is supported.
    """
    run_regex(text)
    root = simplify(_Parser(text).parse())
    if shortest(root) == 0:
        raise refuse_pattern(text, "", "it matches the empty text")
    return Pattern(text, root)


class _Parser:
    """Recursive descent; `_folds` says whether case is ignored where it stands."""

    def __init__(self, text: str):
        self._given = text
        self._text = text
        self._at = 0
        self._folds = False

    def parse(self) -> Node:
        root = self._choice()
        if self._at < len(self._text):
            raise self._refused(self._text[self._at :], "there is a `)` too many")
        return root

    def _refused(self, part: str, reason: str) -> TokenizerError:
        return refuse_pattern(self._given, part, reason)

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self, length: int = 1) -> str:
        taken = self._peek(length)
        self._at += length
        return taken

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._take()
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            start = self._at
            part = self._repeated(self._item(), start)
            if self._folds and parts and not check_neighbours(parts[-1], part):
                raise self._refused(
                    self._text[start : self._at], "two letters here match one when case is ignored"
                )
            parts.append(part)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _item(self) -> Node:
        character = self._peek()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in "^$":
            return Anchor(self._take())
        if character in "*+?":
            raise self._refused(character, "a repetition of nothing")
        if character == ".":
            return OneOf((Source("regex", self._take()),))
        return self._one(Source("character", character), re.escape(self._take()))

    def _one(self, source: Source, text: str) -> OneOf:
        """One character or class, which the library reads as `text`."""
        if not self._folds:
            return OneOf((source,))
        if not check_folding(source):
            raise self._refused(text, "a letter here matches several when case is ignored")
        return OneOf((Source("regex", f"(?i:{text})"),))

    def _measured(self, text: str) -> OneOf:
        return self._one(Source("regex", text), text)

    def _escape(self) -> Node:
        rest = self._text[self._at :]
        if found := _PROPERTY.match(rest) or _NUMBERED.match(rest):
            return self._measured(self._take(found.end()))
        escaped = self._peek(2)[1:]
        if escaped in _ANCHORS:
            return Anchor(self._take(2))
        if escaped in _PLAIN_ESCAPES:
            return self._measured(self._take(2))
        if escaped and not escaped.isalnum():
            return self._one(Source("character", escaped), self._take(2))
        raise self._refused(self._peek(2), "this escape")

    def _class(self) -> Node:
        """A class in brackets, of which only the end has to be found: the library knows its members."""
        start, depth = self._at, 0
        while depth or self._at == start:
            character = self._take()
            if not character:
                raise self._refused(self._text[start:], "a `]` is missing")
            if character == "\\":
                self._take()
            elif character == "[":
                depth += 1
                if self._peek() == "^":
                    self._take()
                if self._peek() == "]":
                    raise self._refused(self._text[start : self._at + 1], "a `]` right after `[`")
            elif character == "]":
                depth -= 1
        return self._measured(self._text[start : self._at])

    def _group(self) -> Node:
        start = self._at
        self._take()
        kind, outside = "group", self._folds
        if self._peek() == "?":
            kind = self._kind_of_group(start)
        inside = self._choice()
        if self._take() != ")":
            raise self._refused(self._text[start:], "a `)` is missing")
        self._folds = outside
        match kind:
            case "ahead" | "not ahead":
                return Look(inside, behind=False, negative=kind.startswith("not"))
            case "behind" | "not behind":
                if not isinstance(simplify(inside), OneOf):
                    raise self._refused(
                        self._text[start : self._at], "looking behind for more than a character"
                    )
                return Look(inside, behind=True, negative=kind.startswith("not"))
            case "atomic":
                return Atomic(inside)
            case _:
                return inside

    def _kind_of_group(self, start: int) -> str:
        for length in (3, 2):
            if self._peek(length) in _GROUPS:
                return _GROUPS[self._take(length)]
        for opening, folds in (("?i:", True), ("?-i:", False), ("?i)", True)):
            whole = opening.endswith(")")  # as far as the enclosing group goes
            if self._peek(len(opening)) == opening and (not whole or start == 0):
                self._take(len(opening))
                self._folds = folds
                if whole:
                    return self._rest()
                return "group"
        raise self._refused(self._text[start : start + 4], "this kind of group")

    def _rest(self) -> str:
        # `(?i)` at the start holds for all that follows, as if a group were around it.
        self._text += ")"
        return "group"

    def _repeated(self, part: Node, start: int) -> Node:
        while (counts := self._counts()) is not None:
            least, most, mode = counts
            single = simplify(part)
            if (least, most, mode) == (1, None, "greedy") and _is_repeated_from_one(single):
                part = Repeat(single.part, 1, None)  # (?:x{1,3})+ is x+
                continue
            self._check_repetition(single, least, most, mode, self._text[start : self._at])
            part = Repeat(part, least, most, mode)
        return part

    def _check_repetition(self, part: Node, least: int, most: int | None, mode: Mode, text: str) -> None:
        if max(least, most or 0) > _LARGEST_COUNT:
            raise self._refused(text, f"more than {_LARGEST_COUNT} repetitions")
        if most is None and not isinstance(part, OneOf):
            raise self._refused(text, "any number of repetitions of more than a character")
        if (
            not isinstance(part, OneOf)
            and (shortest(part) == 0 or longest(part) == float("inf"))
            and most != 1
        ):
            raise self._refused(text, "repetitions of a repetition")
        if self._folds and not check_neighbours(part, part):
            raise self._refused(text, "two letters here match one when case is ignored")

    def _counts(self) -> tuple[int, int | None, Mode] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self._peek() in simple and self._peek():
            least, most = simple[self._take()]
            return least, most, self._mode("possessive")
        found = _INTERVAL.match(self._text, self._at)
        if found is None or not (found[1] or found[3]):
            return None
        self._take(found.end() - found.start())
        least = int(found[1] or 0)
        upper = int(found[3]) if found[3] else None if found[2] else least
        if (upper is not None and upper < least) or (not found[2] and self._peek() == "?"):
            raise self._refused(found[0] + self._peek(), "this repetition")
        return least, upper, self._mode(None)

    def _mode(self, plus: Mode | None) -> Mode:
        # After braces, `+` is a repetition of the repetition.
        if self._peek() == "?":
            self._take()
            return "lazy"
        if self._peek() == "+" and plus:
            self._take()
            return plus
        return "greedy"


def _is_repeated_from_one(node: Node) -> TypeGuard[Repeat]:
    return isinstance(node, Repeat) and node.least == 1 and node.mode == "greedy"
