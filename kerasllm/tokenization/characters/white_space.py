"""White space and word characters, as the `tokenizers` library understands them."""

import json

import numpy as np
import tokenizers

from kerasllm.tokenization.characters.cache import remember
from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS, pages, spread_uniform_planes
from kerasllm.tokenization.characters.two_stage import TwoStage
from kerasllm.tokenization.library import run_normalizer

__all__ = ["SPACE", "WORD", "neighbour_classes", "white_space"]

SPACE, WORD = 1, 2  # what added tokens swallow, and what they must not touch
_MARKER = "\U0010f8ff"  # private: neither white space nor part of a word


def white_space() -> np.ndarray:
    """The code points that the normalizer `Strip` removes."""

    def measure() -> dict[str, np.ndarray]:
        strip = {"type": "Strip", "strip_left": True, "strip_right": True}
        run = run_normalizer(json.dumps(strip))
        found = [ord(character) for page in pages() for character in page if not run(character)]
        return {"codes": np.array(found, np.int32)}

    return remember("white-space", [], measure, names=("codes",))["codes"]


def neighbour_classes() -> TwoStage:
    """What added tokens look for beside them: `SPACE` and `WORD`, as bits, for all code points."""
    arrays = remember("neighbours", [], _measure_neighbours, names=("pages", "values"))
    return TwoStage(arrays["pages"], arrays["values"])


def _measure_neighbours() -> dict[str, np.ndarray]:
    classes = np.zeros(NUM_CODE_POINTS, np.int32)
    single, swallowing = _with_token(single_word=True), _with_token(rstrip=True)
    for page in pages():
        page = page.replace(_MARKER, "")
        codes = np.array([ord(character) for character in page], np.int64)
        # A line break on the other side of each token is no part of a word.
        text = "".join(f"\n{_MARKER}{character}" for character in page)
        found = {start for start, end in _places(single, text)}
        classes[codes[[3 * index + 1 not in found for index in range(len(page))]]] |= WORD
        text = "".join(f"a{_MARKER}{character}" for character in page)
        found = {start for start, end in _places(swallowing, text) if end - start == 2}
        classes[codes[[3 * index + 1 in found for index in range(len(page))]]] |= SPACE
    spread_uniform_planes(classes)
    stages = TwoStage.of(classes)
    return {"pages": stages.pages, "values": stages.values}


def _with_token(**flags: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.add_tokens([tokenizers.AddedToken(_MARKER, normalized=False, **flags)])
    return tokenizer


def _places(tokenizer: tokenizers.Tokenizer, text: str) -> list[tuple[int, int]]:
    return list(tokenizer.encode(text).offsets)
