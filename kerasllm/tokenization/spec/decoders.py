"""Decoders: how tokens become text again."""

import json
from dataclasses import dataclass
from typing import Any

from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["WordPieceDecoder", "parse_decoder"]

SUPPORTED = ("WordPiece",)


@dataclass(frozen=True)
class WordPieceDecoder:
    """Joins tokens by spaces, except before those that go on with a word.

    Attributes:
        specification: JSON that the `tokenizers` library makes it from.
    """

    specification: str


def parse_decoder(value: Any) -> WordPieceDecoder:
    """Reads the `decoder` of a `tokenizer.json`."""
    if value is None:
        raise refuse("decoder", "none", SUPPORTED)
    component = Component("decoder", value)
    if component.type != "WordPiece":
        raise refuse("decoder", component.type, SUPPORTED)
    prefix = component.take("prefix", str)
    cleanup = component.take("cleanup", bool)
    component.finish()
    return WordPieceDecoder(json.dumps({"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}))
