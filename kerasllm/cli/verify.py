"""`kerasllm verify`: is an exported model what was exported?"""

from pathlib import Path

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import printable

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--url", help="Ask this server instead: `http://127.0.0.1:8501` or `grpc://127.0.0.1:8500`.")
@click.option("--model_name", help="What the server calls the model; the name of its directory if left out.")
def command(path: Path, url: str | None, model_name: str | None) -> None:
    """Check the files of the exported model at PATH, and its answers; with --url, those of a server.

    \b
      kerasllm verify models/sentiment
      kerasllm verify models/sentiment --url http://127.0.0.1:8501
    """
    if model_name is not None and url is None:
        raise click.UsageError("`--model_name` needs `--url`.")

    from kerasllm.serving.exported_model import ExportedModel

    click.echo(printable(str(ExportedModel(path).verify(url=url, model_name=model_name))))
