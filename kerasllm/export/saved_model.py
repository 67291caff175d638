"""Writing a classifier as a numbered SavedModel: its answers are Python's, or nothing is published."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.export.parity import TOLERANCES, Endpoint, check_batchable, check_parity, load_endpoint
from kerasllm.export.probes import all_probes, builtin_probes
from kerasllm.export.publishing import publish
from kerasllm.export.warmup import warmup_requests

if TYPE_CHECKING:
    from kerasllm.export.signatures import ClassificationModule

__all__ = ["export_saved_model"]


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

    What is written is read back and checked before it is published, see `kerasllm.export.publishing.publish`:
    its answers are Python's (contract C3), and a batch of n answers as n batches of one (C5).

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

    def check(folder: Path) -> dict[str, Any]:
        endpoint = load_endpoint(folder)
        texts = all_probes(module.input_names, probes or {})
        parity = check_parity(endpoint, reference, texts, labels=module.labels, dtype=module.dtype)
        check_batchable(endpoint, texts, dtype=module.dtype)
        return {
            **(metadata or {}),
            "labels": list(module.labels),
            "multi_label": module.multi_label,
            "sequence_length": module.sequence_length,
            "tokenizer_fingerprint": module.tokenizer.fingerprint,
            "dtype": module.dtype,
            "parity": parity.to_dict(),
            "golden": {"tolerance": TOLERANCES[module.dtype], "requests": _golden(endpoint, module)},
        }

    requests = warmup_requests(module.input_names) if warmup is None else warmup
    return publish(path, module, check, warmup=requests, version=version)


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


def _jsonable(array: np.ndarray) -> Any:
    """Nested lists, with as few digits as tell the float32 numbers apart."""
    if array.dtype == object:
        return array.tolist()
    shortest = [float(np.format_float_positional(value, unique=True)) for value in array.ravel()]
    return np.array(shortest, np.float64).reshape(array.shape).tolist()
