"""Added tokens: found in the text before anything else is done, `[SEP]` typed by a user among them."""

from dataclasses import dataclass
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["AddedToken", "parse_added_tokens"]


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text as it stands.

    The white space that `lstrip` and `rstrip` swallow is dropped by every supported pre-tokenizer anyway.

    Attributes:
        id: Token id.
        content: Text that is looked for.
        special: Whether decoding leaves it out.
    """

    id: int
    content: str
    special: bool


def parse_added_tokens(value: Any, vocabulary: dict[str, int]) -> tuple[AddedToken, ...]:
    """Reads the `added_tokens` of a `tokenizer.json`."""
    if not isinstance(value, list):
        raise TokenizerError("`added_tokens` of the `tokenizer.json` is no list. The file is damaged.")
    tokens = []
    for entry in value:
        component = Component("added token", entry, name=str(entry)[:40])
        content = component.take("content", str)
        token = AddedToken(component.take("id", int), content, component.take("special", bool))
        component.require("single_word", [False])
        component.require("normalized", [False])
        for side in ("lstrip", "rstrip"):
            if component.take(side, bool) and content != content.strip():
                raise refuse(
                    f"added token {content!r} with", side, ["tokens without white space at their ends"]
                )
        component.finish()
        _check_id(token, vocabulary)
        tokens.append(token)
    return tuple(tokens)


def _check_id(token: AddedToken, vocabulary: dict[str, int]) -> None:
    if not token.content:
        raise TokenizerError(
            "an added token of the `tokenizer.json` is empty. Remove it from `added_tokens`."
        )
    expected = vocabulary.get(token.content)
    if expected is not None and expected != token.id:
        raise TokenizerError(
            f"the added token {token.content!r} has the id {token.id}, but {expected} in the vocabulary. "
            "The `tokenizer.json` is damaged: download it again."
        )
