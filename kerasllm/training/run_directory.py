"""The directory of a run: what was asked for, what happened, and the model that came out.

```
runs/reviews-20261123-1106/
  config.yaml  manifest.json  history.csv  evaluations.csv  metrics.json  report.html
  checkpoints/  model/  adapter/
```
`model/` is whole, adapters merged; `adapter/` has them apart, for the pretrained checkpoint (only with LoRA).
"""

import contextlib
import csv
import fcntl
import io
import json
import logging
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from kerasllm.errors import ResourceError, RunDirectoryError
from kerasllm.resources.atomic import (
    AlreadyExistsError,
    atomic_directory,
    atomic_remove,
    atomic_write,
    remove_leftovers,
)

FORMAT_VERSION = 1
_PACKAGES = ("kerasllm", "tensorflow", "keras", "keras-hub", "tensorflow-text", "tokenizers", "numpy")
_log = logging.getLogger("kerasllm.training")


class RunDirectory:
    """A run directory, open in this process and locked against others.

    Attributes:
        path: The directory.
        began: Whether this process has begun to train in it.
        goes_on: Whether it was there before, from an earlier process.

    Use `RunDirectory.create` or `RunDirectory.reopen`.
    """

    def __init__(self, path: Path, lock: int, *, goes_on: bool = False):
        self.path = path
        self.began = False
        self.goes_on = goes_on
        self._lock = lock
        self._started = time.monotonic()

    @classmethod
    def create(cls, output_dir: str | os.PathLike[str], config_yaml: str) -> "RunDirectory":
        """Makes a new run directory; a time, and then a number, is appended while the name is taken.

        Args:
            output_dir: Wanted path.
            config_yaml: The resolved config, written as `config.yaml`.

        Raises:
            RunDirectoryError: If it cannot be made or written to.
        """
        wanted = Path(os.path.abspath(output_dir))
        remove_leftovers(wanted.parent)
        for path in _names(wanted):
            run = cls._published(path, config_yaml)
            if run is not None:
                return run
        raise RunDirectoryError(f"No free name like `{wanted}` was found; choose another `output_dir`.")

    @classmethod
    def _published(cls, path: Path, config_yaml: str) -> "RunDirectory | None":
        """Makes the directory with its first files in one step, or returns `None` if the name is taken.

        A process that is killed before it has written the manifest must not leave a directory that is no run.
        """
        run = None
        try:
            with atomic_directory(path) as folder:
                folder.chmod(0o700)
                run = cls(folder, _lock(folder))
                run.write("config.yaml", config_yaml)
                run.write_manifest({"state": "running"})
            run.path = path
        except BaseException as error:
            if run is not None:
                run.close()
            if isinstance(error, AlreadyExistsError):
                return None
            if isinstance(error, ResourceError):
                raise RunDirectoryError(
                    f"The run directory cannot be made: {error} Set another with `output_dir` or "
                    "`-s output_dir=…`."
                ) from error
            raise
        return run

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Opens the directory of an earlier run to go on in it.

        Raises:
            RunDirectoryError: If it is not a run directory, was written by a newer kerasllm, or another
                process is using it.
        """
        directory = Path(os.path.abspath(path))
        read_run_manifest(directory)
        run = cls(directory, _lock(directory), goes_on=True)
        remove_leftovers(directory)
        return run

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the finished task model goes."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """Where the adapters go, beside the model that they are merged into."""
        return self.path / "adapter"

    def write(self, name: str, content: str) -> Path:
        """Writes a text file of the run, whole or not at all."""
        atomic_write(self.path / name, content)
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON file of the run."""
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def write_history(self, history: list[dict[str, float]]) -> None:
        """Writes `history.csv`, a row an epoch; a full disk costs only a warning, never the run."""
        self._write_table("history.csv", [{"epoch": n, **logs} for n, logs in enumerate(history, start=1)])

    def write_evaluations(self, evaluations: list[dict[str, Any]]) -> None:
        """Writes `evaluations.csv`, a row for each evaluation between two ends of epochs."""
        self._write_table("evaluations.csv", evaluations)

    def _write_table(self, name: str, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        try:
            self.write(name, text.getvalue())
        except OSError as error:
            _log.warning("%s was not written (%s); the checkpoint has the same numbers.", name, error)

    def write_manifest(self, facts: dict[str, Any]) -> None:
        """Adds facts to `manifest.json`: versions, commit, host, and what the caller knows."""
        path = self.path / "manifest.json"
        known = json.loads(path.read_text()) if path.exists() else _environment()
        seconds = round(time.monotonic() - self._started, 1)
        self.write_json("manifest.json", {**known, **facts, "seconds": seconds})

    def begin(self, facts: dict[str, Any]) -> None:
        """Notes that training begins, and on what."""
        self.began = True
        self.write_manifest({**facts, "state": "running"})

    def turn_back(self) -> None:
        """Leaves everything as it was before: a new directory goes, so that its name is free again."""
        if not self.goes_on:
            atomic_remove(self.path)

    def start_anew(self, config_yaml: str) -> None:
        """Lets the earlier run be as it is, and makes a new directory beside it the one of this object."""
        fresh = RunDirectory.create(self.path, config_yaml)
        self.close()
        self.path, self._lock, self.goes_on = fresh.path, fresh._lock, False

    def close(self) -> None:
        """Lets another process use the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_run_manifest(directory: Path) -> dict[str, Any]:
    """The `manifest.json` of a run directory.

    Raises:
        RunDirectoryError: If there is none, it cannot be read, or a newer kerasllm wrote it.
    """
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        version = manifest["format_version"]
    except FileNotFoundError:
        raise RunDirectoryError(
            f"`{directory}` is not a run directory: it has no manifest.json. "
            "Give the directory that `kerasllm finetune` printed."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"`{path}` cannot be read ({error}). Restore it, or start a new run."
        ) from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunDirectoryError(
            f"`{directory}` has the format version {version!r}, this kerasllm reads up to {FORMAT_VERSION}. "
            "Update kerasllm, or start a new run."
        )
    return manifest


@contextlib.contextmanager
def recorded(run: RunDirectory) -> Iterator[RunDirectory]:
    """Writes into the manifest how the run ended, whichever way it did, and closes the directory.

    A run that ends before training begins, say for a column that is not there, leaves no trace.
    """
    state = "failed"
    try:
        yield run
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        with contextlib.suppress(OSError):
            if run.began:
                run.write_manifest({"state": state})
            else:
                run.turn_back()
        run.close()


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    stamped = f"{wanted.name}-{datetime.now():%Y%m%d-%H%M}"
    yield wanted.with_name(stamped)
    for number in range(2, 10):
        yield wanted.with_name(f"{stamped}-{number}")
    for _ in range(100):
        yield wanted.with_name(f"{stamped}-{secrets.token_hex(4)}")


def _lock(directory: Path) -> int:
    path = directory / ".lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunDirectoryError(
            f"The run directory `{directory}` cannot be written to: {error.strerror}."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise RunDirectoryError(
            f"The run directory `{directory}` is locked by {holder}. Wait for it to end, or stop it."
        ) from None
    holder = f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now():%H:%M:%S}"
    with contextlib.suppress(OSError):  # on a full disk nobody learns who holds it, but it is held
        os.ftruncate(lock, 0)
        os.write(lock, holder.encode())
    return lock


def _environment() -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "format_version": FORMAT_VERSION,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
