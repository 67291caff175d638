"""Models: how a word becomes tokens of the vocabulary."""

from dataclasses import dataclass, field
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["WordPiece", "parse_model"]

SUPPORTED = ("WordPiece",)


@dataclass(frozen=True)
class WordPiece:
    """Greedy longest match from the left; a word with a part that matches nothing is unknown as a whole.

    Attributes:
        unknown_token: Token of a word that cannot be made of others.
        prefix: What a token that goes on with a word starts with.
        max_characters: A word of more characters (not bytes) is unknown.
        vocabulary: Token to id.
    """

    unknown_token: str
    prefix: str
    max_characters: int
    vocabulary: dict[str, int] = field(repr=False)


def parse_model(value: Any) -> WordPiece:
    """Reads the `model` of a `tokenizer.json`."""
    component = Component("model", value)
    if component.type != "WordPiece":
        raise refuse("model", component.type, SUPPORTED)
    model = WordPiece(
        unknown_token=component.take("unk_token", str),
        prefix=component.take("continuing_subword_prefix", str),
        max_characters=component.take("max_input_chars_per_word", int),
        vocabulary=component.take("vocab", dict),
    )
    component.finish()
    if not model.prefix:
        raise refuse("model `WordPiece` with `continuing_subword_prefix` =", "", ["##", "any other prefix"])
    if model.unknown_token not in model.vocabulary:
        raise TokenizerError(
            f"the unknown token {model.unknown_token!r} is not in the vocabulary of the `tokenizer.json`, so "
            "words outside the vocabulary have no id. Add it to the vocabulary, or name another `unk_token`."
        )
    _check_vocabulary(model)
    return model


def _check_vocabulary(model: WordPiece) -> None:
    seen: dict[int, str] = {}
    for token, index in model.vocabulary.items():
        if not token or "\0" in token:
            raise refuse("vocabulary entry", repr(token), ["tokens of one or more characters, without NUL"])
        if not isinstance(index, int) or index < 0 or seen.setdefault(index, token) != token:
            other = f", which is also the id of {seen[index]!r}" if index in seen else ""
            raise TokenizerError(
                f"the vocabulary gives {token!r} the id {index!r}{other}; expected one whole number, "
                "0 or more, for each token. The `tokenizer.json` is damaged: download it again."
            )
