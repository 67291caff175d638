"""Tokenizers made of SentencePiece models that are trained on the spot.

Some go through transformers' own classes, as a `tokenizer.model` without a `tokenizer.json` does; the
`-legacy` ones are laid out as the `tokenizer.json` that most checkpoints on the hub still have.
"""

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasllm.testing.training import Training

__all__ = ["make", "train_sentencepiece"]

_META = "\u2581"
_BYTES = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}


def make(name: str, training: Training) -> str:
    """The `tokenizer.json` of one of `families.SENTENCEPIECE_FAMILIES`."""
    return _MAKERS[name](training)


@functools.cache
def train_sentencepiece(training: Training, model_type: str, **options: Any) -> bytes:
    """Trains a SentencePiece model.

    Args:
        training: The texts, and the size of the vocabulary.
        model_type: `"unigram"` or `"bpe"`.
        **options: More options of SentencePiece's trainer.

    Returns:
        The model file, always the same.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in training.texts for line in text.splitlines() if line]),
        model_writer=model,
        model_type=model_type,
        num_threads=1,
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentence_length=100_000,
        minloglevel=2,
        vocab_size=training.vocabulary_size,
        **options,
    )
    return model.getvalue()


def _by_transformers(class_name: str, model: bytes, file_name: str, **options: Any) -> str:
    """What transformers makes of a model file alone."""
    import transformers

    with tempfile.TemporaryDirectory() as directory, _quiet():
        path = Path(directory, file_name)
        path.write_bytes(model)
        tokenizer = getattr(transformers, class_name).from_pretrained(directory, **options)
        return str(tokenizer.backend_tokenizer.to_str())


@contextlib.contextmanager
def _quiet() -> Any:
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _pieces(model: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto = getattr(messages, "ModelProto")()  # noqa: B009 (made at run time)
    proto.ParseFromString(model)
    return proto


def _legacy_llama2(training: Training, **changes: Any) -> str:
    """As `meta-llama/Llama-2` and `mistralai/Mistral-7B-v0.1` are laid out on the hub."""
    proto = _pieces(train_sentencepiece(training, "bpe", **_BYTES))
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    return _document(
        model={
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(vocabulary, {piece.piece: piece.score for piece in proto.pieces}),
        },
        added=[(0, "<unk>"), (1, "<s>"), (2, "</s>")],
        post_processor=_template(vocabulary, ["<s>", "A"], ["<s>", "A", "<s>:1", "B:1"]),
        **{
            "normalizer": _sequence(
                "normalizers",
                {"type": "Prepend", "prepend": _META},
                {"type": "Replace", "pattern": {"String": " "}, "content": _META},
            ),
            "decoder": _byte_fallback_decoder(strip=1),
            **changes,
        },
    )


def _merges(vocabulary: dict[str, int], scores: dict[str, float]) -> list[list[str]]:
    """All pairs of pieces that make a piece, best piece first."""
    merges = []
    for token, score in scores.items():
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [pair for pair in cuts if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += [
            (score, pair) for pair in sorted(pairs, key=lambda p: (vocabulary[p[0]], vocabulary[p[1]]))
        ]
    return [list(pair) for _, pair in sorted(merges, key=lambda merge: merge[0], reverse=True)]


def _legacy_unigram(
    training: Training, *, special: dict[int, str], mask: bool, template: list[list[str]], split_first: bool
) -> str:
    """As `t5-small` and `xlm-roberta-base` are laid out on the hub."""
    import base64

    proto = _pieces(train_sentencepiece(training, "unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    vocabulary = [[token, 0.0] for token in special.values()]
    first = sum(piece.type != 1 for piece in proto.pieces)
    vocabulary += [[piece.piece, piece.score] for piece in proto.pieces[first:]]
    added = list(special.items())
    if mask:
        added.append((len(vocabulary), "<mask>"))
        vocabulary.append(["<mask>", 0.0])
    ids = {str(token): index for index, (token, _) in enumerate(vocabulary)}
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode("ascii")
    metaspace = {"type": "Metaspace", "replacement": _META, "prepend_scheme": "always", "split": True}
    split = _sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace)
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    precompiled = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    return _document(
        model={"type": "Unigram", "unk_id": ids["<unk>"], "vocab": vocabulary},
        added=added,
        normalizer=precompiled if split_first else _sequence("normalizers", precompiled, spaces),
        pre_tokenizer=split if split_first else metaspace,
        post_processor=_template(ids, *template),
        decoder=metaspace,
    )


def _legacy_t5(training: Training) -> str:
    template = [["A", "</s>"], ["A", "</s>", "B", "</s>"]]
    special = {0: "<pad>", 1: "</s>", 2: "<unk>"}
    return _legacy_unigram(training, special=special, mask=False, template=template, split_first=True)


def _legacy_xlm_roberta(training: Training) -> str:
    template = [["<s>", "A", "</s>"], ["<s>", "A", "</s>", "</s>", "B", "</s>"]]
    special = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>"}
    return _legacy_unigram(training, special=special, mask=True, template=template, split_first=False)


def _document(*, model: dict[str, Any], added: list[tuple[int, str]], **components: Any) -> str:
    """The library's own text of a `tokenizer.json` made of JSON components."""
    from tokenizers import Tokenizer

    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    tokens = [{"id": i, "content": name, "lstrip": name == "<mask>", **flags} for i, name in added]
    empty = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    document = {"version": "1.0", "added_tokens": tokens, **empty, **components, "model": model}
    return str(Tokenizer.from_str(json.dumps(document)).to_str())


