"""One model under service: its versions, their states, and how one takes over from another."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kerasllm.serving.server.loading import Snapshot, find_versions, load_version, snapshot
from kerasllm.serving.server.model_config import ModelConfig
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.servable import Servable
from kerasllm.serving.status import StatusError

__all__ = ["ServedModel", "VersionStatus"]

_LOG = logging.getLogger(__name__)
# Failures that may pass by themselves. All others are tried again when the files change.
_PASSING = {"ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNKNOWN"}


@dataclass(frozen=True)
class VersionStatus:
    """What a status request reports of a version.

    Attributes:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        code: Why it ended: `OK`, or the error's code.
        message: The error.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


@dataclass
class _Version:
    status: VersionStatus
    servable: Servable | None = None
    users: int = 0
    failed_as: Snapshot | None = field(default=None)


class ServedModel:
    """A model and its versions.

    `update` does what the directory asks for; it is called from one thread at a time. `use` may be called
    from any number of threads meanwhile. A version that takes over is loaded and warmed up first, then new
    requests go to it, and the old one ends after its last request.

    Args:
        config: The model.
        options: Of the server.
    """

    def __init__(self, config: ModelConfig, options: ServerOptions):
        self.config = config
        self._options = options
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()
        self._warned = ""

    # What requests see -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, version: int | None = None) -> Iterator[tuple[int, Servable]]:
        """Lends a version, the newest available one by default; it is not unloaded meanwhile.

        Raises:
            StatusError: NOT_FOUND, if it is not available.
        """
        with self._changed:
            number = self._newest() if version is None else version
            entry = self._versions.get(-1 if number is None else number)
            if entry is None or number is None or entry.status.state != "AVAILABLE" or entry.servable is None:
                wanted = "Latest" if version is None else "Specific"
                key = self.config.name if version is None else f"{self.config.name}, {version}"
                raise StatusError("NOT_FOUND", f"Servable not found for request: {wanted}({key})")
            entry.users += 1
            servable = entry.servable
        try:
            yield number, servable
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def statuses(self) -> list[VersionStatus]:
        """Returns the status of every version that there ever was, newest first."""
        with self._changed:
            return [self._versions[number].status for number in sorted(self._versions, reverse=True)]

    def _newest(self) -> int | None:
        available = [n for n, entry in self._versions.items() if entry.status.state == "AVAILABLE"]
        return max(available, default=None)

    # What the directory asks for ---------------------------------------------------------------------

    def update(self, stop: threading.Event) -> None:
        """Loads the versions that should be served and are not, then unloads those that should not be."""
        try:
            found = find_versions(self.config.base_path)
        except OSError as error:
            self._warn(f"{self.config.base_path} cannot be read ({error.strerror}); nothing is unloaded")
            return
        self._forget_failures(found)
        if not found:
            self._warn(f"No versions of model {self.config.name} found under {self.config.base_path}")
            if self._options.keep_last_version:
                return
        wanted = self.config.policy.choose(found)
        to_load = [number for number in wanted if self._needs_load(number, found[number])]
        for number in reversed(to_load):
            self._set(VersionStatus(number, "START"))
        for number in reversed(to_load):
            self._load(number, found[number], stop)
        if self._newest() is None:
            self._load_older(found, wanted, stop)
        self._unload_others(wanted)

    def close(self) -> None:
        """Unloads everything, after the last request."""
        self._unload_others([], all_of_them=True)

    def _warn(self, message: str) -> None:
        if message != self._warned:
            _LOG.warning("%s", message)
        self._warned = message

    def _set(self, status: VersionStatus) -> _Version:
        with self._changed:
            entry = self._versions.setdefault(status.version, _Version(status))
            entry.status = status
            return entry

    def _forget_failures(self, found: dict[int, Path]) -> None:
        """A failed version whose directory went away may be tried again when it comes back."""
        for number, entry in self._versions.items():
            if number not in found:
                entry.failed_as = None

    def _needs_load(self, number: int, path: Path) -> bool:
        entry = self._versions.get(number)
        if entry is None:
            return True
        return entry.status.state == "END" and (entry.failed_as is None or entry.failed_as != snapshot(path))

    def _load(self, number: int, path: Path, stop: threading.Event) -> bool:
        entry = self._set(VersionStatus(number, "LOADING"))
        error: StatusError | None = None
        for attempt in range(1 + self._options.max_num_load_retries):
            if attempt and (stop.wait(self._options.load_retry_interval) or not path.is_dir()):
                break
            files = snapshot(path)
            try:
                servable = load_version(path, warmup=self._options.enable_model_warmup)
            except StatusError as failure:
                error = failure
                entry.failed_as = files
                _LOG.error("Loading version %d of model %s failed: %s", number, self.config.name, failure)
                if failure.code not in _PASSING:
                    break
                continue
            with self._changed:
                entry.servable, entry.failed_as = servable, None
                entry.status = VersionStatus(number, "AVAILABLE")
            _LOG.info("Model %s serves version %d", self.config.name, number)
            return True
        if error is not None:
            self._set(VersionStatus(number, "END", error.code, error.message))
        return False

    def _load_older(self, found: dict[int, Path], wanted: list[int], stop: threading.Event) -> None:
        """Nothing that should serve can: rather an old version than none."""
        if self.config.policy.kind == "specific":
            return
        for number in sorted(set(found) - set(wanted), reverse=True):
            if stop.is_set() or not self._needs_load(number, found[number]):
                continue
            if self._load(number, found[number], stop):
                _LOG.warning("Model %s falls back to version %d", self.config.name, number)
                return

    def _unload_others(self, wanted: list[int], *, all_of_them: bool = False) -> None:
        available = {n for n, entry in self._versions.items() if entry.status.state == "AVAILABLE"}
        if not all_of_them and wanted and not available & set(wanted):
            return  # what should take over has failed
        for number in sorted(available - set(wanted)):
            self._unload(number)

    def _unload(self, number: int) -> None:
        with self._changed:
            entry = self._versions[number]
            entry.status = VersionStatus(number, "UNLOADING")
            self._changed.wait_for(lambda: entry.users == 0)
            servable, entry.servable = entry.servable, None
        if servable is not None:
            servable.close()
        self._set(VersionStatus(number, "END"))
        _LOG.info("Model %s no longer serves version %d", self.config.name, number)
