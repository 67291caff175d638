"""Compares the tensors that a checkpoint holds with those that its config asks for."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import StoredTensor
from kerasllm.models.tensors import TensorSpec, check_shapes

logger = logging.getLogger(__name__)

# The tensor that tells how many classes a trained classifier has.
CLASSIFIER_WEIGHTS = {
    "pooled_classifier": "classifier.weight",
    "mean_pooled_classifier": "mean_pooled_classifier.weight",
}


@dataclass(frozen=True)
class Inventory:
    """What a checkpoint has, lacks, and has too much of.

    Attributes:
        stored: From a tensor's canonical name to its name in the checkpoint.
        head: Kind of the trained head, or `None`.
        num_classes: Number of classes of a trained classifier, or `None`.
        unused: Names, as stored, of the tensors that nothing uses.
        missing: Canonical names of the tensors that would be newly initialised.
    """

    stored: Mapping[str, str]
    head: str | None
    num_classes: int | None
    unused: tuple[str, ...]
    missing: tuple[str, ...]


def take_inventory(
    family: ModuleType, config: Mapping, tensors: Mapping[str, StoredTensor], *, source: str
) -> Inventory:
    """Checks that every tensor that is needed is there, in the right shape.

    Args:
        family: The module that knows this architecture.
        config: The checkpoint's `config.json`.
        tensors: The headers of the checkpoint's tensors.
        source: Names it in messages.

    Returns:
        What was found.

    Raises:
        PresetError: If tensors of the backbone, part of the pooler or part of a trained
            head are missing, or a shape is wrong.
    """
    stored = _canonical_names(family, tensors, source)
    shapes = {name: tensors[own].shape for name, own in stored.items()}
    pooler = family.pooler_tensors(config)
    missing = () if any(spec.name in stored for spec in pooler) else tuple(spec.name for spec in pooler)
    needed = family.backbone_tensors(config) + ([] if missing else pooler)
    head = family.head_kind(config, stored)
    num_classes = None
    if head in CLASSIFIER_WEIGHTS:
        num_classes = (shapes.get(CLASSIFIER_WEIGHTS[head]) or (0,))[0]
    if head is not None:
        needed += family.head_tensors(config, head, num_classes or 0)
    if head == "pooled_classifier":
        needed += pooler
    _check_presence(needed, stored, source)
    check_shapes(needed, shapes, source=source)
    used = {spec.name for spec in needed}
    if head == "masked_language":
        used |= {name for name in stored if family.is_tied_copy(config, name)}
    unused = tuple(sorted(own for name, own in stored.items() if name not in used))
    return Inventory(stored, head, num_classes, unused, missing)


def log_inventory(inventory: Inventory, family: ModuleType, *, source: str) -> None:
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
    if inventory.missing and inventory.head != "mean_pooled_classifier":
        logger.info(
            "In `%s`, %s missing, and would be newly initialised if used: %s.",
            source,
            _count(inventory.missing, "tensor is", "tensors are"),
            ", ".join(inventory.missing),
        )


def _canonical_names(family: ModuleType, tensors: Iterable[str], source: str) -> dict[str, str]:
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
    absent = [spec.name for spec in needed if spec.name not in stored]
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
