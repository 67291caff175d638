"""The `kerasllm` command; its subcommands are imported when they run."""

import importlib.metadata

import click

from kerasllm.cli.commands import LazyGroup

__all__ = ["COMMANDS", "command", "main"]

COMMANDS = {
    "finetune": "Train a model as a config says, evaluate it and export it.",
    "evaluate": "Measure a model on labelled data.",
    "predict": "Answer texts; JSON Lines out.",
    "chat": "Talk with a model in the terminal.",
    "export": "Write a model as a SavedModel for TF Serving.",
    "convert": "Write a checkpoint in Hugging Face or Keras format.",
    "verify": "Check an exported model, on disk or behind a server.",
    "serve": "Serve exported models over REST and gRPC.",
    "query": "Ask a server.",
    "data": "Look at data before training on it.",
    "configs": "List, show, copy and check run configs.",
    "presets": "List and show pretrained checkpoints.",
    "doctor": "Say what this machine can and cannot do.",
}


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"kerasllm {importlib.metadata.version('kerasllm')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    package="kerasllm.cli",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
def command() -> None:
    """Fine-tune a pretrained language model, and serve it as one SavedModel.

    \b
    Begin with:
      kerasllm configs list
      kerasllm finetune text_classification/sentiment_minilm
    """


def main() -> None:
    """Runs the command line; the console script calls this."""
    command(prog_name="kerasllm")
