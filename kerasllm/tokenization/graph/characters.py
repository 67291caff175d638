"""A batch of texts as one flat array of characters, with barriers that nothing crosses."""

from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["CUT", "FIRST_ADDED", "ROW_END", "Characters", "added_code", "added_index"]

ROW_END = -1
CUT = -2
FIRST_ADDED = -3


class Characters(NamedTuple):
    """Texts, one after the other.

    A code of 0 or more is a code point. A negative one is a barrier: `ROW_END` stands once after each text,
    `CUT` between two words, and `FIRST_ADDED - k` for the added token number `k`. What stands between two
    barriers is what the `tokenizers` library calls a split; no step looks beyond a barrier.

    Attributes:
        codes: int32[n].
        starts: int32[n], where each character begins in its text as it was given, in characters; `None`
            where nobody needs it.
        ends: int32[n], where it ends there.
    """

    codes: Any
    starts: Any = None
    ends: Any = None

    def gather(self, indices: Any) -> "Characters":
        """The characters at `indices`, int64[m]."""
        return Characters(*(None if values is None else tf.gather(values, indices) for values in self))


def added_code(index: int) -> int:
    """The code that stands for the added token number `index`."""
    return FIRST_ADDED - index


def added_index(codes: Any) -> Any:
    """The number of the added token for each code; negative for all else."""
    return FIRST_ADDED - codes
