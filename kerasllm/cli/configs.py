"""`kerasllm configs`: list, show, copy and check run configs."""

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.options import overrides_option
from kerasllm.cli.terminal import printable, write_table
from kerasllm.config.dumping import describe_fields, dump_config
from kerasllm.config.loading import load_config
from kerasllm.config.packaged import copy_config, find_config, packaged_configs, summary

__all__ = ["command"]


@click.group()
def command() -> None:
    """List, show, copy and check run configs."""


@command.command("list", cls=Command)
def list_configs() -> None:
    """List the packaged configs, and what each is for."""
    write_table([(name, summary(file)) for name, file in packaged_configs().items()])


@command.command(cls=Command)
@click.argument("config", required=False)
@click.option("--full", is_flag=True, help="Every field with its value, defaults included.")
@overrides_option
def show(config: str | None, full: bool, overrides: tuple[str, ...]) -> None:
    """Print CONFIG; without one, every field there is and what it is for."""
    if config is None:
        click.echo(describe_fields())
    elif full or overrides:
        click.echo(dump_config(load_config(config, overrides)), nl=False)
    else:
        click.echo(printable(find_config(config).read_text(encoding="utf-8")), nl=False)


@command.command(cls=Command)
@click.argument("config")
@click.argument("path", default=".")
def copy(config: str, path: str) -> None:
    """Copy the packaged CONFIG to PATH, a file or directory, to edit it."""
    click.echo(printable(str(copy_config(config, path))))


@command.command(cls=Command)
@click.argument("config")
@overrides_option
def check(config: str, overrides: tuple[str, ...]) -> None:
    """Check CONFIG without running it: names every wrong field. Reads no data."""
    load_config(config, overrides, require_data=True)
    click.echo(f"{printable(config)} is a valid config.")
