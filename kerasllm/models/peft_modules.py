"""Where our dense layers are among the modules of a checkpoint, which PEFT's adapters are named after.

Where a checkpoint keeps several of our layers in one matrix (GPT-2's `c_attn`), PEFT has one adapter for all
of them: ours are written one below the other, with zeros between them, and read as the rows that belong to
each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.models.families import FAMILIES
from kerasllm.models.lora import column_lengths
from kerasllm.models.tensors import Part, TensorSpec

if TYPE_CHECKING:
    from kerasllm.models.heads import ModelWithHead

__all__ = ["Place", "magnitudes", "modules_of", "stacked"]


@dataclass(frozen=True)
class Place:
    """One of our dense layers, and the rows of a module of the checkpoint that are its outputs."""

    path: str
    rows: np.ndarray
    total: int


def modules_of(model: "ModelWithHead") -> dict[str, list[Place]]:
    """Our dense layers by the checkpoint's modules that they are in."""
    from kerasllm.models.builders import saved_tensors

    family = FAMILIES[model.checkpoint_config["model_type"]]
    modules: dict[str, list[Place]] = {}
    for spec in saved_tensors(model):
        if spec.path.endswith("/kernel") and "_layer_" in spec.path:
            module = family.stored_name(spec.name, model.kind).removesuffix(".weight")
            modules.setdefault(module, []).append(_place_of(spec))
    return modules


def _place_of(spec: TensorSpec) -> Place:
    path = spec.path.removesuffix("/kernel")
    total = spec.shape[0] if spec.transposed else spec.shape[1]
    part = spec.part
    if part is None:
        return Place(path, np.arange(total), total)
    if not spec.transposed:
        return Place(path, np.arange(part.start, part.stop), total)
    outputs = Part(part.dims[:-1], part.axis, part.start, part.stop)
    return Place(path, outputs.of(np.arange(total)).reshape(-1), total)


def stacked(adapted: Mapping[str, Any], used: list[Place]) -> tuple[np.ndarray, np.ndarray]:
    """PEFT's two matrices of one module, A `(rank, inputs)` and B `(outputs, rank)`."""
    a = np.concatenate([np.asarray(adapted[place.path].adapter.a, np.float32).T for place in used])
    b = np.zeros((used[0].total, a.shape[0]), np.float32)
    start = 0
    for place in used:
        own = np.asarray(adapted[place.path].adapter.b, np.float32).T
        b[place.rows, start : start + own.shape[1]] = own
        start += own.shape[1]
    return a, b


def magnitudes(layers: Mapping[str, Any], places: list[Place]) -> np.ndarray:
    """DoRA's magnitudes of one module; rows without an adapter have the length that they have anyway."""
    found = np.ones(places[0].total, np.float32)
    for place in places:
        layer = layers[place.path]
        own = column_lengths(layer.matrix()) if layer.adapter is None else layer.adapter.magnitude
        found[place.rows] = np.asarray(own, np.float32)
    return found
