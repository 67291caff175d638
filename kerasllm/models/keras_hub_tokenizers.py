"""Reads the tokenizers of presets in KerasHub's own format, as the authors of the checkpoints have them.

KerasHub keeps the vocabulary, but splits texts in its own way: in an uncased BERT it leaves accents, so
that `café` is unknown, and its byte-level BPE takes GPT-2's pattern for every family. So only the files are
taken from it; how texts are split is taken from the family's tokenizer in Hugging Face format.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import PresetError, TokenizerError
from kerasllm.models.keras_hub_sentencepiece import SENTENCEPIECE_CLASSES, sentencepiece_files
from kerasllm.tokenization.documents import (
    BYTE_LEVEL,
    BYTES_ONLY,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    added_token,
    beginning_with,
    bpe,
    in_turn,
    split,
    tokenizer_json,
)
from kerasllm.tokenization.sources import read_wordpiece

if TYPE_CHECKING:
    from kerasllm.tokenization import Tokenizer

_WORDPIECE_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
# Where the vocabulary of GPT-NeoX ends; the author's tokenizer goes on with runs of 24 to 2 spaces.
_NEOX_SIZE, _NEOX_RUNS = 50_254, range(24, 1, -1)
_LEFT = ("<mask>",)  # takes the spaces before it
# Added tokens of Qwen and SmolLM3 that are text, which `skip_special_tokens` leaves.
_PLAIN = ("<|fim_", "<|repo_name|>", "<|file_sep|>")


def load_keras_hub_tokenizer(directory: Path, settings: Mapping) -> "Tokenizer":
    """Loads the tokenizer that the author of the original checkpoint meant.

    Args:
        directory: The preset.
        settings: The `config.json` of its tokenizer, called `tokenizer.json`.

    Returns:
        The tokenizer. Its ids are those of the family's tokenizer in Hugging Face format, which are not
        always those that KerasHub makes of the same files.

    Raises:
        PresetError: If files are missing or damaged, or the class is not known.
    """
    from kerasllm.tokenization import Tokenizer

    name = str(settings.get("registered_name", "")).partition(">")[2] or str(settings.get("class_name"))
    options = settings.get("config")
    options = options if isinstance(options, Mapping) else {}
    assets = directory / "assets" / "tokenizer"
    try:
        if name in _WORDPIECE_CLASSES:
            document, config = _wordpiece(assets, name, options)
        elif name in _BYTE_LEVEL_CLASSES:
            document, config = _byte_level(assets, name, options)
        elif name in SENTENCEPIECE_CLASSES:
            document, config = sentencepiece_files(_asset(assets, "vocabulary.spm"), name)
        else:
            known = sorted([*_WORDPIECE_CLASSES, *_BYTE_LEVEL_CLASSES, *SENTENCEPIECE_CLASSES])
            raise PresetError(
                f"The tokenizer of `{directory}` is KerasHub's {name!r}, which is not supported. Supported: "
                f"{', '.join(known)}. Load the author's checkpoint in Hugging Face format instead."
            )
        return Tokenizer(json.dumps(document, ensure_ascii=False), config)
    except TokenizerError as error:
        raise PresetError(f"The tokenizer of `{directory}` cannot be read: {error}") from error


def _asset(assets: Path, name: str) -> Path:
    if not (assets / name).is_file():
        raise PresetError(
            f"`{assets.parent.parent}` has no `assets/tokenizer/{name}`. Is the download complete?"
        )
    return assets / name


def _require(tokens: Sequence[str], ids: Mapping[str, int], path: Path, name: str) -> None:
    missing = [token for token in tokens if token not in ids]
    if missing:
        raise PresetError(
            f"`{path}` lacks {missing}, which every vocabulary of KerasHub's `{name}` has. Fetch the preset "
            "again."
        )


def _wordpiece(assets: Path, name: str, options: Mapping) -> tuple[dict[str, Any], dict[str, Any]]:
    path = _asset(assets, "vocabulary.txt")
    for setting, usual in (("suffix_indicator", "##"), ("oov_token", "[UNK]")):
        if options.get(setting, usual) != usual:
            raise PresetError(
                f"The tokenizer of `{assets.parent.parent}` has `{setting}`: {options[setting]!r}, but BERT "
                f"has {usual!r}. Load the author's checkpoint in Hugging Face format instead."
            )
    config = {"tokenizer_class": name, "do_lower_case": bool(options.get("lowercase", False)), **_BERT_TOKENS}
    return json.loads(read_wordpiece(path, config)), config


@dataclasses.dataclass(frozen=True)
class _Family:
    """A family with byte-level BPE.

    Attributes:
        tokens: Its special tokens, by their names in `tokenizer_config.json`.
        required: Those of them that no vocabulary is without.
        hugging_face: The class in Hugging Face format.
        pattern: How texts are split, or `None`, as GPT-2 does.
        composed: Whether texts are brought into Unicode's composed form first.
        whole_words: Whether words of the vocabulary are left whole where merges would not make them.
        open_ended: Whether all tokens are added tokens that no merge makes.
        frame: Makes the post-processor from the ids.
    """

    tokens: Mapping[str, str]
    required: Sequence[str]
    hugging_face: str
    pattern: str | None = None
    composed: bool = False
    whole_words: bool = False
    open_ended: bool = False
    frame: Callable[[Mapping[str, int]], dict[str, Any]] = lambda _: {**BYTES_ONLY, "trim_offsets": False}


def _roberta_frame(ids: Mapping[str, int]) -> dict[str, Any]:
    ends = {"sep": ["</s>", ids["</s>"]], "cls": ["<s>", ids["<s>"]]}
    return {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}


_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
_QWEN = _Family(
    tokens={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    required=("<|endoftext|>",),
    hugging_face="Qwen2Tokenizer",
    pattern=QWEN2_PATTERN,
    composed=True,
    open_ended=True,
)
_QWEN3 = dataclasses.replace(
    _QWEN,
    tokens={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    required=("<|im_end|>", "<|endoftext|>"),
)
_LLAMA3 = _Family(
    tokens={
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|end_of_text|>",
    },
    required=("<|begin_of_text|>", "<|end_of_text|>"),
    hugging_face="PreTrainedTokenizerFast",
    pattern=LLAMA3_PATTERN,
    whole_words=True,
    open_ended=True,
    frame=lambda ids: beginning_with("<|begin_of_text|>", ids),
)
_BYTE_LEVEL_CLASSES = {
    "RobertaTokenizer": _Family(
        _ROBERTA, ("<s>", "</s>", "<pad>", "<mask>"), "RobertaTokenizer", frame=_roberta_frame
    ),
    "BartTokenizer": _Family(_ROBERTA, ("<s>", "</s>", "<pad>"), "BartTokenizer", frame=_roberta_frame),
    "GPT2Tokenizer": _Family({**_GPT2, "pad_token": "<|endoftext|>"}, ("<|endoftext|>",), "GPT2Tokenizer"),
    "OPTTokenizer": _Family(
        {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
        ("</s>", "<pad>"),
        "GPT2Tokenizer",
        frame=lambda ids: beginning_with("</s>", ids),
    ),
    "GPTNeoXTokenizer": _Family(
        {**_GPT2, "pad_token": "<|padding|>"},
        ("<|endoftext|>",),
        "GPTNeoXTokenizer",
        composed=True,
        open_ended=True,
        frame=lambda _: BYTES_ONLY,
    ),
    "Llama3Tokenizer": _LLAMA3,
    "QwenTokenizer": _QWEN,
    "QwenMoeTokenizer": _QWEN,
    "Qwen3Tokenizer": _QWEN3,
    "Qwen3MoeTokenizer": _QWEN3,
    # Llama 3's tokenizer but for the token at the start of texts, which the author left out.
    "SmolLM3Tokenizer": dataclasses.replace(_LLAMA3, frame=lambda _: {**BYTES_ONLY, "trim_offsets": False}),
}


def _byte_level(assets: Path, name: str, options: Mapping) -> tuple[dict[str, Any], dict[str, Any]]:
    family = _BYTE_LEVEL_CLASSES[name]
    path = _asset(assets, "vocabulary.json")
    ids = _vocabulary(path)
    merges = _merges(_asset(assets, "merges.txt"))
    _require(family.required, ids, path, name)
    if options.get("add_prefix_space"):
        raise PresetError(
            f"The tokenizer of `{assets.parent.parent}` has `add_prefix_space`: true, but no author's "
            f"tokenizer of `{name}` has. Set it to false there if texts need no space at the start."
        )
    named = {kind: token for kind, token in family.tokens.items() if token in ids}
    added = [added_token(token, ids[token], lstrip=token in _LEFT) for token in {*named.values()}]
    if family.open_ended:
        added += _more_added(ids, merges, {*named.values()}, options.get("unsplittable_tokens"))
    if name == "GPTNeoXTokenizer":
        named.setdefault("pad_token", "<|endoftext|>")
        if len(ids) == _NEOX_SIZE and ids.get("<|padding|>") == 1:
            runs = ((" " * size, len(ids) + place) for place, size in enumerate(_NEOX_RUNS))
            added += [added_token(run, number, special=False, normalized=True) for run, number in runs]
    splits = in_turn("pretokenizers", split(family.pattern), BYTES_ONLY) if family.pattern else BYTE_LEVEL
    document = tokenizer_json(
        bpe(ids, merges, ignore_merges=family.whole_words),
        added,
        normalizer={"type": "NFC"} if family.composed else None,
        pre_tokenizer=splits,
        post_processor=family.frame(ids),
        decoder={**BYTE_LEVEL, "add_prefix_space": True},
    )
    begins = {"add_bos_token": True} if name == "OPTTokenizer" else {}
    return document, {"tokenizer_class": family.hugging_face, "add_prefix_space": False, **begins, **named}


def _more_added(
    ids: Mapping[str, int], merges: Sequence[Sequence[str]], present: set[str], named: Any
) -> list[dict[str, Any]]:
    """The added tokens, which KerasHub writes among the others: named ones, and those that no merge makes."""
    made = {left + right for left, right in merges}
    found = {token for token in ids if len(token) > 1 and token not in made}
    found |= {token for token in named or () if token in ids}
    # Sorted, for the same fingerprint every time.
    return [
        added_token(
            token,
            ids[token],
            special=token.startswith("<|") and not token.startswith(_PLAIN),
            normalized=token.isspace(),
        )
        for token in sorted(found - present)
    ]


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise PresetError(f"`{path}` is no JSON ({error}). Fetch the preset again.") from error
    if not isinstance(content, dict) or not all(type(number) is int for number in content.values()):
        raise PresetError(f"`{path}` must map tokens to numbers, but does not. Fetch the preset again.")
    return dict(sorted(content.items(), key=lambda entry: int(entry[1])))


def _merges(path: Path) -> list[list[str]]:
    # `splitlines` would also cut at characters that stand for bytes.
    lines = [line.rstrip("\r") for line in _text(path).split("\n")]
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version:")]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong is not None:
        raise PresetError(
            f"`{path}` must hold two tokens a line, but has {' '.join(wrong)!r}. Fetch the preset again."
        )
    return merges


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PresetError(
            f"`{path}` is not UTF-8 at byte {error.start}: the file is damaged. Fetch the preset again."
        ) from error
