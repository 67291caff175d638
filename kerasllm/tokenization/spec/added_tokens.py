"""Added tokens: found in the text before anything else is done, `[SEP]` typed by a user among them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.library import run_normalizer
from kerasllm.tokenization.spec.component import Component, refuse
from kerasllm.tokenization.spec.normalizers import NormalizerStep

__all__ = ["AddedToken", "parse_added_tokens"]


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text as it stands.

    Attributes:
        id: Token id.
        content: The token.
        special: Whether decoding leaves it out.
        normalized: Whether it is looked for in the normalized text, instead of the text as it was given.
        single_word: Whether it is only found where no letter, digit or the like touches it.
        lstrip: Whether it swallows the white space before it.
        rstrip: Whether it swallows the white space after it.
        pattern: What is looked for: the content, normalized if the text is.
    """

    id: int
    content: str
    special: bool
    normalized: bool
    single_word: bool
    lstrip: bool
    rstrip: bool
    pattern: str


def parse_added_tokens(
    value: Any, vocabulary: dict[str, int], normalizer: Sequence[NormalizerStep] = ()
) -> tuple[AddedToken, ...]:
    """Reads the `added_tokens` of a `tokenizer.json`.

    Args:
        value: The list.
        vocabulary: Ids of the model's tokens.
        normalizer: The steps of the normalizer, which `normalized` tokens go through.
    """
    if not isinstance(value, list):
        raise TokenizerError("`added_tokens` of the `tokenizer.json` is no list. The file is damaged.")
    steps = [json.loads(step.specification) for step in normalizer]
    normalize: Callable[[str], str] = str
    if steps:
        normalize = run_normalizer(json.dumps({"type": "Sequence", "normalizers": steps}))
    tokens = []
    for entry in value:
        component = Component("added token", entry, name=str(entry)[:40])
        content, flags = component.take("content", str), {}
        for name in ("special", "normalized", "single_word", "lstrip", "rstrip"):
            flags[name] = component.take(name, bool)
        pattern = normalize(content) if flags["normalized"] else content
        token = AddedToken(component.take("id", int), content, pattern=pattern, **flags)
        component.finish()
        _check(token, vocabulary)
        tokens.append(token)
    _check_together(tokens)
    return tuple(tokens)


def _check(token: AddedToken, vocabulary: dict[str, int]) -> None:
    if not token.content:
        raise TokenizerError(
            "an added token of the `tokenizer.json` is empty. Remove it from `added_tokens`."
        )
    if not token.pattern:  # on which the library breaks down
        raise refuse(
            f"added token {token.content!r} with `normalized` =", True, ["tokens that stay something"]
        )
    expected = vocabulary.get(token.content)
    if expected is not None and expected != token.id:
        raise TokenizerError(
            f"the added token {token.content!r} has the id {token.id}, but {expected} in the vocabulary. "
            "The `tokenizer.json` is damaged: download it again."
        )


def _check_together(tokens: list[AddedToken]) -> None:
    seen: set[str] = set()
    for token in tokens:
        if token.content in seen:
            raise TokenizerError(
                f"the added token {token.content!r} is listed twice. Remove one of them from `added_tokens`."
            )
        seen.add(token.content)
    for normalized in (False, True):
        together = [token for token in tokens if token.normalized == normalized]
        patterns = {token.pattern: token for token in together}
        for token in together:
            if patterns[token.pattern] != token:  # the library takes one or the other, from run to run
                raise refuse(
                    f"added token {token.content!r} that is normalized to the same text as",
                    repr(patterns[token.pattern].content),
                    ["tokens that are normalized to different texts"],
                )
        blank = [token.content for token in together if token.pattern[0].isspace()]
        swallowing = [token.content for token in together if token.rstrip]
        if blank and swallowing:  # the library gives both, and goes back in the text
            raise refuse(
                f"added token {swallowing[0]!r} with `rstrip` beside the added token",
                repr(blank[0]),
                ["others that do not start with white space"],
            )
