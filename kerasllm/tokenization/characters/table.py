"""What a tokenizer does to each Unicode character, as one table made by running the tokenizer itself.

The supported normalizers and pre-tokenizers look at one character at a time, with one exception: canonical
ordering sorts runs of combining marks. So the `tokenizers` library is run over every code point once, and
the table says for each: which characters it becomes, whether they belong to a word, are words by themselves
or separate words, and where they go when marks are sorted. Unicode versions, special cases and bugs of the
library come along with it.
"""

import contextlib
import functools
import hashlib
import io
import json
import logging
import unicodedata
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tokenizers

from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import atomic_write
from kerasllm.resources.paths import cache_directory
from kerasllm.tokenization.characters.compiler import compile_characters
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, PAGE
from kerasllm.tokenization.spec.normalizers import NormalizerStep
from kerasllm.tokenization.spec.pre_tokenizers import PreTokenizer

__all__ = ["CharacterTable"]

_LOGGER = logging.getLogger(__name__)


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
        return _remembered(normalizer, pre_tokenizer)


@functools.lru_cache(maxsize=8)
def _remembered(normalizer: tuple[NormalizerStep, ...], pre_tokenizer: PreTokenizer) -> CharacterTable:
    path = cache_directory() / "tokenization" / f"characters-{_key(normalizer, pre_tokenizer)}.npz"
    table = _read(path)
    if table is None:
        table = _in_two_stages(*compile_characters(normalizer, pre_tokenizer))
        _write(path, table)
    return table


def _key(normalizer: tuple[NormalizerStep, ...], pre_tokenizer: PreTokenizer) -> str:
    """Differs wherever the table could: by component, by version of the library, by this package's code."""
    steps = [step.specification for step in normalizer]
    parts = [tokenizers.__version__, unicodedata.unidata_version, steps, pre_tokenizer.specification]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _in_two_stages(
    entries: np.ndarray, characters: np.ndarray, character_entries: np.ndarray
) -> CharacterTable:
    rows, places = np.unique(entries.reshape(-1, PAGE), axis=0, return_inverse=True)
    pages = (places.reshape(-1) * PAGE).astype(np.int32)
    return CharacterTable(pages, rows.reshape(-1), characters, character_entries)


def _read(path: Path) -> CharacterTable | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            table = CharacterTable(**{name: file[name] for name in CharacterTable.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or damaged: made anew
        return None
    return table if len(table.pages) * PAGE == NUM_CODE_POINTS else None


def _write(path: Path, table: CharacterTable) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **asdict(table))
    with contextlib.suppress(ResourceError, OSError):  # a cache that cannot be written only costs time
        atomic_write(path, buffer.getvalue())
        _LOGGER.debug("Remembered what the tokenizer does to each character in %s.", path)
