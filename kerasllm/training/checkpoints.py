"""Checkpoints of a run: everything that the next step depends on, whole or not at all.

```
checkpoints/step-00000120/        after an optimizer step; `step-00000120-end` when it ended an epoch
  model.safetensors      every variable of the model, random generators included
  optimizer.safetensors  every variable of the optimizer, loss scale included
  metrics.safetensors    the running sums of the epoch's metrics
  state.json             step, history, best step so far, state of the callbacks
  MANIFEST.json          sha256 and size of each
```
`save_weights` of Keras leaves out the states of dropout's random generators (keras #19796), writes in
place, and has no checksum; a full disk can leave a readable file without the optimizer's moments.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kerasllm.errors import CheckpointError, ResourceError
from kerasllm.resources.atomic import atomic_directory, remove_leftovers
from kerasllm.resources.manifest import verify_manifest, write_manifest

_KEPT = 2
_END = "-end"
_log = logging.getLogger("kerasllm.training")


@dataclass
class RunState:
    """Where a run stands, beside the numbers in the variables.

    Attributes:
        step: Optimizer steps that are done.
        epoch: Epochs that are done, validation included.
        history: Keras' logs of each of them.
        evaluations: What was measured between epochs: `{"step": …, "val_loss": …}` each.
        best: Name of the checkpoint with the best weights, empty before there is one.
        best_step, best_epoch: Step after which, and epoch (from 1) in which, they were reached.
        best_value: Value of the monitored metric there.
        callbacks: What the user's callbacks remember, one dict each.
        is_over: Whether a callback has ended the run before its last epoch.
        dtype_policy: Precision of the computation; safer than the config's after numbers that were none.
    """

    step: int = 0
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: str = ""
    best_step: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    is_over: bool = False
    dtype_policy: str = ""

    @property
    def epochs_since_best(self) -> int:
        """Epochs without improvement."""
        return self.epoch - self.best_epoch


class Checkpoints:
    """The `checkpoints/` folder of a run directory.

    Args:
        directory: The folder; made when missing, and swept of what a killed process left.
        parts: Further variables to keep, by the name of their file; `metrics` instead of the model's own.
            Those of `metrics` belong to an epoch that is not over, and may be infinite.
    """

    def __init__(self, directory: Path, parts: Mapping[str, Sequence[Any]] | None = None):
        self.directory = directory
        self.parts = {name: list(variables) for name, variables in (parts or {}).items()}
        directory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(directory)

    def save(self, model: keras.Model, state: RunState, *, ends_epoch: bool = False) -> Path:
        """Writes the state after a step, then removes all but the last two and the best.

        Args:
            model: Compiled and built.
            state: Where the run stands.
            ends_epoch: Whether the epoch is over, its validation and callbacks included.

        Raises:
            CheckpointError: If a variable is not finite: such a state is never published.
            ResourceError: If it cannot be written, e.g. because the disk is full; the others stay.
        """
        path = self.directory / checkpoint_name(state.step, ends_epoch=ends_epoch)
        if path.exists():
            self._remove(path)
        with atomic_directory(path) as folder:
            _write(folder / "model.safetensors", model.variables)
            _write(folder / "optimizer.safetensors", model.optimizer.variables)
            for name, variables in self._parts(model).items():
                _write(folder / f"{name}.safetensors", variables, finite=name != "metrics")
            (folder / "state.json").write_text(json.dumps(asdict(state), indent=1))
            write_manifest(folder)
        self._rotate(state)
        return path

    def names(self) -> list[str]:
        """Names of the checkpoints that are there, oldest first."""
        return sorted(path.name for path in self.directory.glob("step-*"))

    def restore_newest(self, model: keras.Model) -> RunState | None:
        """Puts the newest intact checkpoint into the model, its optimizer and its metrics.

        Returns:
            The state to go on from, or `None` when there is no checkpoint at all.

        Raises:
            CheckpointError: If there are checkpoints but none is intact, or none fits the model.
        """
        names = self.names()
        for name in reversed(names):
            path = self.directory / name
            try:
                verify_manifest(path, error=CheckpointError)
            except CheckpointError as error:
                _log.warning("Checkpoint %s is damaged (%s); trying the one before it.", name, error)
                continue
            _read(path / "model.safetensors", model.variables)
            _read(path / "optimizer.safetensors", model.optimizer.variables)
            state = RunState(**json.loads((path / "state.json").read_text()))
            for part, variables in self._parts(model).items():
                if part != "metrics" or not name.endswith(_END):
                    _read(path / f"{part}.safetensors", variables)
            return state
        if names:
            raise CheckpointError(
                f"No intact checkpoint in {self.directory}: {len(names)} found, all damaged. "
                "Start a new run with another `output_dir`."
            )
        return None

    def newest_state(self) -> RunState | None:
        """The state of the newest intact checkpoint, without its variables."""
        for name in reversed(self.names()):
            with contextlib.suppress(CheckpointError):
                verify_manifest(self.directory / name, error=CheckpointError)
                return RunState(**json.loads((self.directory / name / "state.json").read_text()))
        return None

    def restore_weights(self, model: keras.Model, name: str, *, averaged: bool = False) -> None:
        """Puts the weights of a checkpoint into the model.

        Args:
            model: Compiled and built.
            name: Name of the checkpoint.
            averaged: Whether they are the averages that the optimizer kept. Defaults to `False`.

        Raises:
            CheckpointError: If that checkpoint is missing or damaged.
        """
        path = self.directory / name
        verify_manifest(path, error=CheckpointError)
        _read(path / "model.safetensors", model.variables)
        if averaged:
            _read(path / "optimizer.safetensors", model.optimizer.variables)
            model.optimizer.finalize_variable_values(model.trainable_variables)

    def _parts(self, model: keras.Model) -> dict[str, list[Any]]:
        return {"metrics": [v for metric in model.metrics for v in metric.variables], **self.parts}

    def _rotate(self, state: RunState) -> None:
        for name in self.names()[:-_KEPT]:
            if name != state.best:
                self._remove(self.directory / name)

    def _remove(self, path: Path) -> None:
        # Renamed first: a kill in the middle must not leave half a checkpoint under a good name.
        doomed = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def checkpoint_name(step: int, *, ends_epoch: bool = False) -> str:
    """Name of the checkpoint after a step; the names sort in the order of time.

    The last step of an epoch has two: after the step itself, so that a kill during validation costs nothing,
    and `-end` after validation.
    """
    return f"step-{step:08d}{_END if ends_epoch else ''}"


def _keys(variables: list) -> list[str]:
    # The order is what identifies a variable. Keras numbers layers through the whole process (`dense_7`),
    # so that the same model has other paths the second time: the numbers are left out.
    names = [re.sub(r"_\d+(?=[/_]|$)", "", _path(variable)) for variable in variables]
    return [f"{number:04d} {name}" for number, name in enumerate(names)]


def _path(variable: Any) -> str:
    return str(getattr(variable, "path", variable.name))


def _write(path: Path, variables: list, *, finite: bool = True) -> None:
    arrays = {}
    for key, variable in zip(_keys(variables), variables, strict=True):
        array = np.asarray(keras.ops.convert_to_numpy(variable), order="C")
        if finite and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise CheckpointError(
                f"The variable `{_path(variable)}` has values that are not finite; no checkpoint was "
                "written. "
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
