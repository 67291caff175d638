"""Where new words come from: all words, frequent words, neighbours, synonyms."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.data.augmentation.phrases import Phrases
from kerasllm.data.augmentation.vocabulary import Vocabulary, pack, unpack
from kerasllm.data.augmentation.words import Words
from kerasllm.errors import ConfigError

__all__ = [
    "SOURCES",
    "FrequentWords",
    "Neighbours",
    "Source",
    "Synonyms",
    "UniformWords",
    "source_from_config",
]

_log = logging.getLogger("kerasllm.data")
_LONGEST = 8  # tokens of a synonym


class Source:
    """Draws a new word for each word of a batch."""

    name = ""

    def draw(self, words: Words, ids: Any, numbers: Any) -> tuple[Any, Any]:
        """Draws a word for each word.

        Args:
            words: The words.
            ids: int32 `(batch, sequence)`, their tokens.
            numbers: Random numbers of [0, 1), `(batch, sequence)`, one a word.

        Returns:
            Token ids int32 `(batch, sequence, k)` and how many of them are meant; zero where there is no
            word to be had.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Plain values from which `source_from_config` makes the same source."""
        raise NotImplementedError


class FrequentWords(Source):
    """Words drawn by how often they occur (unigram noise; Xie et al., 2017).

    Args:
        ids: The words, int32.
        counts: How often each occurs.
    """

    name = "unigram"

    def __init__(self, ids: np.ndarray, counts: np.ndarray):
        self.ids = np.asarray(ids, np.int32)[np.asarray(counts) > 0]
        self.counts = np.asarray(counts, np.float64)[np.asarray(counts) > 0]
        if len(self.ids) < 2:
            raise ConfigError(
                f"there are {len(self.ids)} words to draw new ones from, expected two or more: whole words "
                "of letters that are one token each. Use another `source`, such as 'synonyms'."
            )
        self._upper = np.cumsum(self.counts) / self.counts.sum()

    def draw(self, words: Words, ids: Any, numbers: Any) -> tuple[Any, Any]:
        """See `Source`."""
        flat = tf.reshape(tf.cast(numbers, tf.float64), [-1])
        place = tf.searchsorted(tf.constant(self._upper), flat, side="right")
        place = tf.reshape(tf.minimum(place, len(self.ids) - 1), tf.shape(numbers))
        drawn = tf.gather(tf.constant(self.ids), place)
        # A word is not replaced by itself, which would be no replacement, but by the next of the list.
        other = tf.gather(tf.constant(np.roll(self.ids, -1)), place)
        drawn = tf.where(tf.equal(drawn, words.of_first_pieces(ids)), other, drawn)
        return drawn[..., None], tf.ones_like(drawn)

    def get_config(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self.name, "ids": pack(self.ids), "counts": pack(self.counts)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FrequentWords":
        """The source of `get_config`."""
        return cls(unpack(config["ids"], np.int32), unpack(config["counts"], np.float64))


class UniformWords(FrequentWords):
    """All words alike: those of letters that are one token each.

    Args:
        ids: The words, int32.
    """

    name = "uniform"

    def __init__(self, ids: np.ndarray):
        super().__init__(ids, np.ones(len(ids)))

    def get_config(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self.name, "ids": pack(self.ids)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "UniformWords":
        """The source of `get_config`."""
        return cls(unpack(config["ids"], np.int32))


class Neighbours(Source):
    """Words whose embeddings are the nearest by cosine; for words of one token.

    Args:
        ids: The words that have neighbours, int32, ascending.
        neighbours: int32 `(words, k)`, the neighbours of each.
        spaced: int32 over the vocabulary, the same piece with a space before it.
    """

    name = "neighbours"

    def __init__(self, ids: np.ndarray, neighbours: np.ndarray, spaced: np.ndarray):
        self.ids = np.asarray(ids, np.int32)
        self.neighbours = np.asarray(neighbours, np.int32)
        self.spaced = np.asarray(spaced, np.int32)
        self._row = np.full(len(self.spaced), -1, np.int32)
        self._row[self.ids] = np.arange(len(self.ids))

    @classmethod
    def of(cls, vocabulary: Vocabulary, embeddings: np.ndarray, num_neighbours: int = 10) -> "Neighbours":
        """Finds the neighbours of each word of the vocabulary.

        Args:
            vocabulary: What the ids mean.
            embeddings: float `(vocabulary, dim)`.
            num_neighbours: How many of each word are kept. Defaults to 10.

        Raises:
            ConfigError: If the embeddings are of another vocabulary.
        """
        table = np.asarray(embeddings, np.float32)
        if table.ndim != 2 or len(table) < vocabulary.size:
            raise ConfigError(
                f"`embeddings` has the shape {table.shape}, expected one row for each of the "
                f"{vocabulary.size:,} token ids. Give those of the same checkpoint as the tokenizer."
            )
        ids = vocabulary.words
        vectors = table[ids] / np.maximum(np.linalg.norm(table[ids], axis=1, keepdims=True), 1e-9)
        count = min(num_neighbours, len(ids) - 1)
        if count < 1:
            raise ConfigError(
                f"there are {len(ids)} words in the vocabulary that are one token each; neighbours need two "
                "or more. Use another `source`, such as 'synonyms'."
            )
        rows = np.empty((len(ids), count), np.int32)
        for start in range(0, len(ids), 1024):
            near = vectors[start : start + 1024] @ vectors.T
            own = np.arange(len(near))
            near[own, start + own] = -np.inf
            found = np.argpartition(-near, count - 1, axis=1)[:, :count]
            nearest = np.argsort(-np.take_along_axis(near, found, 1), axis=1, kind="stable")
            rows[start : start + 1024] = ids[np.take_along_axis(found, nearest, 1)]
        return cls(ids, rows, vocabulary.spaced)

    def draw(self, words: Words, ids: Any, numbers: Any) -> tuple[Any, Any]:
        """See `Source`."""
        first = tf.clip_by_value(words.of_first_pieces(ids), 0, len(self.spaced) - 1)
        spaced = tf.maximum(tf.gather(tf.constant(self.spaced), first), 0)
        row = tf.gather(tf.constant(self._row), spaced)
        place = tf.cast(numbers * self.neighbours.shape[1], tf.int32)
        place = tf.minimum(place, self.neighbours.shape[1] - 1)
        drawn = tf.gather_nd(tf.constant(self.neighbours), tf.stack([tf.maximum(row, 0), place], -1))
        return drawn[..., None], tf.cast((row >= 0) & tf.equal(words.length, 1), tf.int32)

    def get_config(self) -> dict[str, Any]:
        """See `Source`."""
        arrays = {"ids": pack(self.ids), "neighbours": pack(self.neighbours), "spaced": pack(self.spaced)}
        return {"name": self.name, **arrays}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Neighbours":
        """The source of `get_config`."""
        ids = unpack(config["ids"], np.int32)
        return cls(
            ids,
            unpack(config["neighbours"], np.int32, (len(ids), -1)),
            unpack(config["spaced"], np.int32),
        )


class Synonyms(Source):
    """Words of a table: for each word its synonyms, of one or more tokens.

    Args:
        keys: The id sequences of the words.
        values: For each of them the id sequences of its synonyms, at least one.
    """

    name = "synonyms"

    def __init__(self, keys: Sequence[Sequence[int]], values: Sequence[Sequence[Sequence[int]]]):
        if not keys:
            raise ConfigError(
                "the table of synonyms has no word that can be replaced. Expected a mapping such as "
                "`{good: [fine, nice]}`, written as the words stand in the texts."
            )
        self.keys = Phrases(keys)
        self.values = [[list(map(int, ids)) for ids in found] for found in values]
        flat = [ids for found in self.values for ids in found]
        self._lengths = np.array([len(ids) for ids in flat], np.int32)
        self._ids = np.zeros((len(flat), int(self._lengths.max())), np.int32)
        for row, ids in zip(self._ids, flat, strict=True):
            row[: len(ids)] = ids
        self._counts = np.array([len(found) for found in self.values], np.int32)
        self._offsets = np.cumsum(self._counts, dtype=np.int32) - self._counts

    @classmethod
    def of(cls, vocabulary: Vocabulary, table: Mapping[str, Sequence[str]]) -> "Synonyms":
        """Reads a table of texts.

        Args:
            vocabulary: Of a tokenizer, which turns the words into ids.
            table: Synonyms by word, both as they are written in texts. Words are single words; synonyms may
                be of several, up to eight tokens.
        """
        keys, values, left_out = [], [], []
        for word, synonyms in table.items():
            found = [(other, vocabulary.encode([other])[:1]) for other in synonyms if other != word]
            fitting = [ids[0] for _, ids in found if ids and len(ids[0]) <= _LONGEST]
            left_out += [other for other, ids in found if not ids or len(ids[0]) > _LONGEST]
            for ids in vocabulary.encode([word]) if fitting else []:
                if _num_words(ids, vocabulary) == 1:
                    keys.append(ids)
                    values.append(fitting)
                else:
                    left_out.append(word)
        if left_out:
            _log.warning(
                "%d words of the table of synonyms are left out, which are several words to the tokenizer, "
                "or more than %d tokens: %s.",
                *(len(set(left_out)), _LONGEST, ", ".join(repr(word) for word in sorted(set(left_out))[:5])),
            )
        return cls(keys, values)

    def draw(self, words: Words, ids: Any, numbers: Any) -> tuple[Any, Any]:
        """See `Source`."""
        match, size = self.keys.match(ids, words.starts, words.real)
        row = words.of_first_pieces(match)
        known = (row >= 0) & tf.equal(words.of_first_pieces(size), words.length)
        row = tf.maximum(row, 0)
        count = tf.gather(tf.constant(self._counts), row)
        place = tf.minimum(tf.cast(numbers * tf.cast(count, tf.float32), tf.int32), count - 1)
        place += tf.gather(tf.constant(self._offsets), row)
        lengths = tf.gather(tf.constant(self._lengths), place)
        return tf.gather(tf.constant(self._ids), place), tf.where(known, lengths, 0)

    def get_config(self) -> dict[str, Any]:
        """See `Source`."""
        return {"name": self.name, "keys": [list(ids) for ids in self.keys.sequences], "values": self.values}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Synonyms":
        """The source of `get_config`."""
        return cls(config["keys"], config["values"])


def _num_words(ids: Sequence[int], vocabulary: Vocabulary) -> int:
    """How many words these ids are; the first always begins one."""
    closes, continues = vocabulary.flags["closes"], vocabulary.flags["continues"]
    inner = itertools.pairwise(ids)
    return 1 + sum(bool(closes[before]) or not continues[after] for before, after in inner)


SOURCES: dict[str, Any] = {
    source.name: source for source in (FrequentWords, Neighbours, Synonyms, UniformWords)
}


def source_from_config(config: dict[str, Any]) -> Source:
    """The source that `get_config` described."""
    source: Source = SOURCES[config["name"]].from_config(config)
    return source
