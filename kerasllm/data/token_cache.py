"""Token ids made once: kept on disk, mapped into memory, and made anew when anything they come from differs.

An entry is a directory named by a hash of the texts, the tokenizer and the settings. It appears by a rename
and carries the SHA-256 of its files, so a killed or damaged one is never read. Texts are tokenized in chunks,
so neither they nor their ids need to fit in memory.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data import token_ids
from kerasllm.data.token_ids import TokenIds, flat_arrays
from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import AlreadyExistsError, atomic_directory, remove_leftovers
from kerasllm.resources.manifest import MANIFEST, verify_manifest, write_manifest
from kerasllm.resources.paths import cache_directory

__all__ = ["KEPT_BYTES", "prepare_tokens", "token_cache"]

logger = logging.getLogger(__name__)

# What the cache of a user may take; the entries that were used last are kept.
KEPT_BYTES = 20 * 2**30
_CHUNK = 2048  # texts that are tokenized at a time
_FILES: dict[str, np.dtype] = {
    "token_ids": np.dtype("<i4"),
    "segment_ids": np.dtype("u1"),
    "offsets": np.dtype("<i8"),
}

# Of texts and their pairs (or `None`), the ids of each and the segment of each id.
Encode = Callable[
    [Sequence[str], Sequence[str] | None], tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]]
]


def token_cache(setting: str | None) -> Path | None:
    """The directory that `data.cache` names.

    Args:
        setting: A directory, `"auto"` for `tokens` in the user's cache directory, or `None`.
    """
    if setting is None:
        return None
    return cache_directory() / "tokens" if setting == "auto" else Path(setting).expanduser()


def prepare_tokens(
    texts: Iterable[str],
    pairs: Iterable[str] | None = None,
    *,
    encode: Encode,
    settings: Mapping[str, Any],
    cache: Path | None = None,
    required: bool = True,
) -> TokenIds:
    """Gives the token ids of texts: from the cache, or made now and kept there.

    Args:
        texts: Texts; gone through twice where there is a cache, so that they may be read from disk.
        pairs: The second text of every pair. Defaults to `None`.
        encode: Tokenizes a list of texts; called from another thread while ids are written.
        settings: All that decides the ids beside the texts, as JSON-able values: the tokenizer's fingerprint,
            the versions of what runs it, the sequence length.
        cache: Directory of the cache. Defaults to `None`, the ids are kept in memory.
        required: Whether a cache that cannot be written is an error; else it is a warning, and the ids are
            kept in memory. Defaults to `True`.

    Returns:
        The ids; arrays that are mapped from files where there is a cache.

    Raises:
        ResourceError: If the cache cannot be written and `required` is set.
    """
    if cache is None:
        return _in_memory(_encoded(texts, pairs, encode))
    entry = cache / _key(texts, pairs, settings)
    try:
        return _open_or_make(entry, lambda: _encoded(texts, pairs, encode))
    except ResourceError as error:
        if required:
            raise
        logger.warning("%s Token ids are kept in memory instead.", error)
        return _in_memory(_encoded(texts, pairs, encode))


def _key(texts: Iterable[str], pairs: Iterable[str] | None, settings: Mapping[str, Any]) -> str:
    """A hash of everything that the ids come from."""
    everything = {**settings, "code": _code(Path(__file__), Path(token_ids.__file__))}
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode())
    for name, part in (("texts", texts), ("pairs", pairs)):
        digest.update(name.encode())
        for text in part or ():
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()


@functools.cache
def _code(*sources: Path) -> str:
    """A hash of sources, so that ids that an older version made are not taken for today's."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _encoded(
    texts: Iterable[str], pairs: Iterable[str] | None, encode: Encode
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """Flat ids, segments and lengths, chunk by chunk; the next chunk is tokenized while one is put away."""
    rows = zip(texts, strict=False) if pairs is None else zip(texts, pairs, strict=True)

    def run(chunk: list[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        first, *second = (list(column) for column in zip(*chunk, strict=True))
        flat, segments, offsets = flat_arrays(*encode(first, second[0] if second else None))
        return flat, segments, np.diff(offsets)

    with ThreadPoolExecutor(1) as worker:
        waiting = None
        for chunk in iter(lambda: list(islice(rows, _CHUNK)), []):
            coming = worker.submit(run, chunk)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def _in_memory(chunks: Iterable[tuple[np.ndarray, np.ndarray | None, np.ndarray]]) -> TokenIds:
    parts = list(chunks)
    flat = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.int32)
    lengths = np.concatenate([part[2] for part in parts]) if parts else np.zeros(0, np.int64)
    segments = None
    if any(part[1] is not None for part in parts):
        segments = np.concatenate([np.zeros(len(ids), np.uint8) if s is None else s for ids, s, _ in parts])
    return TokenIds(flat, segments, np.concatenate([[0], np.cumsum(lengths)]))


def _open_or_make(entry: Path, chunks: Callable[[], Iterable[Any]]) -> TokenIds:
    for _ in range(3):  # another process may remove an entry between the look and the opening
        if (found := _opened(entry)) is not None:
            return found
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with open(entry.parent / f".lock-{entry.name[:16]}", "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _intact(entry):  # the process that held the lock may have made it
                    _make(entry, chunks())
        except OSError as error:
            if isinstance(error, ResourceError):
                raise
            raise ResourceError(
                f"The cache `{entry.parent}` cannot be written: {(error.strerror or str(error)).lower()}. "
                "Let `data.cache` name a directory that you may write to, or none."
            ) from error
        _remove_oldest(entry)
    raise ResourceError(
        f"`{entry}` disappears as soon as it is made. Let `data.cache` name a directory that nothing else "
        "cleans up."
    )


def _opened(entry: Path) -> TokenIds | None:
    """The ids of an entry that is whole, or `None`."""
    if not _intact(entry):
        return None
    with contextlib.suppress(FileNotFoundError):
        arrays = {name: _mapped(entry / f"{name}.bin", dtype) for name, dtype in _FILES.items()}
        with contextlib.suppress(PermissionError):
            os.utime(entry)  # it was used now
        segments = arrays["segment_ids"] if len(arrays["segment_ids"]) else None
        return TokenIds(arrays["token_ids"], segments, arrays["offsets"])
    return None


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r"))


def _intact(entry: Path) -> bool:
    if not (entry / MANIFEST).exists():
        return False
    try:
        verify_manifest(entry)
    except ResourceError as error:
        logger.warning("%s Its texts are tokenized again.", error)
        return False
    return True


def _make(entry: Path, chunks: Iterable[tuple[np.ndarray, np.ndarray | None, np.ndarray]]) -> None:
    remove_leftovers(entry.parent)
    shutil.rmtree(entry, ignore_errors=True)
    with contextlib.suppress(AlreadyExistsError), atomic_directory(entry) as directory:
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(open(directory / f"{name}.bin", "wb")) for name in _FILES}
            files["offsets"].write(np.zeros(1, "<i8").tobytes())
            num_tokens = without_segments = 0
            for flat, segments, lengths in chunks:
                files["token_ids"].write(flat.astype("<i4").tobytes())
                files["offsets"].write((np.cumsum(lengths) + num_tokens).astype("<i8").tobytes())
                num_tokens += len(flat)
                if segments is None:
                    without_segments += len(flat)
                    continue
                files["segment_ids"].write(bytes(without_segments))
                files["segment_ids"].write(segments.astype("u1").tobytes())
                without_segments = 0
            if 0 < without_segments < num_tokens:
                files["segment_ids"].write(bytes(without_segments))
        write_manifest(directory)


def _remove_oldest(newest: Path) -> None:
    """Keeps the cache within `KEPT_BYTES`; a reader of an entry that goes keeps its mapped files."""
    entries = []
    for path in newest.parent.iterdir():
        with contextlib.suppress(OSError):
            if len(path.name) == 64 and (path / MANIFEST).exists():
                size = sum(file.stat().st_size for file in path.iterdir())
                entries.append((path.stat().st_mtime, size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= KEPT_BYTES:
            break
        if path != newest:
            shutil.rmtree(path, ignore_errors=True)
            total -= size
