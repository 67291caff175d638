"""Tokenizers of KerasHub's presets that are SentencePiece models, as their authors have them."""

import base64
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kerasllm.errors import PresetError
from kerasllm.tokenization.documents import (
    SPACE,
    added_token,
    beginning_with,
    bpe,
    in_turn,
    llama_layout,
    merges_by_score,
    template,
    tokenizer_json,
)
from kerasllm.tokenization.sentencepiece_models import (
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
    read_sentencepiece,
)

__all__ = ["SENTENCEPIECE_CLASSES", "sentencepiece_files"]

_METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
_WORDS = in_turn("pretokenizers", {"type": "WhitespaceSplit"}, _METASPACE)
_NUM_SENTINELS = 100
_GEMMA_SPECIAL = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>")


def sentencepiece_files(path: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Makes the tokenizer's files from a SentencePiece model.

    Args:
        path: The model file.
        name: KerasHub's class, one of `SENTENCEPIECE_CLASSES`.

    Returns:
        The content of the `tokenizer.json` and of the `tokenizer_config.json`.

    Raises:
        PresetError: If the model is of another kind than the family's, or lacks its special tokens.
        TokenizerError: If the file is damaged.
    """
    family = SENTENCEPIECE_CLASSES[name]
    model = read_sentencepiece(path)
    if model.kind != family.kind:
        raise PresetError(
            f"`{path}` was trained as {model.kind}, but the author's tokenizer for `{name}` is of the kind "
            f"{family.kind}. Fetch the preset again, or load the author's own `tokenizer.json`."
        )
    if family.kind == "BPE" and model.character_map:
        raise PresetError(
            f"`{path}` normalizes texts, but the author's tokenizer for `{name}` leaves them as they are. "
            "Train it with `normalization_rule_name='identity'`, or load the author's own `tokenizer.json`."
        )
    present = {piece.text for piece in model.pieces}
    first = [piece.text for piece in model.pieces[:3]]
    if name == "XLMRobertaTokenizer" and first != ["<unk>", "<s>", "</s>"]:
        raise PresetError(
            f"`{path}` begins with {first}, but XLM-RoBERTa's ids are those of a model that begins with "
            "['<unk>', '<s>', '</s>']. Fetch the preset again."
        )
    missing = sorted({family.tokens[kind] for kind in family.required} - present)
    unknown = next((piece.text for piece in model.pieces if piece.kind == UNKNOWN), None)
    if missing or unknown != family.tokens["unk_token"]:
        raise PresetError(
            f"`{path}` lacks {missing or [family.tokens['unk_token']]}, which every vocabulary of KerasHub's "
            f"`{name}` has. Fetch the preset again."
        )
    document = family.make(model, family.tokens)
    added = {token["content"] for token in document["added_tokens"]}
    named = {kind: token for kind, token in family.tokens.items() if token in added}
    return document, {"tokenizer_class": family.hugging_face, **named}


class _Family(NamedTuple):
    kind: str
    hugging_face: str
    tokens: Mapping[str, str]
    required: tuple[str, ...]
    make: Callable[[SentencePieceModel, Mapping[str, str]], dict[str, Any]]


def _unigram(
    pieces: Iterable[tuple[str, float]],
    special: Iterable[str],
    *,
    unknown: str,
    single: tuple[str, ...],
    pair: tuple[str, ...],
    normalizer: dict[str, Any] | None,
    splits: dict[str, Any] = _WORDS,
) -> dict[str, Any]:
    vocabulary = [list(piece) for piece in pieces]
    ids = {str(text): number for number, (text, _) in enumerate(vocabulary)}
    model = {"type": "Unigram", "unk_id": ids[unknown], "vocab": vocabulary, "byte_fallback": False}
    return tokenizer_json(
        model,
        [
            added_token(token, ids[token], lstrip=token in ("<mask>", "[MASK]"))
            for token in sorted(set(special))
            if token in ids
        ],
        normalizer=normalizer,
        pre_tokenizer=splits,
        post_processor=template(single, pair, ids),
        decoder=_METASPACE,
    )


def _precompiled(model: SentencePieceModel) -> dict[str, Any] | None:
    if not model.character_map:
        return None
    characters = base64.b64encode(model.character_map).decode("ascii")
    return {"type": "Precompiled", "precompiled_charsmap": characters}


def _scores(pieces: Iterable[Piece]) -> list[tuple[str, float]]:
    return [(piece.text, piece.score) for piece in pieces]


def _albert(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    def replace(quotes: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": quotes}, "content": '"'}

    characters = _precompiled(model)
    return _unigram(
        # The author cuts `9,` in two, which the published `tokenizer.json` does by its score.
        [
            (text, score - 100 if text[-1:] == "," and text[-2:-1].isdigit() else score)
            for text, score in _scores(model.pieces)
        ],
        tokens.values(),
        unknown="<unk>",
        single=("[CLS]", "$A", "[SEP]"),
        pair=("[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"),
        normalizer=in_turn(
            "normalizers",
            *(replace("``"), replace("''"), {"type": "NFKD"}, {"type": "StripAccents"}),
            *({"type": "Lowercase"}, *([characters] if characters else [])),
        ),
    )


def _xlm_roberta(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return _unigram(
        # The three that SentencePiece puts first make room for fairseq's four.
        [*first, *_scores(model.pieces[3:]), ("<mask>", 0.0)],
        tokens.values(),
        unknown="<unk>",
        single=("<s>", "$A", "</s>"),
        pair=("<s>", "$A", "</s>", "</s>", "$B", "</s>"),
        normalizer=_precompiled(model),
    )


def _deberta(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    pieces = _scores(model.pieces)
    if "[MASK]" not in dict(pieces):
        pieces.append(("[MASK]", 0.0))
    document = _unigram(
        pieces,
        tokens.values(),
        unknown="[UNK]",
        single=("[CLS]", "$A", "[SEP]"),
        pair=("[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"),
        normalizer=in_turn(
            "normalizers",
            {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
            {"type": "NFC"},
            {"type": "Strip", "strip_left": False, "strip_right": True},
        ),
        splits=in_turn("pretokenizers", _METASPACE),
    )
    for token in document["added_tokens"]:
        token["lstrip"] = False
    return document


def _t5(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    pieces, present = _scores(model.pieces), {piece.text for piece in model.pieces}
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(_NUM_SENTINELS))]
    return _unigram(
        [*pieces, *((token, 0.0) for token in sentinels if token not in present)],
        [*tokens.values(), *sentinels],
        unknown="<unk>",
        single=("$A", "</s>"),
        pair=("$A", "</s>", "$B", "</s>"),
        normalizer=_precompiled(model),
    )


def _gemma(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    pieces = list(model.pieces)
    texts = [piece.text for piece in pieces]
    if "\t" not in texts and "<0x09>" in texts:
        # As the author's `tokenizer.json` has it, so that runs of tabs can be merged.
        pieces[texts.index("<0x09>")] = Piece("\t", 0.0)
    document = _bpe(pieces, special={*tokens.values(), *_GEMMA_SPECIAL}, prefixed=False)
    return {
        **document,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": beginning_with("<bos>", document["model"]["vocab"]),
    }


def _llama(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    document = _bpe(model.pieces, special=set(tokens.values()), prefixed=True)
    return {**document, "post_processor": beginning_with("<s>", document["model"]["vocab"])}


def _mistral(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    document = _llama(model, tokens)
    if not any(piece.text == "[INST]" and piece.kind == CONTROL for piece in model.pieces):
        return document
    # Since version 3, only the first word of a text gets a space before it, not what follows `[INST]`.
    splits = {**_METASPACE, "prepend_scheme": "first", "split": False}
    return {**document, "normalizer": None, "pre_tokenizer": splits}


def _phi3(model: SentencePieceModel, tokens: Mapping[str, str]) -> dict[str, Any]:
    document = _bpe(model.pieces, special={piece.text for piece in model.pieces}, prefixed=True)
    for token in document["added_tokens"]:
        # The author's tokens of a conversation take the line break that follows them.
        token["rstrip"] = token["content"] not in ("<unk>", "<s>", "<|endoftext|>")
    return document


def _bpe(pieces: Iterable[Piece], *, special: set[str], prefixed: bool) -> dict[str, Any]:
    """A layout in which control and user-defined pieces are added tokens, and the latter special if named."""
    pieces = list(pieces)
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    added = [
        added_token(piece.text, ids[piece.text], special=piece.kind == CONTROL or piece.text in special)
        for piece in pieces
        if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    model = bpe(ids, merges_by_score(dict(_scores(pieces)), ids))
    layout = llama_layout(model, unknown="<unk>", prefixed=prefixed)
    return tokenizer_json(**layout, added=added, pre_tokenizer=None, post_processor=None)


_BERT_TOKENS = {
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_GEMMA_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_SENTENCE = ("bos_token", "eos_token")
_LLAMA_TOKENS = {**_ENDS, "pad_token": "<unk>"}
_GEMMA = _Family("BPE", "GemmaTokenizer", _GEMMA_TOKENS, (*_SENTENCE, "pad_token"), _gemma)
_MISTRAL = _Family("BPE", "LlamaTokenizer", _LLAMA_TOKENS, _SENTENCE, _mistral)
SENTENCEPIECE_CLASSES = {
    "AlbertTokenizer": _Family(
        "Unigram",
        "AlbertTokenizer",
        {**_BERT_TOKENS, "unk_token": "<unk>", "pad_token": "<pad>"},
        (*_SENTENCE, "pad_token", "mask_token"),
        _albert,
    ),
    "DebertaV3Tokenizer": _Family(
        "Unigram",
        "DebertaV2Tokenizer",
        {**_BERT_TOKENS, "unk_token": "[UNK]", "pad_token": "[PAD]"},
        (*_SENTENCE, "pad_token"),
        _deberta,
    ),
    "Gemma3Tokenizer": _GEMMA,
    "GemmaTokenizer": _GEMMA,
    "LlamaTokenizer": _Family("BPE", "LlamaTokenizer", _LLAMA_TOKENS, _SENTENCE, _llama),
    "MistralTokenizer": _MISTRAL,
    "MixtralTokenizer": _MISTRAL,
    "Phi3Tokenizer": _Family(
        "BPE",
        "LlamaTokenizer",
        {**_ENDS, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        _SENTENCE,
        _phi3,
    ),
    "T5Tokenizer": _Family(
        "Unigram",
        "T5Tokenizer",
        {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        ("eos_token", "pad_token"),
        _t5,
    ),
    "XLMRobertaTokenizer": _Family(
        "Unigram",
        "XLMRobertaTokenizer",
        {
            "cls_token": "<s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
            **_ENDS,
        },
        _SENTENCE,
        _xlm_roberta,
    ),
}
