"""What goes to stdout: text that no terminal obeys, JSON Lines, and tables."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["printable", "write_json", "write_json_lines", "write_table"]

# Controls other than tab and line feed, C1 controls, and marks that reorder what is shown.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Escapes what a terminal would obey instead of showing, e.g. an escape sequence in a label.

    Example:
    >>> printable("\\x1b[31mred")
    '\\\\u001b[31mred'
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_json_lines(rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line to stdout, each as soon as it is there."""
    for row in rows:
        click.echo(json_text(row))


def write_json(value: Any) -> None:
    """Writes one value as indented JSON to stdout."""
    click.echo(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON that a person can read: only what a terminal would obey is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    lines = text.split("\n")
    return "\n".join(printable(line) for line in lines)


def write_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> None:
    """Writes rows as columns: a table on a terminal, tab-separated values in a pipe."""
    clean = [[printable(str(cell)).replace("\n", " ").replace("\t", " ") for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in clean:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(header), pad_edge=False, header_style="bold")
    for index in range(len(header) or len(clean[0]) if clean else 0):
        table.add_column(header[index] if header else "", overflow="fold")
    for row in clean:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
