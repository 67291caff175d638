"""Parquet, read in batches of only the columns that are wanted."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kerasllm.data import limits
from kerasllm.data.problems import printable
from kerasllm.errors import ColumnError, DataError

_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError, MemoryError)


@contextmanager
def open_parquet(
    path: Path, shown: str, *, in_memory: bool
) -> Iterator[tuple[list[str], Callable[[Sequence[str], int], Iterator[Any]]]]:
    """Opens a Parquet file: its column names, and a function that reads some of them in batches.

    Raises:
        DataError: From here, or while it is read: damaged, encrypted, or beyond the limits.
    """
    with open(path, "rb") as raw:
        _check_magic(raw, shown)
        raw.seek(0)
        try:
            file = pq.ParquetFile(raw)
            names = list(file.schema_arrow.names)
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            num_bytes = sum(group.total_byte_size for group in groups)
        except _DAMAGE as error:
            raise _damaged(shown, error) from None
        _check_size(shown, num_bytes, file.metadata.num_rows, in_memory)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ColumnError(f"`{shown}` has the column {twice[0]!r} more than once. Rename one of them.")

        def batches(wanted: Sequence[str], size: int) -> Iterator[Any]:
            try:
                yield from file.iter_batches(batch_size=size, columns=list(wanted))
            except _DAMAGE as error:
                raise _damaged(shown, error) from None

        yield names, batches


def _check_magic(raw: Any, shown: str) -> None:
    head = raw.read(4)
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(size - 4, 0))
    tail = raw.read(4)
    if b"PARE" in (head, tail):
        raise DataError(f"`{shown}` is an encrypted Parquet file. Decrypt it first.")
    if head != b"PAR1":
        raise DataError(
            f"`{shown}` is named like Parquet but is none: it begins with {head.hex(' ')} instead of 'PAR1'."
        )
    if tail != b"PAR1":
        raise DataError(f"`{shown}` is an incomplete Parquet file: its end is missing. Fetch it again.")


def _check_size(shown: str, num_bytes: int, num_rows: int, in_memory: bool) -> None:
    if num_rows == 0:
        raise DataError(f"`{shown}` has no rows.")
    if in_memory and num_bytes > limits.RATIO_FROM_BYTES:
        limits.check_memory(shown, num_bytes, limits.available_memory())


def _damaged(shown: str, error: BaseException) -> DataError:
    reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
    return DataError(f"`{shown}` is a damaged Parquet file ({reason}). Fetch or write it again.")
