"""Writing files and directories so that a reader sees the old one, the new one, or none.

Everything is written to a temporary sibling, flushed to the disk and then renamed, so that neither a
killed process nor a full disk nor a power cut leaves something half-written under the final name.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from kerasllm.errors import ResourceError

__all__ = [
    "AlreadyExistsError",
    "atomic_directory",
    "atomic_remove",
    "atomic_write",
    "next_version",
    "remove_leftovers",
]

_LEFTOVER = re.compile(r"\.tmp-.+-\d+-[0-9a-f]{8}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_DIRECTORY = {errno.EEXIST, errno.ENOTDIR}


class AlreadyExistsError(ResourceError, FileExistsError):
    """The final name is taken; nothing was overwritten."""


@contextlib.contextmanager
def atomic_directory(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary directory that becomes `final` when the block ends well.

    The temporary directory is a sibling named `.tmp-<name>-<pid>-<random>`, so that the rename stays in
    one file system and no program that lists numbered versions sees it. If the block raises, also by
    Ctrl-C, it is removed and `final` never appears.

    Args:
        final: Directory to make; its parents are created.

    Yields:
        The temporary directory, empty.

    Raises:
        AlreadyExistsError: If `final` exists, at the start or by the time of the rename.
        ResourceError: If the directory cannot be made, or the disk is full.

    Example:
    >>> with atomic_directory("models/reviews/1") as directory:
    ...     (directory / "labels.txt").write_text("negative\\npositive\\n")
    """
    target = Path(os.path.abspath(final))
    _refuse_existing(target)
    with _full_disk_explained(target):
        _make_parent(target)
        temporary, lock = _locked_sibling(target)
    try:
        with _full_disk_explained(target):
            yield temporary
            _flush_tree(temporary)
            _rename_new(temporary, target)
            _flush(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes a file in one step, replacing the one that is there.

    Args:
        path: File to write; its parents are created.
        data: Content; text is encoded as UTF-8 with its line ends as they are.

    Raises:
        ResourceError: If the file cannot be written, or the disk is full; the old file stays.
    """
    target = Path(os.path.abspath(path))
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = _sibling(target)
    try:
        with _full_disk_explained(target):
            _make_parent(target)
            with open(temporary, "xb") as file:
                _lock(file.fileno())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, target)
            _flush(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def atomic_remove(path: str | os.PathLike[str]) -> None:
    """Deletes a directory so that a reader sees all of it or nothing.

    It is renamed to a temporary sibling first, which `remove_leftovers` deletes if this process is killed.

    Args:
        path: Directory to delete.

    Raises:
        OSError: If it is not there, or may not be renamed.
    """
    doomed = _sibling(Path(os.path.abspath(path)))
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_leftovers(parent: str | os.PathLike[str]) -> list[Path]:
    """Deletes the temporary siblings that killed processes left in `parent`.

    A writer holds a lock on its temporary directory, which the kernel lets go when the process dies. So
    this is right even where process ids mean nothing, as between two containers on one volume.

    Args:
        parent: Directory to look in; one that does not exist has no leftovers.

    Returns:
        What was deleted, sorted.
    """
    removed: list[Path] = []
    directory = Path(parent)
    if not directory.is_dir():
        return removed
    for path in sorted(directory.iterdir()):
        if not _LEFTOVER.fullmatch(path.name) or path.is_symlink():
            continue
        with contextlib.suppress(OSError), _lock_if_free(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
    return removed


def next_version(parent: str | os.PathLike[str]) -> int:
    """Returns the number after the highest version in `parent`, 1 where there is none.

    Every name that a model server would read as a version counts (`7`, `007`), also when it is a file or
    damaged: a number is never given twice.

    Args:
        parent: Directory with one subdirectory a version; it need not exist.

    Returns:
        A version that is free now. Publish with `atomic_directory`, which raises `AlreadyExistsError` if
        somebody was faster.
    """
    directory = Path(parent)
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0) + 1


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise AlreadyExistsError(
            f"`{target}` exists already and is never overwritten. Choose another name, or move it away first."
        )


def _make_parent(target: Path) -> None:
    """Makes the parent directories and says at once when nothing can be written there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(target.parent, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        if error.errno in _FULL:
            raise
        reason = (
            "a parent is not a directory" if error.errno in _NO_DIRECTORY else os.strerror(error.errno or 0)
        )
    if reason:
        raise ResourceError(
            f"`{target}` cannot be written: {reason}. Choose a directory that you may write to."
        )


def _lock(descriptor: int) -> None:
    # Some network file systems have no locks; then a leftover stays, which costs only space.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sibling(target: Path) -> Path:
    return target.parent / f".tmp-{target.name}-{os.getpid()}-{secrets.token_hex(4)}"


def _locked_sibling(target: Path) -> tuple[Path, int]:
    """Makes the temporary directory and locks it, whatever a cleaner does in between."""
    while True:
        temporary = _sibling(target)
        temporary.mkdir()
        try:
            lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # `remove_leftovers` of another process came before the lock
        _lock(lock)
        if temporary.exists():
            return temporary, lock
        os.close(lock)


@contextlib.contextmanager
def _lock_if_free(path: Path) -> Iterator[None]:
    """Raises `BlockingIOError` when a living process holds the lock."""
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _rename_new(temporary: Path, target: Path) -> None:
    _refuse_existing(target)
    try:
        # Between the look and the rename only an empty directory could be replaced, which loses nothing;
        # the kernel refuses to put a directory in the place of a full one or of a file.
        os.rename(temporary, target)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            _refuse_existing(target)
        raise


def _flush_tree(directory: Path) -> None:
    for root, _, files in os.walk(directory, topdown=False):
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                _flush(path)
        _flush(Path(root))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _full_disk_explained(target: Path) -> Iterator[None]:
    """Turns a full disk into one sentence; TensorFlow and safetensors report it in their own exceptions."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if not full and not any(os.strerror(number) in str(error) for number in _FULL):
            raise
        raise ResourceError(
            f"The disk is full: `{target}` could not be written ({_free(target)} free). Nothing "
            "half-written was left. Free some space or choose another directory."
        ) from error


def _free(target: Path) -> str:
    existing = next(path for path in (target, *target.parents) if path.exists())
    return f"{shutil.disk_usage(existing).free / 2**20:,.1f} MiB"
