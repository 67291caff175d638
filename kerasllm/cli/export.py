"""`kerasllm export`: a trained model becomes a numbered SavedModel."""

from pathlib import Path

import click

from kerasllm.cli.commands import Command

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("model")
@click.argument("path", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--version",
    type=click.IntRange(min=1),
    help="Number of the version; one more than the newest if left out.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["saved_model", "huggingface"]),
    default="saved_model",
    show_default=True,
    help="What PATH becomes: numbered SavedModels, or one directory for transformers.",
)
def command(model: str, path: Path, version: int | None, form: str) -> None:
    """Write MODEL, a run directory or a handle, as a SavedModel into PATH/<version>.

    The export is checked against the model, and refused where a stock TF Serving could not run it.

    \b
      kerasllm export runs/sentiment models/sentiment
      kerasllm export runs/sentiment sentiment-hf --format huggingface
    """
    from kerasllm.api import load
    from kerasllm.cli.models import load_classifier
    from kerasllm.cli.screens import show_export

    if form == "huggingface":
        if version is not None:
            raise click.UsageError("--version is for SavedModels; a Hugging Face directory has none.")
        click.echo(load_classifier(model).export(path, format="huggingface"))
        return
    show_export(load(model).export(path, version=version))
