"""`kerasllm query`: one question to a server; imports no TensorFlow."""

import click

from kerasllm.cli.commands import Command

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("url")
@click.argument("model")
@click.argument("text")
@click.argument("text_pair", required=False)
@click.option("--signature", help="Which signature to ask. Defaults to `serving_default`.")
def command(url: str, model: str, text: str, text_pair: str | None, signature: str | None) -> None:
    """Ask the MODEL behind URL about a TEXT, or about a TEXT and its TEXT_PAIR; prints JSON.

    \b
      kerasllm query http://127.0.0.1:8501 sentiment "A joy from start to end."
    """
