"""Ignoring case: where one letter would match several, or several one, which is refused.

Oniguruma matches `ß` with `ss` and `ﬁ` with `fi` when case is ignored. All else that ignoring case does, it
does to each character by itself, and is measured.
"""

import functools
import sys

import numpy as np

from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS
from kerasllm.tokenization.patterns.measure import members
from kerasllm.tokenization.patterns.nodes import Choice, Node, OneOf, Repeat, Sequence, Source
from kerasllm.tokenization.patterns.simplify import characters

__all__ = ["check_folding", "check_neighbours"]


@functools.cache
def _folds() -> dict[str, str]:
    """Characters that fold to several, and what they fold to."""
    return {c: c.casefold() for c in map(chr, range(sys.maxunicode + 1)) if len(c.casefold()) > 1}


def check_folding(source: Source) -> bool:
    """Whether none of a source's characters folds to several."""
    return not members(source)[[ord(character) for character in _folds()]].any()


def check_neighbours(left: Node, right: Node) -> bool:
    """Whether no two characters, one at the end of one node and one after it, are part of such a fold."""
    pairs = {fold[start : start + 2] for fold in _folds().values() for start in range(len(fold) - 1)}
    last, first = _members(left), _members(right)
    return not any(last[ord(pair[0])] and first[ord(pair[1])] for pair in pairs)


def _members(node: Node) -> np.ndarray:
    """bool[code points]: the characters of a node, which for a folded one include those they fold to."""
    match node:
        case OneOf():
            return characters(node)
        case Choice(nodes) | Sequence(nodes) if nodes:
            return functools.reduce(np.logical_or, map(_members, nodes))
        case Repeat(part):
            return _members(part)
        case _:
            return np.zeros(NUM_CODE_POINTS, bool)
