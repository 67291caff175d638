"""A path becomes a file that may be opened: it exists, is a regular file, and holds what its name says."""

import difflib
import errno
import os
import stat
from pathlib import Path

from kerasllm.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zip": "ZIP"}
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SUPPORTED = (
    "CSV (.csv), TSV (.tsv), JSON Lines (.jsonl), plain text (.txt), each also as .gz, .bz2, .xz or .zip, "
    "and Parquet (.parquet)"
)

# First bytes of files that are often passed under a wrong name. (magic bytes, what it is, what to do)
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or Excel workbook", "Save a workbook as CSV; name an archive `.zip`"),
    (b"\x1f\x8b", "gzip data", "Name it `.gz`"),
    (b"BZh", "bzip2 data", "Name it `.bz2`"),
    (b"\xfd7zXZ\x00", "xz data", "Name it `.xz`"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "Unpack it first"),
    (b"PAR1", "a Parquet file", "Name it `.parquet`"),
    (b"PARE", "an encrypted Parquet file", "Decrypt it first"),
    (b"ARROW1", "an Arrow file", "Read it with pyarrow and pass the table"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "Save it as CSV"),
    (b"%PDF-", "a PDF document", "Extract its text to CSV"),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "Unpack it first"),
    (b"\x89PNG", "a PNG picture", "Pass the file with the texts"),
    (b"\xff\xd8\xff", "a JPEG picture", "Pass the file with the texts"),
    (b"\x7fELF", "a program", "Pass the file with the texts"),
    (b"{\\rtf", "an RTF document", "Save it as plain text or CSV"),
    (b"\x80\x04\x95", "a Python pickle, which is never loaded", "Save the table as Parquet or CSV"),
    (b"\x80\x05\x95", "a Python pickle, which is never loaded", "Save the table as Parquet or CSV"),
)
_HTML = (b"<!doctype html", b"<html")
_TAR_OFFSET = 257  # where a tar header says `ustar`


def check_regular_file(path: Path, shown: str) -> None:
    """Refuses everything but a readable regular file, before anything is opened.

    Args:
        path: The path; symbolic links are followed.
        shown: How messages call it.

    Raises:
        DataError: If it is missing, unreadable, a directory, pipe, device, socket or a loop of links.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(_cannot_stat(path, shown, error)) from None
    except ValueError:
        raise DataError(f"{shown!r} is not a path: it holds a NUL character.") from None
    if not stat.S_ISREG(status.st_mode):
        kind = _kind_of(status.st_mode)
        inside = _data_files_in(path) if kind == "directory" else ""
        raise DataError(f"`{shown}` is a {kind}, not a regular file.{inside}")
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DataError(f"`{shown}` may not be read by this user; change its permissions.")
    if status.st_size == 0:
        raise DataError(f"`{shown}` has no rows: the file is empty (0 bytes).")


def _cannot_stat(path: Path, shown: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"`{shown}` is a loop of symbolic links, not a regular file."
    if error.errno == errno.ENAMETOOLONG:
        return f"{shown[:40]!r}… is too long for a path. Texts themselves are passed as `(texts, labels)`."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"`{shown}` may not be read by this user; change its permissions."
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"`{shown}` cannot be read: {error.strerror}."
    if path.is_symlink():
        return f"`{shown}` is a symbolic link to `{os.readlink(path)}`, which does not exist."
    names = sorted(os.listdir(path.parent)) if os.access(path.parent, os.R_OK | os.X_OK) else []
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    remedy = f" Did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""
    if not path.parent.is_dir():
        remedy = f" Nor does the directory `{path.parent}`."
    if any(character in shown for character in "*?"):
        remedy += " Patterns are not expanded: pass a list of paths."
    elif " " in shown and not path.suffix:
        remedy += " Strings are read as paths; texts themselves are passed as `(texts, labels)`."
    return f"`{shown}` does not exist (looked from `{os.getcwd()}`).{remedy}"


def _kind_of(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "named pipe (FIFO)",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def _data_files_in(path: Path) -> str:
    names = sorted(name for name in os.listdir(path) if _is_data_file(name))
    if not names:
        return " It holds no data files either."
    shown = ", ".join(f"`{path / name}`" for name in names[:3])
    return f" Pass its files, one or a list: {shown}{' …' if len(names) > 3 else ''}."


def _is_data_file(name: str) -> bool:
    suffixes = Path(name).suffixes
    return any(suffix.lower() in FORMATS for suffix in suffixes[-2:])


def split_suffix(name: str) -> tuple[str | None, str | None]:
    """Reads format and compression off a file's name.

    Returns:
        Format (`csv`, `tsv`, `jsonl`, `txt`, `parquet`, or `None` for a `.zip` that may hold anything)
        and compression suffix (or `None`).

    Raises:
        DataError: If the name says neither.
    """
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else None
    suffix = suffixes[-1] if suffixes else ""
    if ".tar" in suffixes[-1:] or suffix in (".tgz", ".tbz2", ".txz"):
        raise DataError(f"`{name}` is a tar archive, which is not read. Unpack it and pass its files.")
    if suffix in FORMATS:
        if FORMATS[suffix] == "parquet" and compression:
            raise DataError(
                f"`{name}` is a compressed Parquet file; Parquet compresses itself: unpack it first."
            )
        return FORMATS[suffix], compression
    if compression == ".zip":
        return None, compression
    ending = f"the ending `{suffix}`" if suffix else "no ending"
    raise DataError(f"`{name}` has {ending}, which names no format that is read. Read are {_SUPPORTED}.")


def check_magic(head: bytes, shown: str, expected: str) -> None:
    """Refuses text files whose first bytes say that they are something else.

    Args:
        head: The first bytes, 512 or more where there are as many.
        shown: How messages call the file.
        expected: Format that its name says.

    Raises:
        DataError: If the bytes are those of another format; names it.
    """
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            raise DataError(f"`{shown}` is named like {expected} but holds {what}. {remedy}.")
    if head[_TAR_OFFSET : _TAR_OFFSET + 5] == b"ustar":
        raise DataError(f"`{shown}` holds a tar archive, which is not read. Unpack it and pass its files.")
    if expected != "plain text" and head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        raise DataError(
            f"`{shown}` holds a web page, perhaps a log-in or error page. Download the file again."
        )
