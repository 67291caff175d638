"""Options that several commands read the same way."""

from collections.abc import Sequence

import click

from kerasllm.config.loading import load_data_config
from kerasllm.errors import ConfigError

__all__ = ["columns_of", "columns_option", "overrides_option"]

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
