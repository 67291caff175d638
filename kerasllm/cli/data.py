"""`kerasllm data`: look at data before training on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.data_augment import augment
from kerasllm.cli.options import overrides_option
from kerasllm.cli.terminal import printable, write_json
from kerasllm.config.loading import load_config, load_data_config
from kerasllm.config.packaged import packaged_configs
from kerasllm.config.schema import DataConfig

if TYPE_CHECKING:
    from kerasllm.data.report import DataReport

__all__ = ["command"]


@click.group()
def command() -> None:
    """Look at data before training on it."""


command.add_command(augment)


@command.command(cls=Command)
@click.argument("source", metavar="FILE|CONFIG")
@overrides_option
@click.option("--preset", metavar="HANDLE", help="Count tokens with the tokenizer of this checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def check(
    ctx: click.Context, source: str, overrides: tuple[str, ...], preset: str | None, as_json: bool
) -> None:
    """Report what is in a FILE, or in the files of a CONFIG: rows, labels, lengths, duplicates, leaks.

    The exit code is 1 where something would stop a training run.

    \b
      kerasllm data check reviews.csv -s data.columns.text=review -s data.validation=held_out.csv
      kerasllm data check reviews.csv --preset hf://google-bert/bert-base-uncased
    """
    report = _report(*_settings(source, overrides, preset))
    if as_json:
        write_json(report.to_dict())
    else:
        click.echo(printable(str(report)))
    ctx.exit(1 if report.problems else 0)


def _settings(source: str, overrides: tuple[str, ...], preset: str | None) -> tuple[DataConfig, str | None]:
    if source in packaged_configs() or Path(source).suffix.lower() in (".yaml", ".yml"):
        config = load_config(source, overrides, require_data=True)
        return config.data, preset or config.preset
    return load_data_config(overrides, train=source), preset


def _report(config: DataConfig, preset: str | None) -> "DataReport":
    from kerasllm.data.audit import audit
    from kerasllm.data.labels import select_labels
    from kerasllm.data.reading import read_records

    sources = {"train": config.train, "validation": config.validation, "test": config.test}
    records = {}
    for split, source in sources.items():
        if source is None or isinstance(source, float):
            continue
        rows = read_records(
            source,
            columns=config.columns,
            encoding=config.encoding,
            max_bad_rows=config.max_bad_rows,
            cast_text=config.cast_text,
            fix_unicode=config.fix_unicode,
        )
        records[split] = select_labels(rows, config.labels, other_labels=config.other_labels)[0]
    return audit(records, **_token_counting(config, preset))


def _token_counting(config: DataConfig, preset: str | None) -> dict[str, Any]:
    """Arguments of `audit` that make it count tokens, as training would."""
    if preset is None:
        return {}
    from kerasllm.models.presets import Preset

    loaded = Preset.load(preset)
    return {
        "encode": loaded.tokenizer.encode,
        "sequence_length": config.sequence_length or loaded.max_sequence_length,
        "special_ids": loaded.tokenizer.special_ids,
    }
