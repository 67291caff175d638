"""Vocabularies of older formats to a `tokenizer.json`, by transformers' own conversion."""

import importlib.util
from pathlib import Path
from typing import Any

from kerasllm.errors import TokenizerError

__all__ = ["convert_by_transformers", "find_convertible"]

_SENTENCEPIECE_FILES = (
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
    return tuple(name for name in _SENTENCEPIECE_FILES if (directory / name).is_file())[:1]


def convert_by_transformers(directory: Path, files: tuple[str, ...], config: dict[str, Any]) -> str:
    """Makes the `tokenizer.json` that `transformers.AutoTokenizer` makes of a directory.

    Args:
        directory: A checkpoint's directory.
        files: What `find_convertible` found there.
        config: Settings of its `tokenizer_config.json`.

    Returns:
        The text of the `tokenizer.json`.

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
            f"{packages}, of which {missing} are not installed. Run `pip install {' '.join(missing)}`, or: "
            f"{_REMEDY}"
        )
    if "tokenizer_class" not in config and not (directory / "config.json").is_file():
        raise TokenizerError(
            f"`{directory}` has {names}, but nothing says how texts are cut before they are looked up: "
            "expected `tokenizer_class` in `tokenizer_config.json`, or a `config.json` with the "
            f"`model_type`. Add one of them, or: {_REMEDY}"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # many kinds, from several packages
        raise TokenizerError(
            f"transformers cannot convert {names} of `{directory}` to a `tokenizer.json`: {error}. {_REMEDY}"
        ) from error
