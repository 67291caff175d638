"""Which texts make which batch of an epoch: pure functions of lengths, settings, seed and epoch.

Nothing here depends on the number of workers, on time or on what ran before, so a resumed run sees what the
uninterrupted one would have seen. (Keras' own shuffling repeats one order in every epoch once a global seed
is set.)
"""

import functools
from dataclasses import dataclass

import numpy as np

from kerasllm.data.packing import best_fit, check_row_length
from kerasllm.data.widths import STEP, choose_widths, width_of
from kerasllm.errors import ConfigError

__all__ = ["MOST_WIDTHS", "BatchSettings", "Batches", "Epochs"]

MOST_WIDTHS = 64  # all multiples of 8 up to 512
# Texts are sorted by length within this many batches: enough to leave little padding, few enough to
# keep the order random.
_GROUP = 50
# Texts that are packed together: enough to fill rows, few enough to be quick and to keep neighbours random.
_PACKED_TOGETHER = 2**16
# Memory of a batch grows as rows * width * (this + width), by Korthikanti et al., 2022
# (https://arxiv.org/abs/2205.05198): 34 h + 5 a s with heads of 64 numbers.
_LINEAR = 435


@dataclass(frozen=True)
class BatchSettings:
    """How texts become batches.

    Attributes:
        batch_size: Texts a batch; packed rows where texts are packed.
        batch_tokens: Most tokens of a batch, padding included, in place of `batch_size`; `None` for none.
        packing: Whether several texts share a row.
        row_length: Tokens of a packed row; needed where `packing` is set.
        num_widths: Most padded lengths that batches have.
        shuffle: Whether the order is random; else from short to long.
    """

    batch_size: int = 32
    batch_tokens: int | None = None
    packing: bool = False
    row_length: int | None = None
    num_widths: int = MOST_WIDTHS
    shuffle: bool = True


@dataclass(frozen=True)
class Batches:
    """The batches of one epoch.

    Attributes:
        texts: `int64[num_texts]`, numbers of the texts, batch after batch, row after row.
        ends: `int64[num_batches]`, where each batch ends in `texts`.
        widths: `int64[num_batches]`, tokens of a row of each batch, padding included.
        rows: `int64[num_batches]`, rows of each batch.
        row: `int64[num_texts]`, the row of each text within its batch; `None` where each has its own.
        start: `int64[num_texts]`, the place of its first token in the row; `None` where all are 0.
    """

    texts: np.ndarray
    ends: np.ndarray
    widths: np.ndarray
    rows: np.ndarray
    row: np.ndarray | None = None
    start: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def span(self, batch: int) -> slice:
        """Where a batch stands in `texts`."""
        return slice(int(self.ends[batch - 1]) if batch else 0, int(self.ends[batch]))

    def in_order(self, order: np.ndarray) -> "Batches":
        """The same batches in another order."""
        sizes = np.diff(self.ends, prepend=0)
        begins, sizes_now = (self.ends - sizes)[order], sizes[order]
        ends = np.cumsum(sizes_now)
        where = np.repeat(begins - (ends - sizes_now), sizes_now) + np.arange(len(self.texts))
        row, start = (None if part is None else part[where] for part in (self.row, self.start))
        return Batches(self.texts[where], ends, self.widths[order], self.rows[order], row, start)


