"""Checkpoints of a run: everything that the next step depends on, whole or not at all.

```
checkpoints/step-00000120/        after an optimizer step; `step-00000120-end` when it ended an epoch
  model.safetensors      every variable of the model that training changes, random generators included
  frozen.json            the hash of the others, where adapters are trained over frozen weights
  optimizer.safetensors  every variable of the optimizer, loss scale included
  metrics.safetensors    the running sums of the epoch's metrics
  others.safetensors     whatever else the next step depends on, where there is something
  state.json             step, history, best step so far, state of the callbacks
  MANIFEST.json          sha256 and size of each
```
`save_weights` of Keras leaves out the states of dropout's random generators (keras #19796), writes in
place, and has no checksum; a full disk can leave a readable file without the optimizer's moments.
"""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import keras

from kerasllm.errors import CheckpointError
from kerasllm.resources.atomic import atomic_directory, atomic_remove, remove_leftovers
from kerasllm.resources.manifest import verify_manifest, write_manifest
from kerasllm.training.frozen_base import changing_variables, check_frozen, write_frozen
from kerasllm.training.variable_files import assign_arrays, read_arrays, write_variables

FORMAT_VERSION = 1
_KEPT = 2
_END = "-end"
_METRICS = "metrics"
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
        best_loss: Validation loss there, which decides between equal values.
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
    best_loss: float | None = None
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
        num_ends: How many checkpoints at the ends of epochs are kept beside. Defaults to 0.
    """

    def __init__(
        self,
        directory: Path,
        parts: Mapping[str, Sequence[Any]] | None = None,
        *,
        num_ends: int = 0,
    ):
        self.directory = directory
        self.num_ends = num_ends
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
        if path.exists():  # a damaged one that the run went back behind
            atomic_remove(path)
        with atomic_directory(path) as folder:
            hashes = {}
            for part, variables in self._variables(model).items():
                name = f"{part}.safetensors"
                hashes[name] = write_variables(folder / name, variables, finite=part != _METRICS)
            write_frozen(folder, model)
            document = {"format_version": FORMAT_VERSION, **asdict(state)}
            (folder / "state.json").write_text(json.dumps(document, indent=1))
            write_manifest(folder, known=hashes)
        self._rotate()
        return path

    def names(self) -> list[str]:
        """Names of the checkpoints that are there, oldest first."""
        return sorted(path.name for path in self.directory.glob("step-*"))

    def newest_state(self) -> RunState | None:
        """The state of the newest intact checkpoint, without its variables.

        Raises:
            CheckpointError: If there are checkpoints but none is intact, or a newer kerasllm wrote it.
        """
        path = self._newest_intact()
        return None if path is None else _read_state(path)

    def restore_newest(self, model: keras.Model) -> RunState | None:
        """Puts the newest intact checkpoint into the model, its optimizer and the other parts.

        Returns:
            The state to go on from, or `None` when there is no checkpoint at all.

        Raises:
            CheckpointError: If there are checkpoints but none is intact, none fits the model, or a newer
                kerasllm wrote it.
        """
        path = self._newest_intact()
        if path is None:
            return None
        state, parts = _read_state(path), self._variables(model)
        check_frozen(path, model)
        if path.name.endswith(_END):
            parts.pop(_METRICS)
        # Everything is read before anything is changed: a file that does not fit must not leave half a state.
        arrays = {part: read_arrays(path / f"{part}.safetensors", parts[part]) for part in parts}
        for part, variables in parts.items():
            assign_arrays(variables, arrays[part])
        return state

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
        check_frozen(path, model)
        variables = changing_variables(model)
        assign_arrays(variables, read_arrays(path / "model.safetensors", variables))
        if averaged:
            variables = model.optimizer.variables
            assign_arrays(variables, read_arrays(path / "optimizer.safetensors", variables))
            model.optimizer.finalize_variable_values(model.trainable_variables)

    def restore_best(self, model: keras.Model, state: RunState, *, averaged: bool = False) -> None:
        """Puts the best weights into the model; where they are damaged, those of the last step stay, warned.

        Args:
            model: Compiled and built.
            state: Where the run stands; says afterwards whose weights the model has.
            averaged: Whether they are the averages that the optimizer kept. Defaults to `False`.
        """
        if not state.best:  # the disk was full at each evaluation
            return
        try:
            self.restore_weights(model, state.best, averaged=averaged)
        except CheckpointError as error:
            _log.warning(
                "The best checkpoint cannot be used: %s The model has the weights of step %d.",
                error,
                state.step,
            )
            state.best, state.best_value = "", None
            state.best_step, state.best_epoch = state.step, state.epoch

    def _variables(self, model: keras.Model) -> dict[str, list[Any]]:
        own = [variable for metric in model.metrics for variable in metric.variables]
        parts = {"model": changing_variables(model), "optimizer": model.optimizer.variables, _METRICS: own}
        return {**parts, **self.parts}

    def _newest_intact(self) -> Path | None:
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
            return path
        if damaged:
            raise CheckpointError(
                f"No intact checkpoint in {self.directory}. {damaged} Or start a new run with another "
                "`output_dir`."
            )
        return None

    def _rotate(self) -> None:
        """Removes all but the last two, and what each of them calls the best."""
        names = self.names()
        ends = [name for name in names if name.endswith(_END)]
        kept = {*names[-_KEPT:], *ends[len(ends) - min(self.num_ends, len(ends)) :]}
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


def _read_state(path: Path) -> RunState:
    document = json.loads((path / "state.json").read_text())
    version = document.pop("format_version", 1)
    unknown = sorted(set(document) - {entry.name for entry in fields(RunState)})
    if version > FORMAT_VERSION or unknown:
        raise CheckpointError(
            f"`{path}` was written by a newer kerasllm (format version {version}, this one reads up to "
            f"{FORMAT_VERSION}{', unknown: ' if unknown else ''}{', '.join(unknown)}). Update kerasllm, or "
            "start a new run with another `output_dir`."
        )
    return RunState(**document)
