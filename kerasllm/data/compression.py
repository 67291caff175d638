"""Opens files, compressed or not, as one bounded stream of bytes; archives are never extracted."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kerasllm.data import limits
from kerasllm.data.files import COMPRESSIONS, FORMATS, check_magic
from kerasllm.data.problems import printable, quote
from kerasllm.errors import DataError

_OPENERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw, mode="rb"),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_COMPRESSED_MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zip": b"PK"}
_EXPECTED = {"csv": "CSV", "tsv": "TSV", "jsonl": "JSON Lines", "txt": "plain text"}
_BUFFER_BYTES = 2**20
# What the standard library raises on damaged data; EOFError and "ended" mean that it was cut off.
_DAMAGE = (
    *(EOFError, OSError, ValueError, IndexError, OverflowError, NotImplementedError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error),
)


class DamagedStreamError(DataError):
    """Compressed data that ends too early or is corrupt; whoever reads the lines adds how far it came."""

    def __init__(self, message: str, *, shown: str, cut_off: bool):
        super().__init__(message)
        self.shown = shown
        self.cut_off = cut_off


class _BoundedStream(io.RawIOBase):
    """Passes bytes on, maps damage to our errors, and stops at the limits."""

    def __init__(
        self,
        inner: Any,
        *,
        shown: str,
        format: str,
        compressed_bytes: Callable[[], int] | None,
        in_memory: bool,
    ):
        self._inner = inner
        self._shown = shown
        self._format = format
        self._compressed_bytes = compressed_bytes
        self._in_memory = in_memory
        self._total = 0
        self._available = limits.available_memory() if in_memory else 0
        self._next_memory_check = limits.RATIO_FROM_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # One read at a time: what came before the damage is given, so that its lines can be counted.
            data = self._inner.read1(len(buffer))
        except _DAMAGE as error:
            cut_off = isinstance(error, EOFError)
            what = "incomplete" if cut_off else f"corrupt ({printable(str(error))})"
            raise DamagedStreamError(
                f"`{self._shown}` is {what}; fetch it again.", shown=self._shown, cut_off=cut_off
            ) from None
        if self._total == 0:
            check_magic(data[:512], self._shown, self._format)
        self._total += len(data)
        self._check_limits()
        buffer[: len(data)] = data
        return len(data)

    def _check_limits(self) -> None:
        if self._in_memory and self._total >= self._next_memory_check:
            limits.check_memory(self._shown, self._total, self._available)
            self._next_memory_check += limits.RATIO_FROM_BYTES
        if self._compressed_bytes is None:
            return
        if self._total > limits.MAX_UNCOMPRESSED_BYTES:
            raise DataError(
                f"`{self._shown}` unpacks to more than {limits.MAX_UNCOMPRESSED_BYTES / 2**30:.0f} GiB, "
                "which is taken for an attack. Unpack it yourself if it is not."
            )
        if self._total > limits.RATIO_FROM_BYTES:
            ratio = self._total / max(self._compressed_bytes(), 1)
            if ratio > limits.MAX_RATIO:
                raise DataError(
                    f"`{self._shown}` unpacks to {ratio:,.0f} times its size (at most {limits.MAX_RATIO} are "
                    "read), which is taken for an attack. Unpack it yourself if it is not."
                )


@contextmanager
def open_stream(
    path: Path | None, *, shown: str, format: str, compression: str | None, in_memory: bool = True
) -> Iterator[BinaryIO]:
    """Opens a file that `check_regular_file` passed, uncompressing as it is read.

    Args:
        path: The file, `None` for standard input.
        shown: How messages call it.
        format: Format of its content, see `files.FORMATS`.
        compression: `.gz`, `.bz2`, `.xz` or `None`; for ZIP see `open_member`.
        in_memory: Whether all of it will be held, so that it must fit.

    Raises:
        DataError: From here, or while it is read: damaged, of another format, or beyond the limits.
    """
    if path is None:
        bounded = _bounded(sys.stdin.buffer, shown, format, None, in_memory)
        yield io.BufferedReader(bounded, _BUFFER_BYTES)
        return
    with open(path, "rb") as raw:
        if compression is None:
            if in_memory:
                limits.check_memory(shown, os.fstat(raw.fileno()).st_size, limits.available_memory())
            yield io.BufferedReader(_bounded(raw, shown, format, None, in_memory), _BUFFER_BYTES)
            return
        _check_compressed(raw.read(6), shown, compression)
        raw.seek(0)
        inner = _OPENERS[compression](raw)
        yield io.BufferedReader(_bounded(inner, shown, format, raw.tell, in_memory), _BUFFER_BYTES)


@contextmanager
def open_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, shown: str, format: str, in_memory: bool = True
) -> Iterator[BinaryIO]:
    """Opens one member of a ZIP archive as a stream; nothing is written to disk."""
    try:
        inner = archive.open(member)
    except (*_DAMAGE, RuntimeError) as error:  # RuntimeError: encrypted
        raise DataError(f"`{shown}` cannot be read from its ZIP archive: {printable(str(error))}.") from None
    with inner:
        bounded = _bounded(inner, shown, format, lambda: member.compress_size, in_memory)
        yield io.BufferedReader(bounded, _BUFFER_BYTES)


@contextmanager
def open_archive(path: Path, shown: str) -> Iterator[zipfile.ZipFile]:
    """Opens a ZIP archive, within the limits.

    Raises:
        DataError: If it is no archive, damaged, or has too many members.
    """
    with open(path, "rb") as raw:
        _check_compressed(raw.read(6), shown, ".zip")
        try:
            archive = zipfile.ZipFile(raw)
        except _DAMAGE as error:
            raise DataError(
                f"`{shown}` is incomplete or corrupt ({printable(str(error))}); fetch it again."
            ) from None
        with archive:
            number = len(archive.infolist())
            if number > limits.MAX_MEMBERS:
                raise DataError(
                    f"`{shown}` has {number:,} members; at most {limits.MAX_MEMBERS:,} are looked at."
                )
            yield archive


def choose_member(archive: zipfile.ZipFile, wanted: str | None, shown: str) -> zipfile.ZipInfo:
    """Picks the member to read: the one wanted, or the only one of a text format.

    Raises:
        DataError: If there is none, more than one, or it is encrypted, unsafe or no regular file.
    """
    members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    for member in members:
        _check_member(member, shown)
    readable = [member for member in members if _is_text_format(member.filename)]
    names = [member.filename for member in readable]
    if wanted is not None:
        chosen = [member for member in members if member.filename == wanted]
        if not chosen:
            raise DataError(f"`{shown}` has no member {quote(wanted)}; it has {_list_names(names)}.")
        return chosen[0]
    if any(member.filename == "[Content_Types].xml" for member in members):
        raise DataError(
            f"`{shown}` is an Excel workbook or Word document, not an archive of data. Save it as CSV."
        )
    if not readable:
        others = _list_names([member.filename for member in members])
        raise DataError(f"`{shown}` holds no CSV, TSV, JSON Lines or text file; it has {others}.")
    if len(readable) > 1:
        raise DataError(
            f"`{shown}` holds {len(readable)} data files: {_list_names(names)}. "
            f"Name one, e.g. `{shown}/{names[0]}`, or pass a list of such paths."
        )
    return readable[0]


def _check_member(member: zipfile.ZipInfo, shown: str) -> None:
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise DataError(
            f"`{shown}` has a member {quote(name)} that climbs out of the archive; it is not read."
        )
    if not member.filename.isprintable():
        raise DataError(f"`{shown}` has a member {quote(name)} with control characters in its name.")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise DataError(f"`{shown}` has a member {quote(name)} that is no regular file; it is not read.")
    if member.flag_bits & 1:
        raise DataError(f"`{shown}` is encrypted. Unpack it with its password first.")


def _is_text_format(name: str) -> bool:
    path = Path(name)
    hidden = path.name.startswith(".") or name.startswith("__MACOSX/")
    return not hidden and FORMATS.get(path.suffix.lower(), "parquet") != "parquet"


def _list_names(names: list[str]) -> str:
    shown = ", ".join(quote(name) for name in names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown or "no files"


def _check_compressed(head: bytes, shown: str, compression: str) -> None:
    if not head.startswith(_COMPRESSED_MAGIC[compression]):
        raise DataError(
            f"`{shown}` is named `{compression}` but does not hold {COMPRESSIONS[compression]} data "
            f"(it begins with {head[:4].hex(' ')}). Rename it, or fetch it again."
        )


def _bounded(
    inner: Any, shown: str, format: str, compressed_bytes: Callable[[], int] | None, in_memory: bool
) -> _BoundedStream:
    return _BoundedStream(
        inner,
        shown=shown,
        format=_EXPECTED[format],
        compressed_bytes=compressed_bytes,
        in_memory=in_memory,
    )
