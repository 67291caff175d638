"""Compares the tensors that a checkpoint holds with those that its config asks for."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import StoredTensor
from kerasllm.models.families.family import MEAN_POOLED, Family
from kerasllm.models.tensors import TensorSpec, check_shapes

__all__ = ["Inventory", "log_inventory", "take_inventory"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inventory:
    """What a checkpoint has, lacks, and has too much of.

    Attributes:
        stored: From a tensor's canonical name to its name in the checkpoint.
        head: Kind of the trained head, or `None`.
        tied: Whether a language head's matrix is that of the token embeddings.
        num_classes: Number of classes of a trained classifier, or `None`.
        unused: Names, as stored, of the tensors that nothing uses.
        missing: Canonical names of the tensors that would be newly initialised.
        zero: Canonical names of those that stand for zeros.
    """

    stored: Mapping[str, str]
    head: str | None
    tied: bool
    num_classes: int | None
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    zero: tuple[str, ...]


def take_inventory(
    family: Family,
    config: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    read: Callable[[str], np.ndarray],
    *,
    source: str,
) -> Inventory:
    """Checks that every tensor that is needed is there, in the right shape.

    Args:
        family: What knows this architecture.
        config: The checkpoint's `config.json`.
        tensors: The headers of the checkpoint's tensors.
        read: Gives the values of a tensor; called only where two may be the same.
        source: Names it in messages.

    Returns:
        What was found.

    Raises:
        PresetError: If tensors of the backbone, part of the pooler or part of a trained
            head are missing, or a shape is wrong.
    """
    stored = _canonical_names(family, tensors, source)
    head = family.head_kind(config, stored)
    _find_embedding(family, head, stored)
    shapes = {name: tensors[own].shape for name, own in stored.items()}
    pooler = family.pooler_tensors(config)
    missing = () if any(spec.name in stored for spec in pooler) else tuple(spec.name for spec in pooler)
    needed = family.backbone_tensors(config) + ([] if missing else pooler)
    num_classes, tied = None, False
    optional: tuple[str, ...] = ()
    if head is not None:
        if "classifier" in head:
            num_classes = (shapes.get(family.output_name(head)) or (0,))[0]
        else:
            tied = _is_tied(family, config, head, stored, read)
        needed += family.head_tensors(config, head, num_classes or 0, tied=tied)
        optional = family.head_format(head).optional
        if head != MEAN_POOLED and family.head(config, head, num_classes or 0).pool == "pooled":
            needed += pooler
    zero = tuple(name for name in optional if name not in stored)
    _check_presence([spec for spec in needed if spec.name not in zero], stored, source)
    check_shapes(needed, shapes, source=source)
    used = {stored[spec.name] for spec in needed if spec.name in stored}
    if head is not None and "language" in head:
        used |= {stored[name] for name in family.embedding_names(head) if name in stored}
    unused = tuple(sorted(own for own in stored.values() if own not in used))
    return Inventory(stored, head, tied, num_classes, unused, missing, zero)


def log_inventory(inventory: Inventory, family: Family, *, source: str) -> None:
    """Says in a sentence each which tensors are not used and which are missing.

    A warning where the config does not explain them, e.g. more layers than it says.
    """
    if inventory.unused:
        expected = all(family.is_expected_unused(family.canonical_name(name)) for name in inventory.unused)
        logger.log(
            logging.INFO if expected else logging.WARNING,
            "In `%s`, %s not used: %s.",
            source,
            _count(inventory.unused, "tensor is", "tensors are"),
            ", ".join(inventory.unused),
        )
    if inventory.missing and inventory.head != MEAN_POOLED:
        logger.info(
            "In `%s`, %s missing, and would be newly initialised if used: %s.",
            source,
            _count(inventory.missing, "tensor is", "tensors are"),
            ", ".join(inventory.missing),
        )


def _find_embedding(family: Family, head: str | None, stored: dict[str, str]) -> None:
    """Where the token embeddings are kept only under the name of a copy, takes that."""
    usual, *others = family.embedding_names(head)
    if usual in stored:
        return
    for name in others:
        if name in stored and name.endswith(".weight"):
            stored[usual] = stored[name]
            return


def _is_tied(
    family: Family,
    config: Mapping[str, Any],
    head: str,
    stored: Mapping[str, str],
    read: Callable[[str], np.ndarray],
) -> bool:
    """Whether the output's matrix is that of the token embeddings, as transformers decides it.

    Where the config ties the two and both are stored, the values decide (`PreTrainedModel.tie_weights`).
    """
    if not family.tied(config):
        return False
    embedding, output = family.embedding_names(head)[0], family.output_name(head)
    if output not in stored or embedding not in stored or stored[output] == stored[embedding]:
        return True
    return bool(np.array_equal(read(stored[output]), read(stored[embedding])))


def _canonical_names(family: Family, tensors: Iterable[str], source: str) -> dict[str, str]:
    stored: dict[str, str] = {}
    for own in tensors:
        name = family.canonical_name(own)
        if name in stored:
            raise PresetError(
                f"`{source}` stores the same weights twice, as `{stored[name]}` and as `{own}`, so it cannot "
                "be known "
                "which are right. Save the checkpoint again from the model that it belongs to."
            )
        stored[name] = own
    return stored


def _check_presence(needed: Iterable[TensorSpec], stored: Mapping[str, str], source: str) -> None:
    absent = list(dict.fromkeys(spec.name for spec in needed if spec.name not in stored))
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise PresetError(
            f"`{source}` lacks {_count(absent, 'tensor', 'tensors')} that its `config.json` asks for: "
            f"{', '.join(f'`{name}`' for name in absent[:5])}{more}. The weights are incomplete or belong to "
            "another "
            "config: fetch both again. (A head that was never trained must not be named in `architectures`.)"
        )


def _count(names: Collection[str], singular: str, plural: str) -> str:
    return f"{len(names)} {singular if len(names) == 1 else plural}"
