"""Records: checked texts (and labels), each of which knows the line that it came from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

_TEXT = pa.large_string()  # 64-bit offsets: more than 2 GiB of text in a column


@dataclass(frozen=True)
class Origin:
    """Where rows came from.

    Attributes:
        name: A file's path as the user gave it, or what an object in memory was passed as.
        unit: What its rows are counted in: lines and rows of files from 1, items of objects from 0.
    """

    name: str
    unit: Literal["line", "row", "item"] = "row"

    def where(self, position: int) -> str:
        """Says `reviews.csv line 17` or `train_data[3]`."""
        if self.unit == "item":
            return f"{self.name}[{position}]"
        return f"{self.name} {self.unit} {position:,}"


@dataclass(frozen=True)
class Records:
    """Rows that are ready to be learned from.

    Attributes:
        table: Columns `text`, perhaps `text_pair`, perhaps `label` (a string, or a list of strings for
            multi-label, or a number for regression). No value is null.
        origins: The files and objects that the rows came from.
        origin_ids: For each row, which of `origins`.
        positions: For each row, its line (or row, or item) there.
        notes: Warnings from reading.
    """

    table: pa.Table
    origins: tuple[Origin, ...]
    origin_ids: np.ndarray
    positions: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def from_lists(
        cls,
        texts: Sequence[str],
        labels: Sequence[Any] | None = None,
        *,
        text_pairs: Sequence[str] | None = None,
        origin: Origin | None = None,
        positions: Sequence[int] | None = None,
    ) -> "Records":
        """Makes records of values that were checked already.

        Args:
            texts: The texts.
            labels: A string, list of strings or number for each text.
            text_pairs: The second text of each pair.
            origin: Where they came from. Defaults to objects called `data`.
            positions: Line of each. Defaults to 0, 1, 2 …
        """
        columns = {"text": pa.array(texts, _TEXT)}
        if text_pairs is not None:
            columns["text_pair"] = pa.array(text_pairs, _TEXT)
        if labels is not None:
            columns["label"] = pa.array(labels, _label_type(labels))
        if positions is None:
            positions = range(len(texts))
        return cls(
            pa.table(columns),
            (origin or Origin("data", "item"),),
            np.zeros(len(texts), np.int32),
            np.asarray(positions, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Records"]) -> "Records":
        """Joins records with the same columns; at least one part."""
        origins: list[Origin] = []
        ids = []
        for part in parts:
            # Batches of one file share their origin.
            if not origins or part.origins != (origins[-1],):
                ids.append(part.origin_ids + len(origins))
                origins.extend(part.origins)
            else:
                ids.append(part.origin_ids + len(origins) - 1)
        # An empty part's label type says nothing, so it may not decide that of the whole.
        tables = [part.table for part in parts if part.num_rows] or [parts[0].table]
        return cls(
            pa.concat_tables(tables),
            tuple(origins),
            np.concatenate(ids).astype(np.int32),
            np.concatenate([part.positions for part in parts]),
            tuple(note for part in parts for note in part.notes),
        )

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.table.num_rows

    @property
    def has_pairs(self) -> bool:
        """Whether each row has a second text."""
        return "text_pair" in self.table.column_names

    @property
    def has_labels(self) -> bool:
        """Whether each row has a label."""
        return "label" in self.table.column_names

    @property
    def multi_label(self) -> bool:
        """Whether each row has a list of labels."""
        return self.has_labels and pa.types.is_list(self.table["label"].type)

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return self.table["text"].to_pylist()

    @property
    def text_pairs(self) -> list[str] | None:
        """The second texts, `None` where there are none."""
        return self.table["text_pair"].to_pylist() if self.has_pairs else None

    @property
    def labels(self) -> list[Any] | None:
        """The labels by name, `None` where there are none."""
        return self.table["label"].to_pylist() if self.has_labels else None

    @property
    def keys(self) -> list[tuple[str, ...]]:
        """What makes a row the same as another: its text, or both texts of a pair."""
        pairs = self.text_pairs
        return (
            [(text,) for text in self.texts] if pairs is None else list(zip(self.texts, pairs, strict=True))
        )

    @property
    def source(self) -> str:
        """The names of all files and objects, for messages."""
        return ", ".join(origin.name for origin in self.origins)

    @property
    def fingerprint(self) -> str:
        """Hash of all texts and labels in their order: equal only for the same data."""
        digest = hashlib.sha256()
        for name in self.table.column_names:
            digest.update(name.encode())
            for batch in self.table[name].to_pylist():
                value = repr(batch).encode()
                digest.update(len(value).to_bytes(8, "little") + value)
        return digest.hexdigest()

    def where(self, row: int) -> str:
        """Says where a row came from: `reviews.csv line 17`, `train_data[3]`."""
        return self.origins[self.origin_ids[row]].where(int(self.positions[row]))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Records":
        """Picks rows by number, in the order given."""
        rows = np.asarray(rows, np.int64)
        table = self.table.take(pa.array(rows))
        return Records(table, self.origins, self.origin_ids[rows], self.positions[rows], self.notes)

    def with_column(self, name: str, values: Sequence[Any]) -> "Records":
        """Replaces the values of one column."""
        kind = _label_type(values) if name == "label" else _TEXT
        index = self.table.column_names.index(name)
        table = self.table.set_column(index, name, pa.array(values, kind))
        return Records(table, self.origins, self.origin_ids, self.positions, self.notes)


def _label_type(labels: Sequence[Any]) -> pa.DataType:
    first = labels[0] if len(labels) else ""
    if isinstance(first, list):
        return pa.list_(pa.large_string())
    return pa.float64() if isinstance(first, float) else pa.large_string()
