"""Parts of a `tokenizer.json`, for those who make one of another format."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "BYTES_ONLY",
    "BYTE_LEVEL",
    "LLAMA3_PATTERN",
    "QWEN2_PATTERN",
    "SPACE",
    "added_token",
    "beginning_with",
    "bpe",
    "in_turn",
    "llama_layout",
    "merges_by_score",
    "split",
    "template",
    "tokenizer_json",
]

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3_PATTERN = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
QWEN2_PATTERN = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPACE = "\u2581"  # what SentencePiece writes for a space
BYTES_ONLY = {**BYTE_LEVEL, "use_regex": False}


def tokenizer_json(
    model: dict[str, Any], added: Iterable[dict[str, Any]], **components: Any
) -> dict[str, Any]:
    """A whole `tokenizer.json`; components that are not given are `None`."""
    names = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: int(token["id"])),
        **{name: components[name] for name in names},
        "model": model,
    }


def bpe(
    vocabulary: Mapping[str, int], merges: Sequence[Sequence[str]], *, ignore_merges: bool = False
) -> dict[str, Any]:
    """The model BPE."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": dict(vocabulary),
        "merges": list(merges),
    }


def merges_by_score(scores: Mapping[str, float], ids: Mapping[str, int]) -> list[list[str]]:
    """Which pairs SentencePiece joins, the best first.

    Source: `generate_merges` of transformers' `convert_slow_tokenizer.py`.
    """
    merges: list[tuple[str, str, float]] = []
    for token, score in scores.items():
        pairs = [(token[:i], token[i:], score) for i in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    merges.sort(key=lambda pair: (pair[2], len(pair[0]), len(pair[1])), reverse=True)
    return [[left, right] for left, right, _ in merges]


def in_turn(kind: str, *members: dict[str, Any]) -> dict[str, Any]:
    """Components one after another; `kind` is `"normalizers"`, `"pretokenizers"` and so on."""
    return {"type": "Sequence", kind: list(members)}


def split(pattern: str) -> dict[str, Any]:
    """The pre-tokenizer that cuts texts into the matches of a pattern and what is between them."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def added_token(token: str, token_id: int, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """An added token; flags that are not given are false."""
    sides = {name: flags.get(name, False) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"id": token_id, "content": token, **sides, "special": special}


def llama_layout(model: dict[str, Any], *, unknown: str, prefixed: bool) -> dict[str, Any]:
    """Model, normalizer and decoder of a SentencePiece BPE that falls back to bytes, as Llama 2 has them.

    Args:
        model: What `bpe` made.
        unknown: The unknown token.
        prefixed: Whether texts get a space at the start.
    """
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    first = [{"type": "Prepend", "prepend": SPACE}] if prefixed else []
    return {
        "model": {**model, "unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
        "normalizer": in_turn("normalizers", *first, replace),
        "decoder": in_turn("decoders", *back),
    }


def template(single: Sequence[str], pair: Sequence[str], ids: Mapping[str, int]) -> dict[str, Any]:
    """Puts special tokens around texts.

    Args:
        single: Tokens of a text in order; `$A` is the text, and `[SEP]:1` is `[SEP]` in segment 1.
        pair: The same for two texts, `$A` and `$B`.
        ids: Ids of the special tokens, among others.
    """

    def piece(word: str) -> dict[str, Any]:
        name, segment = (word[:-2], 1) if word.endswith(":1") else (word, 0)
        if name in ("$A", "$B"):
            return {"Sequence": {"id": name[1:], "type_id": segment}}
        return {"SpecialToken": {"id": name, "type_id": segment}}

    pieces = [piece(word) for word in (*single, *pair)]
    named = sorted({piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece})
    return {
        "type": "TemplateProcessing",
        "single": pieces[: len(single)],
        "pair": pieces[len(single) :],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in named},
    }


def beginning_with(token: str, ids: Mapping[str, int]) -> dict[str, Any]:
    """Puts a token before every text, as decoders have it."""
    return template((token, "$A"), (token, "$A", f"{token}:1", "$B:1"), ids)
