"""What is known of a pattern before any text is seen."""

import functools

import numpy as np

from kerasllm.tokenization.patterns import Pattern
from kerasllm.tokenization.patterns.nodes import Anchor, Choice, Node, OneOf, Repeat, Sequence, Source, Text
from kerasllm.tokenization.patterns.simplify import only_member
from kerasllm.tokenization.patterns.table import BitTable

__all__ = ["NEWLINE", "Plan"]

NEWLINE = OneOf((Source("character", "\n"),))


class Plan:
    """The sets of a pattern, which of them are looked up together, and which characters they have in common.

    Characters that are in the same sets are one kind; the last kind is that of barriers, in no set.

    Attributes:
        sets: Each set and the number of its bit.
        table: The bits of each code point.
        single: The code point of each set that has just one.
        group: Of each set that is repeated, the bits of the sets whose runs are found together with its own.
    """

    def __init__(self, pattern: Pattern):
        repeated: dict[OneOf, None] = {}
        found: dict[OneOf, None] = {}
        _collect(pattern.root, found, repeated)
        self.sets = {one_of: bit for bit, one_of in enumerate(found)}
        self.table = BitTable.of(tuple(found), pattern=pattern.text)
        self._kinds = np.append(np.unique(self.table.entries), 0)
        self.single = {one_of: ord(c) for one_of in found if (c := only_member(one_of)) is not None}
        self.group = self._groups(list(repeated))

    def kinds(self, one_of: OneOf) -> np.ndarray:
        """bool[kinds]: those whose characters are in a set."""
        return (self._kinds >> self.sets[one_of]) & 1 > 0

    def all_kinds(self, value: bool) -> np.ndarray:
        """bool[kinds], all alike."""
        return np.full(len(self._kinds), value)

    def _groups(self, repeated: list[OneOf]) -> dict[OneOf, int]:
        groups: list[list[OneOf]] = []
        for one_of in repeated:
            for group in groups:
                if not any((self.kinds(one_of) & self.kinds(other)).any() for other in group):
                    group.append(one_of)
                    break
            else:
                groups.append([one_of])
        return {
            one_of: functools.reduce(lambda mask, other: mask | 1 << self.sets[other], group, 0)
            for group in groups
            for one_of in group
        }


def _collect(node: Node, found: dict[OneOf, None], repeated: dict[OneOf, None]) -> None:
    match node:
        case OneOf():
            found[node] = None
        case Anchor():
            found[NEWLINE] = None
        case Text(text):
            found[OneOf((Source("character", text[0]),))] = None
        case Sequence(inner) | Choice(inner):
            for part in inner:
                _collect(part, found, repeated)
        case _ if hasattr(node, "part"):
            if isinstance(node, Repeat) and isinstance(node.part, OneOf) and node.most != 1:
                repeated[node.part] = None
            _collect(node.part, found, repeated)
