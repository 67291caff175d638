"""Any source becomes raw tables: column names, and chunks of values with the line of each row."""

import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from kerasllm.data.compression import choose_member, open_archive, open_member, open_stream
from kerasllm.data.csv_format import CsvRows
from kerasllm.data.decoding import NumberedLines
from kerasllm.data.files import check_regular_file, split_suffix
from kerasllm.data.jsonl_format import jsonl_rows
from kerasllm.data.parquet_format import open_parquet
from kerasllm.data.problems import Problems, printable, quote
from kerasllm.data.records import Origin
from kerasllm.errors import DataError

CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Chunk:
    """Some rows: the values of each column, as Python objects, and each row's line."""

    columns: Mapping[str, Sequence[Any]]
    positions: Sequence[int]


@dataclass(frozen=True)
class RawTable:
    """A source that was opened and whose columns are known; its rows are read once, chunk by chunk.

    Attributes:
        origin: Its name and unit.
        names: Column names.
        chunks: Given the names of columns and how many rows a chunk has, gives their values.
        problems: What turned out to be wrong, complete once all chunks were read.
        class_names: For integer columns whose classes are named by the source, the names.
        only_texts: Whether the rows are nothing but texts, as in a plain text file.
    """

    origin: Origin
    names: list[str]
    chunks: Callable[[Sequence[str], int], Iterator[Chunk]]
    problems: Problems
    class_names: dict[str, list[str]] = field(default_factory=dict)
    only_texts: bool = False


@contextmanager
def open_table(
    path: Path | str, *, shown: str | None = None, encoding: str = "utf-8", in_memory: bool = True
) -> Iterator[RawTable]:
    """Opens a file as a raw table.

    Args:
        path: A file, a member of a ZIP archive (`reviews.zip/train.csv`), or `-` for standard input
            with one text a line.
        shown: How messages call it. Defaults to the path.
        encoding: Of text formats.
        in_memory: Whether all rows will be held, so that they must fit.

    Raises:
        DataError: If it cannot be read.
    """
    shown = shown or str(path)
    if str(path) == "-":
        with open_stream(
            None, shown="standard input", format="txt", compression=None, in_memory=in_memory
        ) as s:
            yield _text_table(s, "txt", "standard input", encoding)
        return
    path, member = split_member(Path(path))
    check_regular_file(path, shown if member is None else str(path))
    if member is None:
        format, compression = split_suffix(path.name)
    else:
        format, compression = None, ".zip"
    if format == "parquet":
        with open_parquet(path, shown, in_memory=in_memory) as (names, batches):
            yield _parquet_table(names, batches, shown)
    elif compression == ".zip":
        with open_archive(path, str(path)) as archive:
            yield from _archive_table(archive, member, shown, encoding, in_memory)
    else:
        opened = open_stream(
            path, shown=shown, format=str(format), compression=compression, in_memory=in_memory
        )
        with opened as stream:
            yield _text_table(stream, str(format), shown, encoding)


def read_table(path: Path | str, *, encoding: str = "utf-8") -> pa.Table:
    """Reads all columns of a file, as they are.

    Args:
        path: CSV, TSV, JSON Lines, plain text or Parquet, see `open_table`.
        encoding: Of text formats. Defaults to `utf-8`.

    Raises:
        DataError: If any row cannot be read; names all of them.

    Example:
    >>> read_table("reviews.csv").column_names
    ['text', 'label']
    """
    with open_table(path, encoding=encoding) as table:
        columns: dict[str, list[Any]] = {name: [] for name in table.names}
        for chunk in table.chunks(table.names, CHUNK_ROWS):
            for name, values in chunk.columns.items():
                columns[name].extend(values)
        table.problems.check()
        try:
            return pa.table(columns)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"`{table.origin.name}` has a column of mixed types: {error}.") from None


def split_member(path: Path) -> tuple[Path, str | None]:
    """Splits `data/reviews.zip/train.csv` into the archive and the member in it."""
    for parent in path.parents:
        if parent.suffix.lower() == ".zip" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return path, None


