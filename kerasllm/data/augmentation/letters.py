"""Which characters are letters, and which keys are beside one another."""

import functools
import unicodedata
from collections.abc import Mapping

import numpy as np

__all__ = ["QWERTY", "classes", "key_table"]

_LAST = 0x323B0  # the planes after it have no letters
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbouring_keys() -> dict[str, str]:
    """Letters of a QWERTY keyboard, each with the letters that touch it; every row is half a key further."""
    place = {key: (x + 0.5 * y, y) for y, row in enumerate(_ROWS) for x, key in enumerate(row)}
    near = {}
    for key, (x, y) in place.items():
        touching = [k for k, (u, v) in place.items() if k != key and abs(u - x) <= 1 and abs(v - y) <= 1]
        if key.isalpha():
            near[key] = "".join(sorted(k for k in touching if k.isalpha()))
    return near


QWERTY = _neighbouring_keys()


@functools.cache
def classes(kind: str) -> np.ndarray:
    """Where runs of letters (`"L"`) or combining marks (`"M"`) begin and end among the code points.

    A code point is in a run if an odd number of the returned ones are not larger.
    """
    inside = np.fromiter((unicodedata.category(chr(code))[0] == kind for code in range(_LAST)), bool, _LAST)
    return (np.flatnonzero(np.diff(inside.astype(np.int8), prepend=np.int8(0), append=np.int8(0)))).astype(
        np.int32
    )


def key_table(keyboard: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A keyboard as arrays: code points of keys, ascending; their neighbours `(keys, most)`; how many.

    Args:
        keyboard: Neighbours by key, in lower case; upper-case letters have the same ones in upper case.
    """
    both = dict(keyboard)
    for key, near in keyboard.items():
        if len(key.upper()) == 1 and key.upper() not in both:
            both[key.upper()] = "".join(letter.upper() for letter in near if len(letter.upper()) == 1)
    found = sorted((ord(key), near) for key, near in both.items() if near)
    table = np.zeros((len(found), max((len(near) for _, near in found), default=1)), np.int32)
    for row, (_, near) in zip(table, found, strict=True):
        row[: len(near)] = [ord(letter) for letter in near]
    return (
        np.array([code for code, _ in found], np.int32),
        table,
        np.array([len(near) for _, near in found], np.int32),
    )
