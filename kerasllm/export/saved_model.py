"""Writing a numbered SavedModel: whole, checked and never over another, or not at all."""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import kerasllm
from kerasllm.errors import ExportError, ResourceError
from kerasllm.export.parity import (
    TOLERANCES,
    Endpoint,
    Parity,
    check_batchable,
    check_parity,
    check_signature,
    load_endpoint,
)
from kerasllm.export.probes import all_probes, builtin_probes
from kerasllm.export.servable_ops import check_servable, read_signatures
from kerasllm.export.warmup import warmup_requests, write_warmup
from kerasllm.resources.atomic import atomic_directory, next_version, remove_leftovers
from kerasllm.resources.manifest import write_manifest

if TYPE_CHECKING:
    from kerasllm.export.signatures import ClassificationModule

__all__ = ["METADATA", "export_saved_model"]

METADATA = "kerasllm.json"
FORMAT_VERSION = 1
TARGET = "2.20"

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "numpy")
_log = logging.getLogger(__name__)


def export_saved_model(
    path: str | os.PathLike[str],
    module: "ClassificationModule",
    *,
    reference: Callable[..., np.ndarray],
    probes: Mapping[str, Sequence[str]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    version: int | None = None,
    warmup: Sequence[Mapping[str, Sequence[str]]] | None = None,
) -> Path:
    """Writes `<path>/<version>/`, a SavedModel that a stock TF Serving serves.

    The model is written under a temporary name, read back from there and checked: its ops are those of the
    server (contract C4), its answers are Python's (C3), and a batch of n answers as n batches of one (C5).
    Only then it gets its number, in one step. Exports into one directory wait for each other, so that a
    higher number always is a later model.

    Args:
        path: Directory of the served model; made if it does not exist.
        module: The graph to serve.
        reference: Python's own path to the scores: takes a list of texts per input, in order, and returns
            `float32[num_texts, num_classes]`.
        probes: Texts by input name, such as samples of the training data, to compare beside the built-in
            ones. Defaults to `None`. They are not written to the export.
        metadata: What else `kerasllm.json` shall say. Defaults to `None`.
        version: Number of the version. Defaults to `None`, one more than the newest.
        warmup: Requests that the server runs when it loads the model. Defaults to `None`, batches of 1, 8
            and 32 texts of several lengths.

    Returns:
        Directory of the version.

    Raises:
        ExportError: If the version exists, a server could not run the graph, or the answers differ; nothing
            is published.
        ResourceError: If the directory cannot be written or the disk is full; nothing half-written stays.

    Example:
    >>> export_saved_model("models/reviews", module, reference=python_scores)
    PosixPath('models/reviews/1')
    """
    with _next_directory(Path(os.path.abspath(path)), version) as final:
        _log.info("Writing the SavedModel, and comparing its answers with Python's.")
        with atomic_directory(final) as folder:
            _write_graph(folder, module)
            endpoint, parity = _check(folder, module, reference, probes or {})
            requests = warmup_requests(module.input_names) if warmup is None else warmup
            write_warmup(folder, requests, model_name=final.parent.name)
            golden = _golden(endpoint, module)
            _write_metadata(folder, module, metadata or {}, parity, golden)
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


def _write_graph(folder: Path, module: "ClassificationModule") -> None:
    import tensorflow as tf

    # Gradients are for training on; a server has no use for them.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=module.signatures, options=options)


def _check(
    folder: Path,
    module: "ClassificationModule",
    reference: Callable[..., np.ndarray],
    samples: Mapping[str, Sequence[str]],
) -> tuple[Endpoint, Parity]:
    check_servable(folder, target=TARGET)
    for name, signature in read_signatures(folder).items():
        check_signature(signature, name)
    endpoint = load_endpoint(folder)
    probes = all_probes(module.input_names, samples)
    parity = check_parity(endpoint, reference, probes, labels=module.labels, dtype=module.dtype)
    check_batchable(endpoint, probes, dtype=module.dtype)
    return endpoint, parity


def _golden(endpoint: Endpoint, module: "ClassificationModule") -> list[dict[str, Any]]:
    """Requests with their answers, from the built-in texts only: a model must not give away its data."""
    texts = builtin_probes(module.input_names)
    answers = endpoint(texts)
    top = np.sort(answers["scores"], axis=1)[:, -2:]
    # Where two labels nearly tie another machine may choose the other, and rightly so.
    clear = (top[:, -1] - top[:, 0] > 2 * TOLERANCES[module.dtype]) | (len(module.labels) == 1)
    rows, tied = np.flatnonzero(clear), np.flatnonzero(~clear)
    every = ("label", "score", "scores")
    parts = [(rows[:1], every), (rows, every), (tied, every[1:])]
    return [
        {
            "signature": "serving_default",
            "inputs": {name: [values[row] for row in chosen] for name, values in texts.items()},
            "outputs": {name: _jsonable(answers[name][chosen]) for name in names},
        }
        for chosen, names in parts
        if len(chosen)
    ]


def _write_metadata(
    folder: Path,
    module: "ClassificationModule",
    metadata: Mapping[str, Any],
    parity: Parity,
    golden: list[dict[str, Any]],
) -> None:
    content = {
        "format_version": FORMAT_VERSION,
        "kind": "exported_model",
        **metadata,
        "labels": list(module.labels),
        "multi_label": module.multi_label,
        "sequence_length": module.sequence_length,
        "tokenizer_fingerprint": module.tokenizer.fingerprint,
        "dtype": module.dtype,
        "target": f"TensorFlow Serving {TARGET}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"kerasllm": kerasllm.__version__} | {name: packages.version(name) for name in _PACKAGES},
        "signatures": module.description,
        "parity": parity.to_dict(),
        "golden": {"tolerance": TOLERANCES[module.dtype], "requests": golden},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")


def _jsonable(array: np.ndarray) -> Any:
    """Nested lists, with as few digits as tell the float32 numbers apart."""
    if array.dtype == object:
        return array.tolist()
    shortest = [float(np.format_float_positional(value, unique=True)) for value in array.ravel()]
    return np.array(shortest, np.float64).reshape(array.shape).tolist()
