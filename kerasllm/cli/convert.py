"""`kerasllm convert`: a checkpoint in another format."""

from pathlib import Path

import click

from kerasllm.cli.commands import Command

__all__ = ["command"]


@click.command(cls=Command)
@click.argument("handle")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    type=click.Choice(["huggingface", "keras"]),
    default="huggingface",
    show_default=True,
    help="The format of DIRECTORY.",
)
def command(handle: str, directory: Path, target: str) -> None:
    """Write the checkpoint HANDLE into DIRECTORY, in float32.

    HANDLE is a Hugging Face directory, `hf://org/name`, a KerasHub preset or a GGUF file. With `--to keras`
    the directory holds `model.keras`, which `keras.saving.load_model` reads after `import
    kerasllm.models.heads`, and the tokenizer.

    \b
      kerasllm convert model.gguf smollm2
    """
    from kerasllm.export.hugging_face import convert_preset, convert_to_keras
    from kerasllm.models.presets import Preset

    write = convert_preset if target == "huggingface" else convert_to_keras
    path = write(Preset.load(handle), directory.absolute())
    click.echo(path)
    if target == "keras":
        hint = f'import keras, kerasllm.models.heads; keras.saving.load_model("{path}/model.keras")'
        click.echo(f"In Python: {hint}", err=True)
