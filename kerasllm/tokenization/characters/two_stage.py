"""One number for each code point, stored once for all pages of 256 that are alike."""

from dataclasses import dataclass

import numpy as np

from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, PAGE

__all__ = ["TwoStage", "share_pages"]


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
        pages, rows = share_pages(by_page)
        return TwoStage(pages, rows.reshape(-1).astype(np.int32))


def share_pages(by_page: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keeps one of all pages that are alike: int32[pages], where each starts, and [different pages, 256]."""
    numbers: dict[bytes, int] = {}
    places = np.array([numbers.setdefault(page.tobytes(), len(numbers)) for page in by_page], np.int32)
    return places * PAGE, by_page[np.unique(places, return_index=True)[1]]
