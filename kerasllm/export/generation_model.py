"""Writing a language model as a numbered SavedModel: it says what Python says, or nothing is published."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import ExportError
from kerasllm.export.probes import BUILTIN_TEXTS
from kerasllm.export.publishing import publish

if TYPE_CHECKING:
    from kerasllm.export.generation import GenerationModule

__all__ = ["NUM_TOKENS", "Expected", "export_generation_model"]

NUM_TOKENS = 8  # of each answer that is compared
_PROMPTS = [text for text in BUILTIN_TEXTS if len(text) < 60]
_WARMUP = [
    ["The weather report for tomorrow"],
    ["Hello", "The weather report for tomorrow says that it may rain"],
]
_GOLDEN = 4
# Where the two likeliest tokens are closer than this anywhere in an answer, either is right.
_MARGINS = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}

# Prompts and a number of tokens to greedy texts, and how far the second token was behind at the least.
Expected = Callable[[Sequence[str], int], tuple[list[str], np.ndarray]]


def export_generation_model(
    path: str | os.PathLike[str],
    module: "GenerationModule",
    *,
    reference: Expected,
    metadata: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> Path:
    """Writes `<path>/<version>/`, a SavedModel that a stock TF Serving serves, prompts in and texts out.

    What is written is read back and checked before it is published, see `kerasllm.export.publishing.publish`:
    greedy texts are those of the plain Keras model without a cache (contract C3), and a batch of prompts of
    mixed lengths answers as each of them alone (C5).

    Args:
        path: Directory of the served model; made if it does not exist.
        module: The graph to serve.
        reference: Python's own path to greedy texts.
        metadata: What else `kerasllm.json` shall say. Defaults to `None`.
        version: Number of the version. Defaults to `None`, one more than the newest.

    Returns:
        Directory of the version.

    Raises:
        ExportError: If the version exists, a server could not run the graph, or the answers differ; nothing
            is published.
    """

    def check(folder: Path) -> dict[str, Any]:
        ask = _endpoint(folder)
        answers = ask(_PROMPTS)
        margins = _check_parity(answers["text"], reference, module.dtype)
        _check_batchable(ask, answers, margins, module.dtype)
        return {
            **(metadata or {}),
            "max_length": module.max_length,
            "tokenizer_fingerprint": module.tokenizer.fingerprint,
            "dtype": module.dtype,
            "parity": {"num_probes": len(_PROMPTS), "num_tokens": NUM_TOKENS},
            "golden": {"tolerance": 0.0, "requests": _golden(answers, margins, module.dtype)},
        }

    return publish(path, module, check, warmup=_warmup(module), version=version)


def _warmup(module: "GenerationModule") -> list[tuple[str, dict[str, Any]]]:
    """Requests of one row and of several, greedy and drawn, for every signature."""
    found: list[tuple[str, dict[str, Any]]] = []
    for prompts in _WARMUP:
        found.append(("serving_default", {"prompt": prompts}))
        for temperature in (0.0, 1.0):
            settings = module.unset(len(prompts)) | {
                "max_new_tokens": np.full(len(prompts), NUM_TOKENS, np.int32),
                "temperature": np.full(len(prompts), temperature, np.float32),
                "top_p": np.full(len(prompts), 0.9, np.float32),
            }
            found.append(("generate", {"prompt": prompts, **settings}))
            if module.chat is not None:
                turns = {"roles": [["user"]] * len(prompts), "contents": [[prompt] for prompt in prompts]}
                found.append(("chat", {**turns, **settings}))
    return found


def _endpoint(folder: Path) -> Callable[[Sequence[str]], dict[str, list[Any]]]:
    """The signature `generate` of a written model, greedy and short."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401, registers the ops that the graph may need

    function = tf.saved_model.load(str(folder)).signatures["generate"]
    unset = {name: tf.constant([-1], spec.dtype) for name, spec in _settings(function).items()}
    unset |= {"max_new_tokens": tf.constant([NUM_TOKENS]), "stop": tf.constant([[""]])}

    def ask(prompts: Sequence[str]) -> dict[str, list[Any]]:
        found = function(prompt=tf.constant(list(prompts), tf.string), **unset)
        return {name: [_plain(value) for value in values.numpy()] for name, values in found.items()}

    return ask


def _settings(function: Any) -> dict[str, Any]:
    inputs = function.structured_input_signature[1]
    return {name: spec for name, spec in inputs.items() if name not in ("prompt", "stop")}


def _plain(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value.item()


def _check_parity(texts: Sequence[str], reference: Expected, dtype: str) -> np.ndarray:
    expected, margins = reference(_PROMPTS, NUM_TOKENS)
    for prompt, found, wanted, margin in zip(_PROMPTS, texts, expected, margins, strict=True):
        if found != wanted and margin > _MARGINS[dtype]:
            raise ExportError(
                f"The exported model answers otherwise than Python: after {prompt!r} it says {found!r} and "
                f"Python {wanted!r}. Nothing was published. This is a fault of kerasllm: please report it."
            )
    return margins


def _check_batchable(ask: Any, together: Mapping[str, list[Any]], margins: np.ndarray, dtype: str) -> None:
    for row in range(0, len(_PROMPTS), 4):
        alone = ask([_PROMPTS[row]])
        for name, (value,) in alone.items():
            if value != together[name][row] and margins[row] > _MARGINS[dtype]:
                raise ExportError(
                    f"The exported model answers otherwise in a batch than alone: after {_PROMPTS[row]!r} "
                    f"`{name}` is {together[name][row]!r} in the batch and {value!r} alone. Nothing was "
                    "published: a server that joins requests would mix up answers."
                )


def _golden(answers: Mapping[str, list[Any]], margins: np.ndarray, dtype: str) -> list[dict[str, Any]]:
    """Requests with their answers, those where no other token came near: another machine must agree."""
    settings = {"max_new_tokens": [NUM_TOKENS], "stop": [[""]]}
    settings |= {name: [-1] for name in ("top_k", "seed")}
    settings |= {name: [-1.0] for name in ("temperature", "top_p", "min_p", "repetition_penalty")}
    rows = [row for row in np.argsort(-margins)[:_GOLDEN] if margins[row] > 2 * _MARGINS[dtype]]
    return [
        {
            "signature": "generate",
            "inputs": {"prompt": [_PROMPTS[row]], **settings},
            "outputs": {name: [values[row]] for name, values in answers.items()},
        }
        for row in rows
    ]
