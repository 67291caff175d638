"""What decoders do to one token, which depends on its text and on whether it is the first or the last."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from kerasllm.tokenization.library import run_decoder

__all__ = [
    "CleanUp",
    "EndWords",
    "Metaspace",
    "ReplaceRegex",
    "ReplaceText",
    "Step",
    "Strip",
    "WordPiece",
    "run_step",
]

# What the library does to English, one after the other.
_CLEAN_UP = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")),
    *((" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


@dataclass(frozen=True)
class ReplaceText:
    """Puts `content` in the place of `pattern`."""

    pattern: str
    content: str


@dataclass(frozen=True)
class ReplaceRegex:
    """Puts something in the place of what a regular expression matches; the library itself does it.

    Attributes:
        specification: JSON of the decoder `Replace`.
    """

    specification: str


@dataclass(frozen=True)
class Strip:
    """Cuts off `content` at the start, at most `count` times."""

    content: str
    count: int


@dataclass(frozen=True)
class Metaspace:
    """Turns `replacement` into a space, or into nothing in the first token if `drops_first`."""

    replacement: str
    drops_first: bool


@dataclass(frozen=True)
class WordPiece:
    """Puts a space before each token but the first and those that go on with a word."""

    prefix: str
    cleanup: bool


@dataclass(frozen=True)
class CleanUp:
    """Takes away the spaces that stand before English punctuation."""


@dataclass(frozen=True)
class EndWords:
    """Turns the suffix of a word's last token into a space, or into nothing at the end of the text."""

    suffix: str


Step = ReplaceText | ReplaceRegex | Strip | Metaspace | WordPiece | CleanUp | EndWords


def run_step(step: Step, text: str, *, first: bool, last: bool) -> str:
    """What a token becomes.

    Args:
        step: What is done to it.
        text: Its text.
        first: Whether it is the first token of all.
        last: Whether it is the last.

    Returns:
        Its new text.
    """
    match step:
        case ReplaceText(pattern, content):
            return text.replace(pattern, content)
        case ReplaceRegex(specification):
            return _by_library(specification)([text])
        case Strip(content, count):
            return text[min(count, len(text) - len(text.lstrip(content))) :]
        case Metaspace(replacement, drops_first):
            return text.replace(replacement, "" if first and drops_first else " ")
        case WordPiece(prefix, cleanup):
            if not first:
                text = text.removeprefix(prefix) if text.startswith(prefix) else f" {text}"
            return _clean_up(text) if cleanup else text
        case CleanUp():
            return _clean_up(text)
        case EndWords(suffix):
            return text.replace(suffix, "" if last else " ")


def _clean_up(text: str) -> str:
    if " " in text:
        for pattern, content in _CLEAN_UP:
            text = text.replace(pattern, content)
    return text


@functools.cache
def _by_library(specification: str) -> Callable[[list[str]], str]:
    return run_decoder(specification)
