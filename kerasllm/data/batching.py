"""Batches without waste: grouped by length or packed, the same for a seed whatever runs them.

```python
source = make_source(texts, config.training, pad_id=0, seed=config.seed, sequence_length=128)
source.num_batches(epoch)                   # may differ between epochs where batches have a token budget
source.rows(epoch, batch)                   # int64 numbers of the texts of a batch
source.dataset(first_epoch=1, first_batch=7)  # tf.data of (inputs, targets, weights) from there on, no end
source.padding_share                        # 0.03: 3 % of the places hold no token
source.widths                               # (16, 32, …, 128): all padded lengths that occur
```
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.collation import collate_batch
from kerasllm.data.epochs import MOST_WIDTHS, Batches, BatchSettings, Epochs
from kerasllm.data.token_ids import EncodedTexts, LanguageModelTexts

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["BatchSource", "evaluation_source", "make_source"]

_PREFETCH = 4


def make_source(
    texts: EncodedTexts | LanguageModelTexts,
    training: TrainingConfig,
    *,
    pad_id: int,
    seed: int,
    sequence_length: int | None = None,
) -> "BatchSource":
    """Makes the batches that a run trains on, as its config says.

    Args:
        texts: `EncodedTexts` for a target a text, `LanguageModelTexts` for a target a token.
        training: The `training` section: `batch_size`, `batch_tokens`, `packing`, `packing_length` and
            `num_widths` count.
        pad_id: Id that fills rows.
        seed: Seed of the order.
        sequence_length: Most tokens of a text, and of a packed row where `training.packing_length` is
            none. Defaults to `None`, the longest text.

    Returns:
        The source.

    Raises:
        ConfigError: If the longest text fits neither in a packed row nor in the tokens of a batch.
    """
    settings = BatchSettings(
        batch_size=training.batch_size,
        batch_tokens=training.batch_tokens,
        packing=training.packing,
        row_length=training.packing_length or sequence_length,
        num_widths=training.num_widths or MOST_WIDTHS,
    )
    return BatchSource(texts, settings, pad_id=pad_id, seed=seed)


def evaluation_source(
    texts: EncodedTexts | LanguageModelTexts,
    batch_size: int,
    *,
    pad_id: int,
    packed_length: int | None = None,
) -> "BatchSource":
    """Makes batches that hold each text once, from short to long; use `.epoch()`.

    Args:
        texts: As in `make_source`.
        batch_size: Texts a batch, or packed rows.
        pad_id: Id that fills rows.
        packed_length: Tokens of a packed row. Defaults to `None`, texts are not packed.
    """
    settings = BatchSettings(
        batch_size, packing=packed_length is not None, row_length=packed_length, shuffle=False
    )
    return BatchSource(texts, settings, pad_id=pad_id, seed=0)


class BatchSource:
    """The batches of a run, by epoch and number: a pure function of texts, settings and seed.

    Any batch can be had without those before it, so a resumed run goes on at once, and several workers make
    batches side by side without changing one of them.

    Args:
        texts: `EncodedTexts` or `LanguageModelTexts`.
        settings: How texts become batches.
        pad_id: Id that fills rows.
        seed: Seed of the order.
        num_workers: Threads that make batches. Defaults to 2.

    Attributes:
        texts, settings, pad_id: As given.
        epochs: The `kerasllm.data.epochs.Epochs`.
    """

    def __init__(
        self,
        texts: EncodedTexts | LanguageModelTexts,
        settings: BatchSettings,
        *,
        pad_id: int,
        seed: int,
        num_workers: int = 2,
    ):
        self.texts = texts
        self.settings = settings
        self.pad_id = pad_id
        self.num_workers = num_workers
        self.epochs = Epochs(texts.lengths, settings, seed=seed)

    def num_batches(self, epoch: int) -> int:
        """How many batches an epoch has."""
        return len(self.epochs.batches(epoch))

    def num_steps(self, num_epochs: int) -> int:
        """How many batches the first `num_epochs` epochs have together."""
        if self.settings.packing or self.settings.batch_tokens is not None:
            return sum(self.num_batches(epoch) for epoch in range(num_epochs))
        return num_epochs * self.num_batches(0)

    def position(self, step: int) -> tuple[int, int]:
        """Epoch and number of the batch that comes after `step` batches."""
        epoch = 0
        while step >= (count := self.num_batches(epoch)) > 0:
            epoch, step = epoch + 1, step - count
        return epoch, step

    def rows(self, epoch: int, batch: int) -> np.ndarray:
        """Numbers of the texts of a batch, `int64[num_texts]`; row after row where they are packed."""
        batches = self.epochs.batches(epoch)
        return batches.texts[batches.span(batch)]

    def shape(self, epoch: int, batch: int) -> tuple[int, int]:
        """Rows and width of a batch; `shape(0, 0)` is what needs the most memory."""
        batches = self.epochs.batches(epoch)
        return int(batches.rows[batch]), int(batches.widths[batch])

    def batch(self, epoch: int, batch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Inputs, targets and weights of a batch as arrays: see `kerasllm.data.collation.collate_batch`."""
        return collate_batch(self.texts, self.epochs.batches(epoch), batch, pad_id=self.pad_id)

    @property
    def widths(self) -> tuple[int, ...]:
        """All padded lengths that batches may have, rising."""
        return tuple(int(width) for width in self.epochs.widths)

    def num_tokens(self, epoch: int) -> np.ndarray:
        """Tokens of each batch of an epoch, padding aside, `int64[num_batches]`."""
        batches = self.epochs.batches(epoch)
        so_far = np.concatenate([[0], np.cumsum(self.texts.lengths[batches.texts])])
        return np.diff(so_far[batches.ends], prepend=0)

    @property
    def padding_share(self) -> float:
        """Share of the places in the batches of epoch 0 that hold no token, from 0 to 1."""
        batches: Batches = self.epochs.batches(0)
        places = int((batches.rows * batches.widths).sum())
        return 1.0 - int(self.num_tokens(0).sum()) / places if places else 0.0

    @functools.cached_property
    def element_spec(self) -> Any:
        """Shapes and types of `(inputs, targets, weights)`."""
        return self.dataset().element_spec

    def dataset(self, first_epoch: int = 0, first_batch: int = 0) -> "tf.data.Dataset":
        """Batches of one epoch after the other, without end.

        Args:
            first_epoch: Epoch to begin in. Defaults to 0.
            first_batch: Batch to begin with; may be `num_batches(first_epoch)`, the end. Defaults to 0.

        Returns:
            A dataset of `(inputs, targets, weights)`, shaped as `collate_batch` says.
        """
        import tensorflow as tf

        first_epoch, first_batch = int(first_epoch), int(first_batch)

        def numbers(epoch: "tf.Tensor") -> "tf.data.Dataset":
            count = tf.numpy_function(lambda at: np.int64(self.num_batches(int(at))), [epoch], tf.int64)
            first = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_batch, tf.int64), 0)
            batches = tf.data.Dataset.range(first, count)
            return batches.map(lambda batch: (epoch, batch))

        epochs = tf.data.Dataset.counter(start=first_epoch, dtype=tf.int64)
        return self._made(epochs.flat_map(numbers))

    def epoch(self, epoch: int = 0) -> "tf.data.Dataset":
        """The batches of one epoch, with an end; for evaluation.

        Args:
            epoch: Number of the epoch. Defaults to 0.
        """
        import tensorflow as tf

        count = self.num_batches(epoch)
        numbers = tf.data.Dataset.range(count).map(lambda batch: (tf.constant(epoch, tf.int64), batch))
        return self._made(numbers).apply(tf.data.experimental.assert_cardinality(count))

    def _made(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """Turns epoch and number into batches, side by side and in order."""
        import tensorflow as tf

        targets_shape: list[int | None] = [None, None]
        weights_shape, targets_dtype = targets_shape, np.dtype(np.int32)
        if isinstance(self.texts, EncodedTexts):
            targets_shape, weights_shape = [None, *self.texts.targets.shape[1:]], [None]
            targets_dtype = self.texts.targets.dtype
        names = ("token_ids", "padding_mask", "segment_ids")

        def make(epoch: Any, batch: Any) -> list[np.ndarray]:
            inputs, targets, weights = self.batch(int(epoch), int(batch))
            return [*(inputs[name] for name in names), targets, weights]

        def load(epoch: "tf.Tensor", batch: "tf.Tensor") -> tuple:
            types = [tf.int32] * 3 + [tf.as_dtype(targets_dtype), tf.float32]
            *ids, targets, weights = tf.numpy_function(make, [epoch, batch], types)
            inputs = {
                name: tf.ensure_shape(part, [None, None]) for name, part in zip(names, ids, strict=True)
            }
            return inputs, tf.ensure_shape(targets, targets_shape), tf.ensure_shape(weights, weights_shape)

        made = numbers.map(load, num_parallel_calls=self.num_workers, deterministic=True)
        return made.prefetch(_PREFETCH)
