"""CSV and TSV, read strictly: every row and every fault with its line, also across quoted line ends."""

import csv
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from kerasllm.data import limits
from kerasllm.data.decoding import NumberedLines
from kerasllm.data.problems import Problems, quote
from kerasllm.errors import ColumnError, DataError

_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_MAX_FIELD = 4 * limits.MAX_CHARACTERS
# After a quote that is not closed, reading starts again on the next line; not without end.
_MAX_RESTARTS = 3
_OPEN_QUOTE = "a quote that is never closed"
_MESSAGES = {
    "unexpected end of data": _OPEN_QUOTE,
    "expected after": "text after a closing quote",
    "field larger": f"a field longer than {_MAX_FIELD:,} characters",
    "new-line character": "a carriage return outside quotes",
}


class CsvRows:
    """The rows of a CSV file: iterating gives `(line, fields)` of those with as many fields as the header.

    Attributes:
        names: Column names, from the first line.
    """

    def __init__(self, lines: NumberedLines, *, delimiter: str, problems: Problems):
        self._lines = lines
        self._problems = problems
        self._feed = _Feed(lines)
        first = self._first_line()
        self._delimiter = _detect_delimiter(first, delimiter, problems.origin.name)
        self._restarts = 0
        header = next(self._records(), (1, []))
        self.names = _check_names([name.strip() for name in header[1]], problems.origin.name)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.names)
        for line, fields in self._records():
            if len(fields) == width:
                yield line, fields
            else:
                which = "many" if len(fields) > width else "few"
                detail = f"{len(fields)} instead of {width}"
                self._problems.add(f"too {which} fields", line, detail)
                self._problems.num_bad_rows += 1

    def _first_line(self) -> str:
        for line in self._feed:
            if line.strip():
                self._feed.push_back([line])
                return line
        raise DataError(f"`{self._problems.origin.name}` has no rows: it holds nothing but empty lines.")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Gives every well-formed record with the line on which it begins."""
        reader = csv.reader(self._feed, delimiter=self._delimiter, strict=True)
        feed, bad = self._feed, self._lines.bad
        while True:
            feed.begin_record()
            start = feed.number + 1
            try:
                with _field_limit():
                    fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._note(str(error), start)
                continue
            if bad and any(line in bad for line in range(start, feed.number + 1)):
                self._problems.num_bad_rows += 1
            elif fields:  # an empty line is no row
                yield start, fields

    def _note(self, message: str, start: int) -> None:
        feed = self._feed
        kind = next((ours for theirs, ours in _MESSAGES.items() if theirs in message), message)
        several = len(feed.record) > 1
        detail = ""
        if several:
            detail = f"the quote opened there swallows everything up to line {feed.number:,}"
            kind = _OPEN_QUOTE
        self._problems.add(kind, start, detail)
        self._problems.num_bad_rows += 1
        if kind in (_OPEN_QUOTE, _MESSAGES["expected after"]):
            self._problems.hint('Inside quotes, write a quote as two: `"She said ""yes"""`.')
        if several and self._restarts < _MAX_RESTARTS:
            self._restarts += 1
            feed.push_back(feed.record[1:])


class _Feed:
    """Gives lines to the csv module, remembers those of the record at hand, and takes lines back."""

    def __init__(self, lines: NumberedLines):
        self._lines = iter(lines)
        self.number = 0
        self.record: list[str] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.record.append(line)
        return line

    def begin_record(self) -> None:
        self.record = []

    def push_back(self, lines: list[str]) -> None:
        self.number -= len(lines)
        self._lines = itertools.chain(lines, self._lines)


@contextmanager
def _field_limit() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters, which is global, for one record."""
    before = csv.field_size_limit(_MAX_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _detect_delimiter(first: str, delimiter: str, shown: str) -> str:
    if _num_fields(first, delimiter) > 1:
        return delimiter
    others = [other for other in _DELIMITERS if other != delimiter and _num_fields(first, other) > 1]
    if len(others) > 1:
        found = " or ".join(_DELIMITERS[other] for other in others)
        raise ColumnError(
            f"`{shown}` has only one column {quote(first.strip())}; it looks as if separated by {found}. "
            f"Separate its columns by {_DELIMITERS[delimiter]}."
        )
    return others[0] if others else delimiter


def _num_fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


def _check_names(names: list[str], shown: str) -> list[str]:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        places = [index + 1 for index, name in enumerate(names) if name == twice[0]]
        raise ColumnError(
            f"`{shown}` line 1 names the column {quote(twice[0])} more than once (columns {places}). "
            "Give each column its own name."
        )
    return names
