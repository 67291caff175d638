"""Canonical composition (NFC and NFKC), as the `tokenizers` library does it."""

from dataclasses import dataclass

import numpy as np

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.ordering import ordering_ranks
from kerasllm.tokenization.characters.scan import changes, pages
from kerasllm.tokenization.library import decomposer, run_normalizer
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["PAIR_SHIFT", "Composition"]

PAIR_SHIFT = 21  # bits of a code point: two of them as one number


@dataclass(frozen=True)
class Composition:
    """Which two characters become one.

    Attributes:
        pairs: int64[pairs], first and second code point as one number, ascending.
        composed: int32[pairs], what they become.
        complex_codes: int32[n], the code points that a text may hold only if it is composed the long way:
            those that change by themselves, that take part in sorting, or that are second in a pair.
    """

    pairs: np.ndarray
    composed: np.ndarray
    complex_codes: np.ndarray

    @staticmethod
    def of(step: NormalizerStep) -> "Composition":
        """The pairs of `NFC` or `NFKC`."""
        names = ("pairs", "composed", "complex_codes")
        return Composition(**remember("composition", step.specification, lambda: _measure(step), names=names))


def _measure(step: NormalizerStep) -> dict[str, np.ndarray]:
    compose = run_normalizer(step.specification)
    decompose = decomposer("NFD")
    pairs: dict[tuple[str, str], str] = {}
    for page in pages():
        if decompose(page) == page:
            continue
        for character in page:
            parts = decompose(character)
            if parts == character or compose(character) != character:
                continue
            first, second = compose(parts[:-1]), parts[-1]
            if len(first) != 1 or compose(first + second) != character:
                raise TokenizerError(
                    f"the `tokenizers` library makes {character!r} of more than two characters, which the "
                    "graph cannot. Please report this with the version of `tokenizers`."
                )
            pairs[first, second] = character
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    if firsts & seconds:  # then it would matter which of two pairs is joined first
        raise TokenizerError(
            f"the `tokenizers` library composes {sorted(firsts & seconds)} on both sides, which the graph "
            "cannot. Please report this with the version of `tokenizers`."
        )
    keys = np.array([ord(first) << PAIR_SHIFT | ord(second) for first, second in pairs], np.int64)
    composed = np.array([ord(character) for character in pairs.values()], np.int32)
    order = np.argsort(keys)
    noteworthy = seconds.union(changes(compose), ordering_ranks(decompose))
    return {
        "pairs": keys[order],
        "composed": composed[order],
        "complex_codes": np.array(sorted(map(ord, noteworthy)), np.int32),
    }
