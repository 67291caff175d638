"""A list of files with their hashes, written beside them, so that damage is noticed before it is served.

Neither safetensors nor HDF5 nor a SavedModel's assets carry a checksum: a flipped bit in them loads and
computes wrong answers without a word.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from kerasllm.errors import KerasLLMError, ResourceError
from kerasllm.resources.atomic import atomic_write

__all__ = ["MANIFEST", "read_manifest", "sha256_file", "verify_manifest", "write_manifest"]

MANIFEST = "MANIFEST.json"


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: str | os.PathLike[str], *, known: Mapping[str, str] | None = None) -> Path:
    """Writes `MANIFEST.json` with the size and SHA-256 of every file under `directory`.

    Args:
        directory: Directory whose content is final; an older manifest in it is replaced.
        known: SHA-256 of files whose writer has computed it already, by their path in the directory.
            Defaults to none.

    Returns:
        Path of the manifest.

    Raises:
        ResourceError: If there is something that is not a regular file, such as a symbolic link.
    """
    root = Path(directory)
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ResourceError(
                f"`{path}` is a link or a special file, which a manifest cannot vouch for. Put a regular "
                "file in its place."
            )
        if path.is_file() and path != root / MANIFEST:
            name = path.relative_to(root).as_posix()
            digest = (known or {}).get(name) or sha256_file(path)
            files[name] = {"sha256": digest, "size": path.stat().st_size}
    atomic_write(root / MANIFEST, json.dumps({"files": files}, indent=1, ensure_ascii=False) + "\n")
    return root / MANIFEST


def read_manifest(
    directory: str | os.PathLike[str], *, error: type[KerasLLMError] = ResourceError
) -> dict[str, dict[str, Any]]:
    """Returns the files that the manifest of `directory` lists, with `sha256` and `size` of each.

    Args:
        directory: Directory that holds a `MANIFEST.json`.
        error: Exception to raise. Defaults to `ResourceError`.

    Raises:
        ResourceError: Or `error`, if the manifest is missing or damaged.
    """
    path = Path(directory) / MANIFEST
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique)
        files = document["files"]
        intact = set(document) == {"files"} and all(
            _inside(name) and set(entry) == {"sha256", "size"} for name, entry in files.items()
        )
    except FileNotFoundError as missing:
        raise error(
            f"`{directory}` has no {MANIFEST}, so its files cannot be checked. It was not written by "
            "kerasllm or is incomplete; make it anew."
        ) from missing
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise error(f"`{path}` is damaged: it is not a manifest that kerasllm wrote. {_REMEDY}")
    return files


def verify_manifest(directory: str | os.PathLike[str], *, error: type[KerasLLMError] = ResourceError) -> None:
    """Checks every file that the manifest of `directory` lists.

    Files that the manifest does not list are let be: a user may keep notes beside a model.

    Args:
        directory: Directory that holds a `MANIFEST.json`.
        error: Exception to raise. Defaults to `ResourceError`.

    Raises:
        ResourceError: Or `error`, naming each file that is missing or differs.

    Example:
    >>> verify_manifest("models/reviews/1")
    """
    root = Path(directory)
    faults = []
    for name, entry in read_manifest(root, error=error).items():
        path = root / name
        if path.is_symlink() or not path.is_file():
            faults.append(f"{name}: missing" if not os.path.lexists(path) else f"{name}: not a regular file")
        elif path.stat().st_size != entry["size"]:
            faults.append(f"{name}: {path.stat().st_size:,} bytes instead of {entry['size']:,}")
        elif sha256_file(path) != entry["sha256"]:
            faults.append(f"{name}: sha256 differs")
    if faults:
        raise error(f"`{directory}` is damaged ({'; '.join(faults)}). {_REMEDY}")


_REMEDY = "Restore it from a copy or make it anew; nothing was loaded from it."


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a name that occurs twice, where the second would hide the first from the check."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)
