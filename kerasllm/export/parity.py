"""Whether a written SavedModel answers as Python does, and the same in any batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import ExportError

__all__ = ["TOLERANCES", "Parity", "check_batchable", "check_parity", "load_endpoint"]

# Largest difference of a score by weights' precision. The reference computes in float32, so what bfloat16
# and float16 are allowed is their rounding: 8 and 11 bits, over some tens of layers.
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

_ROWS_A_CALL = 8

Inputs = Mapping[str, Sequence[str]]
Outputs = dict[str, np.ndarray]
Endpoint = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Parity:
    """How well a SavedModel agreed with Python.

    Attributes:
        num_probes: Texts (or pairs) that were compared.
        max_difference: Largest difference of a score.
        tolerance: What was allowed.
    """

    num_probes: int
    max_difference: float
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `kerasllm.json`."""
        return asdict(self)


def load_endpoint(directory: str | Path, signature: str = "serving_default") -> Endpoint:
    """Loads a SavedModel from its files and returns one signature as a plain function.

    Args:
        directory: Directory that holds `saved_model.pb`.
        signature: Name of the signature. Defaults to `"serving_default"`.

    Returns:
        A function of lists of texts by input name, which returns NumPy arrays by output name; texts as
        Python strings.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401, registers the ops that the graph may need

    function = tf.saved_model.load(str(directory)).signatures[signature]

    def ask(inputs: Inputs) -> Outputs:
        tensors = {name: tf.constant(list(texts), tf.string) for name, texts in inputs.items()}
        return {name: _plain(tensor.numpy()) for name, tensor in function(**tensors).items()}

    return ask


def check_parity(
    endpoint: Endpoint,
    reference: Callable[..., np.ndarray],
    probes: Inputs,
    *,
    labels: Sequence[str],
    dtype: str = "float32",
) -> Parity:
    """Compares the SavedModel with Python's own path (contract C3).

    Scores may differ by the tolerance of the precision. Labels must be the same, but where the two highest
    scores of the reference are closer than twice the tolerance either is right. The answer must also agree
    with itself: `label` and `score` are the highest of `labels` and `scores`.

    Args:
        endpoint: The written model, see `load_endpoint`.
        reference: Python's own path: a list of texts per input, in order, to scores
            `float32[num_texts, num_classes]`.
        probes: Texts by input name.
        labels: Names of the classes in the order of the scores.
        dtype: Precision of the exported weights. Defaults to `"float32"`.

    Returns:
        What was compared and how far it differed.

    Raises:
        ExportError: If an answer differs; says for which text, and both answers.
    """
    tolerance = TOLERANCES[dtype]
    expected = _expected(reference, list(probes.values()))
    answers = endpoint(probes)
    _check_shapes(answers, len(next(iter(probes.values()))), labels)
    _check_agreement(answers, labels)
    if expected.shape != answers["scores"].shape:
        raise ExportError(
            f"Python gives scores of shape {expected.shape}, the exported model {answers['scores'].shape}. "
            "Nothing was published; this is a fault of kerasllm: please report it."
        )
    difference = np.abs(expected - answers["scores"]).max(axis=1, initial=0.0)
    wrong = ~(difference <= tolerance) | _other_label(expected, answers["label"], labels, tolerance)
    if wrong.any():
        raise ExportError(_explain(wrong, difference, expected, answers["scores"], probes, labels, tolerance))
    return Parity(len(difference), float(difference.max(initial=0.0)), tolerance)


def check_batchable(endpoint: Endpoint, probes: Inputs, *, dtype: str = "float32") -> None:
    """Checks that a batch of n answers as n batches of one, and an empty batch with nothing (contract C5).

    Args:
        endpoint: The written model.
        probes: Texts by input name.
        dtype: Precision of the exported weights. Defaults to `"float32"`.

    Raises:
        ExportError: If a server could not join requests; says for which text.
    """
    tolerance = TOLERANCES[dtype]
    together = endpoint(probes)
    size = len(next(iter(probes.values())))
    for row in range(size):
        alone = endpoint({name: [texts[row]] for name, texts in probes.items()})
        for name, value in alone.items():
            in_batch = together[name][row : row + 1] if together[name].ndim else together[name]
            if not _same(value, in_batch, name, together, row, tolerance):
                raise ExportError(
                    f"The exported model answers otherwise in a batch of {size} than alone: for "
                    f"{_shown(probes, row)} `{name}` is {_short(in_batch)} in the batch and {_short(value)} "
                    "alone. Nothing was published: a server that joins requests would mix up answers. Make "
                    "every step of the model treat each row by itself."
                )
    empty = endpoint({name: [] for name in probes})
    if any(value.shape[:1] != (0,) for value in empty.values()):
        shapes = {name: value.shape for name, value in empty.items()}
        raise ExportError(
            f"The exported model answers an empty request with the shapes {shapes}; each must begin with 0. "
            "Nothing was published."
        )


def check_signature(signature: Any, name: str) -> None:
    """Checks that every input and output has the batch as its first dimension (contract C5).

    Args:
        signature: The `SignatureDef` of the written graph.
        name: Its name, for the message.

    Raises:
        ExportError: If one has a fixed first dimension or none.
    """
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for key in sorted(tensors):
            shape = tensors[key].tensor_shape
            if not shape.unknown_rank and (not shape.dim or shape.dim[0].size != -1):
                found = [dim.size for dim in shape.dim]
                raise ExportError(
                    f"The {kind} `{key}` of the signature `{name}` has the shape {found}, but a server that "
                    "joins requests needs the batch, of any size, as the first dimension: [-1, ...]. "
                    "Nothing was published."
                )


def _expected(reference: Callable[..., np.ndarray], columns: list[Sequence[str]]) -> np.ndarray:
    """Asks the reference for a few texts of like length at a time: it may pad all to the longest."""
    order = sorted(range(len(columns[0])), key=lambda row: sum(len(texts[row]) for texts in columns))
    answers: list[np.ndarray] = []
    for start in range(0, len(order), _ROWS_A_CALL):
        rows = order[start : start + _ROWS_A_CALL]
        answers.append(
            np.asarray(reference(*([texts[row] for row in rows] for texts in columns)), np.float32)
        )
    found = np.concatenate(answers)
    expected = np.empty_like(found)
    expected[order] = found
    return expected


def _plain(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    texts = [value.decode("utf-8") for value in array.ravel()]
    plain = np.empty(array.size, dtype=object)
    plain[:] = texts
    return plain.reshape(array.shape)


def _check_shapes(answers: Outputs, size: int, labels: Sequence[str]) -> None:
    classes = len(labels)
    wanted = {"label": (size,), "score": (size,), "labels": (size, classes), "scores": (size, classes)}
    found = {name: value.shape for name, value in answers.items()}
    if found != wanted:
        raise ExportError(
            f"The exported model answers {size} texts with the shapes {found}, expected {wanted}. "
            "Nothing was published."
        )


def _check_agreement(answers: Outputs, labels: Sequence[str]) -> None:
    best = answers["scores"].argmax(axis=1)
    agrees = (
        (answers["labels"] == np.array(labels, dtype=object)).all()
        and (answers["label"] == np.array(labels, dtype=object)[best]).all()
        and np.array_equal(answers["score"], answers["scores"].max(axis=1, initial=-np.inf), equal_nan=True)
    )
    if not agrees:
        raise ExportError(
            "The exported model contradicts itself: `label` and `score` are not the highest of `labels` and "
            f"`scores`, or `labels` are not {list(labels)}. Nothing was published."
        )


def _other_label(
    expected: np.ndarray, label: np.ndarray, labels: Sequence[str], tolerance: float
) -> np.ndarray:
    """Which rows have a label that is clearly not the likeliest of the reference."""
    index = {name: i for i, name in enumerate(labels)}
    chosen = expected[np.arange(len(expected)), [index[name] for name in label]]
    return expected.max(axis=1, initial=-np.inf) - chosen > 2 * tolerance


def _explain(
    wrong: np.ndarray,
    difference: np.ndarray,
    expected: np.ndarray,
    found: np.ndarray,
    probes: Inputs,
    labels: Sequence[str],
    tolerance: float,
) -> str:
    row = int(np.flatnonzero(wrong)[np.argmax(np.nan_to_num(difference[wrong], nan=np.inf))])
    return (
        f"The exported model answers otherwise than Python for {int(wrong.sum())} of {len(wrong)} texts. For "
        f"{_shown(probes, row)} the SavedModel says {_scores(found[row], labels)} and Python "
        f"{_scores(expected[row], labels)}: a difference of {difference[row]:.2g}, where {tolerance:.0e} is "
        "allowed. Nothing was published. Where the model was changed by hand, check that it is the one that "
        "Python runs; else this is a fault of kerasllm: please report it with that text."
    )


def _scores(row: np.ndarray, labels: Sequence[str]) -> str:
    best = [i for i in np.argsort(-row) if not np.isnan(row[i])][:3] or range(min(3, len(row)))
    return "{" + ", ".join(f"{labels[i]!r}: {row[i]:.6f}" for i in best) + "}"


def _same(
    alone: np.ndarray, in_batch: np.ndarray, name: str, together: Outputs, row: int, tolerance: float
) -> bool:
    if alone.shape != in_batch.shape:
        return False
    if alone.dtype != object:
        return bool(np.allclose(alone, in_batch, rtol=0, atol=tolerance))
    if name != "label":
        return bool((alone == in_batch).all())
    top = np.sort(together["scores"][row])[-2:]
    return bool((alone == in_batch).all()) or bool(top[-1] - top[0] <= 2 * tolerance)


def _shown(probes: Inputs, row: int) -> str:
    return " with ".join(_short(texts[row]) for texts in probes.values())


def _short(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"
