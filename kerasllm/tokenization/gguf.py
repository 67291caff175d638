"""The tokenizer that is in a GGUF file, as a `tokenizer.json`.

GGUF keeps the tokens, their kinds, and merges (byte-level BPE) or scores (SentencePiece BPE); how texts are
split is a name there, whose patterns are llama.cpp's (`src/llama-vocab.cpp`) and those of the checkpoints'
own
`tokenizer.json`.
"""

import json
from collections.abc import Mapping
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.documents import (
    BYTE_LEVEL,
    BYTES_ONLY,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    added_token,
    beginning_with,
    bpe,
    in_turn,
    llama_layout,
    merges_by_score,
    split,
    tokenizer_json,
)

__all__ = ["tokenizer_files"]

_CONTROL, _USER_DEFINED = 3, 4


def tokenizer_files(values: Mapping[str, Any], *, source: str) -> tuple[str, dict[str, Any]]:
    """Makes the tokenizer's files from the metadata of a GGUF file.

    Args:
        values: The metadata.
        source: Names the file in messages.

    Returns:
        The text of the `tokenizer.json`, and the content of the `tokenizer_config.json`, the chat template
        included.

    Raises:
        TokenizerError: If there is no tokenizer, or it is of an unknown kind.
    """
    kind = values.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise TokenizerError(
            f"`{source}` has the tokenizer {kind!r}, but only byte-level BPE ('gpt2') and SentencePiece BPE "
            "('llama') can be read. Take the model's own `tokenizer.json`."
        )
    try:
        tokens = [str(token) for token in values["tokenizer.ggml.tokens"]]
        document = _byte_level(values, tokens, source) if kind == "gpt2" else _sentencepiece(values, tokens)
    except (KeyError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"The tokenizer in `{source}` is incomplete ({error}). Fetch the file again."
        ) from error
    return json.dumps(document, ensure_ascii=False), _settings(values, tokens)


def _byte_level(values: Mapping[str, Any], tokens: list[str], source: str) -> dict[str, Any]:
    name = values.get("tokenizer.ggml.pre", "default")
    normalizer, ignore_merges = None, False
    if name in ("gpt-2", "default"):
        splits: dict[str, Any] = BYTE_LEVEL
    elif name == "smollm":
        splits = in_turn("pretokenizers", {"type": "Digits", "individual_digits": True}, BYTE_LEVEL)
    elif name in ("llama-bpe", "llama3", "llama-v3"):
        splits, ignore_merges = in_turn("pretokenizers", split(LLAMA3_PATTERN), BYTES_ONLY), True
    elif name == "qwen2":
        splits, normalizer = in_turn("pretokenizers", split(QWEN2_PATTERN), BYTES_ONLY), {"type": "NFC"}
    else:
        raise TokenizerError(
            f"`{source}` splits texts as {name!r} does, which is not known. Known: gpt-2, smollm, llama-bpe, "
            "qwen2."
        )
    merges = [merge.split(" ") for merge in values["tokenizer.ggml.merges"]]
    begins = bool(values.get("tokenizer.ggml.add_bos_token", ignore_merges))
    return tokenizer_json(
        bpe(_ids(tokens), merges, ignore_merges=ignore_merges),
        _added(values, tokens),
        normalizer=normalizer,
        pre_tokenizer=splits,
        post_processor=_template(values, tokens) if begins else BYTES_ONLY,
        decoder={**BYTE_LEVEL, "add_prefix_space": True},
    )


def _sentencepiece(values: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    ids = _ids(tokens)
    scores = dict(zip(tokens, values["tokenizer.ggml.scores"], strict=True))
    begins = bool(values.get("tokenizer.ggml.add_bos_token", True))
    layout = llama_layout(
        bpe(ids, merges_by_score(scores, ids)),
        unknown=tokens[int(values.get("tokenizer.ggml.unknown_token_id", 0))],
        prefixed=bool(values.get("tokenizer.ggml.add_space_prefix", True)),
    )
    return tokenizer_json(
        **layout,
        added=_added(values, tokens),
        pre_tokenizer=None,
        post_processor=_template(values, tokens) if begins else None,
    )


def _ids(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _template(values: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Puts the token that texts begin with before them."""
    number = int(values["tokenizer.ggml.bos_token_id"])
    return beginning_with(tokens[number], {tokens[number]: number})


def _added(values: Mapping[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
    kinds = values.get("tokenizer.ggml.token_type") or []
    return [
        added_token(token, number, special=kind == _CONTROL)
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (_CONTROL, _USER_DEFINED)
    ]


def _settings(values: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = values.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            settings[f"{name}_token"] = tokens[number]
    if values.get("tokenizer.chat_template"):
        settings["chat_template"] = values["tokenizer.chat_template"]
    return settings