class Epochs:
    """The batches of every epoch of a run.

    Args:
        lengths: Tokens of each text.
        settings: How texts become batches.
        seed: Seed of the order.

    Raises:
        ConfigError: If the longest text fits neither in a packed row nor in the tokens of a batch.
    """

    def __init__(self, lengths: np.ndarray, settings: BatchSettings, *, seed: int):
        self.lengths = lengths
        self.settings = settings
        self.seed = seed
        longest = int(lengths.max(initial=1))
        if settings.packing:
            self.widths = np.array([settings.row_length or -(-longest // STEP) * STEP], np.int64)
            check_row_length(longest, int(self.widths[0]))
        else:
            self.widths = choose_widths(lengths, settings.num_widths)
        widest, budget = int(self.widths[-1]), settings.batch_tokens
        if budget is not None and budget < widest:
            raise ConfigError(
                f"`training.batch_tokens` is {budget}, but one row has up to {widest} tokens. Set it to "
                f"{widest} or more, or shorten texts, e.g. `-s data.sequence_length={budget // STEP * STEP}`."
            )
        self._made = functools.lru_cache(maxsize=2)(self._make)

    def batches(self, epoch: int) -> Batches:
        """The batches of an epoch; together they hold each text exactly once."""
        return self._made(epoch)

    def _make(self, epoch: int) -> Batches:
        settings = self.settings
        random = np.random.default_rng([self.seed, epoch])
        num_texts = len(self.lengths)
        order = random.permutation(num_texts) if settings.shuffle else np.arange(num_texts)
        if settings.packing:
            batches = self._packed(order, random)
        elif settings.batch_tokens is not None:
            batches = self._within_budget(order, settings.batch_tokens)
        else:
            batches = self._of_one_size(order)
        if not settings.shuffle:
            return batches
        places = random.permutation(len(batches))
        if epoch == 0 and len(batches):
            # The longest batch first, so that an out-of-memory shows at once.
            at = int(np.argmax(_cost(batches.rows[places], batches.widths[places])))
            places[[0, at]] = places[[at, 0]]
        return batches.in_order(places)

    def _window(self, num_texts: int) -> int:
        """How many texts are sorted together."""
        return num_texts if self.settings.shuffle else max(1, len(self.lengths))

    def _of_one_size(self, order: np.ndarray) -> Batches:
        size, count = self.settings.batch_size, len(order)
        window = np.arange(count) // self._window(_GROUP * size)
        order = order[np.lexsort((self.lengths[order], window))]
        # What does not fill a batch are short texts, so that the longest batch is a full one.
        last = size * _GROUP * (count // (size * _GROUP)) if self.settings.shuffle else 0
        first = last + ((count - last) % size or size)
        ends = np.concatenate([np.arange(size, last + 1, size), np.arange(first, count + 1, size)])
        longest = self.lengths[order[ends - 1]]  # texts rise in length, but not over the edge of a window
        return Batches(order, ends, width_of(longest, self.widths), np.diff(ends, prepend=0))

    def _within_budget(self, order: np.ndarray, budget: int) -> Batches:
        padded = width_of(self.lengths, self.widths)
        size = self._window(max(1, int(_GROUP * budget / max(1.0, float(padded.mean())))))
        window = np.arange(len(order)) // size
        order = order[np.lexsort((-self.lengths[order], window))]
        ends, widths, at = [], [], 0
        padded = padded[order]
        while at < len(order):
            # From long to short: the first text decides the width, and all that fit in come along.
            width = int(padded[at])
            edge = min((at // size + 1) * size, len(order))
            at = min(at + budget // width, edge)
            ends.append(at)
            widths.append(width)
        if not self.settings.shuffle:
            order, widths = order[::-1], widths[::-1]
            ends = [*(len(order) - end for end in ends[-2::-1]), len(order)] if ends else []
        found = np.asarray(ends, np.int64)
        return Batches(order, found, np.asarray(widths, np.int64), np.diff(found, prepend=0))

    def _packed(self, order: np.ndarray, random: np.random.Generator) -> Batches:
        length, budget = int(self.widths[0]), self.settings.batch_tokens
        size = self.settings.batch_size if budget is None else budget // length
        row, start, num_rows = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64), 0
        for begin in range(0, len(order), _PACKED_TOGETHER):
            part = slice(begin, begin + _PACKED_TOGETHER)
            rows, start[part] = best_fit(self.lengths[order[part]], length)
            row[part] = rows + num_rows
            num_rows += int(rows.max()) + 1
        if self.settings.shuffle:
            row = random.permutation(num_rows)[row]
        by_place = np.lexsort((start, row))
        order, row, start = order[by_place], row[by_place], start[by_place]
        edges = np.append(np.arange(size, num_rows, size), num_rows) if num_rows else np.zeros(0, np.int64)
        ends, rows = np.searchsorted(row, edges), np.diff(edges, prepend=0)
        return Batches(order, ends, np.full(len(ends), length), rows, row % size, start)


def _cost(rows: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """What memory the batches need, in no unit."""
    return rows * widths * (_LINEAR + widths)
