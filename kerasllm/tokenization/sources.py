"""From a checkpoint's directory to the text of its `tokenizer.json`."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers.models import WordPiece

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.conversion import SENTENCEPIECE_FILES, convert_by_transformers, find_convertible

__all__ = ["read_source", "read_wordpiece"]

_BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_MORE_TOKENS = ("additional_special_tokens", "extra_special_tokens")
# A `vocab.txt` is read as these read it; `Fast` may follow.
_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")
_PARTS = ("vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", *SENTENCEPIECE_FILES)
# Kind of component, its parameter, and the setting of `tokenizer_config.json` for the same.
_SETTINGS = (
    ("BertNormalizer", "lowercase", "do_lower_case"),
    ("BertNormalizer", "handle_chinese_chars", "tokenize_chinese_chars"),
    ("ByteLevel", "add_prefix_space", "add_prefix_space"),
)
_log = logging.getLogger("kerasllm.tokenization")
_REMEDY = (
    "Load it with `transformers.AutoTokenizer` and call `save_pretrained(...)`, which writes a "
    "`tokenizer.json`, and use that directory."
)


def read_source(path: Path) -> tuple[str, dict[str, Any]]:
    """Reads a tokenizer from a directory or from a `tokenizer.json`.

    A `tokenizer.json` wins over older formats. It is used as it is, with one exception: added tokens that
    only the `added_tokens_decoder` of `tokenizer_config.json` has, or has otherwise, are taken from there,
    as transformers does. `vocab.json` with `merges.txt`, and a SentencePiece `tokenizer.model` or
    `spiece.model`, go through transformers' own conversion, which must be installed. A `vocab.txt` is
    turned into the `tokenizer.json` that transformers' `BertTokenizer` makes of it and of
    `tokenizer_config.json`.

    Args:
        path: A checkpoint's directory, or a `tokenizer.json` file.

    Returns:
        The text of the `tokenizer.json`, and the settings of `tokenizer_config.json` (empty without one).

    Raises:
        TokenizerError: If there is no tokenizer, or one that cannot be read exactly.
    """
    directory = path if path.is_dir() else path.parent
    config = _read_config(directory / "tokenizer_config.json")
    template = directory / "chat_template.jinja"
    if template.is_file():  # where it is kept since transformers 4.50; it wins there too
        config["chat_template"] = _read_text(template)
    if path.is_file() and path.name in _PARTS:
        raise TokenizerError(
            f"`{path}` alone is no tokenizer, other files of its directory belong to it. Give the directory, "
            f"`{directory}`."
        )
    json_path = path / "tokenizer.json" if path.is_dir() else path
    if json_path.is_file():
        text = _with_added_tokens(_read_text(json_path), config)
        _warn_of_contradictions(json_path, text, config)
        return text, config
    if path.is_dir() and (files := find_convertible(directory)):
        return convert_by_transformers(directory, files, config)
    vocabulary = directory / "vocab.txt"
    if not vocabulary.is_file():
        found = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        raise TokenizerError(
            f"`{path}` has no tokenizer: expected a `tokenizer.json`, a `vocab.txt` of a WordPiece "
            "tokenizer, `vocab.json` and `merges.txt`, or a SentencePiece `tokenizer.model` or "
            f"`spiece.model`, but found {found}. {_REMEDY}"
        )
    return read_wordpiece(vocabulary, config), config


def _with_added_tokens(text: str, config: dict[str, Any]) -> str:
    """The `tokenizer.json` with the added tokens of `added_tokens_decoder`; as it was if it has them."""
    named = config.get("added_tokens_decoder") or {}
    try:
        specification = json.loads(text) if named else {}
        present = {token["content"]: token for token in specification.get("added_tokens", [])}
        wanted = {token["content"]: {"id": int(index), **_flags(token)} for index, token in named.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return text  # a damaged file is explained where it is read
    for content in wanted.keys() & present.keys():
        wanted[content]["id"] = present[content]["id"]
    changed = {content: token for content, token in wanted.items() if present.get(content) != token}
    if not changed:
        return text
    added = sorted({**present, **changed}.values(), key=lambda token: int(token["id"]))
    return json.dumps({**specification, "added_tokens": added}, ensure_ascii=False)


def _warn_of_contradictions(path: Path, text: str, config: dict[str, Any]) -> None:
    """Settings that transformers would put in the place of what the `tokenizer.json` says."""
    for of, parameter, setting in _SETTINGS:
        said = {json.dumps(component.get(parameter)) for component in _components(text, of)}
        if setting in config and said and said != {json.dumps(config[setting])}:
            _log.warning(
                "`%s` has `%s`: %s, but `%s` of `tokenizer_config.json` is %s. The `tokenizer.json` is used, "
                "as the `tokenizers` library does; transformers' `AutoTokenizer` may do otherwise.",
                *(path, parameter, ", ".join(sorted(said)), setting, json.dumps(config[setting])),
            )


def _components(text: str, kind: str) -> Iterator[dict[str, Any]]:
    """The normalizers and pre-tokenizers of a kind."""
    try:
        document = json.loads(text)
        left = [document.get("normalizer"), document.get("pre_tokenizer")]
    except (AttributeError, ValueError):
        return  # a damaged file is explained where it is read
    while left:
        component = left.pop()
        if isinstance(component, dict):
            left += component.get("normalizers") or component.get("pretokenizers") or []
            if component.get("type") == kind:
                yield component


def _flags(token: dict[str, Any]) -> dict[str, Any]:
    """An entry of `added_tokens_decoder` as `tokenizer.json` has it; with the library's defaults."""
    special = bool(token.get("special", False))
    sides = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip")}
    normalized = bool(token.get("normalized", not special))
    return {"content": token["content"], **sides, "normalized": normalized, "special": special}


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"`{path}` is not UTF-8 at byte {error.start}: the file is damaged. Download it again."
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise TokenizerError(
            f"`{path}` is not JSON at line {error.lineno}: {error.msg}. Download the file again."
        ) from error
    if not isinstance(config, dict):
        raise TokenizerError(f"`{path}` holds a {type(config).__name__}, expected a JSON object.")
    return config


