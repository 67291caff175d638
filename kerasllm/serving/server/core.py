"""The models of a server, kept up to date with their directories."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kerasllm.errors import ServingError
from kerasllm.serving.server.model_config import ModelConfig
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.servable import Servable
from kerasllm.serving.server.served_model import ServedModel, VersionStatus
from kerasllm.serving.status import StatusError

__all__ = ["ServerCore"]

_LOG = logging.getLogger(__name__)


class ServerCore:
    """Serves models to the REST and gRPC front ends.

    Args:
        configs: The models.
        options: Of the server.
    """

    def __init__(self, configs: Sequence[ModelConfig], options: ServerOptions):
        self.options = options
        self._models = {config.name: ServedModel(config, options) for config in configs}
        self._stop = threading.Event()
        self._loaders = ThreadPoolExecutor(len(configs), thread_name_prefix="load")
        self._updates: dict[str, Future] = {}
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def start(self) -> None:
        """Loads the models, then watches their directories.

        Raises:
            ServingError: If none of them can be served; those that cannot beside others that can are
                reported in the log and by their status.
        """
        for update in [self._update(model) for model in self._models.values()]:
            update.result()
        problems = {name: _problem(model) for name, model in self._models.items()}
        if all(problems.values()):
            self.stop()
            raise ServingError(" ".join(filter(None, problems.values())))
        for problem in filter(None, problems.values()):
            _LOG.error("%s", problem)
        if self.options.poll_interval > 0:
            self._poller.start()

    def stop(self) -> None:
        """Stops watching and unloads the models."""
        self._stop.set()
        if self._poller.is_alive():
            self._poller.join()
        self._loaders.shutdown(wait=True)
        for model in self._models.values():
            model.close()

    @property
    def model_names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._models)

    @contextlib.contextmanager
    def use(self, name: str, version: int | None, label: str | None) -> Iterator[tuple[int, Servable]]:
        """Lends the version that a request asks for.

        Args:
            name: The model.
            version: Number of the version, or `None` for the newest.
            label: Label of the version, or `None`.

        Raises:
            StatusError: NOT_FOUND if it is not available, INVALID_ARGUMENT if the label is unknown.
        """
        model = self._models.get(name)
        if label is not None:
            labels = model.config.labels if model is not None else {}
            if label not in labels:
                raise StatusError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = labels[label]
        if model is None:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise StatusError("NOT_FOUND", f"Servable not found for request: {which}")
        with model.use(version) as lent:
            yield lent

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Returns the status of a model's versions, newest first, or of one version.

        Raises:
            StatusError: NOT_FOUND, if there is no such model or version.
        """
        found = self._models[name].statuses() if name in self._models else []
        if version is not None:
            found = [status for status in found if status.version == version]
            if not found:
                raise StatusError("NOT_FOUND", f"Could not find version {version} of model {name}")
        if not found:
            raise StatusError("NOT_FOUND", f"Could not find any versions of model {name}")
        return found

    def _update(self, model: ServedModel) -> Future:
        """Brings a model up to date in the background, unless that is under way."""
        running = self._updates.get(model.config.name)
        if running is None or running.done():
            running = self._loaders.submit(self._run_update, model)
            self._updates[model.config.name] = running
        return running

    def _run_update(self, model: ServedModel) -> None:
        try:
            model.update(self._stop)
        except Exception:
            _LOG.exception("Looking for versions of model %s failed", model.config.name)

    def _poll(self) -> None:
        while not self._stop.wait(self.options.poll_interval):
            for model in self._models.values():
                self._update(model)


def _problem(model: ServedModel) -> str | None:
    """Says why a model cannot be served, or returns `None`."""
    statuses = model.statuses()
    if any(status.state == "AVAILABLE" for status in statuses):
        return None
    path = model.config.base_path
    for status in statuses:
        return (
            f"Version {status.version} of model `{model.config.name}` in `{path}` cannot be served: "
            f"{status.message} ({status.code}). Export it again, or serve another version."
        )
    return (
        f"Model `{model.config.name}` has no version to serve in `{path}`: a version is a directory there "
        f"whose name is a number. {_nearby(path)}Export one with `kerasllm export MODEL PATH`."
    )


def _nearby(path: str | os.PathLike[str]) -> str:
    """Suggests a model one folder further down."""
    versions = [found for found in Path(path).glob("*/*") if found.name.isdecimal() and found.is_dir()]
    models = sorted({str(found.parent) for found in versions})
    return f"There are versions in `{'`, `'.join(models[:3])}`: name that folder. " if models else ""
