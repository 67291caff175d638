"""Vocabularies of older formats to a `tokenizer.json`, by transformers' own conversion."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from kerasllm.errors import TokenizerError

__all__ = ["SENTENCEPIECE_FILES", "convert_by_transformers", "find_convertible"]

SENTENCEPIECE_FILES = (
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model"),
)
_REMEDY = (
    "Load it where it works with `transformers.AutoTokenizer` and call `save_pretrained(...)`, which writes "
    "a `tokenizer.json`, and use that directory."
)


def find_convertible(directory: Path) -> tuple[str, ...]:
    """The files of a vocabulary that transformers converts, none if there is no such vocabulary."""
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        return ("vocab.json", "merges.txt")
    return tuple(name for name in SENTENCEPIECE_FILES if (directory / name).is_file())[:1]


def convert_by_transformers(
    directory: Path, files: tuple[str, ...], config: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Makes the `tokenizer.json` that `transformers.AutoTokenizer` makes of a directory.

    Args:
        directory: A checkpoint's directory.
        files: What `find_convertible` found there.
        config: Settings of its `tokenizer_config.json`.

    Returns:
        The text of the `tokenizer.json`, and the settings with the padding token that the class has where
        they name none.

    Raises:
        TokenizerError: If a package that this needs is missing, nothing says which tokenizer it is, or
            transformers refuses it.
    """
    names = " and ".join(f"`{name}`" for name in files)
    packages = ["transformers"] if files[0] == "vocab.json" else ["transformers", "sentencepiece"]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise TokenizerError(
            f"`{directory}` has {names} and no `tokenizer.json`; converting them needs the packages "
            f"{packages}, of which {missing} are not installed. Run `pip install {' '.join(missing)}`. "
            f"Or take another way. {_REMEDY}"
        )
    if "tokenizer_class" not in config and not (directory / "config.json").is_file():
        raise TokenizerError(
            f"`{directory}` has {names}, but nothing says how texts are cut before they are looked up: "
            "expected `tokenizer_class` in `tokenizer_config.json` (or a `config.json` whose `model_type` "
            "tells it). Add the class that the checkpoint was trained with, e.g. `LlamaTokenizer`. "
            f"Or take another way. {_REMEDY}"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        specification = str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # many kinds, from several packages
        raise TokenizerError(
            f"transformers cannot convert {names} of `{directory}` to a `tokenizer.json`: {error}. {_REMEDY}"
        ) from error
    if files[0] in SENTENCEPIECE_FILES:
        _check_kind(directory / files[0], specification, str(type(tokenizer).__name__))
    return specification, {"pad_token": tokenizer.pad_token, **config} if tokenizer.pad_token else config


def _check_kind(path: Path, specification: str, class_name: str) -> None:
    """Refuses a conversion to another kind of model than the one that was trained."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(path.read_bytes())
    trained = {1: "Unigram", 2: "BPE"}.get(proto.trainer_spec.model_type)
    made = json.loads(specification)["model"]["type"]
    if trained not in (None, made):
        raise TokenizerError(
            f"`{path}` was trained as {trained}, but transformers' `{class_name}` makes {made} of it, which "
            "gives other ids than SentencePiece. Name the class that the checkpoint was trained with as "
            "`tokenizer_class` in `tokenizer_config.json`."
        )
