"""Truncation, the special tokens around the texts, and the offsets of tokens with white space."""

from typing import Any, Literal

import tensorflow as tf

from kerasllm.tokenization.spec import Specification
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import Unigram
from kerasllm.tokenization.spec.post_processors import Piece

__all__ = ["Assembly", "OffsetTrimmer", "cut", "truncate"]

Strategy = Literal["longest_first", "only_first", "only_second"]


def truncate(lengths: list[Any], limit: int, *, strategy: Strategy = "longest_first") -> list[Any]:
    """Cuts the lengths of one text, or of two, to a sum of `limit`.

    The arithmetic is that of the `tokenizers` library (`truncate_encodings`): `longest_first` cuts the
    longer of two, and both to halves where that is not enough; `only_first` and `only_second` cut that one,
    and it is an error if nothing would be left of it.

    Args:
        lengths: One or two int64[batch].
        limit: Most tokens of both.
        strategy: Which text is cut. Defaults to `"longest_first"`.

    Returns:
        As many lengths.
    """
    if strategy != "longest_first":
        return _truncate_one(lengths, limit, 0 if strategy == "only_first" else 1)
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], limit)]
    first, second = lengths
    short, long = tf.minimum(first, second), tf.maximum(first, second)
    cut = tf.where(short > limit, short, tf.maximum(short, limit - short))
    both = short + cut > limit
    cut_short = tf.where(both, tf.constant(limit // 2, short.dtype), short)
    cut_long = tf.where(both, tf.constant(limit // 2 + limit % 2, short.dtype), cut)
    fits = short + long <= limit
    short, long = tf.where(fits, short, cut_short), tf.where(fits, long, cut_long)
    swapped = first > second
    return [tf.where(swapped, long, short), tf.where(swapped, short, long)]


def _truncate_one(lengths: list[Any], limit: int, which: int) -> list[Any]:
    if limit == 0:  # then the library empties both
        return [tf.zeros_like(length) for length in lengths]
    excess = tf.maximum(tf.add_n(lengths) - limit, 0)
    left = lengths[which] - excess
    message = "one text is too long for the others to be cut: nothing would be left of the one to be cut"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all((left > 0) | (excess <= 0)), [message])]):
        return [tf.identity(left) if i == which else length for i, length in enumerate(lengths)]


def cut(
    starts: list[Any],
    lengths: list[Any],
    limit: int,
    *,
    strategy: Strategy = "longest_first",
    direction: Literal["left", "right"] = "right",
) -> tuple[list[Any], list[Any]]:
    """Like `truncate`, and says where what is left of each text starts.

    Args:
        starts: One or two int64[batch], where the tokens of the texts start.
        lengths: As many: how many tokens they have.
        limit: Most tokens of both.
        strategy: As in `truncate`. Defaults to `"longest_first"`.
        direction: Whether texts lose their end (`"right"`, the default) or their start (`"left"`).

    Returns:
        Starts and lengths.
    """
    kept = truncate(lengths, limit, strategy=strategy)
    if direction == "left":
        starts = [start + length - left for start, length, left in zip(starts, lengths, kept, strict=True)]
    return starts, kept


class Assembly:
    """Where every token of the results comes from: a text, or the special tokens of the template.

    Args:
        template: The pieces of a result.
        num_tokens: int64, the number of tokens of all texts.
        starts: For each of the texts of the template, int64[batch]: where its tokens start among them.
        lengths: For each, int64[batch]: how many tokens of it are used.
    """

    def __init__(self, template: tuple[Piece, ...], num_tokens: Any, starts: list[Any], lengths: list[Any]):
        self._template = template
        piece_starts, piece_lengths = [], []
        special_start = num_tokens
        for piece in template:
            if piece.sequence is not None:
                piece_starts.append(starts[piece.sequence])
                piece_lengths.append(lengths[piece.sequence])
                continue
            piece_starts.append(tf.zeros_like(lengths[0]) + special_start)
            piece_lengths.append(tf.zeros_like(lengths[0]) + len(piece.ids))
            special_start += len(piece.ids)
        begin = tf.reshape(tf.stack(piece_starts, axis=1), [-1])
        self._lengths = tf.reshape(tf.stack(piece_lengths, axis=1), [-1])
        splits, self._indices = tf.raw_ops.RaggedRange(
            starts=begin, limits=begin + self._lengths, deltas=tf.constant(1, tf.int64), Tsplits=tf.int64
        )
        self._row_splits = splits[:: len(template)]

    def ids(self, ids: Any) -> tf.RaggedTensor:
        """Token ids int32[batch, None] of the texts' tokens, int32[tokens]."""
        special = [token for piece in self._template for token in piece.ids]
        return self._ragged(
            tf.gather(tf.concat([ids, tf.constant(special, tf.int32)], axis=0), self._indices)
        )

    def segments(self) -> tf.RaggedTensor:
        """Segment ids int32[batch, None]."""
        of_pieces = tf.constant([piece.segment for piece in self._template], tf.int32)
        batch = tf.size(self._lengths) // len(self._template)
        return self._ragged(tf.repeat(tf.tile(of_pieces, batch[None]), self._lengths))

    def offsets(self, starts: Any, ends: Any) -> tf.RaggedTensor:
        """Offsets int32[batch, None, 2] of the texts' tokens, int32[tokens] each; 0 for special tokens."""
        count = sum(len(piece.ids) for piece in self._template)
        offsets = tf.concat([tf.stack([starts, ends], axis=1), tf.zeros([count, 2], tf.int32)], axis=0)
        return self._ragged(tf.gather(offsets, self._indices))

    def _ragged(self, values: Any) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_splits(values, self._row_splits, validate=False)


class OffsetTrimmer(tf.Module):
    """Cuts white space off the offsets of tokens, as `ByteLevel` and `RobertaProcessing` do.

    How much, the library takes from the text of a token: the white space, or the letter that stands for a
    space, at its ends, as characters. Where that letter stands for something else, or the white space was
    not in the text, the library cuts too much; so does this.

    Args:
        specification: The tokenizer.
    """

    def __init__(self, specification: Specification):
        super().__init__()
        self._trims = specification.post_processor.trims
        if self._trims and isinstance(
            specification.model, Unigram
        ):  # there the text of unknown tokens varies
            raise refuse("post-processor that trims offsets, with the model", "Unigram", ["BPE", "WordPiece"])
        counts = [(0, 0, 0)] * specification.vocabulary_size
        added = [(token.pattern, token.id) for token in specification.added_tokens]
        for token, index in [*specification.model.vocabulary.items(), *added] if self._trims else ():
            counts[index] = (
                len(token) - len(token.lstrip(_SPACES)),
                len(token) - len(token.rstrip(_SPACES)),
                int(not token.strip(_SPACES)),
            )
        self._leading, self._trailing, self._blank = tf.unstack(tf.constant(counts, tf.int32), axis=1)

    @property
    def needed(self) -> bool:
        """Whether the post-processor trims at all."""
        return bool(self._trims)

    def __call__(
        self, ids: Any, starts: Any, ends: Any, first: Any, leading: Any = 0, trailing: Any = 0
    ) -> tuple[Any, Any]:
        """Trims offsets.

        Args:
            ids: int32[tokens].
            starts: int32[tokens], where each begins in its text.
            ends: int32[tokens], where each ends.
            first: bool[tokens], whether a token is the first of its text after truncation.
            leading: int32[tokens], how many characters an added token has swallowed before its content
                (`lstrip`). Defaults to 0.
            trailing: The same behind it (`rstrip`). Defaults to 0.

        Returns:
            The starts and the ends.
        """
        # In a token of nothing but white space, that on the other side counts, too.
        blank = tf.gather(self._blank, ids)
        before = tf.gather(self._leading, ids) + leading + blank * trailing
        behind = tf.gather(self._trailing, ids) + trailing + blank * leading
        for keeps_space in self._trims:
            cut_off = before
            if keeps_space:
                begins = tf.logical_or(first, tf.equal(starts, 0))
                cut_off = tf.where(tf.logical_and(begins, tf.equal(before, 1)), 0, before)
            starts = tf.where(before > 0, tf.minimum(starts + cut_off, ends), starts)
            shorter = tf.logical_and(behind > 0, ends >= behind)
            ends = tf.where(shorter, tf.maximum(ends - behind, starts), ends)
        return starts, ends


# White space as Rust knows it, and the letter of the byte alphabet that stands for a space.
_SPACES = (
    "\u0120\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
