"""The few padded lengths that the batches of a run have."""

import numpy as np

__all__ = ["STEP", "choose_widths", "width_of"]

# Padded lengths are multiples of this on accelerators, whose matrix products like it.
STEP = 8
# With more widths than this nothing is compiled for each: then they may be any lengths. A CPU multiplies 27
# rows as well as 32, and on texts of 27 tokens multiples of 8 were 14 % padding, any lengths 3 %.
_FEW = 32
_MOST_CANDIDATES = 512


def choose_widths(lengths: np.ndarray, most: int) -> np.ndarray:
    """Chooses the padded lengths that waste the least, were each text padded to the next of them.

    A compiler makes a program for each shape, and each shape keeps buffers of its own, so few are wanted; an
    even or a geometric ladder wastes more of them than the lengths of the texts need. The best ladder is
    found exactly, by dynamic programming over the lengths that occur.

    Args:
        lengths: Tokens of each text.
        most: How many widths there may be.

    Returns:
        At most `most` lengths, rising, `int64`; the last holds the longest text. Multiples of 8 where `most`
        is 32 or less.

    Example:
    >>> choose_widths(np.array([3, 5, 7, 60, 61]), 2)
    array([ 8, 64])
    """
    if not len(lengths):
        return np.array([STEP], np.int64)
    longest = max(1, int(lengths.max()))
    step = STEP if most <= _FEW else 1
    step *= -(-longest // (step * _MOST_CANDIDATES))
    counts = np.bincount(-(-np.maximum(lengths, 1) // step), minlength=-(-longest // step) + 1)
    occurring = np.flatnonzero(counts)
    widths, before = occurring * step, np.concatenate([[0], np.cumsum(counts[occurring])])
    # cost[i, j]: tokens when texts of the widths from i up to j are padded to that of j.
    cost = widths[None, :] * (before[None, 1:] - before[:-1, None]).astype(np.float64)
    cost = np.where(np.arange(len(widths))[:, None] <= np.arange(len(widths))[None, :], cost, np.inf)
    best, cuts = cost[0], []
    for _ in range(min(most, len(widths)) - 1):
        total = np.concatenate([[0.0], best[:-1]])[:, None] + cost
        cuts.append(np.argmin(total, axis=0))
        best = total.min(axis=0)
    chosen, last = [], len(widths) - 1
    for cut in reversed(cuts):
        chosen.append(last)
        last = int(cut[last]) - 1
        if last < 0:
            break
    if last >= 0:
        chosen.append(last)
    return widths[sorted(set(chosen))].astype(np.int64)


def width_of(lengths: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The smallest of the widths that holds each length."""
    return widths[np.searchsorted(widths, lengths)]
