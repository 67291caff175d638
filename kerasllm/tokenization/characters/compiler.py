"""Makes the entries of the character table out of a normalizer and a pre-tokenizer."""

import numpy as np

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.characters import entry
from kerasllm.tokenization.characters.ordering import ordering_ranks
from kerasllm.tokenization.characters.scan import (
    NUM_CODE_POINTS,
    apply_changes,
    changes,
    classes,
    spread_uniform_planes,
)
from kerasllm.tokenization.library import decomposer, run_normalizer, run_pre_tokenizer
from kerasllm.tokenization.spec.normalizers import NormalizerStep
from kerasllm.tokenization.spec.pre_tokenizers import PreTokenizer

__all__ = ["compile_characters"]


def compile_characters(
    normalizer: tuple[NormalizerStep, ...], pre_tokenizer: PreTokenizer
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs normalizer and pre-tokenizer over all code points.

    Args:
        normalizer: Its steps.
        pre_tokenizer: The pre-tokenizer.

    Returns:
        The entry of every code point; the characters of complex entries; the entries of those.
    """
    compiler = _Compiler(normalizer, pre_tokenizer)
    entries = np.full(NUM_CODE_POINTS, entry.pack(entry.WORD), np.int32)
    for character in compiler.noteworthy():
        entries[ord(character)] = compiler.entry_of(character)
    spread_uniform_planes(entries)
    return (
        entries,
        np.array(compiler.expansion_characters, np.int32),
        np.array(compiler.expansion_entries, np.int32),
    )


class _Compiler:
    """Splits the steps where marks are sorted: characters → before → sorted → after → classes."""

    def __init__(self, normalizer: tuple[NormalizerStep, ...], pre_tokenizer: PreTokenizer):
        self.expansion_characters: list[int] = []
        self.expansion_entries: list[int] = []
        self._starts: dict[tuple[tuple[int, int], ...], int] = {}
        sorting = [index for index, step in enumerate(normalizer) if step.kind == "decompose"]
        split = sorting[0] if sorting else len(normalizer)
        runs = [run_normalizer(step.specification) for step in normalizer]
        decompose = decomposer(normalizer[split].decomposition) if sorting else str
        # What a step that decomposes does besides decomposing, it does to what came of it.
        self._before = [changes(run) for run in runs[:split]] + ([changes(decompose)] if sorting else [])
        self._after = [changes(run) for run in runs[split:]]
        self._ranks = ordering_ranks(decomposer("NFD")) if sorting else {}
        self._classes = classes(run_pre_tokenizer(pre_tokenizer.specification))

        self._later = set[str]().union(*self._after, self._classes, self._ranks)

    def noteworthy(self) -> set[str]:
        """Characters that do not stay what they are, in the midst of a word."""
        return self._later.union(*self._before)

    def entry_of(self, character: str) -> int:
        """The entry of a character; expansions are noted where it has one."""
        middles = apply_changes(self._before, character)
        if middles == f" {character} " and character not in self._later:  # 80,000 ideographs
            return entry.pack(entry.ISOLATED)
        parts = [part for middle in middles for part in self._parts(middle)]
        # A mark that is gone in the end moves nothing else, wherever it was sorted to.
        parts = [(code, kind) for code, kind in parts if kind >> entry.RANK_SHIFT != entry.TRANSPARENT]
        parts = _without_inner_spaces(parts)
        if not parts:
            return entry.pack(0, rank=entry.TRANSPARENT)
        if len(parts) == 1 and not parts[0][1] >> entry.RANK_SHIFT:
            value = parts[0][0] - ord(character)
            if parts[0][1] & entry.KEPT == 0:
                return parts[0][1]
            if abs(value) <= entry.LARGEST_VALUE:
                return entry.pack(parts[0][1], value=value)
        return self._complex(tuple(parts))

    def _parts(self, middle: str) -> list[tuple[int, int]]:
        """What one sorted character becomes: code points, each with kind and rank."""
        rank = self._ranks.get(middle, 0)
        result = apply_changes(self._after, middle)
        if not result:
            return [(0, entry.pack(0, rank=entry.TRANSPARENT if rank else 0))]
        kinds = {"space": entry.SPACE, "isolated": entry.ISOLATED}
        return [
            (ord(c), entry.pack(kinds.get(self._classes.get(c, ""), entry.WORD), rank=rank)) for c in result
        ]

    def _complex(self, parts: tuple[tuple[int, int], ...]) -> int:
        if parts not in self._starts:
            self._starts[parts] = len(self.expansion_characters)
            self.expansion_characters += [code for code, _ in parts]
            self.expansion_entries += [packed for _, packed in parts]
        start = self._starts[parts]
        if len(parts) > entry.LARGEST_COUNT or start > entry.LARGEST_VALUE:
            raise TokenizerError(
                f"the normalizer turns one character into {len(parts)} characters, and all before it into "
                f"{start}, which is more than the graph's table holds. Use another checkpoint."
            )
        return entry.pack(entry.COMPLEX, rank=len(parts), value=start)


def _without_inner_spaces(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    # " 中 ": white space around one character makes it a word by itself.
    kinds = [kind for _, kind in parts]
    if len(parts) == 3 and kinds[0] == kinds[2] == entry.SPACE and kinds[1] in (entry.WORD, entry.ISOLATED):
        return [(parts[1][0], entry.ISOLATED)]
    return parts
