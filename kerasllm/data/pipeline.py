"""The batches of a run under their former names; `kerasllm.data.batching` has all there is."""

from typing import TYPE_CHECKING

import numpy as np

from kerasllm.data.batching import BatchSource, evaluation_source
from kerasllm.data.collation import collate_batch
from kerasllm.data.epochs import Batches, BatchSettings, Epochs
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.data.widths import STEP

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "EncodedTexts",
    "collate",
    "epoch_batches",
    "evaluation_batches",
    "num_batches_of",
    "training_batches",
]


def epoch_batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as arrays of text numbers.

    Args:
        lengths: Tokens of each text.
        batch_size: Texts a batch; one may be smaller.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    batches = Epochs(lengths, BatchSettings(batch_size), seed=seed).batches(epoch)
    return [batches.texts[batches.span(batch)] for batch in range(len(batches))]


def collate(texts: EncodedTexts, indices: np.ndarray, *, pad_id: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Pads the chosen texts to the longest of them, rounded up to a multiple of 8."""
    width = -(-max(1, int(texts.lengths[indices].max())) // STEP) * STEP
    count = np.array([len(indices)])
    return collate_batch(
        texts, Batches(np.asarray(indices), count, np.array([width]), count), 0, pad_id=pad_id
    )


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
    source = BatchSource(texts, BatchSettings(batch_size), pad_id=pad_id, seed=seed)
    return source.dataset(*source.position(first_step))


def evaluation_batches(texts: EncodedTexts, batch_size: int, *, pad_id: int) -> "tf.data.Dataset":
    """Each text once, from short to long."""
    return evaluation_source(texts, batch_size, pad_id=pad_id).epoch()


def num_batches_of(texts: EncodedTexts, batch_size: int) -> int:
    """Steps of one epoch."""
    return -(-texts.num_texts // batch_size)
