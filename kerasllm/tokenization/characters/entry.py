"""How an entry of the character table is packed into an int32.

```
bits 0-1    boundaries between words that it adds: 0 none, 1 white space, 2 a word by itself
bit  2      kept: it becomes a character of a word
bit  3      complex: it becomes several characters, or one that takes part in canonical ordering
bit  4      an added token starts with it
bits 5-10   its rank in canonical ordering (0: it stays where it is; 63: it is gone, and no obstacle to
            others); of a complex entry, the number of its characters
bits 11-31  what is added to the code point; of a complex entry, where its characters start
```
"""

__all__ = [
    "BREAKS",
    "COMPLEX",
    "ISOLATED",
    "KEPT",
    "LARGEST_COUNT",
    "LARGEST_VALUE",
    "RANK_SHIFT",
    "SPACE",
    "STARTS_TOKEN",
    "TRANSPARENT",
    "VALUE_SHIFT",
    "WORD",
    "pack",
]

BREAKS = 0b11
KEPT = 0b100
COMPLEX = 0b1000
STARTS_TOKEN = 0b10000
RANK_SHIFT = 5
VALUE_SHIFT = 11
TRANSPARENT = 63
LARGEST_COUNT = 62
LARGEST_VALUE = (1 << (31 - VALUE_SHIFT)) - 1

WORD = KEPT
SPACE = 1
ISOLATED = KEPT | 2


def pack(kind: int, *, rank: int = 0, value: int = 0) -> int:
    """Packs one entry; `rank` is the number of characters of a complex one."""
    return kind | rank << RANK_SHIFT | value << VALUE_SHIFT
