"""Downloads that are whole or absent, checked on every use, and fetched once by however many processes.

An entry is a directory with `files/`, a `source.json` that says where they came from, and a manifest with
the SHA-256 of each. It appears by a rename, so what a killed or cut download leaves is never an entry.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import atomic_directory, remove_leftovers
from kerasllm.resources.manifest import MANIFEST, verify_manifest, write_manifest
from kerasllm.resources.paths import cache_directory, is_offline

__all__ = ["BrokenDownloadError", "NoNetworkError", "fetch", "intact", "origin", "with_retries"]

logger = logging.getLogger(__name__)

RETRY_DELAYS = (1.0, 4.0)  # seconds before the second and the third attempt

T = TypeVar("T")


class NoNetworkError(ResourceError):
    """Where the files come from could not be reached."""


class BrokenDownloadError(NoNetworkError):
    """The connection broke in the middle, so that another attempt may succeed."""


def fetch(entry: Path, fill: Callable[[Path], dict[str, Any]], *, handle: str, offline: bool = False) -> Path:
    """Returns the directory with an entry's files, filling it when it is absent or damaged.

    Args:
        entry: Directory of the entry, under `cache_directory()`.
        fill: Called with an empty directory to put the files in; returns what `source.json` shall say.
        handle: What the user asked for, for the messages.
        offline: Use only what is there. Defaults to `False`; the environment variable
            `KERASLLM_OFFLINE=1` says the same.

    Returns:
        `entry / "files"`.

    Raises:
        ResourceError: If it is not there and may not be fetched, if it cannot be written, or as `fill`.
    """
    if intact(entry):
        return entry / "files"
    if offline or is_offline():
        raise ResourceError(
            f"`{handle}` is not in the cache `{cache_directory()}`, and offline mode is on. Run once with "
            "network (without `offline=True` and the environment variable KERASLLM_OFFLINE), or let "
            "KERASLLM_CACHE name a cache that has it."
        )
    _require_writable(entry.parent)
    with _lock(entry, handle):
        if not intact(entry):  # the process that held the lock may have fetched it
            remove_leftovers(entry.parent)
            shutil.rmtree(entry, ignore_errors=True)
            with atomic_directory(entry) as temporary:
                (temporary / "files").mkdir()
                source = fill(temporary / "files")
                text = json.dumps({"handle": handle, **source}, indent=1, sort_keys=True)
                (temporary / "source.json").write_text(text + "\n", encoding="utf-8")
                write_manifest(temporary)
    return entry / "files"


def intact(entry: Path) -> bool:
    """Tells whether an entry is there and every file of it has its hash; logs damage."""
    if not (entry / MANIFEST).exists():
        return False
    try:
        verify_manifest(entry)
    except ResourceError as error:
        logger.warning("%s It will be fetched again.", error)
        return False
    return True


def origin(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Returns what is known of where a resolved path came from, `None` for a user's own files.

    Args:
        path: What `resolve` returned.

    Returns:
        The handle, and what pins it: the hash of the wheel, or the commit of the repository.
    """
    cache = cache_directory()
    for parent in Path(path).absolute().parents:
        if parent.is_relative_to(cache) and parent.name == "files" and (parent.parent / MANIFEST).exists():
            return json.loads((parent.parent / "source.json").read_bytes())
    return None


def with_retries(attempt: Callable[[], T]) -> T:
    """Calls again, after a while, what failed because the connection broke."""
    for delay in RETRY_DELAYS:
        try:
            return attempt()
        except BrokenDownloadError as error:
            logger.warning("%s Trying again in %g s.", error, delay)
            time.sleep(delay)
    return attempt()


def _require_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(directory, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        raise ResourceError(
            f"The cache `{cache_directory()}` cannot be written: {reason}. Set the environment variable "
            "KERASLLM_CACHE to a directory that you may write to."
        )


@contextlib.contextmanager
def _lock(entry: Path, handle: str) -> Iterator[None]:
    """Lets one process fetch and the others wait; the kernel frees the lock of one that is killed."""
    with open(entry.parent / f".lock-{entry.name}", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Another process is fetching `%s`; waiting for it.", handle)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
