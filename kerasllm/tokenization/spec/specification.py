"""A whole `tokenizer.json`, read and checked."""

import json
from dataclasses import dataclass
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.added_tokens import AddedToken, parse_added_tokens
from kerasllm.tokenization.spec.component import Component, refuse
from kerasllm.tokenization.spec.decoders import WordPieceDecoder, parse_decoder
from kerasllm.tokenization.spec.models import WordPiece, parse_model
from kerasllm.tokenization.spec.normalizers import NormalizerStep, parse_normalizer
from kerasllm.tokenization.spec.post_processors import Templates, parse_post_processor
from kerasllm.tokenization.spec.pre_tokenizers import PreTokenizer, parse_pre_tokenizer

__all__ = ["Specification", "parse_specification"]


@dataclass(frozen=True)
class Specification:
    """The components of a tokenizer, each of a kind that can be run exactly in a graph."""

    added_tokens: tuple[AddedToken, ...]
    normalizer: tuple[NormalizerStep, ...]
    pre_tokenizer: PreTokenizer
    model: WordPiece
    post_processor: Templates
    decoder: WordPieceDecoder
    pad_token: str | None

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest token id."""
        return 1 + max([*self.model.vocabulary.values(), *(token.id for token in self.added_tokens)])


def parse_specification(text: str) -> Specification:
    """Reads a `tokenizer.json`.

    Args:
        text: Its text.

    Returns:
        Its components.

    Raises:
        TokenizerError: If it is no `tokenizer.json`, or has a component or parameter that has no exact
            implementation in a TensorFlow graph.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(
            f"the `tokenizer.json` is not JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            "The file is damaged: download it again."
        ) from error
    file = Component("file", value, name="tokenizer.json")
    file.take("version", str, "1.0")
    model = parse_model(file.take("model", dict))
    specification = Specification(
        added_tokens=parse_added_tokens(file.take("added_tokens", list, []), model.vocabulary),
        normalizer=parse_normalizer(file.take("normalizer", (dict, type(None)), None)),
        pre_tokenizer=parse_pre_tokenizer(file.take("pre_tokenizer", (dict, type(None)), None)),
        model=model,
        post_processor=parse_post_processor(file.take("post_processor", (dict, type(None)), None)),
        decoder=parse_decoder(file.take("decoder", (dict, type(None)), None)),
        pad_token=_pad_token(file),
    )
    file.finish()
    if specification.pre_tokenizer.can_begin(model.prefix):
        # There a word `##s` would be the token `##s`, which TF Text's trie does not find.
        raise refuse(
            f"model `WordPiece` with `continuing_subword_prefix` = {model.prefix!r} and the pre-tokenizer",
            specification.pre_tokenizer.specification,
            ["BertPreTokenizer", "others that cut the prefix into several words"],
        )
    return specification


def _pad_token(file: Component) -> str | None:
    # Truncation and padding are one caller's settings, of which only these two say something lasting.
    truncation: dict[str, Any] = file.take("truncation", (dict, type(None)), None) or {}
    Component("truncation", truncation, name="LongestFirst").require("direction", ["Right"], "Right")
    padding: dict[str, Any] = file.take("padding", (dict, type(None)), None) or {}
    return padding.get("pad_token")
