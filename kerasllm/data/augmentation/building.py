"""The layers that a config asks for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasllm.config.loading import load_config
from kerasllm.config.schema import RunConfig
from kerasllm.data.augmentation.cutoff import Cutoff
from kerasllm.data.augmentation.mixup import Mixup
from kerasllm.data.augmentation.new_words import NewWords
from kerasllm.data.augmentation.random_deletion import RandomDeletion
from kerasllm.data.augmentation.random_insertion import RandomInsertion
from kerasllm.data.augmentation.random_masking import RandomMasking
from kerasllm.data.augmentation.random_replacement import RandomReplacement
from kerasllm.data.augmentation.random_span_crop import RandomSpanCrop
from kerasllm.data.augmentation.random_swap import RandomSwap
from kerasllm.data.augmentation.random_typo import RandomTypoOfTokens
from kerasllm.data.augmentation.vocabulary import Vocabulary
from kerasllm.errors import ConfigError, DataError
from kerasllm.resources.resolve import resolve

__all__ = ["build", "checked_entries"]

_LAYERS: dict[str, Any] = {
    "cutoff": Cutoff,
    "mixup": Mixup,
    "random_deletion": RandomDeletion,
    "random_insertion": RandomInsertion,
    "random_masking": RandomMasking,
    "random_replacement": RandomReplacement,
    "random_span_crop": RandomSpanCrop,
    "random_swap": RandomSwap,
    "random_typo": RandomTypoOfTokens,
}


def build(
    config: "RunConfig | Sequence[Any]",
    tokenizer: Any,
    *,
    embeddings: "np.ndarray | Callable[[], np.ndarray] | None" = None,
    counts: "np.ndarray | Callable[[], np.ndarray] | None" = None,
    seed: int = 0,
) -> list[keras.layers.Layer]:
    """Makes the layers of a config's section `augmentation`.

    Args:
        config: A run config, or a list of entries: dicts such as `{"name": "random_deletion", "rate": 0.1}`,
            or Keras layers of your own, which take and return a batch as a dict and stay as they are.
        tokenizer: The `kerasllm.Tokenizer` that makes the token ids.
        embeddings: The checkpoint's embedding matrix, or a function that gives it; for the source
            `neighbours`.
        counts: How often each token id occurs in the training texts, or a function that gives it; for the
            source `unigram`.
        seed: Each layer has a seed of its own, derived from it. Defaults to 0.

    Returns:
        The layers, in the order of the config.

    Raises:
        ConfigError: If an entry is wrong; lists all that are. If a source lacks what it needs.
        TokenizerError: If the tokenizer's pieces do not show where words begin.

    Example:
    >>> layers = build([{"name": "random_deletion", "rate": 0.1}, {"name": "random_swap"}], tokenizer)
    """
    entries = config.augmentation if isinstance(config, RunConfig) else checked_entries(config)
    vocabulary: Vocabulary | None = None
    layers = []
    for number, entry in enumerate(entries):
        if isinstance(entry, keras.layers.Layer):
            layers.append(entry)
            continue
        options = entry.model_dump()
        kind = _LAYERS[options.pop("name")]
        options["seed"] = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        if kind is Mixup:
            layers.append(Mixup(**options))
            continue
        vocabulary = vocabulary or Vocabulary.of(tokenizer)
        if issubclass(kind, NewWords):
            options |= _needs(options, embeddings, counts)
        if kind is RandomMasking:
            options["mask_id"] = _mask_id(options.pop("mask_token"), tokenizer)
        if kind is Cutoff:
            layers.append(Cutoff(vocabulary=vocabulary, **options))
        else:
            layers.append(kind(tokenizer if kind is RandomTypoOfTokens else vocabulary, **options))
    return layers


def checked_entries(entries: Sequence[Any]) -> list[Any]:
    """Dicts become checked entries of a config; layers and entries stay.

    Raises:
        ConfigError: With everything that is wrong, as of a config.
    """
    if isinstance(entries, dict | str) or not isinstance(entries, Sequence):
        raise ConfigError(
            f"`augmentation` is a {type(entries).__name__}, expected a list of entries such as "
            "`{'name': 'random_deletion', 'rate': 0.1}`, or of Keras layers."
        )
    plain = [entry for entry in entries if not isinstance(entry, keras.layers.Layer)]
    dumped = [entry.model_dump() if hasattr(entry, "model_dump") else entry for entry in plain]
    source = {"task": "text_classification", "preset": "none", "augmentation": dumped}
    checked = iter(load_config(source).augmentation)
    return [entry if isinstance(entry, keras.layers.Layer) else next(checked) for entry in entries]


def _needs(options: dict[str, Any], embeddings: Any, counts: Any) -> dict[str, Any]:
    """What the source of new words needs, and nothing that costs more than that."""
    source = options["source"]
    return {
        "embeddings": _value(embeddings) if source == "neighbours" else None,
        "counts": _value(counts) if source == "unigram" else None,
        "synonyms": _read_synonyms(options["synonyms"]) if source == "synonyms" else None,
    }


def _value(given: Any) -> Any:
    return given() if callable(given) else given


def _mask_id(token: str | None, tokenizer: Any) -> int | None:
    if token is None:
        return None
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise ConfigError(
            f"`mask_token` of `random_masking` is {token!r}, which is no token of this tokenizer. Name one "
            "of its vocabulary, or leave it out for the tokenizer's own."
        )
    return found


def _read_synonyms(table: Any) -> dict[str, list[str]]:
    if isinstance(table, dict) or table is None:
        return table or {}
    path = Path(resolve(table, what="file"))
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"`{table}` cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"`{table}` is no JSON file: {error}. Synonyms are a mapping such as "
            '`{"good": ["fine", "nice"]}`.'
        ) from error
    wrong = not isinstance(value, dict) or next(
        (key for key, words in value.items() if not _are_words(words)), None
    )
    if wrong:
        what = (
            f"{wrong!r} has no list of words"
            if isinstance(value, dict)
            else f"it is a {type(value).__name__}"
        )
        raise DataError(
            f"`{table}` is no table of synonyms: {what}. Expected a mapping such as "
            '`{"good": ["fine", "nice"]}`.'
        )
    return value


def _are_words(words: Any) -> bool:
    return isinstance(words, list) and bool(words) and all(isinstance(word, str) and word for word in words)
