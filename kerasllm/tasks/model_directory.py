"""The `model/` directory: weights, config, tokenizer and `kerasllm.json`, whole and unchanged or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kerasllm
from kerasllm.errors import RunDirectoryError
from kerasllm.resources.atomic import atomic_directory
from kerasllm.resources.manifest import verify_manifest, write_manifest

FORMAT_VERSION = 1
METADATA = "kerasllm.json"


def write_model_directory(path: Path, metadata: dict[str, Any], write_files: Callable[[Path], None]) -> Path:
    """Writes a model directory, whole or not at all.

    Args:
        path: The directory; it must not exist.
        metadata: What `kerasllm.json` says of the task.
        write_files: Puts weights, config and tokenizer into the directory it is given.
    """
    with atomic_directory(path) as folder:
        write_files(folder)
        content = {"format_version": FORMAT_VERSION, "kerasllm": kerasllm.__version__, **metadata}
        (folder / METADATA).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        write_manifest(folder)
    return path


def find_model_directory(path: Path) -> Path | None:
    """The model directory at `path`: itself, or the `model/` of a run directory; `None` if neither."""
    for candidate in (path, path / "model"):
        if (candidate / METADATA).is_file():
            return candidate
    return None


def read_model_directory(path: Path) -> dict[str, Any]:
    """Checks every file of a model directory against its manifest and returns `kerasllm.json`.

    Raises:
        RunDirectoryError: If a file is missing or damaged, or a newer kerasllm wrote the directory.
    """
    verify_manifest(path, error=RunDirectoryError)
    metadata = json.loads((path / METADATA).read_text("utf-8"))
    version = metadata.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunDirectoryError(
            f"`{path}` has the format version {version!r}, this kerasllm reads up to {FORMAT_VERSION}. "
            "Update kerasllm, or save the model again with this version."
        )
    return metadata
