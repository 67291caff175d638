"""Which code points belong to a set of characters: measured by running the `tokenizers` library."""

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, pages, spread_uniform_planes
from kerasllm.tokenization.library import run_pre_tokenizer
from kerasllm.tokenization.patterns.nodes import Source

__all__ = ["members", "run_regex"]


def run_regex(text: str) -> Callable[[str], list[tuple[str, tuple[int, int]]]]:
    """The matches of a regular expression in a text, and where they stand.

    Raises:
        TokenizerError: If the library does not accept it.
    """
    specification = {"type": "Split", "pattern": {"Regex": text}, "behavior": "Removed", "invert": True}
    try:
        return run_pre_tokenizer(json.dumps(specification))
    except Exception as error:  # the library raises a bare `Exception`
        raise TokenizerError(
            f"the regular expression `{text}` is not one that the `tokenizers` library accepts: {error}. "
            "The `tokenizer.json` is damaged: download it again."
        ) from error


@functools.lru_cache(maxsize=32)  # each takes a megabyte
def members(source: Source) -> np.ndarray:
    """Which code points are in a set.

    Asking the library takes about a tenth of a second, so the answer is remembered on disk.

    Returns:
        bool[code points], which cannot be written to.
    """
    if source.kind == "character":
        changes = np.array([ord(source.text), ord(source.text) + 1])
    else:
        parts = [source.kind, source.text, _code()]
        changes = remember("set", parts, lambda: {"changes": _changes(source)}, names=("changes",))["changes"]
    marks = np.zeros(NUM_CODE_POINTS + 1, bool)
    marks[changes] = True
    found = np.logical_xor.accumulate(marks[:-1])
    found.flags.writeable = False
    return found


def _changes(source: Source) -> np.ndarray:
    """The code points at which the set begins or ends: a few hundred."""
    return np.flatnonzero(np.diff(_measure(source), prepend=False, append=False)).astype(np.int32)


@functools.cache
def _code() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _measure(source: Source) -> np.ndarray:
    found = np.zeros(NUM_CODE_POINTS, bool)
    regex = source.kind == "regex"
    run = run_regex(f"(?:{source.text})+") if regex else run_pre_tokenizer(source.text)
    for page in pages():
        first = ord(page[0])
        if regex:
            for _, (start, end) in run(page):
                found[first + start : first + end] = True
        else:
            found[first : first + len(page)] = _kinds(run, page) == source.kind
    spread_uniform_planes(found)
    found[0xD800:0xE000] = False  # surrogates, which no text holds
    return found


def _kinds(run: Callable[[str], list[tuple[str, tuple[int, int]]]], page: str) -> np.ndarray:
    """What a pre-tokenizer makes of each character of a page, between two letters."""
    kinds = np.full(2 * len(page) + 1, "space", "<U8")
    for word, (start, end) in run("a" + "".join(f"{character}a" for character in page)):
        kinds[start:end] = "word" if len(word) > 1 else "isolated"
    return kinds[1::2]
