"""`kerasllm evaluate`: figures of a model on labelled data."""

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.options import columns_of, columns_option

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("model")
@click.argument("data")
@columns_option
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def command(model: str, data: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure MODEL, a run directory or a handle, on the labelled rows of DATA.

    \b
      kerasllm evaluate runs/sentiment test.csv
    """
    columns = columns_of(overrides)

    from kerasllm.cli.models import load_classifier
    from kerasllm.cli.screens import show_evaluation

    show_evaluation(load_classifier(model).evaluate(data, columns=columns), as_json=as_json)
