"""Token ids of many texts in flat arrays: what batches are made of."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["EncodedTexts", "LanguageModelTexts", "TokenIds"]


@dataclass(frozen=True)
class TokenIds:
    """Token ids of many texts; the arrays may lie in memory or be mapped from a file.

    Attributes:
        token_ids: `int32[num_tokens]`, all texts one after the other.
        segment_ids: `uint8[num_tokens]` (or any integers), 0 for the first and 1 for the second text of a
            pair; `None` where all are 0.
        offsets: `int64[num_texts + 1]`, where each text begins.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray | None
    offsets: np.ndarray

    @property
    def num_texts(self) -> int:
        """How many texts there are."""
        return len(self.offsets) - 1

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, `int64[num_texts]`."""
        return np.diff(self.offsets)

    def ids(self, text: int) -> np.ndarray:
        """Token ids of one text, `int32[length]`."""
        return self.token_ids[self.offsets[text] : self.offsets[text + 1]]


def flat_arrays(
    token_ids: Sequence[Sequence[int]], segment_ids: Sequence[Sequence[int]] | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Lists of ids as the arrays of `TokenIds`; segments that are all 0 become `None`."""
    lengths = np.fromiter(map(len, token_ids), dtype=np.int64, count=len(token_ids))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = _flat(token_ids, np.int32)
    segments = None if segment_ids is None else _flat(segment_ids, np.uint8)
    return flat, segments if segments is not None and segments.any() else None, offsets


def _flat(rows: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(row, dtype) for row in rows]) if len(rows) else np.zeros(0, dtype)


@dataclass(frozen=True)
class EncodedTexts(TokenIds):
    """Token ids of many texts with a target for each text.

    Attributes:
        token_ids, segment_ids, offsets: As in `TokenIds`.
        targets: `int32[num_texts]` class numbers, or `float32[num_texts, num_classes]` for multi-label.
        weights: `float32[num_texts]`, how much each text counts in the loss.
    """

    targets: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_lists(
        cls,
        token_ids: Sequence[Sequence[int]],
        segment_ids: Sequence[Sequence[int]],
        targets: np.ndarray,
        *,
        class_weights: np.ndarray | None = None,
    ) -> "EncodedTexts":
        """Puts lists of ids into flat arrays.

        Args:
            token_ids: Ids of each text.
            segment_ids: Segment of each token, shaped like `token_ids`.
            targets: Class numbers, or one row of zeros and ones a text.
            class_weights: `float32[num_classes]`: weight of each class in the loss. Defaults to `None`,
                all equal. A multi-label text weighs the mean of its labels' weights.
        """
        return cls(*flat_arrays(token_ids, segment_ids), targets, text_weights(targets, class_weights))

    @classmethod
    def from_token_ids(
        cls, tokens: TokenIds, targets: np.ndarray, *, class_weights: np.ndarray | None = None
    ) -> "EncodedTexts":
        """Adds targets to token ids, such as `kerasllm.data.token_cache.prepare_tokens` gives.

        Args:
            tokens: Token ids of the texts.
            targets: As in `from_lists`.
            class_weights: As in `from_lists`. Defaults to `None`.
        """
        weights = text_weights(targets, class_weights)
        return cls(tokens.token_ids, tokens.segment_ids, tokens.offsets, targets, weights)


def text_weights(targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
    """Weight of each text in the loss, `float32[num_texts]`, from those of the classes."""
    if class_weights is None:
        return np.ones(len(targets), dtype=np.float32)
    if targets.ndim == 1:
        return class_weights[targets].astype(np.float32)
    counts = np.maximum(targets.sum(axis=1), 1.0)
    weights = (targets @ class_weights) / counts
    return np.where(targets.any(axis=1), weights, 1.0).astype(np.float32)


@dataclass(frozen=True)
class LanguageModelTexts(TokenIds):
    """Token ids of many texts, each token the target of those before it in its text.

    The first token of a text is nobody's target, so that no loss crosses the border of two texts, whether
    they are packed or not.

    Attributes:
        token_ids, segment_ids, offsets: As in `TokenIds`.
        weights: `float32[num_tokens]`, how much each token counts as a target: 0 for the tokens of a prompt,
            say. `None` where all count 1.
    """

    weights: np.ndarray | None = None

    @classmethod
    def from_token_ids(
        cls, tokens: TokenIds, *, weights: np.ndarray | None = None, length: int | None = None
    ) -> "LanguageModelTexts":
        """Makes texts to predict, token by token.

        Args:
            tokens: Token ids of the texts.
            weights: Of each token as a target, `float32[num_tokens]`. Defaults to `None`, all 1.
            length: Most tokens of a text; longer ones are cut into pieces that overlap by one token, so
                that each token but the first is still a target once. Defaults to `None`, no cuts.
        """
        if length is None or int(tokens.lengths.max(initial=0)) <= length:
            return cls(tokens.token_ids, tokens.segment_ids, tokens.offsets, weights)
        begins, ends = _pieces(tokens, length)
        lengths = ends - begins
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        where = np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])
        segments = None if tokens.segment_ids is None else tokens.segment_ids[where]
        return cls(tokens.token_ids[where], segments, offsets, None if weights is None else weights[where])


def _pieces(tokens: TokenIds, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pieces of all texts begin and end."""
    counts = np.maximum(1, -(-(tokens.lengths - 1) // (length - 1)))
    firsts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    number = np.arange(counts.sum()) - np.repeat(firsts, counts)
    begins = np.repeat(tokens.offsets[:-1], counts) + number * (length - 1)
    return begins, np.minimum(begins + length, np.repeat(tokens.offsets[1:], counts))
