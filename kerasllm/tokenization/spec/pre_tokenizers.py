"""Pre-tokenizers: how the text is cut into words."""

import json
from dataclasses import dataclass
from typing import Any

from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["PreTokenizer", "parse_pre_tokenizer"]

SUPPORTED = ("BertPreTokenizer", "WhitespaceSplit")


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer that looks at one character at a time.

    Each character is part of a word, a word by itself, or white space that separates words and is dropped.

    Attributes:
        specification: JSON that the `tokenizers` library makes it from.
    """

    specification: str


def parse_pre_tokenizer(value: Any) -> PreTokenizer:
    """Reads the `pre_tokenizer` of a `tokenizer.json`."""
    if value is None:
        raise refuse("pre-tokenizer", "none", SUPPORTED)
    component = Component("pre-tokenizer", value)
    if component.type not in SUPPORTED:
        raise refuse("pre-tokenizer", component.type, SUPPORTED)
    component.finish()
    return PreTokenizer(json.dumps({"type": component.type}))
