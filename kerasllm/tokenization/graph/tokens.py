"""What a model of the graph returns."""

from typing import Any, NamedTuple

__all__ = ["Tokens"]


class Tokens(NamedTuple):
    """The tokens of all words, one after the other.

    Attributes:
        ids: int32[tokens].
        word_splits: int64[words + 1], where the tokens of each word start.
        first: int64[tokens], which of the words' characters each token begins in; `None` unless asked for.
        last: int64[tokens], which it ends in.
    """

    ids: Any
    word_splits: Any
    first: Any = None
    last: Any = None
