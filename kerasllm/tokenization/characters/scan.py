"""Runs a normalizer or pre-tokenizer of the `tokenizers` library over all code points, quickly."""

from collections.abc import Callable, Iterator

import numpy as np

__all__ = [
    "NUM_CODE_POINTS",
    "PAGE",
    "Class",
    "apply_changes",
    "changes",
    "classes",
    "pages",
    "spread_uniform_planes",
]

NUM_CODE_POINTS = 0x110000
PAGE = 256
_PLANE = 0x10000
# Planes 4 to 13 hold no characters and 15 and 16 only private ones, so all their pages but the last (with
# two noncharacters) are alike. A test that runs in CI goes over each of their code points.
_UNIFORM_PLANES = (*range(4, 14), 15, 16)

WORD, SPACE, ISOLATED = "word", "space", "isolated"
Class = str


def pages() -> Iterator[str]:
    """Yields the characters of each page that is looked at, without surrogates."""
    for start in range(0, NUM_CODE_POINTS, PAGE):
        plane, place = divmod(start, _PLANE)
        if plane in _UNIFORM_PLANES and place not in (0, _PLANE - PAGE):
            continue
        if not 0xD800 <= start < 0xE000:
            yield "".join(map(chr, range(start, start + PAGE)))


def spread_uniform_planes(entries: np.ndarray) -> None:
    """Copies the first page of each uniform plane over the pages that `pages` left out."""
    by_page = entries.reshape(-1, PAGE)
    for plane in _UNIFORM_PLANES:
        first = plane * _PLANE // PAGE
        by_page[first + 1 : first + _PLANE // PAGE - 1] = by_page[first]


def changes(run: Callable[[str], str]) -> dict[str, str]:
    """What a function from text to text does to each character that it does not leave as it is.

    Args:
        run: A function that treats each character by itself, but for the order of combining marks.

    Returns:
        Character to what it becomes.
    """
    found: dict[str, str] = {}
    for page in pages():
        result = run(page)
        if result == page:
            continue
        if not result:
            found.update(dict.fromkeys(page, ""))
        elif result == "".join(f" {character} " for character in page):
            found.update((character, f" {character} ") for character in page)
        else:
            found.update((c, changed) for c in page if (changed := run(c)) != c)
    return found


def apply_changes(maps: list[dict[str, str]], text: str) -> str:
    """What becomes of a text when each of the `changes` is made to its characters, one after the other."""
    for changed in maps:
        text = "".join([changed.get(character, character) for character in text])
    return text


def classes(run: Callable[[str], list[tuple[str, tuple[int, int]]]]) -> dict[str, Class]:
    """What a pre-tokenizer makes of each character that is not simply part of a word.

    Args:
        run: `pre_tokenize_str` of a pre-tokenizer that treats each character by itself.

    Returns:
        Character to `"space"` or `"isolated"`.
    """
    found: dict[str, Class] = {}
    for page in pages():
        if len(run(page)) == 1 and run(page)[0][0] == page:
            continue
        for character in page:
            words = [word for word, _ in run(f"a{character}a")]
            if words == ["a", "a"]:
                found[character] = SPACE
            elif words == ["a", character, "a"]:
                found[character] = ISOLATED
    return found
