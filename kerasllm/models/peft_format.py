"""Reads and writes LoRA adapters as `peft` keeps them: `adapter_config.json` and `adapter_model.safetensors`.

Beside these two, which `peft` reads, are two files of ours that it passes over: `base.json`, which says what
the adapter was trained on, and, only for a classifier on the mean of the token vectors, which PEFT does not
know, `head.safetensors`. PEFT then reads the adapter as one of the backbone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import AdapterError, PresetError
from kerasllm.models.adapters import LoRASettings, adapted_layers, attach, freeze
from kerasllm.models.families.family import MEAN_POOLED
from kerasllm.models.frozen import base_fingerprint
from kerasllm.models.heads import ModelWithHead
from kerasllm.models.peft_modules import Place, magnitudes, modules_of, stacked
from kerasllm.models.quantization import quantize_backbone, quantized_layers
from kerasllm.models.tensors import TensorSpec
from kerasllm.models.transformer.paths import dense_layers
from kerasllm.resources.atomic import atomic_directory

__all__ = ["load_adapter", "save_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BASE, _HEAD = "base.json", "head.safetensors"
_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_TASKS = {
    "pooled_classifier": "SEQ_CLS",
    "token_classifier": "TOKEN_CLS",
    "causal_language": "CAUSAL_LM",
    "seq2seq_language": "SEQ_2_SEQ_LM",
}


def save_adapter(model: ModelWithHead, directory: str | Path, *, base_model: str) -> Path:
    """Writes the adapters of a model, and its head where it is a new one.

    Args:
        model: A model with adapters.
        directory: It must not exist, and appears whole or not at all.
        base_model: Name of the checkpoint that the adapters are for, as `peft` shall find it; of a handle
            `hf://org/name`, `org/name` is written.

    Returns:
        The directory.

    Raises:
        AdapterError: If the model has no adapters, PEFT cannot have them, or the directory exists.
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    _check_writable(model, directory)
    tensors, config = _peft_tensors(model)
    head = {spec.name: _head_values(model, spec) for spec in _head_specs(model)}
    separate = model.kind == MEAN_POOLED
    if not separate:
        tensors |= {f"{_PREFIX}{name}": values for name, values in head.items()}
        config["modules_to_save"] = sorted({name.partition(".")[0] for name in head}) or None
    config["base_model_name_or_path"] = base_model.removeprefix("hf://")
    base = {
        "base_sha256": base_fingerprint(model),
        "quantize_base": "int8" if quantized_layers(model) else "none",
    }
    with atomic_directory(directory) as folder:
        for name, values in ((_WEIGHTS, tensors), (_HEAD, head if separate else {})):
            ordered = {key: np.ascontiguousarray(value) for key, value in sorted(values.items())}
            if ordered:
                save_file(ordered, folder / name, metadata={"format": "pt"})
        for name, content in ((_CONFIG, config), (_BASE, base)):
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
            (folder / name).write_text(text + "\n", encoding="utf-8")
    return directory


def _check_writable(model: ModelWithHead, directory: Path) -> None:
    adapted = adapted_layers(model)
    if not adapted:
        raise AdapterError("The model has no adapters to save. `add_lora` puts some on it.")
    if directory.exists():
        raise AdapterError(f"`{directory}` exists already. Choose another path, or remove it first.")
    experts = [path for path in adapted if "expert_" in path]
    if experts:
        raise AdapterError(
            f"PEFT has no adapters for single experts, but `{experts[0]}` has one. Merge them instead."
        )


def _peft_tensors(model: ModelWithHead) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The adapters as PEFT's tensors, and its config of them."""
    adapted, layers = adapted_layers(model), dense_layers(model)
    tensors, ranks, alphas = {}, {}, {}
    for module, places in modules_of(model).items():
        used = [place for place in places if place.path in adapted]
        if not used:
            continue
        a, b = stacked(adapted, used)
        tensors[f"{_PREFIX}{module}.lora_A.weight"], tensors[f"{_PREFIX}{module}.lora_B.weight"] = a, b
        own = adapted[used[0].path].adapter.settings
        if own.dora:
            tensors[f"{_PREFIX}{module}{_MAGNITUDE}"] = magnitudes(layers, places)
        ranks[module] = a.shape[0]
        # The scale must stay what it is although the rank has grown.
        alphas[module] = own.scale * (a.shape[0] ** 0.5 if own.rank_stabilized else a.shape[0])
    first = next(iter(adapted.values())).adapter.settings
    return tensors, {
        "peft_type": "LORA",
        "task_type": _TASKS.get(model.kind, "FEATURE_EXTRACTION"),
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "use_rslora": first.rank_stabilized,
        "use_dora": first.dora,
        "bias": "none",
        "fan_in_fan_out": model.checkpoint_config["model_type"] == "gpt2",
        "target_modules": sorted(ranks),
        "rank_pattern": {re.escape(module): rank for module, rank in ranks.items()},
        "alpha_pattern": {re.escape(module): alpha for module, alpha in alphas.items()},
        "inference_mode": True,
    }


def _head_values(model: ModelWithHead, spec: TensorSpec) -> np.ndarray:
    variable = next(weight for weight in model.weights if weight.path == spec.path)
    return spec.from_keras(np.asarray(variable, np.float32))


