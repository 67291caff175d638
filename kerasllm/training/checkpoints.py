"""Checkpoints of a run: everything that the next step depends on, whole or not at all.

```
checkpoints/epoch-0002/
  model.safetensors      every variable of the model, random generators included
  optimizer.safetensors  every variable of the optimizer, loss scale included
  state.json             epoch, history, best epoch so far
  MANIFEST.json          sha256 and size of each
```
`save_weights` of Keras leaves out the states of dropout's random generators (keras #19796), writes in
place, and has no checksum; a full disk can leave a readable file without the optimizer's moments.
"""

import json
import logging
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from kerasllm.errors import CheckpointError, ResourceError
from kerasllm.resources.atomic import atomic_directory, remove_leftovers
from kerasllm.resources.manifest import verify_manifest, write_manifest

_KEPT = 2
_log = logging.getLogger("kerasllm.training")


@dataclass
class RunState:
    """Where a run stands, beside the numbers in the variables.

    Attributes:
        epoch: Epochs that are done.
        history: Keras' logs of each of them.
        best_epoch: Number (from 1) of the best epoch, 0 before there is one.
        best_value: Value of the monitored metric in it.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None

    @property
    def epochs_since_best(self) -> int:
        """Epochs without improvement."""
        return self.epoch - self.best_epoch


class Checkpoints:
    """The `checkpoints/` folder of a run directory.

    Args:
        directory: The folder; made when missing, and swept of what a killed process left.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory)

    def save(self, model: keras.Model, state: RunState) -> Path:
        """Writes the state after an epoch, then removes all but the last two and the best.

        Raises:
            CheckpointError: If a variable is not finite: such a state is never published.
        """
        path = self.path(state.epoch)
        if path.exists():
            self._remove(path)
        with atomic_directory(path) as folder:
            _write(folder / "model.safetensors", model.variables)
            _write(folder / "optimizer.safetensors", model.optimizer.variables)
            (folder / "state.json").write_text(json.dumps(asdict(state), indent=1))
            write_manifest(folder)
        self._rotate(state)
        return path

    def path(self, epoch: int) -> Path:
        """Where the checkpoint after an epoch (from 1) is."""
        return self.directory / f"epoch-{epoch:04d}"

    def epochs(self) -> list[int]:
        """Epochs whose checkpoint is there, oldest first."""
        return sorted(int(path.name.removeprefix("epoch-")) for path in self.directory.glob("epoch-*"))

    def restore_newest(self, model: keras.Model) -> RunState | None:
        """Puts the newest intact checkpoint into the model and its optimizer.

        Returns:
            The state to go on from, or `None` when there is no checkpoint at all.

        Raises:
            CheckpointError: If there are checkpoints but none is intact, or none fits the model.
        """
        epochs = self.epochs()
        for epoch in reversed(epochs):
            path = self.path(epoch)
            try:
                verify_manifest(path, error=CheckpointError)
            except CheckpointError as error:
                _log.warning("Checkpoint %s is damaged (%s); trying the one before it.", path.name, error)
                continue
            _read(path / "model.safetensors", model.variables)
            _read(path / "optimizer.safetensors", model.optimizer.variables)
            return RunState(**json.loads((path / "state.json").read_text()))
        if epochs:
            raise CheckpointError(
                f"No intact checkpoint in {self.directory}: {len(epochs)} found, all damaged. "
                "Start a new run with another `output_dir`."
            )
        return None

    def restore_weights(self, model: keras.Model, epoch: int) -> None:
        """Puts the weights after an epoch (not the optimizer) into the model.

        Raises:
            CheckpointError: If that checkpoint is missing or damaged.
        """
        path = self.path(epoch)
        verify_manifest(path, error=CheckpointError)
        _read(path / "model.safetensors", model.variables)

    def _rotate(self, state: RunState) -> None:
        for epoch in self.epochs():
            if epoch <= state.epoch - _KEPT and epoch != state.best_epoch:
                self._remove(self.path(epoch))

    def _remove(self, path: Path) -> None:
        # Renamed first: a kill in the middle must not leave half a checkpoint under a good name.
        doomed = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def _keys(variables: list) -> list[str]:
    # The order is what identifies a variable. Keras numbers layers through the whole process (`dense_7`),
    # so that the same model has other paths the second time: the numbers are left out.
    names = [re.sub(r"_\d+(?=[/_]|$)", "", variable.path) for variable in variables]
    return [f"{number:04d} {name}" for number, name in enumerate(names)]


def _write(path: Path, variables: list) -> None:
    arrays = {}
    for key, variable in zip(_keys(variables), variables, strict=True):
        array = np.asarray(keras.ops.convert_to_numpy(variable), order="C")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise CheckpointError(
                f"The variable `{variable.path}` has values that are not finite; no checkpoint was written. "
                "Lower `training.learning_rate`, or use the dtype policy float32 or mixed_bfloat16."
            )
        arrays[key] = array
    try:
        safetensors.numpy.save_file(arrays, path)
    except safetensors.SafetensorError as error:
        # The Rust side reports a full disk as its own error; keep the meaning.
        raise OSError(f"{path} could not be written: {error}") from error


def _read(path: Path, variables: list) -> None:
    try:
        arrays = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ResourceError(f"{path} could not be read: {error}") from error
    keys = _keys(variables)
    if sorted(arrays) != sorted(keys):
        differing = sorted(set(arrays) ^ set(keys))
        raise CheckpointError(
            f"{path} does not fit the model: {len(differing)} variables differ, the first is "
            f"`{differing[0]}`. Resume with the model and training settings that the run began with."
        )
    for key, variable in zip(keys, variables, strict=True):
        if tuple(arrays[key].shape) != tuple(variable.shape):
            raise CheckpointError(
                f"{path} has `{key}` with shape {arrays[key].shape}, the model wants {tuple(variable.shape)}."
            )
        variable.assign(arrays[key])
