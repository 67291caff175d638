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

__all__ = ["tokenizer_files"]

_CONTROL, _USER_DEFINED = 3, 4
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ONLY = {**_BYTE_LEVEL, "use_regex": False}


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
    document["added_tokens"] = _added(values, tokens)
    document["post_processor"] = document["post_processor"] or None
    return json.dumps(document, ensure_ascii=False), _settings(values, tokens)


def _byte_level(values: Mapping[str, Any], tokens: list[str], source: str) -> dict[str, Any]:
    name = values.get("tokenizer.ggml.pre", "default")
    normalizer, ignore_merges = None, False
    if name in ("gpt-2", "default"):
        splits: dict[str, Any] = _BYTE_LEVEL
    elif name == "smollm":
        splits = _sequence({"type": "Digits", "individual_digits": True}, _BYTE_LEVEL)
    elif name in ("llama-bpe", "llama3", "llama-v3"):
        splits, ignore_merges = _sequence(_split(_LLAMA3), _BYTES_ONLY), True
    elif name == "qwen2":
        splits, normalizer = _sequence(_split(_QWEN2), _BYTES_ONLY), {"type": "NFC"}
    else:
        raise TokenizerError(
            f"`{source}` splits texts as {name!r} does, which is not known. Known: gpt-2, smollm, llama-bpe, "
            "qwen2."
        )
    merges = [merge.split(" ") for merge in values["tokenizer.ggml.merges"]]
    begins = bool(values.get("tokenizer.ggml.add_bos_token", ignore_merges))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": normalizer,
        "pre_tokenizer": splits,
        "post_processor": _template(values, tokens) if begins else _BYTES_ONLY,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": _bpe(tokens, merges, ignore_merges=ignore_merges),
    }


def _sentencepiece(values: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    scores = dict(zip(tokens, values["tokenizer.ggml.scores"], strict=True))
    space, prefixed = "▁", bool(values.get("tokenizer.ggml.add_space_prefix", True))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": space}
    unknown = tokens[int(values.get("tokenizer.ggml.unknown_token_id", 0))]
    back = [
        {"type": "Replace", "pattern": {"String": space}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    normalizers = [{"type": "Prepend", "prepend": space}, replace] if prefixed else [replace]
    begins = bool(values.get("tokenizer.ggml.add_bos_token", True))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": _template(values, tokens) if begins else None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": {
            **_bpe(tokens, _merges(scores, tokens)),
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _merges(scores: Mapping[str, float], tokens: list[str]) -> list[list[str]]:
    """Which pairs SentencePiece joins, the best first.

    Source: `generate_merges` of transformers' `convert_slow_tokenizer.py`.
    """
    ids = {token: number for number, token in enumerate(tokens)}
    merges: list[tuple[str, str, float]] = []
    for token, score in scores.items():
        pairs = [(token[:i], token[i:], score) for i in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    merges.sort(key=lambda pair: (pair[2], len(pair[0]), len(pair[1])), reverse=True)
    return [[left, right] for left, right, _ in merges]


def _bpe(tokens: list[str], merges: list[list[str]], *, ignore_merges: bool = False) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": {token: number for number, token in enumerate(tokens)},
        "merges": merges,
    }


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _template(values: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Puts the token that texts begin with before them."""
    number = int(values["tokenizer.ggml.bos_token_id"])
    token = tokens[number]

    def text(name: str, type_id: int) -> list[dict[str, Any]]:
        return [
            {"SpecialToken": {"id": token, "type_id": type_id}},
            {"Sequence": {"id": name, "type_id": type_id}},
        ]

    return {
        "type": "TemplateProcessing",
        "single": text("A", 0),
        "pair": [*text("A", 0), *text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _added(values: Mapping[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
    kinds = values.get("tokenizer.ggml.token_type") or []
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **flags, "special": kind == _CONTROL}
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
