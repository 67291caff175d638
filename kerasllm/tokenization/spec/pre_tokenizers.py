"""Pre-tokenizers: how the text is cut into words."""

import json
from dataclasses import dataclass
from typing import Any

from kerasllm.tokenization.library import run_pre_tokenizer
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["PreTokenizer", "parse_pre_tokenizer"]

SUPPORTED = ("BertPreTokenizer", "Digits", "Punctuation", "Sequence", "WhitespaceSplit")


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer that looks at one character at a time.

    Each character is part of a word, a word by itself, or white space that separates words and is dropped.

    Attributes:
        specification: JSON that the `tokenizers` library makes it from.
    """

    specification: str

    def can_begin(self, prefix: str) -> bool:
        """Whether there are words that begin with `prefix`."""
        return [word for word, _ in run_pre_tokenizer(self.specification)(prefix)] == [prefix]


def parse_pre_tokenizer(value: Any) -> PreTokenizer:
    """Reads the `pre_tokenizer` of a `tokenizer.json`."""
    specification = json.dumps(_checked(value))
    if len(run_pre_tokenizer(specification)("a b")) != 2:
        raise refuse(
            "pre-tokenizer",
            "that keeps white space",
            ["BertPreTokenizer", "WhitespaceSplit", "Sequence with one of these"],
        )
    return PreTokenizer(specification)


def _checked(value: Any) -> dict[str, Any]:
    """The JSON of a pre-tokenizer, made only of what was understood."""
    if value is None:
        raise refuse("pre-tokenizer", "none", SUPPORTED)
    component = Component("pre-tokenizer", value)
    checked: dict[str, Any] = {"type": component.type}
    match component.type:
        case "Sequence":
            checked["pretokenizers"] = [_checked(member) for member in component.take("pretokenizers", list)]
        case "Punctuation":
            checked["behavior"] = component.require("behavior", ["Isolated"], "Isolated")
        case "Digits":
            checked["individual_digits"] = component.require("individual_digits", [True])
        case "BertPreTokenizer" | "WhitespaceSplit":
            pass
        case unknown:
            raise refuse("pre-tokenizer", unknown, SUPPORTED)
    component.finish()
    return checked
