"""The whole tokenizer as TensorFlow operations: text in, token ids out, and back."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.characters import CharacterTable
from kerasllm.tokenization.graph.added_tokens import AddedTokenMatcher
from kerasllm.tokenization.graph.decoders import WordPieceDetokenizer
from kerasllm.tokenization.graph.models import WordPieceModel
from kerasllm.tokenization.graph.post_processors import assemble, truncate
from kerasllm.tokenization.graph.words import WordSplitter
from kerasllm.tokenization.spec import Specification

__all__ = ["GraphTokenizer"]

# Strings live on the CPU; sending the arithmetic between them to an accelerator would only cost time.
_DEVICE = "/CPU:0"


class GraphTokenizer(tf.Module):
    """Owns the tables of a tokenizer; attach it to what is exported.

    The tables are constants: nothing grows, and the number of operations does not depend on the vocabulary.

    Args:
        specification: The tokenizer.
    """

    def __init__(self, specification: Specification):
        super().__init__()
        self._templates = specification.post_processor
        self._specification = specification
        with tf.init_scope(), tf.device(_DEVICE):
            table = CharacterTable.of(specification.normalizer, specification.pre_tokenizer)
            self._splitter = WordSplitter(table, AddedTokenMatcher(specification.added_tokens))
            self._model = WordPieceModel(specification.model)
        self._detokenizer: WordPieceDetokenizer | None = None

    def encode(
        self, texts: Any, pairs: Any, *, sequence_length: int | None, segments: bool
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor | None]:
        """Token ids int32[batch, None] of string[batch], and segment ids where wanted."""
        with tf.device(_DEVICE):
            both = texts if pairs is None else tf.concat([texts, pairs], axis=0)
            ids, row_splits = self._model(self._splitter(both))
            parts = [row_splits] if pairs is None else _halves(row_splits)
            starts = [part[:-1] for part in parts]
            lengths = [part[1:] - part[:-1] for part in parts]
            template = self._templates.single if pairs is None else self._templates.pair
            if sequence_length is not None:
                num_special = sum(len(piece.ids) for piece in template)
                lengths = truncate(lengths, sequence_length - num_special)
            return assemble(template, ids, starts, lengths, segments=segments)

    def decode(self, token_ids: tf.RaggedTensor, *, skip_special_tokens: bool) -> Any:
        """Texts string[batch] of token ids [batch, None]."""
        if self._detokenizer is None:
            with tf.init_scope(), tf.device(_DEVICE):
                self._detokenizer = WordPieceDetokenizer(self._specification)
        with tf.device(_DEVICE):
            return self._detokenizer(token_ids, skip_special_tokens=skip_special_tokens)


def _halves(row_splits: Any) -> list[Any]:
    middle = tf.size(row_splits) // 2
    return [row_splits[: middle + 1], row_splits[middle:]]
