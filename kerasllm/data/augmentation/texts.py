"""Augmented texts, to be looked at, written to a file, or given to a model as texts."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasllm.data.augmentation.embedding_layer import EmbeddingAugmentation
from kerasllm.data.augmentation.random_typo import RandomTypo
from kerasllm.data.augmentation.vocabulary import Vocabulary
from kerasllm.errors import ConfigError

__all__ = ["augment_texts"]

_ROWS = 64
_FROM = 1_000_000  # numbers of places begin here, so that no label that a layer puts in is one


def augment_texts(
    layers: Sequence[keras.layers.Layer],
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
) -> list[Any]:
    """Does to texts what the layers do in training, and writes the result as texts.

    Words that were not changed stand there as they were written, in their case and with the white space
    between them, also where the tokenizer knows lower case only; changed ones as the tokenizer decodes them.
    Rows have room for a quarter more tokens, which in training depends on the batch.

    Args:
        layers: Layers on token ids, and `RandomTypo`, which comes first. They draw on: the next call gives
            other texts.
        tokenizer: The `kerasllm.Tokenizer` of the layers.
        texts: Texts, or the first text of every pair.
        pairs: The second text of every pair. Defaults to `None`.

    Returns:
        A text for each, or a tuple of two.

    Raises:
        ConfigError: If a layer works on token vectors, of which there is no text.
    """
    vectors = [type(layer).__name__ for layer in layers if isinstance(layer, EmbeddingAugmentation)]
    if vectors:
        raise ConfigError(
            f"{', '.join(vectors)} changes token vectors, which are no texts. Leave it out here; in training "
            "it works as it is."
        )
    columns = [list(texts)] if pairs is None else [list(texts), list(pairs)]
    for layer in layers:
        if isinstance(layer, RandomTypo):
            columns = [[t.decode() for t in layer(column, training=True).numpy()] for column in columns]
    of_tokens = [layer for layer in layers if not isinstance(layer, RandomTypo)]
    if of_tokens:
        rewriter = _Rewriter(tokenizer, of_tokens)
        columns = rewriter.rewrite(columns)
    return columns[0] if pairs is None else list(zip(*columns, strict=True))


class _Rewriter:
    """Runs layers on token ids and writes what comes out with the words of the texts."""

    def __init__(self, tokenizer: Any, layers: Sequence[keras.layers.Layer]):
        self.tokenizer = tokenizer
        self.layers = layers
        self.vocabulary = Vocabulary.of(tokenizer)

    def rewrite(self, columns: list[list[str]]) -> list[list[str]]:
        """Augments texts, a column for each text of a pair."""
        done: list[list[str]] = [[] for _ in columns]
        for start in range(0, len(columns[0]), _ROWS):
            for row in self._batch([column[start : start + _ROWS] for column in columns]):
                for column, text in zip(done, row, strict=True):
                    column.append(text)
        return done

    def _batch(self, columns: list[list[str]]) -> list[list[str]]:
        ids, segments = self.tokenizer.encode_for_model(*columns)
        # A text that became no token at all is one padding token.
        offsets = [places or [(0, 0)] for places in self.tokenizer.offsets(*columns)]
        longest = max(map(len, ids))
        width = longest + max(8, longest // 4)
        shape = (len(ids), width)
        inputs = {"token_ids": np.full(shape, self.vocabulary.pad_id, np.int32)}
        inputs |= {name: np.zeros(shape, np.int32) for name in ("padding_mask", "segment_ids", "labels")}
        for row, (own, segment) in enumerate(zip(ids, segments, strict=True)):
            size = len(own)
            inputs["token_ids"][row, :size], inputs["segment_ids"][row, :size] = own, segment
            inputs["padding_mask"][row, :size] = 1
            inputs["labels"][row, :size] = _FROM + np.arange(size)
        changed: Any = inputs
        for layer in self.layers:
            changed = layer(changed, training=True)
        arrays = {name: np.asarray(values) for name, values in changed.items()}
        rows = []
        for row, (own, segment, places) in enumerate(zip(ids, segments, offsets, strict=True)):
            count = int(arrays["padding_mask"][row].sum())
            new, parts, come_from = (
                arrays[name][row, :count] for name in ("token_ids", "segment_ids", "labels")
            )
            texts = [column[row] for column in columns]
            known = _Row(own, places, texts, self._texts_of(own, segment, places, texts))
            rows.append(self._written(known, new, parts, come_from - _FROM))
        return rows

    def _texts_of(
        self, ids: Sequence[int], segments: Sequence[int], offsets: Sequence[Any], texts: Sequence[str]
    ) -> list[int]:
        """Of each token the number of the text it is in, 0 or 1; special tokens are in the one before."""
        number, last, seen, between = int(not texts[0].strip()), 0, False, False
        numbers = []
        for special, segment, (start, end) in zip(self._separates(ids), segments, offsets, strict=True):
            if special:
                between = seen
            elif end > 0:  # not every tokenizer has segments, or special tokens between two texts
                number = max(number, segment, int(between), int(start < last))
                last, seen, between = start, True, False
            numbers.append(number)
        return numbers

    def _separates(self, ids: Sequence[int]) -> list[bool]:
        found: list[bool] = self.vocabulary.flags["separates"][np.asarray(ids)].tolist()
        return found

    def _written(
        self, row: "_Row", ids: np.ndarray, segments: np.ndarray, come_from: np.ndarray
    ) -> list[str]:
        written = ["" for _ in row.texts]
        text, last = 0, -1
        for first, end in self._words(ids, segments):
            sources = come_from[first:end]
            word = ids[first:end]
            if (
                self.vocabulary.flags["separates"][word[0]]
                and sources[0] >= 0
                and row.offsets[sources[0]] == (0, 0)
            ):
                last = -1
                continue
            if sources[0] >= 0:
                text = min(row.text_of[sources[0]], len(written) - 1)
            kept = self._kept(row, word, sources)
            content = row.words(sources[0], sources[-1], last) if kept else self._decoded(word)
            written[text] += self._gap(row, word, sources, last, written[text]) + content
            last = int(sources[-1]) if sources[-1] >= 0 else -1
        return written

    def _words(self, ids: np.ndarray, segments: np.ndarray) -> list[tuple[int, int]]:
        flags = self.vocabulary.flags
        starts = [
            place
            for place, token in enumerate(ids)
            if place == 0
            or segments[place] != segments[place - 1]
            or flags["closes"][ids[place - 1]]
            or not flags["continues"][token]
        ]
        return list(zip(starts, [*starts[1:], len(ids)], strict=True)) if starts else []

    def _kept(self, row: "_Row", word: np.ndarray, sources: np.ndarray) -> bool:
        """Whether a word is one of the old text, with or without the space before it."""
        if (sources < 0).any() or (np.diff(sources) != 1).any():
            return False
        old = np.asarray(row.ids)[sources]
        spaced = self.vocabulary.spaced
        same_first = word[0] == old[0] or spaced[word[0]] == old[0] or spaced[old[0]] == word[0]
        # An unchanged first piece with others lost would be a part of a word.
        after = sources[-1] + 1
        ends = after >= len(row.ids) or not self.vocabulary.flags["continues"][row.ids[after]]
        return bool(same_first and (word[1:] == old[1:]).all()) and (
            ends or bool(self.vocabulary.flags["closes"][old[-1]])
        )

    def _decoded(self, word: np.ndarray) -> str:
        text = str(self.tokenizer.decode([word.tolist()], skip_special_tokens=False)[0]).strip()
        return text.removesuffix(self.tokenizer.word_table.suffix)

    def _gap(self, row: "_Row", word: np.ndarray, sources: np.ndarray, last: int, before: str) -> str:
        """What stands between a word and the one before it."""
        source = int(sources[0])
        if not before:
            return ""
        follows = source - 1 == last or not self.vocabulary.flags["letters"][word].any()
        if source > 0 and follows and row.text_of[source - 1] == row.text_of[source]:
            return row.gap(source)
        return "" if self.vocabulary.flags["glued"][word[0]] else " "


class _Row:
    """The texts of a row, and where its tokens stand in them."""

    def __init__(
        self, ids: Sequence[int], offsets: Sequence[Any], texts: Sequence[str], text_of: Sequence[int]
    ):
        self.ids, self.texts, self.text_of = list(ids), list(texts), list(text_of)
        self.offsets = [tuple(place) for place in offsets]

    def words(self, first: int, last: int, before: int) -> str:
        """The text of some tokens; what a token just before them already said is left out."""
        start, end = self.offsets[first][0], self.offsets[last][1]
        if before == first - 1 >= 0 and self.text_of[before] == self.text_of[first]:
            start = max(start, self.offsets[before][1])
        return self._text(first)[start:end].strip()

    def gap(self, token: int) -> str:
        """The white space before a token."""
        start, end = self.offsets[token - 1][1], self.offsets[token]
        piece = self._text(token)[end[0] : end[1]]
        return self._text(token)[start : end[0]] + piece[: len(piece) - len(piece.lstrip())]

    def _text(self, token: int) -> str:
        return self.texts[min(self.text_of[token], len(self.texts) - 1)]
