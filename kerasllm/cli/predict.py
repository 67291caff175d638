"""`kerasllm predict`: texts in, JSON Lines out, for inputs of any length."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.options import columns_of, columns_option
from kerasllm.cli.terminal import json_text, write_json_lines
from kerasllm.errors import DataError, KerasLLMError, ResourceError

__all__ = ["command"]

_STDIN = "-"
_DATA_ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".txt")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip")


@click.command(cls=Command)
@click.argument("model")
@click.argument("source", metavar="[TEXT|-|FILE]", required=False)
@click.argument("text_pair", required=False)
@columns_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead."
)
def command(
    model: str, source: str | None, text_pair: str | None, overrides: tuple[str, ...], output: Path | None
) -> None:
    """Answer a TEXT, each line of standard input (-), or each row of a FILE; one JSON object a line.

    \b
      kerasllm predict runs/sentiment "A joy from start to end."
      kerasllm predict runs/pairs "Is it open?" "We open at nine."
      kerasllm predict runs/sentiment reviews.csv -o answers.jsonl
      cat lines.txt | kerasllm predict runs/sentiment
    """
    source = _STDIN if source is None else source
    if source == _STDIN and sys.stdin.isatty():
        raise click.UsageError("Give a TEXT, a FILE, or texts on standard input, one a line.")
    rows = _answers(model, source, text_pair, columns_of(overrides), _is_file(source))
    if output is None:
        write_json_lines(rows)
    else:
        _write_file(rows, output)


def _answers(
    model: str, source: str, text_pair: str | None, columns: dict[str, str] | None, is_file: bool
) -> Iterator[dict[str, Any]]:
    from kerasllm.api import load
    from kerasllm.tasks.text_classification import TextClassifier

    loaded = load(model)
    if is_file or source == _STDIN:
        yield from loaded.predict_file(source, columns=columns)
        return
    if not isinstance(loaded, TextClassifier):
        if text_pair is not None:
            raise click.UsageError("A model that continues texts takes one TEXT.")
        (answer,) = loaded.predict([source])
        yield {"prompt": source, **answer.to_dict()}
        return
    names = ("text",) if text_pair is None else ("text", "text_pair")
    texts = (source,) if text_pair is None else (source, text_pair)
    for result in loaded.predict([source if text_pair is None else texts]):
        yield {**dict(zip(names, texts, strict=True)), **result.to_dict()}


def _is_file(source: str) -> bool:
    """Tells a file from a text; a name that ends like a data file must exist.

    Raises:
        DataError: If it looks like a file and there is none.
    """
    if source == _STDIN:
        return False
    try:
        if os.path.exists(source):
            return True
    except ValueError:  # a NUL byte is in a text, never in a name
        return False
    name = source.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    if name.endswith(_DATA_ENDINGS) and not any(character.isspace() for character in source):
        raise DataError(f"There is no file `{source}`. If it is a text, give it on standard input.")
    return False


def _write_file(rows: Iterator[dict[str, Any]], output: Path) -> None:
    """Writes all answers or none: to a temporary sibling, row by row, which is renamed at the end.

    Raises:
        ResourceError: If it cannot be written, or the disk is full; what was there before stays.
    """
    temporary = output.parent / f".tmp-{output.name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with _write_errors(output), temporary.open("x", encoding="utf-8") as file:
            for row in rows:
                file.write(json_text(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    click.echo(f"Answers are in {output}", err=True)


@contextlib.contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except KerasLLMError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(f"`{output}` cannot be written: {reason}. Nothing was changed.") from error
