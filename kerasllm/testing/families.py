"""Tokenizers of the well-known families, trained on the spot: each as the text of a `tokenizer.json`.

They have the components, parameters and special tokens of the real ones and small vocabularies of their
own. The SentencePiece ones (`llama2`, `t5` and so on) need the packages `sentencepiece` and `transformers`.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

from kerasllm.testing.byte_level_patterns import CLIP, DEEPSEEK_V2, DEEPSEEK_V3, LLAMA3, O200K, QWEN2
from kerasllm.testing.training import Training, finished, letters, special_token, template, trained

__all__ = ["FAMILIES", "SENTENCEPIECE_FAMILIES", "family"]

_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

SENTENCEPIECE_FAMILIES = (
    "albert",
    "gemma",
    "llama2",
    "llama2-legacy",
    "mistral",
    "t5",
    "t5-legacy",
    "xlm-roberta",
    "xlm-roberta-legacy",
)


def family(name: str, training: Training | None = None) -> str:
    """Trains a tokenizer of a family, in a second or less unless it gets more texts.

    Args:
        name: One of `FAMILIES`, e.g. `"llama3"`.
        training: Texts, and the size of the vocabulary. Defaults to `None`, the small corpus of this package.

    Returns:
        The text of its `tokenizer.json`, always the same.

    Raises:
        ValueError: If there is no such family.
        ImportError: If it is one of `SENTENCEPIECE_FAMILIES` and their packages are missing.

    Example:
    >>> json.loads(family("qwen2"))["normalizer"]
    {'type': 'NFC'}
    """
    if name not in FAMILIES:
        raise ValueError(f"There is no family {name!r}; choose one of {sorted(FAMILIES)}.")
    return _made(name, training or Training())


@functools.cache
def _made(name: str, training: Training) -> str:
    return FAMILIES[name](training)


def _bert(training: Training, *, lowercase: bool) -> str:
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    alphabet = [f"##{letter}" for letter in letters(training, normalizer)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=training.vocabulary_size,
        min_frequency=0,
        special_tokens=[*_BERT_TOKENS, *alphabet],
        show_progress=False,
    )
    tokenizer = trained(
        training,
        models.WordPiece(unk_token="[UNK]"),  # noqa: S106, not a password
        trainer,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
    )
    post_processor = template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return finished(tokenizer, tuple(map(special_token, _BERT_TOKENS)), post_processor)


def _byte_level(
    training: Training,
    pre_tokenizer: Any = None,
    added: tuple[Any, ...] = (special_token("<|endoftext|>"),),
    post_processor: Any = None,
    model: dict[str, Any] | None = None,
    **components: Any,
) -> str:
    """A byte-level BPE: GPT-2's, unless something else is said."""
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    options: dict[str, Any] = model or {}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    suffix = options.get("end_of_word_suffix")
    last_letters = [f"{letter}{suffix}" for letter in alphabet] if suffix else []
    trainer = trainers.BpeTrainer(
        vocab_size=training.vocabulary_size,
        min_frequency=0,
        initial_alphabet=alphabet,
        special_tokens=[*(token["content"] for token in added), *last_letters],
        show_progress=False,
        **({"end_of_word_suffix": suffix} if suffix else {}),
    )
    tokenizer = trained(
        training,
        models.BPE(**options),
        trainer,
        pre_tokenizer=pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        **components,
    )
    if post_processor is None:
        post_processor = processors.ByteLevel(trim_offsets=False)
    return finished(tokenizer, added, post_processor)


def _split(pattern: str, **options: Any) -> dict[str, Any]:
    value = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {**value, **options}


def _bytes(**options: bool) -> dict[str, Any]:
    value = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {**value, **options}


def _in_turn(*members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(members)}


