"""A whole `tokenizer.json`, read and checked."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.added_tokens import AddedToken, parse_added_tokens
from kerasllm.tokenization.spec.component import Component, refuse
from kerasllm.tokenization.spec.decoders import Decoder, parse_decoder
from kerasllm.tokenization.spec.models import Model, WordPiece, parse_model
from kerasllm.tokenization.spec.normalizers import NormalizerStep, parse_normalizer
from kerasllm.tokenization.spec.post_processors import Templates, parse_post_processor
from kerasllm.tokenization.spec.pre_tokenizers import PreTokenizer, parse_pre_tokenizer

__all__ = ["Specification", "parse_specification"]


@dataclass(frozen=True)
class Specification:
    """The components of a tokenizer, each of a kind that can be run exactly in a graph.

    Attributes:
        added_tokens: Tokens that are found in the text before the model sees it.
        normalizer: What is done to the characters, step by step.
        pre_tokenizer: How the text is cut into words.
        model: How a word becomes tokens.
        post_processor: Which special tokens stand around the texts.
        decoder: How tokens become text again.
        pad_token: The padding token that the file names; `None` without one.
        truncation_side: Where the file says that texts are cut which are too long.
    """

    added_tokens: tuple[AddedToken, ...]
    normalizer: tuple[NormalizerStep, ...]
    pre_tokenizer: PreTokenizer
    model: Model
    post_processor: Templates
    decoder: Decoder
    pad_token: str | None
    truncation_side: Literal["left", "right"] = "right"

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
    normalizer = parse_normalizer(file.take("normalizer", (dict, type(None)), None))
    added_tokens = file.take("added_tokens", list, [])
    specification = Specification(
        added_tokens=parse_added_tokens(added_tokens, model.vocabulary, normalizer),
        normalizer=normalizer,
        pre_tokenizer=parse_pre_tokenizer(file.take("pre_tokenizer", (dict, type(None)), None)),
        model=model,
        post_processor=parse_post_processor(file.take("post_processor", (dict, type(None)), None)),
        decoder=parse_decoder(file.take("decoder", (dict, type(None)), None)),
        pad_token=(file.take("padding", (dict, type(None)), None) or {}).get("pad_token"),
        truncation_side=_truncation_side(file.take("truncation", (dict, type(None)), None)),
    )
    file.finish()
    if isinstance(model, WordPiece) and specification.pre_tokenizer.can_begin(model.prefix):
        # There a word `##s` would be the token `##s`, which TF Text's trie does not find.
        raise refuse(
            f"model `WordPiece` with `continuing_subword_prefix` = {model.prefix!r} and the pre-tokenizer",
            specification.pre_tokenizer.specification,
            [
                f"those that cut {model.prefix!r} into several words: BertPreTokenizer",
                "a Sequence with Punctuation",
            ],
        )
    return specification


def _truncation_side(truncation: dict[str, Any] | None) -> Literal["left", "right"]:
    # The rest of it, as of the padding, are one caller's settings.
    component = Component("truncation", truncation or {}, name=str((truncation or {}).get("strategy")))
    side = component.require("direction", ["Left", "Right"], "Right")
    return "left" if side == "Left" else "right"
