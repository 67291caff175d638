"""Publishing a numbered SavedModel: whole, checked and never over another, or not at all."""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import kerasllm
from kerasllm.errors import ExportError, ResourceError
from kerasllm.export.parity import check_signature
from kerasllm.export.servable_ops import check_servable, read_signatures
from kerasllm.export.warmup import write_warmup
from kerasllm.resources.atomic import atomic_directory, next_version, remove_leftovers
from kerasllm.resources.manifest import write_manifest

__all__ = ["METADATA", "publish"]

METADATA = "kerasllm.json"
FORMAT_VERSION = 1
TARGET = "2.20"

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
_log = logging.getLogger(__name__)


def publish(
    path: str | os.PathLike[str],
    module: Any,
    check: Callable[[Path], Mapping[str, Any]],
    *,
    warmup: Sequence[Mapping[str, Any] | tuple[str, Mapping[str, Any]]],
    version: int | None = None,
) -> Path:
    """Writes `<path>/<version>/`, a SavedModel that a stock TF Serving serves.

    The model is written under a temporary name, read back from there and checked: its ops are those of the
    server (contract C4), and its answers are what `check` expects. Only then it gets its number, in one step.
    Exports into one directory wait for each other, so that a higher number always is a later model.

    Args:
        path: Directory of the served model; made if it does not exist.
        module: A `tf.Module` with `signatures` and `description`.
        check: Reads the written model, raises `ExportError` where it answers otherwise than it should, and
            returns what `kerasllm.json` says of the task.
        warmup: Requests that the server runs when it loads the model, see `write_warmup`.
        version: Number of the version. Defaults to `None`, one more than the newest.

    Returns:
        Directory of the version.

    Raises:
        ExportError: If the version exists, a server could not run the graph, or the answers differ; nothing
            is published.
        ResourceError: If the directory cannot be written or the disk is full; nothing half-written stays.
    """
    with _next_directory(Path(os.path.abspath(path)), version) as final:
        _log.info("Writing the SavedModel, and comparing its answers with Python's.")
        with atomic_directory(final) as folder:
            _write_graph(folder, module)
            check_servable(folder, target=TARGET)
            for name, signature in read_signatures(folder).items():
                check_signature(signature, name)
            facts = check(folder)
            write_warmup(folder, warmup, model_name=final.parent.name)
            _write_metadata(folder, module, facts)
            write_manifest(folder)
        _log.info("The exported model is at %s.", final)
    return final


@contextlib.contextmanager
def _next_directory(base: Path, version: int | None) -> Iterator[Path]:
    """Yields the directory to make, and keeps other exports into `base` waiting until it is there."""
    if version is not None and not 1 <= version < 2**63:
        raise ExportError(f"The version {version} is no version: a server takes whole numbers from 1.")
    is_new = not base.exists()
    lock = _locked(base)
    try:
        remove_leftovers(base)
        newest = next_version(base) - 1
        number = newest + 1 if version is None else version
        if os.path.lexists(base / str(number)):
            raise ExportError(
                f"Version {number} of `{base}` exists already, and a version is never overwritten: servers "
                f"and caches go by its number. Leave `version` out to get {newest + 1}, or name a free one."
            )
        if number < newest:
            _log.warning(
                "Version %d is lower than version %d: a server that serves the newest will not pick it up.",
                number,
                newest,
            )
        yield base / str(number)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                base.rmdir()  # only where it is empty
        raise
    finally:
        os.close(lock)


def _locked(base: Path) -> int:
    """Makes the directory where it is missing, and opens it with a lock that ends with the process."""
    while True:
        try:
            base.mkdir(parents=True, exist_ok=True)
            lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ResourceError(
                f"The directory `{base}` cannot be used: {error.strerror}. Give a directory that may be made."
            ) from error
        # Some network file systems have no locks; there, of two exports at once one ends with an error.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("Waiting for another export into %s to end.", base)
                fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(base)):
                return lock
        os.close(lock)  # a failed export took the empty directory away meanwhile


def _write_graph(folder: Path, module: Any) -> None:
    import tensorflow as tf

    # Gradients are for training on; a server has no use for them.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=module.signatures, options=options)


def _write_metadata(folder: Path, module: Any, facts: Mapping[str, Any]) -> None:
    content = {
        "format_version": FORMAT_VERSION,
        "kind": "exported_model",
        "target": f"TensorFlow Serving {TARGET}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"kerasllm": kerasllm.__version__} | {name: packages.version(name) for name in _PACKAGES},
        "signatures": module.description,
        **facts,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")
