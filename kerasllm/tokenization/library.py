"""Components as the `tokenizers` library makes them from their JSON, each to be run by itself."""

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, models

from kerasllm.errors import TokenizerError

__all__ = ["decomposer", "pre_tokenizer_state", "run_decoder", "run_normalizer", "run_pre_tokenizer"]


def decomposer(name: str) -> Callable[[str], str]:
    """`NFD` or `NFKD` as a function from text to text."""
    return run_normalizer(json.dumps({"type": name}))


def run_normalizer(specification: str) -> Callable[[str], str]:
    """The normalizer as a function from text to text."""
    return _tokenizer("normalizer", specification).normalizer.normalize_str


def run_pre_tokenizer(specification: str) -> Callable[[str], list[tuple[str, tuple[int, int]]]]:
    """The pre-tokenizer as a function from text to words and where they stand."""
    return _tokenizer("pre_tokenizer", specification).pre_tokenizer.pre_tokenize_str


def pre_tokenizer_state(specification: dict[str, Any]) -> dict[str, Any]:
    """A pre-tokenizer's JSON as the library writes it, with what it derives from older parameters.

    Raises:
        TokenizerError: If the library does not accept it.
    """
    try:
        tokenizer = _tokenizer("pre_tokenizer", json.dumps(specification))
    except Exception as error:  # the library raises a bare `Exception`
        raise TokenizerError(
            f"the pre-tokenizer `{json.dumps(specification, ensure_ascii=False)}` is not one that the "
            f"`tokenizers` library accepts: {error}. The `tokenizer.json` is damaged: download it again."
        ) from error
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def run_decoder(specification: str) -> Callable[[list[str]], str]:
    """The decoder as a function from tokens to text."""
    return _tokenizer("decoder", specification).decoder.decode


def _tokenizer(kind: str, specification: str) -> Any:
    document = json.loads(Tokenizer(models.WordLevel({}, unk_token="")).to_str())
    document[kind] = json.loads(specification)
    return Tokenizer.from_str(json.dumps(document))