def _sequence(members_name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", members_name: list(members)}


def _byte_fallback_decoder(*, strip: int) -> dict[str, Any]:
    members: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _META}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if strip:
        members.append({"type": "Strip", "content": " ", "start": strip, "stop": 0})
    return _sequence("decoders", *members)


def _template(ids: dict[str, int], single: list[str], pair: list[str]) -> dict[str, Any]:
    def piece(entry: str) -> dict[str, Any]:
        name, _, segment = entry.partition(":")
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        return {kind: {"id": name, "type_id": int(segment or 0)}}

    names = sorted({entry.partition(":")[0] for entry in pair} - {"A", "B"})
    return {
        "type": "TemplateProcessing",
        "single": list(map(piece, single)),
        "pair": list(map(piece, pair)),
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names},
    }


def _mistral(training: Training) -> str:
    """As Mistral v0.3: a space is put before the first word of the text only, not after added tokens."""
    metaspace = {"type": "Metaspace", "replacement": _META, "prepend_scheme": "first", "split": False}
    return _legacy_llama2(training, normalizer=None, pre_tokenizer=metaspace)


def _albert(training: Training) -> str:
    options = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": "[CLS],[SEP]"}
    model = train_sentencepiece(training, "unigram", **options, user_defined_symbols="[MASK]")
    return _by_transformers("AlbertTokenizer", model, "spiece.model")


def _gemma(training: Training) -> str:
    options = {**_BYTES, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False}
    model = train_sentencepiece(
        training, "bpe", **options, split_digits=True, allow_whitespace_only_pieces=True
    )
    return _by_transformers("GemmaTokenizer", model, "tokenizer.model")


def _t5(training: Training) -> str:
    model = train_sentencepiece(training, "unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return _by_transformers("T5Tokenizer", model, "spiece.model", extra_ids=10)


_MAKERS: dict[str, Callable[[Training], str]] = {
    "albert": _albert,
    "gemma": _gemma,
    "llama2": lambda training: _by_transformers(
        "LlamaTokenizer", train_sentencepiece(training, "bpe", **_BYTES), "tokenizer.model"
    ),
    "llama2-legacy": _legacy_llama2,
    "mistral": _mistral,
    "t5": _t5,
    "t5-legacy": _legacy_t5,
    "xlm-roberta": lambda training: _by_transformers(
        "XLMRobertaTokenizer", train_sentencepiece(training, "unigram"), "sentencepiece.bpe.model"
    ),
    "xlm-roberta-legacy": _legacy_xlm_roberta,
}
