"""The base of the layers that bring new words into a text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.data.augmentation.sources import (
    FrequentWords,
    Neighbours,
    Source,
    Synonyms,
    UniformWords,
    source_from_config,
)
from kerasllm.data.augmentation.token_layer import TokenAugmentation
from kerasllm.data.augmentation.words import gather_words
from kerasllm.errors import ConfigError

__all__ = ["NewWords", "within_room"]


class NewWords(TokenAugmentation):
    """A layer that draws new words.

    Args:
        vocabulary: See `TokenAugmentation`.
        rate: See the layer.
        source: Where new words come from: `"uniform"`, `"unigram"`, `"neighbours"` or `"synonyms"`.
            Defaults to `"uniform"`.
        counts: For `"unigram"`: how often each token id occurs in the training texts, `(vocabulary,)`.
        embeddings: For `"neighbours"`: the embedding matrix of the checkpoint, `(vocabulary, dim)`.
        num_neighbours: For `"neighbours"`: how many of each word are drawn from. Defaults to 10.
        synonyms: For `"synonyms"`: a mapping from words to lists of synonyms.
        **kwargs: See `TokenAugmentation`.

    Raises:
        ConfigError: If what the source needs is missing.
    """

    def __init__(
        self,
        vocabulary: Any,
        rate: float = 0.1,
        *,
        source: "str | Source | dict[str, Any]" = "uniform",
        counts: np.ndarray | None = None,
        embeddings: np.ndarray | None = None,
        num_neighbours: int = 10,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(vocabulary, rate, **kwargs)
        if isinstance(source, str):
            given = {"unigram": counts, "neighbours": embeddings, "synonyms": synonyms}
            source = self._source(source, given, num_neighbours)
        self.source = source_from_config(source) if isinstance(source, dict) else source

    def _source(self, name: str, given: dict[str, Any], num_neighbours: int) -> Source:
        vocabulary = self.vocabulary
        if name not in ("uniform", *given):
            raise ConfigError(
                f"`source` of `{type(self).__name__}` is {name!r}. Choose one of "
                f"{sorted((*given, 'uniform'))}."
            )
        if name == "uniform":
            return UniformWords(vocabulary.words)
        if given[name] is None:
            needs = {"unigram": "counts", "neighbours": "embeddings", "synonyms": "synonyms"}[name]
            raise ConfigError(
                f"`source={name!r}` of `{type(self).__name__}` needs `{needs}`: "
                + {
                    "unigram": "how often each token id occurs, e.g. `np.bincount(ids, minlength=size)`.",
                    "neighbours": "the embedding matrix, e.g. `preset.backbone.token_embedding.embeddings`.",
                    "synonyms": "a mapping such as `{'good': ['fine', 'nice']}`.",
                }[name]
            )
        if name == "unigram":
            counts = np.asarray(given[name])
            if counts.shape[0] < vocabulary.size:
                raise ConfigError(
                    f"`counts` has {counts.shape[0]:,} numbers, expected one for each of the "
                    f"{vocabulary.size:,} token ids, e.g. `np.bincount(ids, minlength={vocabulary.size})`."
                )
            return FrequentWords(vocabulary.words, counts[vocabulary.words])
        if name == "neighbours":
            return Neighbours.of(vocabulary, np.asarray(given[name]), num_neighbours)
        return Synonyms.of(vocabulary, given[name])

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "source": self.source.get_config()}


def within_room(growth: Any, priority: Any, room: Any) -> Any:
    """Bool `(batch, words)`: which changes fit, taken in the order of their priority, smallest first.

    Args:
        growth: int32, by how many tokens each change makes the row longer; 0 or less always fits.
        priority: Numbers of the same shape.
        room: int32 `(batch,)`, tokens that still fit into the row.
    """
    fits = growth <= room[:, None]  # by itself; one that does not must not take the room of others
    grown = tf.where(fits, tf.maximum(growth, 0), 0)
    order = tf.argsort(priority, axis=1)
    used = gather_words(tf.cumsum(gather_words(grown, order), axis=1), tf.argsort(order, axis=1))
    return (growth <= 0) | (fits & (used <= room[:, None]))
