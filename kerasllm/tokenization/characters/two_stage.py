"""One number for each code point, stored once for all pages of 256 that are alike."""

from dataclasses import dataclass

import numpy as np

from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, PAGE

__all__ = ["TwoStage"]


@dataclass(frozen=True)
class TwoStage:
    """The number of a code point is `values[pages[code >> 8] + (code & 255)]`.

    Attributes:
        pages: int32[4352], where each page of 256 code points starts in `values`.
        values: int32[different pages * 256].
    """

    pages: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> "TwoStage":
        """Stores int32[code points] in two stages."""
        by_page = values.reshape(NUM_CODE_POINTS // PAGE, PAGE)
        rows, places = np.unique(by_page, axis=0, return_inverse=True)
        return TwoStage((places.reshape(-1) * PAGE).astype(np.int32), rows.reshape(-1).astype(np.int32))