def _gpt2(training: Training) -> str:
    """As on the hub, where an affix that is not used is empty, not missing."""
    document = json.loads(_byte_level(training))
    document["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return json.dumps(document, ensure_ascii=False)


def _smollm2(training: Training) -> str:
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>", "<empty_output>")
    digits = {"type": "Digits", "individual_digits": True}
    return _byte_level(training, _in_turn(digits, _bytes(use_regex=True)), tuple(map(special_token, names)))


def _gpt2_with_plain_added_tokens(training: Training) -> str:
    """GPT-2 with added tokens of every kind, normalized and single-word ones among them."""
    added = (
        special_token("<|endoftext|>"),
        special_token("the reader", special=False, normalized=True, single_word=True),
        special_token("<tag>", special=False, lstrip=True, rstrip=True),
        special_token("re-read", special=False, normalized=True),
        special_token("    ", special=False, normalized=True),
        special_token("日本", special=False, single_word=True),
    )
    return _byte_level(training, added=added)


def _roberta(training: Training) -> str:
    from tokenizers import pre_tokenizers, processors

    names = ("<s>", "<pad>", "</s>", "<unk>")
    return _byte_level(
        training,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        (*map(special_token, names), special_token("<mask>", lstrip=True)),
        processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False),
    )


def _llama3(training: Training) -> str:
    from tokenizers import processors

    names = (
        *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>"),
        *("<|end_header_id|>", "<|eot_id|>"),
    )
    frame = template("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1")
    return _byte_level(
        training,
        _in_turn(_split(LLAMA3), _bytes()),
        tuple(map(special_token, names)),
        lambda tokenizer: processors.Sequence([processors.ByteLevel(trim_offsets=False), frame(tokenizer)]),
        {"ignore_merges": True},
    )


def _qwen2(training: Training) -> str:
    from tokenizers import normalizers

    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return _byte_level(
        training,
        _in_turn(_split(QWEN2), _bytes()),
        tuple(map(special_token, names)),
        normalizer=normalizers.NFC(),
    )


def _deepseek(training: Training, *, patterns: tuple[str, ...], digits: bool) -> str:
    members = [_split(pattern) for pattern in patterns]
    if digits:
        members.append({"type": "Digits", "individual_digits": True})
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"  # noqa: RUF001
    return _byte_level(
        training,
        _in_turn(*members, _bytes()),
        (special_token(bos), special_token(eos), special_token("<｜User｜>", special=False)),  # noqa: RUF001
        template(f"{bos} $A", f"{bos} $A {bos}:1 $B:1"),
    )


def _clip(training: Training) -> str:
    from tokenizers import Regex, normalizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    return _byte_level(
        training,
        _in_turn(_split(CLIP, behavior="Removed", invert=True), _bytes(use_regex=True)),
        (special_token(start, normalized=True), special_token(end)),
        processors.RobertaProcessing((end, 1), (start, 0), trim_offsets=False, add_prefix_space=False),
        {"end_of_word_suffix": "</w>", "continuing_subword_prefix": "", "unk_token": end},
        normalizer=normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        ),
    )


def _openai_gpt(training: Training) -> str:
    """The first GPT: BPE on characters with `</w>` at the end of words."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    options = {"end_of_word_suffix": "</w>", "unk_token": "<unk>"}
    normalizer = normalizers.BertNormalizer(lowercase=True)
    trainer = trainers.BpeTrainer(
        vocab_size=training.vocabulary_size,
        min_frequency=0,
        special_tokens=["<unk>", *(f"{letter}</w>" for letter in letters(training, normalizer))],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer = trained(
        training,
        models.BPE(**options),
        trainer,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.BPEDecoder(suffix="</w>"),
    )
    return finished(tokenizer, (special_token("<unk>"),))


def _of_sentencepiece(training: Training, *, name: str) -> str:
    from kerasllm.testing import sentencepiece_families

    return sentencepiece_families.make(name, training)


FAMILIES: dict[str, Callable[[Training], str]] = {
    "bert-cased": functools.partial(_bert, lowercase=False),
    "bert-uncased": functools.partial(_bert, lowercase=True),
    "clip": _clip,
    "deepseek-v2": functools.partial(_deepseek, patterns=DEEPSEEK_V2, digits=True),
    "deepseek-v3": functools.partial(_deepseek, patterns=DEEPSEEK_V3, digits=False),
    "gpt2": _gpt2,
    "gpt2-added-tokens": _gpt2_with_plain_added_tokens,
    "llama3": _llama3,
    "o200k": lambda training: _byte_level(training, _in_turn(_split(O200K), _bytes())),
    "openai-gpt": _openai_gpt,
    "qwen2": _qwen2,
    "roberta": _roberta,
    "smollm2": _smollm2,
    **{name: functools.partial(_of_sentencepiece, name=name) for name in SENTENCEPIECE_FAMILIES},
}
