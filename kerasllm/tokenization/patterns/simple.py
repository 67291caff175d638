"""Patterns that need no parsing."""

from typing import Literal

from kerasllm.tokenization.patterns.nodes import OneOf, Pattern, Repeat, Sequence, Source
from kerasllm.tokenization.patterns.refusal import refuse_pattern
from kerasllm.tokenization.patterns.simplify import simplify

__all__ = ["class_pattern", "literal_pattern"]


def literal_pattern(text: str) -> Pattern:
    """A pattern that matches a text as it stands.

    Raises:
        TokenizerError: If `text` is empty.
    """
    if not text:
        raise refuse_pattern("the empty text", "", "it matches everywhere")
    characters = (OneOf((Source("character", character),)) for character in text)
    return Pattern(text, simplify(Sequence(tuple(characters))))


def class_pattern(kind: Literal["space", "isolated", "word"], pre_tokenizer: str, *, runs: bool) -> Pattern:
    """A pattern of the characters that a pre-tokenizer treats alike, one by one.

    Args:
        kind: What it does with them: drops them, makes each a word by itself, or leaves them in words.
        pre_tokenizer: Its JSON.
        runs: Whether the pattern matches runs of such characters rather than single ones.
    """
    one = OneOf((Source(kind, pre_tokenizer),))
    return Pattern(f"{kind} of {pre_tokenizer}", Repeat(one, 1, None) if runs else one)
