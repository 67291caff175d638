"""Which characters form one grapheme cluster, measured by running the `tokenizers` library.

The normalizer `Precompiled` looks clusters of fewer than six bytes up as a whole. A character map that turns
every character into `X` therefore tells how long the clusters of a text are: a short one becomes one `X`, a
long one an `X` for each of its characters. The classes are those of the rules of Unicode's annex 29, as far
as they can be told apart in this way; those that only matter in longer clusters are left out.
"""

import json

import numpy as np

from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.charsmap import match_all
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, pages, spread_uniform_planes
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.library import run_normalizer

__all__ = [
    "CONJUNCT_EXTEND",
    "CONSONANT",
    "CONTROL",
    "EXTEND",
    "HANGUL_L",
    "HANGUL_LV",
    "HANGUL_LVT",
    "HANGUL_T",
    "HANGUL_V",
    "JOINS",
    "LINKER",
    "PICTOGRAPH",
    "PREPEND",
    "grapheme_classes",
]

CONTROL = 1  # a cluster by itself
JOINS = 2  # part of the cluster before it
EXTEND = 4  # of those, what may stand between a pictograph and a joiner
PREPEND = 8  # what comes after is part of its cluster
PICTOGRAPH = 16
CONSONANT = 32  # of the scripts that form conjuncts
LINKER = 64
CONJUNCT_EXTEND = 128
HANGUL_L, HANGUL_V, HANGUL_T, HANGUL_LV, HANGUL_LVT = 256, 512, 1024, 2048, 4096

_SEPARATOR = "\x01"  # a control character, so a cluster by itself
_ACCENT, _JOINER, _KA, _VIRAMA, _COPYRIGHT = "\u0301", "\u200d", "\u0915", "\u094d", "\xa9"
# Stable by Unicode's policy, and not to be measured: their clusters have six bytes or more.
_JAMO = (
    (HANGUL_L, ((0x1100, 0x115F), (0xA960, 0xA97C))),
    (HANGUL_V, ((0x1160, 0x11A7), (0xD7B0, 0xD7C6))),
    (HANGUL_T, ((0x11A8, 0x11FF), (0xD7CB, 0xD7FB))),
)


def grapheme_classes() -> TwoStage:
    """The classes of all code points, as bits."""
    arrays = remember("graphemes", [], _measure, names=("pages", "values"))
    return TwoStage(arrays["pages"], arrays["values"])


def _measure() -> dict[str, np.ndarray]:
    charsmap = match_all(_SEPARATOR, "X")
    run = run_normalizer(json.dumps({"type": "Precompiled", "precompiled_charsmap": charsmap}))

    def count(before: str, characters: str, after: str) -> list[int]:
        text = "".join(f"{before}{character}{after}{_SEPARATOR}" for character in characters)
        return [len(result) for result in run(text).split(_SEPARATOR)[:-1]]

    classes = np.zeros(NUM_CODE_POINTS, np.int32)

    def note(bit: int, characters: str, found: list[bool]) -> None:
        codes = np.array([ord(character) for character in characters], np.int64)
        classes[codes[np.array(found, bool)]] |= bit

    for page in pages():
        page = page.replace(_SEPARATOR, "")
        joins = [number == 1 for number in count("a", page, "")]
        note(JOINS, page, joins)
        note(PREPEND, page, [number == 1 for number in count("", page, "a")])
        # Longer ones are no clusters of fewer than six bytes, whatever they are.
        short = "".join(character for character in page if len(character.encode()) < 4)
        note(CONTROL, short, [number == 2 for number in count("", short, _ACCENT)])
        alone = "".join(c for c, joined in zip(page, joins, strict=True) if not joined)
        note(PICTOGRAPH, alone, [number == 3 for number in count(_COPYRIGHT + _JOINER, alone, "")])
        note(CONSONANT, alone, [number == 4 for number in count("", alone, _VIRAMA + _KA + _ACCENT)])
        joined = "".join(c for c, joined in zip(page, joins, strict=True) if joined)
        after = _JOINER + _COPYRIGHT + _ACCENT
        note(EXTEND, joined, [number == 5 for number in count(_COPYRIGHT, joined, after)])
        note(LINKER, joined, [number == 4 for number in count(_KA, joined, _KA + _ACCENT)])
        after = _VIRAMA + _KA + _ACCENT
        note(CONJUNCT_EXTEND, joined, [number == 5 for number in count(_KA, joined, after)])
    classes[ord(_SEPARATOR)] = CONTROL
    for bit, ranges in _JAMO:
        for first, last in ranges:
            classes[first : last + 1] |= bit
    classes[0xAC00:0xD7A4] |= HANGUL_LVT
    classes[0xAC00:0xD7A4:28] ^= HANGUL_LVT | HANGUL_LV
    spread_uniform_planes(classes)
    stages = TwoStage.of(classes)
    return {"pages": stages.pages, "values": stages.values}
