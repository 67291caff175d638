"""The sets of characters that a pattern uses, as one table of bits."""

import functools
from dataclasses import dataclass

import numpy as np

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, PAGE
from kerasllm.tokenization.characters.two_stage import share_pages
from kerasllm.tokenization.patterns.nodes import OneOf
from kerasllm.tokenization.patterns.simplify import characters

__all__ = ["CODE_MASK", "BitTable"]

CODE_MASK = 0x1FFFFF  # takes barriers, which are negative, beyond the last code point
_LARGEST = 62  # sets that fit in an int64


@dataclass(frozen=True)
class BitTable:
    """A bit for each set, in two stages: `entries[pages[code >> 8] + (code & 255)]`.

    Attributes:
        pages: int32[8192], where each page of 256 code points starts in `entries`; of a negative code, the
            page of `code & CODE_MASK` says that it is in no set.
        entries: int32 or int64[pages * 256], of which bit k says whether the character is in set k.
    """

    pages: np.ndarray
    entries: np.ndarray

    @staticmethod
    def of(sets: tuple[OneOf, ...], *, pattern: str) -> "BitTable":
        """The table of the sets of one pattern, which `pattern` names in messages."""
        if len(sets) > _LARGEST:
            raise TokenizerError(
                f"the regular expression `{pattern}` has {len(sets)} different classes of characters, the "
                f"TensorFlow graph has room for {_LARGEST}. Use another checkpoint."
            )
        return _of(sets)


@functools.lru_cache(maxsize=32)
def _of(sets: tuple[OneOf, ...]) -> BitTable:
    bits = np.zeros(NUM_CODE_POINTS, np.int64)
    for index, one_of in enumerate(sets):
        bits |= characters(one_of).astype(np.int64) << index
    barrier = np.zeros([1, PAGE], np.int64)
    places, rows = share_pages(np.concatenate([bits.reshape(-1, PAGE), barrier]))
    beyond = np.full((CODE_MASK + 1 - NUM_CODE_POINTS) // PAGE, places[-1])
    pages = np.concatenate([places[:-1], beyond]).astype(np.int32)
    return BitTable(pages, rows.reshape(-1).astype(np.int32 if len(sets) < 32 else np.int64))
