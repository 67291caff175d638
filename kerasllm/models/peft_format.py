"""Reads and writes LoRA adapters as `peft` keeps them: `adapter_config.json` and `adapter_model.safetensors`.

Where a checkpoint keeps several of our layers in one matrix (GPT-2's `c_attn`), PEFT has one adapter for all
of them: ours are written one below the other, with zeros between them, and read as the rows that belong to
each.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import AdapterError, PresetError
from kerasllm.models.adapters import LoRASettings, adapted_layers, attach, dense_layers
from kerasllm.models.families import FAMILIES
from kerasllm.models.families.family import MEAN_POOLED
from kerasllm.models.heads import ModelWithHead
from kerasllm.models.tensors import Part, TensorSpec
from kerasllm.resources.atomic import atomic_directory

__all__ = ["load_adapter", "save_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TASKS = {
    "pooled_classifier": "SEQ_CLS",
    "token_classifier": "TOKEN_CLS",
    "causal_language": "CAUSAL_LM",
    "seq2seq_language": "SEQ_2_SEQ_LM",
}


@dataclass(frozen=True)
class _Place:
    """One of our dense layers, and the rows of a module of the checkpoint that are its outputs."""

    path: str
    rows: np.ndarray
    total: int


def save_adapter(model: ModelWithHead, directory: str | Path, *, base_model: str) -> Path:
    """Writes the adapters of a model, and its head where it is a new one.

    Args:
        model: A model with adapters.
        directory: It must not exist, and appears whole or not at all.
        base_model: Name of the checkpoint that the adapters are for, as `peft` shall find it.

    Returns:
        The directory.

    Raises:
        AdapterError: If the model has no adapters, PEFT cannot have them, or the directory exists.
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    adapted = adapted_layers(model)
    if not adapted:
        raise AdapterError("The model has no adapters to save. `add_lora` puts some on it.")
    if directory.exists():
        raise AdapterError(f"`{directory}` exists already. Choose another path, or remove it first.")
    if model.kind == MEAN_POOLED:
        raise AdapterError(
            "PEFT has no classifier on the mean of the token vectors. Fine-tune with `-s model.pooling=cls`."
        )
    experts = [path for path in adapted if "expert_" in path]
    if experts:
        raise AdapterError(
            f"PEFT has no adapters for single experts, but `{experts[0]}` has one. Merge them instead."
        )
    settings = {path: layer.adapter.settings for path, layer in adapted.items()}
    tensors, ranks, alphas = {}, {}, {}
    for module, places in _modules(model).items():
        used = [place for place in places if place.path in adapted]
        if not used:
            continue
        a, b = _stacked(adapted, used)
        tensors[f"{_PREFIX}{module}.lora_A.weight"], tensors[f"{_PREFIX}{module}.lora_B.weight"] = a, b
        own = settings[used[0].path]
        ranks[module] = a.shape[0]
        # The scale must stay what it is although the rank has grown.
        alphas[module] = own.scale * (a.shape[0] ** 0.5 if own.rank_stabilized else a.shape[0])
    saved_modules = []
    if "classifier" in model.kind:
        for spec in _head_specs(model):
            variable = next(weight for weight in model.weights if weight.path == spec.path)
            tensors[f"{_PREFIX}{spec.name}"] = spec.from_keras(np.asarray(variable, np.float32))
        saved_modules = sorted({spec.name.partition(".")[0] for spec in _head_specs(model)})
    first = next(iter(settings.values()))
    config = {
        "peft_type": "LORA",
        "task_type": _TASKS.get(model.kind, "FEATURE_EXTRACTION"),
        "base_model_name_or_path": base_model,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "use_rslora": first.rank_stabilized,
        "bias": "none",
        "fan_in_fan_out": model.checkpoint_config["model_type"] == "gpt2",
        "target_modules": sorted(ranks),
        "rank_pattern": {re.escape(module): rank for module, rank in ranks.items()},
        "alpha_pattern": {re.escape(module): alpha for module, alpha in alphas.items()},
        "modules_to_save": saved_modules or None,
        "inference_mode": True,
    }
    with atomic_directory(directory) as folder:
        ordered = {name: np.ascontiguousarray(values) for name, values in sorted(tensors.items())}
        save_file(ordered, folder / _WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")
    return directory


def load_adapter(model: ModelWithHead, directory: str | Path) -> list[str]:
    """Puts the adapters of a PEFT directory on a model, and its head's weights where they are there.

    Args:
        model: The model that the adapters are for; its backbone is frozen.
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        Paths of the layers that have an adapter now.

    Raises:
        AdapterError: If the files are missing or damaged, are another kind of adapter, or do not fit the
            model.
    """
    directory = Path(directory)
    config, tensors = _read(directory)
    if adapted_layers(model):
        raise AdapterError(
            "The model has adapters already. Merge them first (`merge_lora`), or load it anew."
        )
    modules, layers = _modules(model), dense_layers(model)
    planned: list[tuple[_Place, LoRASettings, np.ndarray, np.ndarray]] = []
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        a, b = tensors.pop(name), tensors.pop(f"{_PREFIX}{module}.lora_B.weight", None)
        if module not in modules or b is None:
            missing = "its other half is missing" if b is None else "this model has no such layer"
            raise AdapterError(f"`{directory}` has an adapter for `{module}`, but {missing}.")
        for place in modules[module]:
            kernel = tuple(layers[place.path].kernel.shape)
            if a.shape[1] != kernel[0] or b.shape != (place.total, a.shape[0]):
                raise AdapterError(
                    f"The adapter for `{module}` in `{directory}` has the shapes {a.shape} and {b.shape}, "
                    f"which do not fit the layer, {kernel[0]} to {place.total}. It belongs to another model."
                )
            planned.append((place, _settings(config, module, a.shape[0]), a.T, b[place.rows].T))
    head = _planned_head(model, tensors, directory)
    model.backbone.trainable = False
    for place, settings, a, b in planned:
        if not b.any():
            continue  # another part of the same matrix has the adapter
        attach(layers[place.path], settings)
        layers[place.path].adapter.a.assign(a)
        layers[place.path].adapter.b.assign(b)
    for weight, values in head:
        weight.assign(values)
    return list(adapted_layers(model))


def _modules(model: ModelWithHead) -> dict[str, list[_Place]]:
    """Our dense layers by the checkpoint's modules that they are in."""
    from kerasllm.models.builders import saved_tensors

    family = FAMILIES[model.checkpoint_config["model_type"]]
    modules: dict[str, list[_Place]] = {}
    for spec in saved_tensors(model):
        if spec.path.endswith("/kernel") and "_layer_" in spec.path:
            module = family.stored_name(spec.name, model.kind).removesuffix(".weight")
            modules.setdefault(module, []).append(_place(spec))
    return modules


def _place(spec: TensorSpec) -> _Place:
    path = spec.path.removesuffix("/kernel")
    total = spec.shape[0] if spec.transposed else spec.shape[1]
    part = spec.part
    if part is None:
        return _Place(path, np.arange(total), total)
    if not spec.transposed:
        return _Place(path, np.arange(part.start, part.stop), total)
    outputs = Part(part.dims[:-1], part.axis, part.start, part.stop)
    return _Place(path, outputs.of(np.arange(total)).reshape(-1), total)


def _stacked(adapted: Mapping[str, Any], used: list[_Place]) -> tuple[np.ndarray, np.ndarray]:
    """PEFT's two matrices of one module."""
    a = np.concatenate([np.asarray(adapted[place.path].adapter.a, np.float32).T for place in used])
    b = np.zeros((used[0].total, a.shape[0]), np.float32)
    start = 0
    for place in used:
        own = np.asarray(adapted[place.path].adapter.b, np.float32).T
        b[place.rows, start : start + own.shape[1]] = own
        start += own.shape[1]
    return a, b


def _settings(config: Mapping[str, Any], module: str, rank: int) -> LoRASettings:
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # as PEFT's `get_pattern_key`
            alpha = value
            break
    stabilized = bool(config.get("use_rslora"))
    return LoRASettings(rank, float(alpha), float(config.get("lora_dropout") or 0.0), stabilized)


def _head_specs(model: ModelWithHead) -> list[TensorSpec]:
    from kerasllm.models.builders import saved_tensors

    return [spec for spec in saved_tensors(model) if spec.path.startswith("head/")]


def _planned_head(
    model: ModelWithHead, tensors: Mapping[str, np.ndarray], directory: Path
) -> Iterator[tuple[Any, np.ndarray]]:
    known = {f"{_PREFIX}{spec.name}": spec for spec in _head_specs(model)}
    foreign = sorted(set(tensors) - set(known))
    if foreign:
        raise AdapterError(
            f"`{directory}` holds what this model has no place for: {', '.join(foreign[:5])}. It belongs to "
            "another model or task, or uses what is not supported (adapters on embeddings, trained biases)."
        )
    weights = {weight.path: weight for weight in model.weights}
    planned = []
    for name, values in tensors.items():
        spec, weight = known[name], weights[known[name].path]
        if values.shape != spec.shape:
            raise AdapterError(f"`{name}` in `{directory}` is {values.shape} instead of {spec.shape}.")
        planned.append((weight, spec.to_keras(values, weight.shape)))
    return iter(planned)


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for name in (_CONFIG, _WEIGHTS):
        if not (directory / name).is_file():
            raise AdapterError(f"`{directory}` has no `{name}`, so it is no adapter in PEFT's format.")
    try:
        config = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
        tensors = {
            name: values.astype(np.float32) for name, values in load_file(directory / _WEIGHTS).items()
        }
    except (OSError, ValueError, SafetensorError, PresetError) as error:
        raise AdapterError(f"`{directory}` is damaged or cut short ({error}). Fetch it again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(f"`{directory}` holds a {kind} adapter, but only LoRA can be read.")
    for name, usual in (("use_dora", False), ("bias", "none"), ("lora_bias", False)):
        if config.get(name) not in (None, usual):
            raise AdapterError(
                f"`{name}` is {config[name]!r} in `{directory / _CONFIG}`, only {usual!r} can be read."
            )
    bad = [name for name, values in tensors.items() if not np.isfinite(values).all()]
    if bad:
        raise AdapterError(
            f"`{bad[0]}` in `{directory}` has values that are NaN or infinite. Fetch it again."
        )
    return config, tensors
