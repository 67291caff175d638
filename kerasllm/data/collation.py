"""From numbers of texts to padded arrays."""

from dataclasses import dataclass

import numpy as np

from kerasllm.data.epochs import Batches
from kerasllm.data.token_ids import EncodedTexts, LanguageModelTexts

__all__ = ["collate_batch"]

Element = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


def collate_batch(
    texts: EncodedTexts | LanguageModelTexts, batches: Batches, batch: int, *, pad_id: int
) -> Element:
    """Makes one batch.

    ```
    # inputs:  {"token_ids": int32[b, s], "padding_mask": int32[b, s], "segment_ids": int32[b, s]}
    # EncodedTexts:        targets [num_texts, …], weights float32[num_texts]; num_texts is b unless packed
    # LanguageModelTexts:  targets int32[b, s], the token that comes next; weights float32[b, s]
    ```
    `padding_mask` is 0 for padding and 1 for tokens; where texts are packed, it is 1 for the tokens of the
    first text of a row, 2 for those of the second, and so on.

    Args:
        texts: All texts.
        batches: The batches of an epoch.
        batch: Number of the batch.
        pad_id: Id that fills rows.
    """
    span = batches.span(batch)
    places = _Places.of(texts, batches, batch, span)
    mask = np.zeros(places.num_places, np.int32)
    mask[places.target] = np.repeat(_numbers(batches, span), places.lengths)
    inputs = {
        "token_ids": places.filled(texts.token_ids, pad_id, np.int32),
        "padding_mask": mask.reshape(places.shape),
        "segment_ids": places.filled(texts.segment_ids, 0, np.int32),
    }
    if isinstance(texts, EncodedTexts):
        return inputs, texts.targets[places.texts], texts.weights[places.texts]
    return inputs, *places.next_tokens(texts)


@dataclass(frozen=True)
class _Places:
    """Which token goes where.

    Attributes:
        texts, lengths: Numbers of the texts and their tokens.
        source: Where each token stands among all tokens.
        target: Where it goes in the batch, both counted in a row.
        shape: Rows and width of the batch.
    """

    texts: np.ndarray
    lengths: np.ndarray
    source: np.ndarray
    target: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, texts: EncodedTexts | LanguageModelTexts, batches: Batches, batch: int, span: slice
    ) -> "_Places":
        width, chosen = int(batches.widths[batch]), batches.texts[span]
        row = np.arange(len(chosen)) if batches.row is None else batches.row[span]
        start = 0 if batches.start is None else batches.start[span]
        begins = np.asarray(texts.offsets)[chosen]
        lengths = np.asarray(texts.offsets)[chosen + 1] - begins
        ends = np.cumsum(lengths)
        place = np.arange(int(ends[-1]) if len(ends) else 0)
        first = ends - lengths
        source = place + np.repeat(begins - first, lengths)
        target = place + np.repeat(row * width + start - first, lengths)
        return cls(chosen, lengths, source, target, (int(batches.rows[batch]), width))

    @property
    def num_places(self) -> int:
        return self.shape[0] * self.shape[1]

    def filled(self, values: np.ndarray | None, padding: float, dtype: type) -> np.ndarray:
        """The values in their places, all others `padding`."""
        found: np.ndarray = np.full(self.num_places, padding, dtype)
        if values is not None:
            found[self.target] = np.asarray(values)[self.source]
        return found.reshape(self.shape)

    def next_tokens(self, texts: LanguageModelTexts) -> tuple[np.ndarray, np.ndarray]:
        """For each place the token after it in its text, and how much it counts."""
        has_next = np.ones(len(self.target), bool)
        has_next[np.cumsum(self.lengths) - 1] = False
        target, source = self.target[has_next], self.source[has_next] + 1
        tokens, weights = np.zeros(self.num_places, np.int32), np.zeros(self.num_places, np.float32)
        tokens[target] = np.asarray(texts.token_ids)[source]
        weights[target] = 1.0 if texts.weights is None else np.asarray(texts.weights)[source]
        return tokens.reshape(self.shape), weights.reshape(self.shape)


def _numbers(batches: Batches, span: slice) -> np.ndarray:
    """The number of each text in its row, from 1."""
    count = span.stop - span.start
    if batches.row is None:
        return np.ones(count, np.int32)
    row = batches.row[span]
    firsts = np.flatnonzero(np.diff(row, prepend=-1))
    return (np.arange(count) - np.repeat(firsts, np.diff(firsts, append=count)) + 1).astype(np.int32)
