"""Models: how a word becomes tokens of the vocabulary."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tokenizers

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["BPE", "Model", "Unigram", "WordLevel", "WordPiece", "parse_model"]

_Optional = (str, type(None))


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


@dataclass(frozen=True)
class WordLevel:
    """A word is one token, or unknown.

    Attributes:
        unknown_token: Token of a word that is not in the vocabulary.
        vocabulary: Token to id.
    """

    unknown_token: str
    vocabulary: dict[str, int] = field(repr=False)


@dataclass(frozen=True)
class BPE:
    """Starts from characters and always merges the pair that comes first in a list, leftmost first.

    Attributes:
        unknown_token: Token of a character that is not in the vocabulary; `None` leaves it out.
        fuse_unknown: Whether unknown characters in a row become one token.
        byte_fallback: Whether an unknown character becomes the tokens `<0x00>` to `<0xFF>` of its bytes.
        ignore_merges: Whether a word that is in the vocabulary is that token, whatever the merges say.
        prefix: What a token starts with that does not start a word; may be empty.
        suffix: What a token ends with that ends a word; may be empty.
        vocabulary: Token to id.
        merges: Pairs of tokens, the first to be merged first.
    """

    unknown_token: str | None
    fuse_unknown: bool
    byte_fallback: bool
    ignore_merges: bool
    prefix: str
    suffix: str
    vocabulary: dict[str, int] = field(repr=False)
    merges: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class Unigram:
    """The tokens with the highest sum of scores.

    Attributes:
        unknown_id: Id of characters that are not in the vocabulary; those in a row are one token.
        byte_fallback: Whether these become the tokens `<0x00>` to `<0xFF>` of their bytes.
        vocabulary: Token to id.
        scores: The score of each id, the very number that the `tokenizers` library adds up. Its reader of
            JSON is off by one unit in the last place for every tenth number, so these are asked from it.
    """

    unknown_id: int
    byte_fallback: bool
    vocabulary: dict[str, int] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)


Model = WordPiece | WordLevel | BPE | Unigram


def parse_model(value: Any) -> Model:
    """Reads the `model` of a `tokenizer.json`."""
    component = Component("model", value)
    name = component.type if "type" in value else _kind_of(value)
    parser = _PARSERS.get(name)
    if parser is None:
        raise refuse("model", name, _PARSERS)
    model = parser(component)
    component.finish()
    _check_vocabulary(model.vocabulary)
    return model


def _kind_of(value: Mapping[str, Any]) -> str:
    """What a model without `type` is, as in files of the first versions of the library."""
    if "merges" in value:
        return "BPE"
    if "max_input_chars_per_word" in value:
        return "WordPiece"
    return "Unigram" if isinstance(value.get("vocab"), list) else "WordLevel"


def _word_piece(component: Component) -> WordPiece:
    model = WordPiece(
        unknown_token=component.take("unk_token", str),
        prefix=component.take("continuing_subword_prefix", str),
        max_characters=component.take("max_input_chars_per_word", int),
        vocabulary=component.take("vocab", dict),
    )
    if not model.prefix:
        raise refuse("model `WordPiece` with `continuing_subword_prefix` =", "", ["##", "any other prefix"])
    _check_unknown(model.unknown_token, model.vocabulary)
    return model


def _word_level(component: Component) -> WordLevel:
    model = WordLevel(
        unknown_token=component.take("unk_token", str), vocabulary=component.take("vocab", dict)
    )
    _check_unknown(model.unknown_token, model.vocabulary)
    return model


def _bpe(component: Component) -> BPE:
    component.require("dropout", [None, 0, 0.0], None)
    return BPE(
        unknown_token=component.take("unk_token", _Optional, None),
        fuse_unknown=component.take("fuse_unk", bool, False),
        byte_fallback=component.take("byte_fallback", bool, False),
        ignore_merges=component.take("ignore_merges", bool, False),
        prefix=component.take("continuing_subword_prefix", _Optional, None) or "",
        suffix=component.take("end_of_word_suffix", _Optional, None) or "",
        vocabulary=component.take("vocab", dict),
        merges=tuple(_merge(entry) for entry in component.take("merges", list)),
    )


def _merge(entry: Any) -> tuple[str, str]:
    parts = entry.split(" ") if isinstance(entry, str) else entry
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
        raise TokenizerError(
            f"the merge {entry!r:.60} of the model `BPE` is no pair of tokens. "
            "The `tokenizer.json` is damaged: download it again."
        )
    return parts[0], parts[1]


def _unigram(component: Component) -> Unigram:
    unknown = component.take("unk_id", (int, type(None)), None)
    fallback = component.take("byte_fallback", bool, False)
    entries = component.take("vocab", list)
    if unknown is None:
        raise refuse("model `Unigram` with `unk_id` =", None, ["an id of the vocabulary"])
    value = {"type": "Unigram", "unk_id": unknown, "vocab": entries, "byte_fallback": fallback}
    entries = _as_the_library_reads_it(value)["vocab"]
    # Of equal tokens the library uses the last.
    vocabulary = {token: index for index, (token, _) in enumerate(entries)}
    return Unigram(unknown, fallback, vocabulary, tuple(float(score) for _, score in entries))


def _as_the_library_reads_it(value: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "model": value,
    }
    document |= dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    try:
        read = tokenizers.Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # the library raises bare `Exception`
        raise TokenizerError(
            f"the `tokenizers` library {tokenizers.__version__} cannot read the model `{value['type']}` of "
            f"this `tokenizer.json`: {error}. Download the file again, or update `tokenizers`."
        ) from error
    result: dict[str, Any] = json.loads(read.to_str())["model"]
    return result


_PARSERS: dict[str, Callable[[Component], Model]] = {
    "BPE": _bpe,
    "Unigram": _unigram,
    "WordLevel": _word_level,
    "WordPiece": _word_piece,
}


def _check_unknown(token: str, vocabulary: dict[str, int]) -> None:
    if token not in vocabulary:
        raise TokenizerError(
            f"the unknown token {token!r} is not in the vocabulary of the `tokenizer.json`, so "
            "words outside the vocabulary have no id. Add it to the vocabulary, or name another `unk_token`."
        )


def _check_vocabulary(vocabulary: dict[str, int]) -> None:
    seen: dict[int, str] = {}
    for token, index in vocabulary.items():
        if not token or "\0" in token:
            raise refuse("vocabulary entry", repr(token), ["tokens of one or more characters, without NUL"])
        if not isinstance(index, int) or index < 0 or seen.setdefault(index, token) != token:
            other = f", which is also the id of {seen[index]!r}" if index in seen else ""
            raise TokenizerError(
                f"the vocabulary gives {token!r} the id {index!r}{other}; expected one whole number, "
                "0 or more, for each token. The `tokenizer.json` is damaged: download it again."
            )
