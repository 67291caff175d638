"""`kerasllm verify`: is an exported model what was exported?"""

from pathlib import Path

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import printable

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--url", help="Ask this server the same questions too, e.g. `http://127.0.0.1:8501`.")
def command(path: Path, url: str | None) -> None:
    """Check the files of the exported model at PATH, and its answers; with --url, those of a server.

    \b
      kerasllm verify models/sentiment
      kerasllm verify models/sentiment --url http://127.0.0.1:8501
    """
    from kerasllm.serving.exported_model import ExportedModel

    click.echo(printable(str(ExportedModel(path).verify(url=url))))
