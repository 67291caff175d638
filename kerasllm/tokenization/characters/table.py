"""What a tokenizer does to each Unicode character, as one table made by running the tokenizer itself.

The supported normalizers and pre-tokenizers look at one character at a time, with one exception: canonical
ordering sorts runs of combining marks. So the `tokenizers` library is run over every code point once, and
the table says for each: which characters it becomes, whether they belong to a word, are words by themselves
or separate words, and where they go when marks are sorted. Unicode versions, special cases and bugs of the
library come along with it.
"""

from dataclasses import dataclass

import numpy as np

from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.compiler import compile_characters
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.spec.normalizers import NormalizerStep
from kerasllm.tokenization.spec.pre_tokenizers import PreTokenizer

__all__ = ["CharacterTable"]


@dataclass(frozen=True)
class CharacterTable:
    """Entries of all code points, in two stages: `entries[pages[code >> 8] + (code & 255)]`.

    Attributes:
        pages: int32[4352], where each page of 256 code points starts in `entries`.
        entries: int32[pages * 256], see `characters.entry`.
        expansion_characters: int32[n], the characters of complex entries.
        expansion_entries: int32[n], what each of those is.
    """

    pages: np.ndarray
    entries: np.ndarray
    expansion_characters: np.ndarray
    expansion_entries: np.ndarray

    @staticmethod
    def of(normalizer: tuple[NormalizerStep, ...], pre_tokenizer: PreTokenizer) -> "CharacterTable":
        """The table of a normalizer and a pre-tokenizer.

        Going over all code points takes about a second, so the table is remembered in the process, and on
        disk by the version of `tokenizers`.
        """
        parts = [[step.specification for step in normalizer], pre_tokenizer.specification]

        def make() -> dict[str, np.ndarray]:
            entries, characters, character_entries = compile_characters(normalizer, pre_tokenizer)
            stages = TwoStage.of(entries)
            return {
                "pages": stages.pages,
                "entries": stages.values,
                "expansion_characters": characters,
                "expansion_entries": character_entries,
            }

        names = ("pages", "entries", "expansion_characters", "expansion_entries")
        return CharacterTable(**remember("characters", parts, make, names=names))
