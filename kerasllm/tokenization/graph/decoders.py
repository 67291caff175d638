"""Token ids to text."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.library import run_decoder
from kerasllm.tokenization.spec import Specification

__all__ = ["WordPieceDetokenizer"]


class WordPieceDetokenizer(tf.Module):
    """Joins the texts of the tokens.

    The decoder treats each token by itself, only the first of a text in another way than the rest. So the
    `tokenizers` library is run on each token of the vocabulary once, and the graph looks its text up.

    Args:
        specification: The tokenizer.
    """

    def __init__(self, specification: Specification):
        super().__init__()
        decode = run_decoder(specification.decoder.specification)
        contents: list[str | None] = [None] * specification.vocabulary_size
        for token, index in specification.model.vocabulary.items():
            contents[index] = token
        for added in specification.added_tokens:
            contents[added.id] = added.content
        special = {token.content for token in specification.added_tokens if token.special}
        # The last entry stands for ids that are no token, which are left out.
        self._known = tf.constant([content is not None for content in contents] + [False])
        self._special = tf.constant([content in special for content in contents] + [False])
        self._first = tf.constant(["" if c is None else decode([c]) for c in contents] + [""])
        self._rest = tf.constant(["" if c is None else decode(["a", c])[1:] for c in contents] + [""])

    def __call__(self, token_ids: tf.RaggedTensor, *, skip_special_tokens: bool = True) -> Any:
        """The texts, string[batch], of token ids [batch, None]."""
        count = tf.size(self._known, tf.int64) - 1
        ids = tf.cast(token_ids.values, tf.int64)
        ids = tf.where((ids >= 0) & (ids < count), ids, count)
        used = tf.gather(self._known, ids)
        if skip_special_tokens:
            used = tf.logical_and(used, tf.logical_not(tf.gather(self._special, ids)))
        kept = tf.where(used)[:, 0]
        ids, rows = tf.gather(ids, kept), tf.gather(token_ids.value_rowids(), kept)
        first = tf.concat([tf.fill([tf.minimum(tf.size(rows), 1)], True), rows[1:] > rows[:-1]], axis=0)
        texts = tf.where(first, tf.gather(self._first, ids), tf.gather(self._rest, ids))
        return tf.strings.unsorted_segment_join(texts, rows, token_ids.nrows())
