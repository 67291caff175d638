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
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from kerasllm.errors import CheckpointError, ResourceError
from kerasllm.resources.atomic import atomic_directory, atomic_remove, remove_leftovers
from kerasllm.resources.manifest import verify_manifest, write_manifest

FORMAT_VERSION = 1
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
        if path.exists():  # a damaged one that the run went back behind
            atomic_remove(path)
        with atomic_directory(path) as folder:
            _write(folder / "model.safetensors", model.variables)
            _write(folder / "optimizer.safetensors", model.optimizer.variables)
            _write(folder / "metrics.safetensors", _metric_variables(model), finite=False)
            document = {"format_version": FORMAT_VERSION, **asdict(state)}
            (folder / "state.json").write_text(json.dumps(document, indent=1))
            write_manifest(folder)
        self._rotate()
        return path

    def names(self) -> list[str]:
        """Names of the checkpoints that are there, oldest first."""
        return sorted(path.name for path in self.directory.glob("step-*"))

    def restore_newest(self, model: keras.Model) -> RunState | None:
        """Puts the newest intact checkpoint into the model, its optimizer and its metrics.

        Returns:
            The state to go on from, or `None` when there is no checkpoint at all.

        Raises:
            CheckpointError: If there are checkpoints but none is intact, none fits the model, or a newer
                kerasllm wrote it.
        """
        damaged = ""
        for name in reversed(self.names()):
            path = self.directory / name
            try:
                verify_manifest(path, error=CheckpointError)
            except CheckpointError as error:
                damaged = damaged or str(error)
                _log.warning("Checkpoint %s is damaged: %s", name, error)
                continue
            if damaged:
                _log.warning("Using %s, the newest that is intact; the steps after it are run again.", name)
            return _restore(path, model)
        if damaged:
            raise CheckpointError(
                f"No intact checkpoint in {self.directory}. {damaged} Or start a new run with another "
                "`output_dir`."
            )
        return None

    def restore_weights(self, model: keras.Model, name: str) -> None:
        """Puts the weights of a checkpoint (not the optimizer) into the model.

        Raises:
            CheckpointError: If that checkpoint is missing or damaged.
        """
        path = self.directory / name
        verify_manifest(path, error=CheckpointError)
        _assign(model.variables, _read(path / "model.safetensors", model.variables))

    def _rotate(self) -> None:
        """Removes all but the last two, and what each of them calls the best."""
        names = self.names()
        kept = set(names[-_KEPT:])
        for name in names[-_KEPT:]:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one
                kept.add(json.loads((self.directory / name / "state.json").read_text())["best"])
        for name in names:
            if name not in kept:
                atomic_remove(self.directory / name)


def checkpoint_name(step: int, *, ends_epoch: bool = False) -> str:
    """Name of the checkpoint after a step; the names sort in the order of time.

    The last step of an epoch has two: after the step itself, so that a kill during validation costs nothing,
    and `-end` after validation.
    """
    return f"step-{step:08d}{_END if ends_epoch else ''}"


def _restore(path: Path, model: keras.Model) -> RunState:
    """Puts an intact checkpoint into the model; nothing is changed where it does not fit."""
    document = json.loads((path / "state.json").read_text())
    version = document.pop("format_version", 1)
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"`{path}` has the format version {version}, this kerasllm reads up to {FORMAT_VERSION}. "
            "Update kerasllm, or start a new run with another `output_dir`."
        )
    state = RunState(**document)
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    if not path.name.endswith(_END):
        parts["metrics"] = _metric_variables(model)
    arrays = {part: _read(path / f"{part}.safetensors", variables) for part, variables in parts.items()}
    for part, variables in parts.items():
        _assign(variables, arrays[part])
    return state


def _metric_variables(model: keras.Model) -> list:
    return [variable for metric in model.metrics for variable in metric.variables]


def _keys(variables: list) -> list[str]:
    # The order is what identifies a variable. Keras numbers layers through the whole process (`dense_7`),
    # so that the same model has other paths the second time: the numbers are left out.
    names = [re.sub(r"_\d+(?=[/_]|$)", "", variable.path) for variable in variables]
    return [f"{number:04d} {name}" for number, name in enumerate(names)]


def _write(path: Path, variables: list, *, finite: bool = True) -> None:
    arrays = {}
    for key, variable in zip(_keys(variables), variables, strict=True):
        array = np.asarray(keras.ops.convert_to_numpy(variable), order="C")
        if finite and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
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


def _read(path: Path, variables: list) -> list[np.ndarray]:
    """Reads an array for each variable; a set of others, or another shape, is an error, never skipped."""
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
        there, wanted = arrays[key], np.dtype(keras.backend.standardize_dtype(variable.dtype))
        if tuple(there.shape) != tuple(variable.shape) or there.dtype != wanted:
            raise CheckpointError(
                f"{path} has `{key}` as {there.dtype}{list(there.shape)}, the model wants "
                f"{wanted}{list(variable.shape)}. Resume with the model and training settings that the run "
                "began with."
            )
    return [arrays[key] for key in keys]


def _assign(variables: list, arrays: list[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