def read_wordpiece(path: Path, config: dict[str, Any]) -> str:
    """Turns a `vocab.txt` into the `tokenizer.json` that transformers' `BertTokenizer` makes of it.

    Args:
        path: The vocabulary, a token a line.
        config: Settings of `tokenizer_config.json`.

    Raises:
        TokenizerError: If it lacks special tokens, or the settings are not those of a plain BERT.
    """
    _read_text(path)  # explains what is no UTF-8
    # In the order of the ids: the library's own order changes from run to run, and with it the fingerprint.
    vocabulary = dict(sorted(WordPiece.read_file(str(path)).items(), key=lambda entry: entry[1]))
    _refuse_what_is_not_plain_bert(path, config, vocabulary)
    tokens = {name: _special_token(config, name) for name in _BERT_TOKENS}
    contents = {name: token["content"] for name, token in tokens.items()}
    missing = sorted(content for content in contents.values() if content not in vocabulary)
    if missing:
        raise TokenizerError(
            f"`{path}` lacks the special tokens {missing} that `tokenizer_config.json` (or BERT's default) "
            f"names; a `vocab.txt` must hold all of {sorted(contents.values())}. {_REMEDY}"
        )
    specification = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(
            ({"id": vocabulary[token["content"]], **token} for token in tokens.values()),
            key=lambda t: t["id"],
        ),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(config.get("tokenize_chinese_chars", True)),
            "strip_accents": config.get("strip_accents"),
            "lowercase": bool(config.get("do_lower_case", True)),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _post_processor(contents["cls_token"], contents["sep_token"], vocabulary),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": contents["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    return json.dumps(specification, ensure_ascii=False)


def _refuse_what_is_not_plain_bert(path: Path, config: dict[str, Any], vocabulary: dict[str, int]) -> None:
    problems = []
    named = config.get("tokenizer_class") or _BERT_CLASSES[0]
    if str(named).removesuffix("Fast") not in _BERT_CLASSES:
        problems.append(f"`tokenizer_class` {named!r}")
    if (path.parent / "added_tokens.json").is_file():
        problems.append("`added_tokens.json`")
    tokens_map = _read_config(path.parent / "special_tokens_map.json")
    problems += [f"`special_tokens_map.json` with `{name}`" for name in _MORE_TOKENS if tokens_map.get(name)]
    problems += [f"`{name}`" for name in ("never_split", *_MORE_TOKENS) if config.get(name)]
    expected = {_special_token(config, name)["content"] for name in _BERT_TOKENS}
    for index, token in (config.get("added_tokens_decoder") or {}).items():
        content = token["content"]
        if content not in expected or vocabulary.get(content) != int(index):
            problems.append(f"`added_tokens_decoder` with {content!r}")
    if problems:
        raise TokenizerError(
            f"`{path}` comes with {', '.join(problems)}, which only a `tokenizer.json` can say exactly. "
            f"{_REMEDY}"
        )


def _special_token(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name) or _BERT_TOKENS[name]
    given = value if isinstance(value, dict) else {"content": value}
    flags = {flag: bool(given.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"content": given["content"], **flags, "special": True}


def _post_processor(cls: str, sep: str, vocabulary: dict[str, int]) -> dict[str, Any]:
    def special(token: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def sequence(name: str, type_id: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [special(cls, 0), sequence("A", 0), special(sep, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, sequence("B", 1), special(sep, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (cls, sep)
        },
    }
