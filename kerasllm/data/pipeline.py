"""Batches of token ids: encoded once, grouped by length, in an order that the seed alone decides."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Texts are sorted by length within this many batches: enough to leave little padding, few enough to
# keep the order random.
_GROUP = 50
# Padded lengths are multiples of this, so that few different shapes occur.
_LENGTH_STEP = 8


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of many texts in flat arrays, with their targets.

    Attributes:
        token_ids: `int32[num_tokens]`, all texts one after the other.
        segment_ids: `int32[num_tokens]`, 0 for the first and 1 for the second text of a pair.
        offsets: `int64[num_texts + 1]`, where each text begins.
        targets: `int32[num_texts]` class numbers, or `float32[num_texts, num_classes]` for multi-label.
        weights: `float32[num_texts]`, how much each text counts in the loss.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    offsets: np.ndarray
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
        """Packs lists of ids into flat arrays.

        Args:
            token_ids: Ids of each text.
            segment_ids: Segment of each token, shaped like `token_ids`.
            targets: Class numbers, or one row of zeros and ones a text.
            class_weights: `float32[num_classes]`: weight of each class in the loss. Defaults to `None`,
                all equal. A multi-label text weighs the mean of its labels' weights.
        """
        lengths = np.fromiter((len(ids) for ids in token_ids), dtype=np.int64, count=len(token_ids))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.fromiter((i for ids in token_ids for i in ids), dtype=np.int32, count=offsets[-1])
        segments = np.fromiter((i for ids in segment_ids for i in ids), dtype=np.int32, count=offsets[-1])
        return cls(flat, segments, offsets, targets, _weights(targets, class_weights))

    @property
    def num_texts(self) -> int:
        """How many texts there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, `int64[num_texts]`."""
        return np.diff(self.offsets)


def _weights(targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
    if class_weights is None:
        return np.ones(len(targets), dtype=np.float32)
    if targets.ndim == 1:
        return class_weights[targets].astype(np.float32)
    counts = np.maximum(targets.sum(axis=1), 1.0)
    weights = (targets @ class_weights) / counts
    return np.where(targets.any(axis=1), weights, 1.0).astype(np.float32)


def epoch_batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as arrays of text numbers.

    Texts are shuffled, then sorted by length within groups of 50 batches, so that a batch holds texts of
    about one length; then the batches are shuffled. A pure function of its arguments: a resumed run sees
    what the uninterrupted one would have seen (Keras' own shuffling repeats one order in every epoch
    once a global seed is set).

    Args:
        lengths: Tokens of each text.
        batch_size: Texts a batch; the last may be smaller.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        Batches that together hold each text exactly once.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * _GROUP):
        group = order[start : start + batch_size * _GROUP]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def collate(texts: EncodedTexts, indices: np.ndarray, *, pad_id: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Pads the chosen texts to one length.

    ```
    # Output: {"token_ids": int32[b, s], "padding_mask": int32[b, s], "segment_ids": int32[b, s]},
    #         targets[b, …], weights: float32[b]
    ```
    `s` is the longest of them, rounded up to a multiple of 8.
    """
    lengths = texts.lengths[indices]
    width = int(-(-max(int(lengths.max()), 1) // _LENGTH_STEP) * _LENGTH_STEP)
    positions = np.arange(width)
    mask = positions[None, :] < lengths[:, None]
    where = np.where(mask, texts.offsets[indices][:, None] + positions[None, :], 0)
    inputs = {
        "token_ids": np.where(mask, texts.token_ids[where], np.int32(pad_id)),
        "padding_mask": mask.astype(np.int32),
        "segment_ids": np.where(mask, texts.segment_ids[where], np.int32(0)),
    }
    return inputs, texts.targets[indices], texts.weights[indices]


def training_batches(
    texts: EncodedTexts, batch_size: int, *, pad_id: int, seed: int, first_step: int = 0
) -> "tf.data.Dataset":
    """Batches of one epoch after the other, without end; give `fit` the `steps_per_epoch`.

    Args:
        texts: What to train on.
        batch_size: Texts a batch.
        pad_id: Id that fills short rows.
        seed: Seed of the order.
        first_step: Steps that a resumed run has behind it.
    """

    def generate() -> Iterator[tuple]:
        epoch, done = divmod(first_step, num_batches_of(texts, batch_size))
        while True:
            for indices in epoch_batches(texts.lengths, batch_size, seed=seed, epoch=epoch)[done:]:
                yield collate(texts, indices, pad_id=pad_id)
            epoch, done = epoch + 1, 0

    return _dataset(generate, texts)


def evaluation_batches(texts: EncodedTexts, batch_size: int, *, pad_id: int) -> "tf.data.Dataset":
    """Each text once, from short to long."""
    import tensorflow as tf

    order = np.argsort(texts.lengths, kind="stable")

    def generate() -> Iterator[tuple]:
        for start in range(0, len(order), batch_size):
            yield collate(texts, order[start : start + batch_size], pad_id=pad_id)

    num_batches = num_batches_of(texts, batch_size)
    return _dataset(generate, texts).apply(tf.data.experimental.assert_cardinality(num_batches))


def num_batches_of(texts: EncodedTexts, batch_size: int) -> int:
    """Steps of one epoch."""
    return -(-texts.num_texts // batch_size)


def _dataset(generate: Callable[[], Iterator[tuple]], texts: EncodedTexts) -> "tf.data.Dataset":
    import tensorflow as tf

    ids = tf.TensorSpec([None, None], tf.int32)
    signature = (
        {"token_ids": ids, "padding_mask": ids, "segment_ids": ids},
        tf.TensorSpec([None, *texts.targets.shape[1:]], texts.targets.dtype),
        tf.TensorSpec([None], tf.float32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.prefetch(4)
