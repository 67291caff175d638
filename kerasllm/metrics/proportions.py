"""How sure a share is that was counted."""

import math
from statistics import NormalDist

from kerasllm.errors import DataError

__all__ = ["wilson_interval"]


def wilson_interval(share: float, size: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the score interval of a share (Wilson, 1927), which is right for shares near 0 and 1, too.

    Args:
        share: Observed share, between 0 and 1.
        size: Number of independent observations.
        confidence: Confidence level, between 0 and 1. Defaults to `0.95`.

    Returns:
        Lower and upper end.

    Raises:
        DataError: If there are no observations, or a number is out of range.

    Example:
    >>> wilson_interval(0.0, 100)
    (0.0, 0.037)
    """
    if size < 1:
        raise DataError(f"`size` is {size}, but at least one observation is needed for an interval.")
    if not 0 <= share <= 1:
        raise DataError(f"`share` is {share}, but must lie between 0 and 1.")
    if not 0 < confidence < 1:
        raise DataError(f"`confidence` is {confidence}, but must lie between 0 and 1, such as 0.95.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = share + z * z / (2 * size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
