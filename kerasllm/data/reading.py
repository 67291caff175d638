"""Any source becomes checked records: all of it at once for training, in batches for prediction."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.data.columns import map_columns
from kerasllm.data.objects import object_table
from kerasllm.data.problems import Problems, raise_together
from kerasllm.data.records import Origin, Records
from kerasllm.data.tables import CHUNK_ROWS, Chunk, RawTable, open_table
from kerasllm.data.values import check_labels, check_texts
from kerasllm.errors import DataError, LabelError
from kerasllm.resources.resolve import resolve

TASKS = ("text_classification", "masked_language_modeling")


def read_records(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    usual_columns: Mapping[str, str] | None = None,
    task: str = "text_classification",
    require_label: bool = True,
    encoding: str = "utf-8",
    max_bad_rows: int = 0,
    cast_text: bool = False,
    fix_unicode: bool = False,
    name: str = "data",
) -> Records:
    """Reads a source whole, and says everything that is wrong with it at once.

    Args:
        source: A path or handle, or a list of them (CSV, TSV, JSON Lines, text, Parquet; text formats
            also as `.gz`, `.bz2`, `.xz`, `.zip`); a pandas or polars frame, Arrow table or Hugging Face
            dataset; a list of dictionaries, a dictionary of columns, `(texts, labels)`, or a
            `tf.data.Dataset` of `(text, label)` or dictionaries.
        columns: Column of `text`, `text_pair` and `label`. Defaults to those with well-known names,
            where only one reading fits.
        usual_columns: The same, taken where the source has them and `columns` says nothing else.
        task: What the rows are for. Defaults to text classification.
        require_label: Whether each row must have a label. Defaults to `True`.
        encoding: Of text files. Defaults to `utf-8`, with or without byte order mark.
        max_bad_rows: How many bad rows of each file are dropped, with a warning, before they are an
            error. Defaults to `0`.
        cast_text: Whether numbers are read as text. Defaults to `False`.
        fix_unicode: Whether lone surrogates become U+FFFD instead of an error. Defaults to `False`.
        name: How messages call an object that is no file. Defaults to `data`.

    Raises:
        DataError: If it cannot be read, or rows are bad; names the lines.
        ColumnError: If its columns do not fit the task.

    Example:
    >>> records = read_records("reviews.csv", columns={"label": "stars"})
    >>> records.where(0)
    'reviews.csv line 2'
    """
    if task not in TASKS:
        raise DataError(f"`{task}` is no task that data is read for; expected one of {list(TASKS)}.")
    reader = _Reader(columns, usual_columns, task, require_label, cast_text, fix_unicode)
    if isinstance(source, Records):
        return source
    if not _is_paths(source):
        return reader.read(object_table(source, name), max_bad_rows)
    paths = [source] if isinstance(source, str | Path) else list(source)
    parts: list[Records] = []
    errors: list[DataError] = []
    for path in paths:
        try:
            with ExitStack() as stack:
                parts.append(reader.read(_open(stack, path, encoding), max_bad_rows))
        except DataError as error:
            errors.append(error)
    raise_together(errors)
    _check_same_columns(parts)
    return Records.concatenate(parts)


def stream_records(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    usual_columns: Mapping[str, str] | None = None,
    batch_size: int = 1024,
    encoding: str = "utf-8",
    cast_text: bool = False,
    fix_unicode: bool = False,
) -> Iterator[Records]:
    """Reads texts in batches, for prediction on files larger than memory.

    Labels are not read. Every row is kept, also one whose text is empty, so that the answers stay in
    step with the file; a row that cannot be read is an error when its batch is reached.

    Args:
        path: A file or handle as in `read_records`, or `-` for standard input with one text a line.
        columns: Column of `text` and `text_pair`. Defaults to those with well-known names.
        usual_columns: The same, taken where the file has them and `columns` says nothing else.
        batch_size: Rows a batch. Defaults to `1024`.
        encoding: Of text files. Defaults to `utf-8`.
        cast_text: Whether numbers are read as text. Defaults to `False`.
        fix_unicode: Whether lone surrogates become U+FFFD instead of an error. Defaults to `False`.

    Raises:
        DataError: If it cannot be read, or rows are bad; names the lines.
    """
    told, usual = (
        {role: column for role, column in (given or {}).items() if role != "label"}
        for given in (columns, usual_columns)
    )
    reader = _Reader(told, usual, TASKS[0], False, cast_text, fix_unicode)
    with ExitStack() as stack:
        table = _open(stack, path, encoding, in_memory=False)
        for records in reader.batches(table, with_label=False, size=batch_size):
            table.problems.check()
            yield records
        table.problems.check()


class _Reader:
    """How raw tables become records: the same for every file of a source."""

    def __init__(
        self,
        columns: Mapping[str, str] | None,
        usual_columns: Mapping[str, str] | None,
        task: str,
        require_label: bool,
        cast_text: bool,
        fix_unicode: bool,
    ):
        self.columns = columns
        self.usual_columns = usual_columns
        self.task = task
        self.require_label = require_label
        self.how = {"cast_text": cast_text, "fix_unicode": fix_unicode}

    def read(self, table: RawTable, max_bad_rows: int) -> Records:
        parts = list(self.batches(table))
        notes = table.problems.check(max_bad_rows)
        if not sum(part.num_rows for part in parts):
            dropped = table.problems.num_bad_rows
            raise DataError(
                f"`{table.origin.name}` has no rows"
                + (f" left: all {dropped:,} were bad." if dropped else ".")
            )
        _check_one_kind_of_label(parts)
        records = Records.concatenate(parts)
        return Records(records.table, records.origins, records.origin_ids, records.positions, tuple(notes))

    def batches(
        self, table: RawTable, *, with_label: bool = True, size: int = CHUNK_ROWS
    ) -> Iterator[Records]:
        mapping = self._mapping(table)
        if not with_label:
            mapping.pop("label", None)
        for chunk in table.chunks(list(mapping.values()), size):
            yield self._records(table, chunk, mapping)

    def _mapping(self, table: RawTable) -> dict[str, str]:
        name = table.origin.name
        if table.only_texts:
            if self.require_label:
                raise DataError(
                    f"`{name}` is plain text, which has no labels; expected CSV, TSV or JSON Lines."
                )
            return {"text": "text"}
        if not table.names:
            table.problems.check()
            raise DataError(f"`{name}` has no rows.")
        return map_columns(
            table.names,
            columns=self.columns,
            usual=self.usual_columns,
            task=self.task,
            require_label=self.require_label,
            source=name,
        )

    def _records(self, table: RawTable, chunk: Chunk, mapping: dict[str, str]) -> Records:
        problems, positions = table.problems, chunk.positions
        values: dict[str, list[Any]] = {}
        for role, column in mapping.items():
            raw = chunk.columns[column]
            if role == "label":
                names = table.class_names.get(column)
                values[role] = check_labels(raw, positions, problems, class_names=names)
            else:
                values[role] = check_texts(raw, positions, problems, role=role, **self.how)
        return _without_bad_rows(values, positions, problems, table.origin)


def _without_bad_rows(
    values: dict[str, list[Any]], positions: Any, problems: Problems, origin: Origin
) -> Records:
    bad = {row for column in values.values() for row, value in enumerate(column) if value is None}
    if bad:
        problems.num_bad_rows += len(bad)
        good = [row for row in range(len(positions)) if row not in bad]
        values = {role: [column[row] for row in good] for role, column in values.items()}
        positions = [positions[row] for row in good]
    labels = values.get("label")
    kinds = {type(label) for label in labels or ()}
    if len(kinds) > 1:
        row = next(row for row, label in enumerate(labels or ()) if type(label) is not type(labels[0]))  # type: ignore[index]
        raise _mixed_labels(origin.where(positions[row]))
    return Records.from_lists(
        values["text"],
        labels,
        text_pairs=values.get("text_pair"),
        origin=origin,
        positions=np.asarray(positions, np.int64),  # type: ignore[arg-type]
    )


def _mixed_labels(where: str) -> LabelError:
    return LabelError(
        f"Some rows have one label and some a list of labels, e.g. `{where}`; "
        "expected one label in every row, or a list in every row."
    )


def _check_one_kind_of_label(parts: list[Records]) -> None:
    filled = [part for part in parts if part.num_rows]
    for part in filled[1:]:
        if part.multi_label != filled[0].multi_label:
            raise _mixed_labels(part.where(0))


def _check_same_columns(parts: list[Records]) -> None:
    for part in parts[1:]:
        if part.table.column_names != parts[0].table.column_names:
            raise DataError(
                f"`{part.source}` has {part.table.column_names} but `{parts[0].source}` has "
                f"{parts[0].table.column_names}; files that are read together need the same columns."
            )
    _check_one_kind_of_label(parts)


def _is_paths(source: Any) -> bool:
    if isinstance(source, str | Path):
        return True
    return isinstance(source, list) and bool(source) and all(isinstance(item, str | Path) for item in source)


def _open(stack: ExitStack, path: str | Path, encoding: str, *, in_memory: bool = True) -> RawTable:
    if isinstance(path, str) and "://" in path:
        local = resolve(path, what="data file")
        # The cache's own path says less than the name of the file.
        opened = open_table(local, shown=local.name, encoding=encoding, in_memory=in_memory)
    else:
        opened = open_table(Path(path).expanduser(), shown=str(path), encoding=encoding, in_memory=in_memory)
    return stack.enter_context(opened)
