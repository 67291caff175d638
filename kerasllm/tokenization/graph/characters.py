"""A batch of texts as one flat array of characters, with barriers that nothing crosses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.characters.scan import PAGE
from kerasllm.tokenization.characters.two_stage import TwoStage

__all__ = [
    "CUT",
    "FIRST_ADDED",
    "ROW_END",
    "Characters",
    "CodePointTable",
    "Expansion",
    "added_code",
    "added_index",
    "decode_texts",
    "decode_with_space",
    "select",
]

ROW_END = -1
CUT = -2
FIRST_ADDED = -3
_REPLACEMENT = 0xFFFD


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


def decode_with_space(texts: Any) -> tuple[Any, Any]:
    """Where each text starts, int64[texts + 1], and the characters of all, each text with a space after it.

    Invalid UTF-8 is read as U+FFFD.
    """
    splits, codes = tf.raw_ops.UnicodeDecode(
        input=tf.strings.join([texts, " "]),
        input_encoding="UTF-8",
        errors="replace",
        replacement_char=_REPLACEMENT,
        Tsplits=tf.int64,
    )
    return splits, codes


def decode_texts(texts: Any, *, offsets: bool) -> Characters:
    """The characters of `texts`, string[batch], and where they stand if `offsets` are wanted."""
    row_splits, codes = decode_with_space(texts)
    row_ends = row_splits[1:, None] - 1
    rows = tf.size(row_ends)
    codes = tf.tensor_scatter_nd_update(codes, row_ends, tf.fill([rows], ROW_END))
    if not offsets:
        return Characters(codes)
    lengths = tf.cast(row_splits[1:] - row_splits[:-1], tf.int32)
    places = tf.raw_ops.RaggedRange(starts=tf.zeros_like(lengths), limits=lengths, deltas=1).rt_dense_values
    return Characters(codes, places, places + 1)


class CodePointTable(tf.Module):
    """Looks up a number for each code; that of all barriers is `barrier`.

    Args:
        table: The numbers of all code points.
        barrier: Number of the barriers. Defaults to `0`.
    """

    def __init__(self, table: TwoStage, barrier: int = 0):
        super().__init__()
        # One page before all others, for the barriers. A page's start has its first code taken off, so that
        # the code itself can be added.
        values = np.concatenate([np.full(PAGE, barrier, np.int32), table.values])
        starts = np.concatenate([[0], table.pages + PAGE]) - np.arange(len(table.pages) + 1) * PAGE
        self._pages = tf.constant(starts, tf.int32)
        self._values = tf.constant(values, tf.int32)

    def __call__(self, codes: Any) -> Any:
        """int32[n], the number of each of `codes`, int32[n]."""
        shifted = tf.maximum(codes, -1) + PAGE
        return tf.gather(self._values, tf.gather(self._pages, tf.bitwise.right_shift(shifted, 8)) + shifted)


def select(condition: Any, first: Callable[[], Characters], second: Callable[[], Characters]) -> Characters:
    """`tf.cond` for characters, whose `None` it does not take."""
    missing: list[int] = []

    def without_none(branch: Callable[[], Characters]) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            result = branch()
            missing[:] = [index for index, values in enumerate(result) if values is None]
            return [values for values in result if values is not None]

        return run

    found = tf.cond(condition, without_none(first), without_none(second))
    for index in missing:
        found.insert(index, None)
    return Characters(*found)


class Expansion(NamedTuple):
    """Elements that took the place of characters.

    Attributes:
        indices: int64[m], which entry of the pool each element is.
        splits: int64[n + 1], where the elements of each character start.
    """

    indices: Any
    splits: Any

    @staticmethod
    def of(starts: Any, counts: Any) -> "Expansion":
        """Rows of `counts` elements, from `starts` on in the pool; both int32[n]."""
        splits, indices = tf.raw_ops.RaggedRange(starts=starts, limits=starts + counts, deltas=1)
        return Expansion(indices, splits)

    def origins(self) -> Any:
        """int64[m], which character each element came from."""
        lengths = self.splits[1:] - self.splits[:-1]
        filled = tf.where(lengths > 0)[:, 0]
        # Each row that is not empty has its own first element.
        marks = tf.scatter_nd(
            tf.gather(self.splits, filled)[:, None],
            tf.ones_like(filled),
            tf.shape(self.indices, out_type=tf.int64),
        )
        return tf.gather(filled, tf.cumsum(marks) - 1)
