"""Truncation, and the special tokens around the texts."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.spec.post_processors import Piece

__all__ = ["assemble", "truncate"]


def truncate(lengths: list[Any], limit: int) -> list[Any]:
    """Cuts the lengths of one text, or of two, to a sum of `limit`; of two, the longer is cut first.

    The arithmetic is that of `longest_first` in the `tokenizers` library (`truncate_encodings`).

    Args:
        lengths: One or two int64[batch].
        limit: Most tokens of both.

    Returns:
        As many lengths.
    """
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


def assemble(
    template: tuple[Piece, ...], ids: Any, starts: list[Any], lengths: list[Any], *, segments: bool
) -> tuple[tf.RaggedTensor, tf.RaggedTensor | None]:
    """Puts texts and special tokens together as the template says.

    Args:
        template: The pieces of the result.
        ids: int32[tokens], the tokens of all texts.
        starts: For each of the texts of the template, int64[batch]: where its tokens start in `ids`.
        lengths: For each, int64[batch]: how many tokens of it are used.
        segments: Whether segment ids are wanted.

    Returns:
        Token ids int32[batch, None], and segment ids of the same shape or `None`.
    """
    special = [token for piece in template for token in piece.ids]
    special_start = tf.size(ids, tf.int64)
    piece_starts, piece_lengths = [], []
    for piece in template:
        if piece.sequence is not None:
            piece_starts.append(starts[piece.sequence])
            piece_lengths.append(lengths[piece.sequence])
            continue
        piece_starts.append(tf.zeros_like(lengths[0]) + special_start)
        piece_lengths.append(tf.zeros_like(lengths[0]) + len(piece.ids))
        special_start += len(piece.ids)
    begin = tf.reshape(tf.stack(piece_starts, axis=1), [-1])
    end = begin + tf.reshape(tf.stack(piece_lengths, axis=1), [-1])
    splits, indices = tf.raw_ops.RaggedRange(
        starts=begin, limits=end, deltas=tf.constant(1, tf.int64), Tsplits=tf.int64
    )
    row_splits = splits[:: len(template)]

    def gather(own: Any, of_special: list[int]) -> tf.RaggedTensor:
        values = tf.gather(tf.concat([own, tf.constant(of_special, tf.int32)], axis=0), indices)
        return tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)

    token_ids = gather(ids, special)
    if not segments:
        return token_ids, None
    of_special = [piece.segment for piece in template for _ in piece.ids]
    return token_ids, gather(_segments(template, ids, starts), of_special)


def _segments(template: tuple[Piece, ...], ids: Any, starts: list[Any]) -> Any:
    """The segment of every token in `ids`: the first texts' tokens stand before all second texts'."""
    of_text = {piece.sequence: piece.segment for piece in template if piece.sequence is not None}
    if len(starts) == 1:
        return tf.fill([tf.size(ids)], of_text[0])
    num_first = tf.cast(starts[1][:1], tf.int32)  # empty for an empty batch
    is_first = tf.range(tf.size(ids)) < tf.reduce_sum(num_first)
    return tf.where(is_first, of_text[0], of_text[1])
