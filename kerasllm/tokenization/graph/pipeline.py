"""The whole tokenizer as TensorFlow operations: text in, token ids out, and back."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.tokenization.characters.table import CharacterTable
from kerasllm.tokenization.graph.added_tokens import AddedTokenMatcher, Found
from kerasllm.tokenization.graph.characters import FIRST_ADDED, decode_texts
from kerasllm.tokenization.graph.decoders import Detokenizer
from kerasllm.tokenization.graph.models import build_model
from kerasllm.tokenization.graph.normalizers import build_normalizer
from kerasllm.tokenization.graph.post_processors import Assembly, OffsetTrimmer, cut
from kerasllm.tokenization.graph.pre_tokenizers import build_pre_tokenizer
from kerasllm.tokenization.graph.words import Words, WordSplitter, collect_words
from kerasllm.tokenization.spec import Specification

__all__ = ["Encoded", "GraphTokenizer"]

# Strings live on the CPU; sending the arithmetic between them to an accelerator would only cost time.
_DEVICE = "/CPU:0"


class Encoded(NamedTuple):
    """Texts as tokens.

    Attributes:
        ids: int32[batch, None].
        segments: int32[batch, None]; `None` unless asked for.
        offsets: int32[batch, None, 2], first character and the one after the last of each token in its
            text; `None` unless asked for.
    """

    ids: tf.RaggedTensor
    segments: tf.RaggedTensor | None = None
    offsets: tf.RaggedTensor | None = None


class GraphTokenizer(tf.Module):
    """Owns the tables of a tokenizer; attach it to what is exported.

    The tables are constants: nothing grows, and the number of operations does not depend on the vocabulary.

    Args:
        specification: The tokenizer.
        truncation_side: Where texts are cut that are too long, `"left"` or `"right"`. Defaults to `"right"`.
    """

    def __init__(self, specification: Specification, *, truncation_side: str = "right"):
        super().__init__()
        self._specification = specification
        self._templates = specification.post_processor
        self._side: Any = truncation_side
        with tf.init_scope(), tf.device(_DEVICE):
            self._model = build_model(specification.model, byte_level=specification.pre_tokenizer.byte_level)
            self._fused = _fused_splitter(specification, self._model.placeholder)
        # Made when they are first needed.
        self._staged: _StagedSplitter | None = None
        self._trimmer: OffsetTrimmer | None = None
        self._detokenizer: Detokenizer | None = None

    @property
    def is_fused(self) -> bool:
        """Whether ids without offsets come by one look-up a character."""
        return self._fused is not None

    def encode(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        sequence_length: int | None = None,
        segments: bool = False,
        offsets: bool = False,
        keep_special: bool = False,
    ) -> Encoded:
        """Tokenizes string[batch].

        Args:
            texts: The texts, or the first of each pair.
            pairs: The second of each pair. Defaults to `None`.
            sequence_length: Most tokens of a result. Defaults to `None`, no limit.
            segments: Whether segment ids are wanted. Defaults to `False`.
            offsets: Whether offsets are wanted. Defaults to `False`.
            keep_special: Whether special tokens in the texts are left as text. Defaults to `False`.
        """
        with tf.device(_DEVICE):
            both = texts if pairs is None else tf.concat([texts, pairs], axis=0)
            words, swallowed = self._words(both, offsets=offsets, keep_special=keep_special)
            tokens = self._model(words, spans=offsets)
            row_splits = tf.gather(tokens.word_splits, words.row_splits)
            parts = [row_splits] if pairs is None else _halves(row_splits)
            starts = [part[:-1] for part in parts]
            lengths = [part[1:] - part[:-1] for part in parts]
            template = self._templates.single if pairs is None else self._templates.pair
            if sequence_length is not None:
                limit = sequence_length - sum(len(piece.ids) for piece in template)
                starts, lengths = cut(starts, lengths, limit, direction=self._side)
            assembly = Assembly(template, tf.size(tokens.ids, tf.int64), starts, lengths)
            result = Encoded(assembly.ids(tokens.ids), assembly.segments() if segments else None)
            if not offsets:
                return result
            begins = tf.gather(words.starts, tokens.first)
            ends = tf.gather(words.ends, tokens.last)
            if self._trims.needed:
                first = _first_of_texts(tf.concat(starts, axis=0), tf.concat(lengths, axis=0), tokens.ids)
                places = tf.gather(tokens.word_splits, words.added)[:, None]
                before, behind = (tf.scatter_nd(places, s, tf.shape(tokens.ids, tf.int64)) for s in swallowed)
                begins, ends = self._trims(tokens.ids, begins, ends, first, before, behind)
            return result._replace(offsets=assembly.offsets(begins, ends))

    def decode(self, token_ids: tf.RaggedTensor, *, skip_special_tokens: bool) -> Any:
        """Texts string[batch] of token ids [batch, None]."""
        if self._detokenizer is None:
            with tf.init_scope(), tf.device(_DEVICE):
                self._detokenizer = Detokenizer(self._specification)
        with tf.device(_DEVICE):
            return self._detokenizer(token_ids, skip_special_tokens=skip_special_tokens)

    def _words(self, texts: Any, *, offsets: bool, keep_special: bool) -> tuple[Words, tuple[Any, Any]]:
        if self._fused is not None and not offsets:
            return self._fused(texts, keep_special=keep_special), (None, None)
        if self._staged is None:
            with tf.init_scope(), tf.device(_DEVICE):
                self._staged = _StagedSplitter(self._specification, self._model.placeholder)
        return self._staged(texts, offsets=offsets, keep_special=keep_special)

    @property
    def _trims(self) -> OffsetTrimmer:
        if self._trimmer is None:
            with tf.init_scope(), tf.device(_DEVICE):
                self._trimmer = OffsetTrimmer(self._specification)
        return self._trimmer


class _StagedSplitter(tf.Module):
    """Normalizes texts and cuts them into words, one component of the tokenizer after the other.

    Args:
        specification: The tokenizer.
        placeholder: The character that stands for each added token.
    """

    def __init__(self, specification: Specification, placeholder: int):
        super().__init__()
        tokens = specification.added_tokens
        self._raw = AddedTokenMatcher(tokens, normalized=False)
        self._normalizer = build_normalizer(specification.normalizer)
        self._normalized = AddedTokenMatcher(tokens, normalized=True)
        self._pre_tokenizer = build_pre_tokenizer(specification.pre_tokenizer)
        self._needs_starts = specification.pre_tokenizer.needs_starts
        self._placeholder = placeholder
        self._ids = tf.constant([token.id for token in tokens], tf.int32)
        self._by_normalized = tf.constant([token.normalized for token in tokens], tf.bool)

    def __call__(self, texts: Any, *, offsets: bool, keep_special: bool) -> tuple[Words, tuple[Any, Any]]:
        """The words of string[batch], and how much white space each added token swallowed on its sides."""
        characters = decode_texts(texts, offsets=offsets or self._needs_starts)
        characters, raw = self._raw(characters, keep_special=keep_special)
        for stage in self._normalizer:
            characters = stage(characters)
        characters, normalized = self._normalized(characters, keep_special=keep_special)
        for stage in self._pre_tokenizer:
            characters = stage(characters)
        words = collect_words(characters, self._ids, placeholder=self._placeholder)
        return words, self._swallowed(characters.codes, raw, normalized)

    def _swallowed(self, codes: Any, raw: Found, normalized: Found) -> tuple[Any, Any]:
        """int32[added tokens] twice, in the order of the texts."""
        numbers = FIRST_ADDED - tf.boolean_mask(codes, codes <= FIRST_ADDED)
        late = tf.cast(tf.gather(self._by_normalized, numbers), tf.int32)
        place = tf.where(late > 0, tf.size(raw.numbers) + tf.cumsum(late), tf.cumsum(1 - late)) - 1
        before = tf.gather(tf.concat([raw.before, normalized.before], axis=0), place)
        return before, tf.gather(tf.concat([raw.behind, normalized.behind], axis=0), place)


def _fused_splitter(specification: Specification, placeholder: int) -> WordSplitter | None:
    """One table for normalizer and pre-tokenizer together, where they look at one character at a time."""
    kinds = [step.kind for step in specification.normalizer]
    if not specification.pre_tokenizer.fusable or any(kind not in ("each", "decompose") for kind in kinds):
        return None
    if kinds.count("decompose") > 1 or any(token.normalized for token in specification.added_tokens):
        return None
    table = CharacterTable.of(specification.normalizer, specification.pre_tokenizer)
    return WordSplitter(table, specification.added_tokens, placeholder=placeholder)


def _first_of_texts(starts: Any, lengths: Any, ids: Any) -> Any:
    """bool[tokens], whether each is the first of its text."""
    marks = tf.scatter_nd(starts[:, None], lengths, tf.shape(ids, tf.int64) + 1)
    return marks[:-1] > 0


def _halves(row_splits: Any) -> list[Any]:
    middle = tf.size(row_splits) // 2
    return [row_splits[: middle + 1], row_splits[middle:]]
