"""Writes models as Hugging Face directories, which transformers loads as they are, or as Keras files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import ExportError
from kerasllm.models.builders import save_weights
from kerasllm.models.families.family import MEAN_POOLED
from kerasllm.resources.atomic import atomic_directory

if TYPE_CHECKING:
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.presets import Preset
    from kerasllm.tokenization import Tokenizer

__all__ = ["convert_preset", "convert_to_keras", "export_hugging_face"]

_PIPELINES = {
    "pooled_classifier": "text-classification",
    "token_classifier": "token-classification",
    "masked_language": "fill-mask",
    "causal_language": "text-generation",
    "seq2seq_language": "text2text-generation",
}


def export_hugging_face(
    model: "ModelWithHead",
    tokenizer: "Tokenizer",
    path: Path,
    *,
    base_model: str,
    sequence_length: int | None = None,
    generation_config: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes `config.json`, `model.safetensors`, the tokenizer, `generation_config.json` and a model card.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        path: The directory; it must not exist, and appears whole or not at all.
        base_model: Handle of the checkpoint that it was made from.
        sequence_length: Tokens that the model was trained to see. Defaults to `None`, not said.
        generation_config: Defaults to `None`, no file.
        facts: What else the model card says, by title. Defaults to none.

    Returns:
        The directory.

    Raises:
        ExportError: If transformers has no class that computes this model, or the path is taken.
    """
    if model.kind == MEAN_POOLED:
        raise ExportError(
            "transformers has no classifier on the mean of the token vectors, so this model cannot be "
            "written for it. Fine-tune with `-s model.pooling=cls`, or export for TF Serving."
        )
    if path.exists():
        raise ExportError(f"`{path}` exists already. Choose another path, or remove it first.")
    with atomic_directory(path) as folder:
        save_weights(model, folder)
        _complete_config(folder / "config.json", tokenizer)
        _write_tokenizer(tokenizer, folder, sequence_length)
        if generation_config is not None:
            _write_json(folder / "generation_config.json", generation_config)
        card = _model_card(model, path.name, base_model, sequence_length, facts or {})
        (folder / "README.md").write_text(card, "utf-8")
    return path


def convert_preset(preset: "Preset", path: Path) -> Path:
    """Writes a checkpoint of any format that can be read as a Hugging Face directory, in float32.

    Args:
        preset: The checkpoint.
        path: The directory; it must not exist, and appears whole or not at all.

    Returns:
        The directory.

    Raises:
        ExportError: If the path is taken.
    """
    from safetensors.numpy import save_file

    if path.exists():
        raise ExportError(f"`{path}` exists already. Choose another path, or remove it first.")
    family, config = preset.family, preset.config
    specs = family.backbone_tensors(config)
    if preset.has_pooler:
        specs += family.pooler_tensors(config)
    if preset.head is not None:
        specs += family.head_tensors(config, preset.head, preset.num_classes or 0, tied=preset.tied)
    tensors = {
        family.stored_name(name, preset.head): np.ascontiguousarray(preset.read_tensor(name))
        for name in dict.fromkeys(spec.name for spec in specs)
        if name not in preset.zero_tensors
    }
    with atomic_directory(path) as folder:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        _write_json(folder / "config.json", {**family.saved_config(config), "dtype": "float32"})
        _complete_config(folder / "config.json", preset.tokenizer)
        _write_tokenizer(preset.tokenizer, folder, None)
        _write_generation_config(preset, folder)
    return path


def convert_to_keras(preset: "Preset", path: Path) -> Path:
    """Writes a checkpoint as a Keras model, `model.keras`, with its tokenizer and generation config.

    The file is read back, and must hold the very same weights. `keras.saving.load_model` reads it after
    `import kerasllm.models.heads`, where the classes are.

    Args:
        preset: The checkpoint.
        path: The directory; it must not exist, and appears whole or not at all.

    Returns:
        The directory.

    Raises:
        ExportError: If the path is taken, or what was written is not what was meant.
    """
    import keras

    from kerasllm.models.builders import build_with_head

    if path.exists():
        raise ExportError(f"`{path}` exists already. Choose another path, or remove it first.")
    model = (
        preset.build_backbone(pooler=preset.has_pooler) if preset.head is None else build_with_head(preset)
    )
    with atomic_directory(path) as folder:
        model.save(folder / "model.keras")
        again = keras.saving.load_model(folder / "model.keras")
        for new, old in zip(again.weights, model.weights, strict=True):
            if new.path != old.path or not np.array_equal(new, old):
                raise ExportError(f"`{old.path}` was not written as it is. Nothing was published.")
        preset.tokenizer.save(folder)
        _write_generation_config(preset, folder)
    return path


def _write_generation_config(preset: "Preset", folder: Path) -> None:
    if preset.generation_config is not None:
        _write_json(folder / "generation_config.json", preset.generation_config)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _complete_config(path: Path, tokenizer: "Tokenizer") -> None:
    """Says which token pads: without it, transformers classifies one text at a time only."""
    config = json.loads(path.read_text("utf-8"))
    if config.get("pad_token_id") is None:
        config["pad_token_id"] = tokenizer.pad_id
        _write_json(path, config)


def _write_tokenizer(tokenizer: "Tokenizer", folder: Path, sequence_length: int | None) -> None:
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    settings.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    if settings.get("pad_token") is None:
        settings["pad_token"] = tokenizer.id_to_token(tokenizer.pad_id)
    if sequence_length is not None:
        settings["model_max_length"] = sequence_length
    _write_json(path, settings)


def _model_card(
    model: "ModelWithHead", name: str, base_model: str, sequence_length: int | None, facts: Mapping[str, str]
) -> str:
    pipeline = _PIPELINES[model.kind]
    header = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}"]
    if base_model.startswith("hf://"):
        header.append(f"base_model: {base_model.removeprefix('hf://').partition('@')[0]}")
    header += ["tags:", "- kerasllm", "---"]
    options = "" if sequence_length is None else f", truncation=True, max_length={sequence_length}"
    lines = [
        *header,
        "",
        f"# {name}",
        "",
        f"Fine-tuned with kerasllm from `{base_model}`.",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'model = pipeline("{pipeline}", model="{name}"{options})',
        "```",
        "",
    ]
    if model.labels:
        lines += [f"Labels: {', '.join(f'`{label}`' for label in model.labels)}.", ""]
    for title, fact in facts.items():
        lines += [f"## {title}", "", fact, ""]
    return "\n".join(lines)
