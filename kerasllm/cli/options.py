"""Options that several commands read the same way."""

from collections.abc import Sequence

import click

from kerasllm.cli.commands import Command
from kerasllm.config.fields import meant_field
from kerasllm.config.loading import load_data_config
from kerasllm.errors import ConfigError

__all__ = ["ConfigCommand", "columns_of", "columns_option", "overrides_option"]

overrides_option = click.option(
    "-s",
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a field of the config, e.g. `-s training.epochs=5`. May be repeated.",
)

columns_option = click.option(
    "-s",
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Map a column, e.g. `-s data.columns.text=review`. May be repeated.",
)


class ConfigCommand(Command):
    """A command whose `-s` sets fields; an option that is named like a field is answered with that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options, or says how the field is set."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            field = meant_field((name,))
            if field is None or (error.possibilities and field.rpartition(".")[2] != name):
                raise
            raise click.UsageError(
                f"No such option '{error.option_name}'. Fields of the config are set with `-s`, e.g. "
                f"`-s {field}=…`.",
                ctx,
            ) from None


def columns_of(overrides: Sequence[str]) -> dict[str, str] | None:
    """Reads which columns are meant, where a command takes `data.columns` and nothing else.

    Returns:
        Role to column name, `None` where nothing was said.

    Raises:
        ConfigError: If another field is set, or a role is unknown.
    """
    others = [item for item in overrides if "=" in item and not item.strip().startswith("data.columns")]
    if others:
        raise ConfigError(
            f"`-s {others[0]}` has no effect here: only columns can be mapped, "
            "e.g. `-s data.columns.text=review`."
        )
    return load_data_config(overrides).columns
