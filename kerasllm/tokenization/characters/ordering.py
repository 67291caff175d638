"""Canonical ordering of combining marks, as the `tokenizers` library does it."""

import unicodedata
from collections.abc import Callable

from kerasllm.tokenization.characters.scan import pages

__all__ = ["ordering_ranks"]

# Marks of the highest and the lowest combining class: whatever stands between them in that order moves,
# unless it is a starter.
_HIGHEST, _LOWEST = "\u0345", "\u0334"


def ordering_ranks(decompose: Callable[[str], str]) -> dict[str, int]:
    """The place of each combining mark when a run of them is sorted.

    Args:
        decompose: Canonical decomposition, such as `normalizers.NFD().normalize_str`.

    Returns:
        Mark to its rank, from 1; marks of one rank keep their order. Characters that are not there are
        starters, which stay where they are.
    """
    ordered: list[list[str]] = []
    for page in pages():
        # Combining classes never change once a character is assigned (Unicode's stability policy), so only
        # marks, and what this Python does not know yet, need be tried.
        for character in page:
            if not unicodedata.combining(character) and unicodedata.category(character) != "Cn":
                continue
            if decompose(character) == character and _moves(decompose, character):
                _insert(ordered, character, decompose)
    return {mark: rank for rank, marks in enumerate(ordered, 1) for mark in marks}


def _moves(decompose: Callable[[str], str], character: str) -> bool:
    text = f"a{_HIGHEST}{character}{_LOWEST}"
    return decompose(text) != text


def _insert(ordered: list[list[str]], mark: str, decompose: Callable[[str], str]) -> None:
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        other = ordered[middle][0]
        if decompose(f"a{other}{mark}") != f"a{other}{mark}":
            high = middle
        elif decompose(f"a{mark}{other}") != f"a{mark}{other}":
            low = middle + 1
        else:
            ordered[middle].append(mark)
            return
    ordered.insert(low, [mark])
