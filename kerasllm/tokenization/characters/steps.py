"""What consecutive normalizers do to each Unicode character, for the flat array of the graph.

A table covers any number of normalizers that treat each character by itself, and at most one among them that
decomposes. What they make of a character is a row of elements. Elements carry what is needed for canonical
ordering, and for the alignment to the original text, which the `tokenizers` library keeps by counting:
an element that stands for a character takes the next character of the text as its origin, one that was
added to it takes the last one taken.
"""

from dataclasses import dataclass

import numpy as np

from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.ordering import ordering_ranks
from kerasllm.tokenization.characters.scan import (
    NUM_CODE_POINTS,
    apply_changes,
    changes,
    spread_uniform_planes,
)
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.library import decomposer, run_normalizer
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["COMPLEX", "COUNT_BITS", "DELTA_SHIFT", "GONE", "MAIN", "RANK", "Rows", "StepTable"]

COMPLEX = 1  # the lowest bit of an entry; the others are what is added to the code point
DELTA_SHIFT = 1
# Flags of elements.
RANK = 63  # mask of the rank in canonical ordering, 0: stays where it is
MAIN = 64  # stands for a character; without it, it was added to one
GONE = 128  # removed after sorting
COUNT_BITS = 8


class Rows:
    """Rows of elements, equal ones stored once; the place of a row is its start and its length."""

    def __init__(self) -> None:
        self.elements: list[tuple[int, int]] = []
        self._places: dict[tuple[tuple[int, int], ...], int] = {}

    def place(self, row: tuple[tuple[int, int], ...]) -> int:
        """Stores a row of (code point, flags); its place, one more than start and count packed together."""
        if row not in self._places:
            if len(row) >= 1 << COUNT_BITS:
                raise refuse("normalizer that turns one character into", len(row), ["up to 255 characters"])
            self._places[row] = (len(self.elements) << COUNT_BITS | len(row)) + 1
            self.elements += row
        return self._places[row]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The code points, and the flags, of all elements."""
        pairs = np.array(self.elements, np.int32).reshape(-1, 2)
        return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


@dataclass(frozen=True)
class StepTable:
    """What is done to each character.

    Attributes:
        short: For texts without a complex character: what is added to the code point, and `COMPLEX`.
        long: For all others: the place of the character's row, see `Rows.place`; 0 where it stays itself.
        codes: int32[elements], code points of the rows.
        flags: int32[elements], their flags.
        sorts: Whether marks are sorted.
    """

    short: TwoStage
    long: TwoStage
    codes: np.ndarray
    flags: np.ndarray
    sorts: bool

    @staticmethod
    def of(steps: tuple[NormalizerStep, ...], *, complex_codes: np.ndarray | None = None) -> "StepTable":
        """The table of normalizers that treat each character by itself, at most one of which decomposes.

        Args:
            steps: The normalizers.
            complex_codes: The characters that take the long way. Defaults to `None`, those that do not
                become exactly one character or take part in sorting.
        """
        key = [step.specification for step in steps]
        names = ("short_pages", "short_values", "long_pages", "long_values", "codes", "flags")

        def make() -> dict[str, np.ndarray]:
            short, long, codes, flags = _compile(steps)
            arrays = (short.pages, short.values, long.pages, long.values, codes, flags)
            return dict(zip(names, arrays, strict=True))

        arrays = remember("steps", key, make, names=names)
        short = TwoStage(arrays["short_pages"], arrays["short_values"])
        if complex_codes is not None:
            values = np.zeros(NUM_CODE_POINTS, np.int32)
            values[complex_codes] = COMPLEX
            short = TwoStage.of(values)
        return StepTable(
            short,
            TwoStage(arrays["long_pages"], arrays["long_values"]),
            arrays["codes"],
            arrays["flags"],
            any(step.kind in ("decompose", "compose") for step in steps),
        )


def _compile(steps: tuple[NormalizerStep, ...]) -> tuple[TwoStage, TwoStage, np.ndarray, np.ndarray]:
    compiler = _Compiler(steps)
    short, long = np.zeros(NUM_CODE_POINTS, np.int32), np.zeros(NUM_CODE_POINTS, np.int32)
    for character in compiler.noteworthy:
        code = ord(character)
        short[code], long[code] = compiler.entries(character)
    for entries in (short, long):
        spread_uniform_planes(entries)
    return TwoStage.of(short), TwoStage.of(long), *compiler.rows.arrays()


class _Compiler:
    """Splits the steps where marks are sorted: characters → before → sorted → after."""

    def __init__(self, steps: tuple[NormalizerStep, ...]):
        self.rows = Rows()
        sorting = [i for i, step in enumerate(steps) if step.kind in ("decompose", "compose")]
        split = sorting[0] if sorting else len(steps)
        self._before = [changes(run_normalizer(step.specification)) for step in steps[:split]]
        self._ranks: dict[str, int] = {}
        self._after = []
        if sorting:
            self._before.append(changes(decomposer(steps[split].decomposition)))
            self._ranks = ordering_ranks(decomposer("NFD"))
            # What a step that decomposes does besides, it does to what came of it; what composes is not
            # for this table.
            after = steps[split + 1 :] if steps[split].kind == "compose" else steps[split:]
            self._after = [changes(run_normalizer(step.specification)) for step in after]
        self.noteworthy = set[str](self._ranks).union(*self._before, *self._after)

    def entries(self, character: str) -> tuple[int, int]:
        """The short and the long entry of a character."""
        row = self._row(character)
        if row == ((ord(character), MAIN),):
            return 0, 0
        # Where one starter remains, and only removed marks follow it, the short way gives the same text.
        kept = [element for element in row if not element[1] & GONE]
        simple = len(kept) == 1 and kept[0] == row[0] and not row[0][1] & RANK
        simple = simple and all(flags & RANK for _, flags in row[1:])
        short = (kept[0][0] - ord(character)) << DELTA_SHIFT if simple else COMPLEX
        return short, self.rows.place(row)

    def _row(self, character: str) -> tuple[tuple[int, int], ...]:
        row: list[tuple[int, int]] = []
        before = apply_changes(self._before[:-1], character) if self._ranks else character
        last = self._before[-1] if self._before else {}
        if not self._ranks:
            before, last = apply_changes(self._before, character), {}
        for part in before:
            for index, middle in enumerate(last.get(part, part)):
                flags = self._ranks.get(middle, 0) | (0 if index else MAIN)
                after = apply_changes(self._after, middle)
                row += [(ord(c), flags if place == 0 else flags & RANK) for place, c in enumerate(after)]
                if not after:
                    row.append((0, flags | GONE))
        return tuple(row)