def load_adapter(model: ModelWithHead, directory: str | Path) -> list[str]:
    """Puts the adapters of a PEFT directory on a model, and its head's weights where they are there.

    Args:
        model: The model that the adapters are for; its backbone is frozen, and rounded to 8 bits where the
            adapters were trained on one that was.
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        Paths of the layers that have an adapter now.

    Raises:
        AdapterError: If the files are missing or damaged, are another kind of adapter, or do not fit the
            model.

    Example:
    >>> model = build_classifier(Preset.load(handle), num_classes=2)  # from kerasllm.models.builders
    >>> load_adapter(model, "runs/reviews/adapter")
    >>> merge_lora(model)  # from kerasllm.models.adapters
    """
    directory = Path(directory)
    config, tensors = _read(directory)
    if adapted_layers(model):
        raise AdapterError(
            "The model has adapters already. Merge them first (`merge_lora`), or load it anew."
        )
    planned = _planned_adapters(model, config, tensors, directory)
    head = _planned_head(model, tensors, directory)
    _fit_base(model, directory)
    freeze(model)
    layers = dense_layers(model)
    for place, settings, (a, b, magnitude) in planned:
        attach(layers[place.path], settings)
        adapter = layers[place.path].adapter
        adapter.a.assign(a)
        adapter.b.assign(b)
        if magnitude is not None:
            adapter.magnitude.assign(magnitude)
    for weight, values in head:
        weight.assign(values)
    return list(adapted_layers(model))


def _planned_adapters(
    model: ModelWithHead, config: Mapping[str, Any], tensors: dict[str, np.ndarray], directory: Path
) -> list[tuple[Place, LoRASettings, tuple]]:
    """What goes to which layer: A, B and magnitudes, or `None` for these. Takes them from the tensors."""
    modules, layers = modules_of(model), dense_layers(model)
    planned = []
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        a, b = tensors.pop(name), tensors.pop(f"{_PREFIX}{module}.lora_B.weight", None)
        dora = bool(config.get("use_dora"))
        magnitude = tensors.pop(f"{_PREFIX}{module}{_MAGNITUDE}", None)
        if module not in modules or b is None or dora == (magnitude is None):
            missing = "its other half is missing" if b is None else "this model has no such layer"
            if module in modules and b is not None:
                missing = "`use_dora` and its magnitudes disagree"
            raise AdapterError(f"`{directory}` has an adapter for `{module}`, but {missing}.")
        for place in modules[module]:
            inputs = layers[place.path].input_dim
            if a.shape[1] != inputs or b.shape != (place.total, a.shape[0]):
                raise AdapterError(
                    f"The adapter for `{module}` in `{directory}` has the shapes {a.shape} and {b.shape}, "
                    f"which do not fit the layer, {inputs} to {place.total}. It belongs to another model."
                )
            if magnitude is not None and magnitude.shape != (place.total,):
                raise AdapterError(
                    f"The magnitudes for `{module}` in `{directory}` are {magnitude.shape} instead of "
                    f"{(place.total,)}. They belong to another model."
                )
            own = None if magnitude is None else magnitude[place.rows]
            if b[place.rows].any() or own is not None:  # else another part of the matrix has the adapter
                settings = _settings(config, module, a.shape[0])
                planned.append((place, settings, (a.T, b[place.rows].T, own)))
    return planned


def _fit_base(model: ModelWithHead, directory: Path) -> None:
    """Brings the backbone to what `base.json`, where there is one, says that it was."""
    path = directory / _BASE
    if not path.is_file():
        return
    try:
        base = json.loads(path.read_text(encoding="utf-8"))
        rounding, expected = base["quantize_base"], base["base_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"`{path}` is damaged ({error!r}). Fetch it again.") from error
    if rounding == "int8" and not quantized_layers(model):
        quantize_backbone(model)
    found = base_fingerprint(model)
    if found != expected:
        raise AdapterError(
            f"`{directory}` was trained on another checkpoint: the weights under it had the hash "
            f"{expected[:12]}, those of this model have {found[:12]}. Load the one that it is for, or, where "
            f"that is meant, remove `{_BASE}`."
        )


def _settings(config: Mapping[str, Any], module: str, rank: int) -> LoRASettings:
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):  # as PEFT's `get_pattern_key`
            alpha = value
            break
    stabilized = bool(config.get("use_rslora"))
    dropout = float(config.get("lora_dropout") or 0.0)
    return LoRASettings(rank, float(alpha), dropout, stabilized, bool(config.get("use_dora")))


def _head_specs(model: ModelWithHead) -> list[TensorSpec]:
    """The tensors of a classifier's head, which is trained with the adapters."""
    from kerasllm.models.builders import saved_tensors

    if "classifier" not in model.kind:
        return []
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
        if (directory / _HEAD).is_file():
            tensors |= {f"{_PREFIX}{name}": values for name, values in load_file(directory / _HEAD).items()}
    except (OSError, ValueError, SafetensorError, PresetError) as error:
        raise AdapterError(f"`{directory}` is damaged or cut short ({error}). Fetch it again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(f"`{directory}` holds a {kind} adapter, but only LoRA can be read.")
    for name, usual in (("bias", "none"), ("lora_bias", False)):
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
