"""From the paths of our variables to the names of a checkpoint's tensors."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kerasllm.models.tensors import Part, TensorSpec

__all__ = ["Names", "Stored", "specs"]

_SUFFIXES = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "embeddings": "weight"}


@dataclass(frozen=True)
class Stored:
    """How a checkpoint keeps what our layer has, where it is not simply under another name.

    Attributes:
        name: Of the tensor, without `.weight` or `.bias`.
        transposed: Whether its matrix is `(outputs, inputs)`, as PyTorch's `Linear` has it.
        parts: Our layers beside this one, itself included, that one tensor holds, in their order.
        by_head: Whether the parts follow each other head by head, and not one after the other.
        row: Whether a vector is kept as a matrix of one row.
    """

    name: str
    transposed: bool = True
    parts: tuple[str, ...] = ()
    by_head: bool = False
    row: bool = False


# From the path of a layer of ours, with `{}` for numbers, to the name of its tensors without `.weight` or
# `.bias`; or from the path of a variable to the whole name.
Names = Mapping[str, str | Stored]


def specs(
    names: Names,
    weights: Mapping[str, tuple[int, ...]],
    *,
    heads: int = 1,
    renumber: Callable[[list[int]], Sequence[int]] = list,
) -> list[TensorSpec]:
    """Lists the tensors of a checkpoint for the given variables.

    Args:
        names: The family's table.
        weights: Shapes by path: `layout.backbone_weights` or `layout.head_weights`.
        heads: Number of attention heads, for `Stored.by_head`.
        renumber: Gives the numbers in a tensor's name from those in our path. Defaults to the same.

    Raises:
        KeyError: If the table lacks a path.
    """
    return list(_specs(names, weights, heads, renumber))


def _specs(
    names: Names,
    weights: Mapping[str, tuple[int, ...]],
    heads: int,
    renumber: Callable[[list[int]], Sequence[int]],
) -> Iterator[TensorSpec]:
    for path, shape in weights.items():
        numbers = renumber([int(number) for number in re.findall(r"(?<=_)\d+(?=/)", path)])
        template = re.sub(r"(?<=_)\d+(?=/)", "{}", path)
        if template in names:
            entry = names[template]
            stored = Stored(entry) if isinstance(entry, str) else entry
            transposed = stored.transposed and path.endswith("/kernel")
            kept = (1, *shape) if stored.row else shape[::-1] if transposed else shape
            yield TensorSpec(stored.name.format(*numbers), kept, path, transposed)
            continue
        layer, _, kind = template.rpartition("/")
        entry = names[layer]
        stored = Stored(entry) if isinstance(entry, str) else entry
        name = f"{stored.name}.{_SUFFIXES[kind]}".format(*numbers)
        transposed = stored.transposed and kind == "kernel"
        if stored.parts:
            yield _part(stored, name, path, weights, transposed, heads)
        else:
            yield TensorSpec(name, shape[::-1] if transposed else shape, path, transposed)


def _part(
    stored: Stored, name: str, path: str, weights: Mapping[str, tuple[int, ...]], transposed: bool, heads: int
) -> TensorSpec:
    layer, _, kind = path.rpartition("/")
    parent, _, own = layer.rpartition("/")
    sizes = {part: weights[f"{parent}/{part}/{kind}"][-1] for part in stored.parts}
    inputs = weights[path][:-1]
    total, place = sum(sizes.values()), stored.parts.index(own)
    start = sum(sizes[part] for part in stored.parts[:place])
    if stored.by_head:
        dims = (heads, len(sizes), total // len(sizes) // heads, *inputs)
        part = Part(dims, 1, place, place + 1)
        shape = (total, *inputs)
    elif transposed or not inputs:
        shape = (total, *inputs)
        part = Part(shape, 0, start, start + sizes[own])
    else:
        shape = (*inputs, total)
        part = Part(shape, 1, start, start + sizes[own])
    return TensorSpec(name, shape, path, transposed, part)