def rows_table(
    rows: Iterable[tuple[int, dict[str, Any]]], origin: Origin, problems: Problems, **more: Any
) -> RawTable:
    """Makes a raw table of rows that are dictionaries; a missing key is a missing value.

    The columns are the keys of the first rows, as many as a chunk has.
    """
    rows = iter(rows)
    first = list(itertools.islice(rows, CHUNK_ROWS))
    names = list(dict.fromkeys(name for _, row in first for name in row))
    return _table_of_rows(names, itertools.chain(first, rows), origin, problems, **more)


def _table_of_rows(
    names: list[str],
    rows: Iterable[tuple[int, dict[str, Any]]],
    origin: Origin,
    problems: Problems,
    **more: Any,
) -> RawTable:
    def chunks(wanted: Sequence[str], size: int) -> Iterator[Chunk]:
        for part in _batched(rows, size):
            columns = {name: [row.get(name) for _, row in part] for name in wanted}
            yield Chunk(columns, [position for position, _ in part])

    return RawTable(origin, names, chunks, problems, **more)


def batches_table(
    names: list[str], batches: Iterable[pa.RecordBatch], origin: Origin, **more: Any
) -> RawTable:
    """Makes a raw table of Arrow batches; items count from 0, rows of files from 1."""

    def chunks(wanted: Sequence[str], size: int) -> Iterator[Chunk]:
        start = 0 if origin.unit == "item" else 1
        for whole in batches:
            for at in range(0, whole.num_rows, size):
                batch = whole.slice(at, size)
                columns = {
                    name: _python_values(batch.column(names.index(name)), name, origin) for name in wanted
                }
                yield Chunk(columns, range(start, start + batch.num_rows))
                start += batch.num_rows

    return RawTable(origin, names, chunks, Problems(origin), **more)


def _python_values(column: pa.Array, name: str, origin: Origin) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        # Text that is none: as bytes, the rows that hold it can be named.
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not pa.types.is_nested(column.type):
            return column.cast(pa.large_binary()).to_pylist()
        reason = "it holds bytes that are not UTF-8"
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = printable(str(error))
    raise DataError(f"`{origin.name}` has a column {quote(name)} that cannot be read: {reason}.")


def _text_table(stream: Any, format: str, shown: str, encoding: str) -> RawTable:
    origin = Origin(shown, "line")
    problems = Problems(origin)
    lines = NumberedLines(stream, encoding=encoding, problems=problems)
    if format == "jsonl":
        return rows_table(jsonl_rows(lines, problems), origin, problems)
    if format == "txt":
        rows = _plain_rows(lines, problems)
        return _table_of_rows(["text"], rows, origin, problems, only_texts=True)
    csv_rows = CsvRows(lines, delimiter="\t" if format == "tsv" else ",", problems=problems)

    def chunks(wanted: Sequence[str], size: int) -> Iterator[Chunk]:
        indices = [csv_rows.names.index(name) for name in wanted]
        for part in _batched(csv_rows, size):
            columns = {
                name: [fields[index] for _, fields in part]
                for name, index in zip(wanted, indices, strict=True)
            }
            yield Chunk(columns, [line for line, _ in part])

    return RawTable(origin, csv_rows.names, chunks, problems)


def _plain_rows(lines: NumberedLines, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in lines:
        if lines.number in lines.bad:
            problems.num_bad_rows += 1
        else:
            yield lines.number, {"text": line.rstrip("\r\n")}


def _parquet_table(names: list[str], batches: Callable[[Sequence[str], int], Any], shown: str) -> RawTable:
    origin = Origin(shown, "row")

    def chunks(wanted: Sequence[str], size: int) -> Iterator[Chunk]:
        return batches_table(list(wanted), batches(wanted, size), origin).chunks(wanted, size)

    return RawTable(origin, names, chunks, Problems(origin))


def _archive_table(
    archive: zipfile.ZipFile, wanted: str | None, shown: str, encoding: str, in_memory: bool
) -> Iterator[RawTable]:
    member = choose_member(archive, wanted, shown)
    name = shown if wanted is not None else f"{shown}/{member.filename}"
    format, compression = split_suffix(member.filename)
    if compression or format in (None, "parquet"):
        raise DataError(f"`{name}` is neither CSV, TSV, JSON Lines nor plain text. Unpack the archive first.")
    with open_member(archive, member, shown=name, format=str(format), in_memory=in_memory) as stream:
        yield _text_table(stream, str(format), name, encoding)


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rows = iter(rows)
    while part := list(itertools.islice(rows, size)):
        yield part
