"""What a checkpoint says about weights that are frozen under adapters: a hash instead of their values.

They are those of the pretrained checkpoint in each step, so that a checkpoint of a run with adapters is as
small as the adapters and their optimizer; a run goes on only on the very same ones.
"""

import json
from pathlib import Path
from typing import Any

import keras

from kerasllm.errors import CheckpointError
from kerasllm.models.frozen import fingerprint, frozen_weights

__all__ = ["changing_variables", "check_frozen", "write_frozen"]

FILE = "frozen.json"


def changing_variables(model: keras.Model) -> list[Any]:
    """The variables of a model that are not frozen under adapters, random generators included."""
    frozen = {id(weight) for weight in frozen_weights(model)}
    return [variable for variable in model.variables if id(variable) not in frozen]


def write_frozen(folder: Path, model: keras.Model) -> None:
    """Writes the hash of the frozen weights, where there are any, into the folder of a checkpoint."""
    frozen = frozen_weights(model)
    if frozen:
        content = {"num_weights": len(frozen), "sha256": fingerprint(frozen)}
        (folder / FILE).write_text(json.dumps(content), encoding="utf-8")


def check_frozen(folder: Path, model: keras.Model) -> None:
    """Compares the frozen weights of a model with those that a checkpoint was written over.

    Raises:
        CheckpointError: If they differ, or one has frozen weights and the other has none.
    """
    path, frozen = folder / FILE, frozen_weights(model)
    if not path.is_file() and not frozen:
        return
    if path.is_file() != bool(frozen):
        kinds = ["all weights", "adapters on a frozen backbone"]
        raise CheckpointError(
            f"`{folder}` is of a run that trains {kinds[path.is_file()]}, but this one trains "
            f"{kinds[bool(frozen)]}. Resume with the `model.lora` that it began with, or start a new run."
        )
    known = json.loads(path.read_text(encoding="utf-8"))
    found = fingerprint(frozen)
    if known["num_weights"] != len(frozen) or known["sha256"] != found:
        raise CheckpointError(
            f"The frozen weights are not those that `{folder}` was written over: {known['num_weights']} with "
            f"the hash {known['sha256'][:12]} then, {len(frozen)} with {found[:12]} now. Resume with the "
            "pretrained checkpoint that the run began with, or start a new run."
        )
