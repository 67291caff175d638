"""Loads one version of a model: its hashes are checked, the graph is read, the warm-up requests are run."""

import os
from pathlib import Path

from kerasllm.errors import ServingError
from kerasllm.resources.manifest import MANIFEST, verify_manifest
from kerasllm.serving.server.servable import Servable
from kerasllm.serving.server.warmup import run_warmup
from kerasllm.serving.status import StatusError, code_name

__all__ = ["Snapshot", "find_versions", "load_version", "snapshot"]

Snapshot = tuple[tuple[str, int, int], ...]

# Words of TensorFlow's Python loader, and what the server says instead.
_NO_MODEL = (
    "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
    "`saved_model.pb`)\nSpecified file path: {path}"
)
_NO_TAG = (
    "Could not find meta graph def matching supplied tags: {{ serve }}. To inspect available tag-sets in the "
    "SavedModel, please use the SavedModel CLI: `saved_model_cli`"
)


def find_versions(base_path: Path) -> dict[int, Path]:
    """Returns the directories of a model's versions: those whose names are whole numbers within 64 bits.

    Raises:
        OSError: If the model's directory cannot be read.
    """
    found: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name
            if name.isascii() and name.isdigit() and len(name.lstrip("0")) < 20 and entry.is_dir():
                number = int(name)
                if number < 2**63:
                    found.setdefault(number, Path(entry.path))
    return found


def snapshot(path: Path) -> Snapshot:
    """Returns names, sizes and times of the files of a version, to see whether a broken one was mended."""
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            try:
                status = os.stat(file)
            except OSError:
                continue  # it has just been removed
            files.append((file, status.st_size, status.st_mtime_ns))
    return tuple(sorted(files))


def load_version(path: Path, *, warmup: bool = True) -> Servable:
    """Loads a version.

    Args:
        path: Its directory.
        warmup: Whether to run its warm-up requests. Defaults to `True`.

    Raises:
        StatusError: With the code and the words that the version's status shows.
    """
    if (path / MANIFEST).exists() or (path / "kerasllm.json").exists():
        try:
            verify_manifest(path, error=ServingError)
        except ServingError as error:
            raise StatusError("DATA_LOSS", str(error)) from error
    if not (path / "saved_model.pb").is_file() and not (path / "saved_model.pbtxt").is_file():
        raise StatusError("NOT_FOUND", _NO_MODEL.format(path=path))
    try:
        servable = Servable(path)
    except Exception as error:
        raise _load_error(error, path) from error
    if warmup:
        try:
            run_warmup(servable)
        except BaseException:
            servable.close()
            raise
    return servable


def _load_error(error: Exception, path: Path) -> StatusError:
    number = getattr(error, "error_code", None)
    text = str(getattr(error, "message", None) or error).removeprefix("Graph execution error:\n\n")
    text = text.partition("\n\t [[")[0]  # the node that restores variables says nothing
    if number is not None:
        return StatusError(code_name(number), text)
    if isinstance(error, OSError):
        return StatusError("DATA_LOSS", f"Can't parse {path}/saved_model.pb as binary proto")
    if "associated with tags" in text:
        return StatusError("NOT_FOUND", _NO_TAG.format())
    if "Op type not registered" in text:
        return StatusError("NOT_FOUND", text)
    return StatusError("INVALID_ARGUMENT" if isinstance(error, ValueError) else "UNKNOWN", text)
