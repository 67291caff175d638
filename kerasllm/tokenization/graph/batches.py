"""Ragged rows of tokens as padded batches."""

import tensorflow as tf

__all__ = ["pad_batch"]


def pad_batch(
    ids: tf.RaggedTensor, segments: tf.RaggedTensor, *, pad_id: int, width: int | None, multiple: int
) -> dict[str, tf.Tensor]:
    """Fills up rows to one length.

    Args:
        ids: int32[batch, None].
        segments: int32[batch, None].
        pad_id: What token ids are filled up with.
        width: The length; `None` for that of the longest row.
        multiple: The length is rounded up to a multiple of this.

    Returns:
        `token_ids`, `padding_mask` and `segment_ids`, int32[batch, length] each.
    """
    size = width
    if size is None:
        lengths = tf.concat([[0], ids.row_lengths()], axis=0)
        size = tf.reduce_max(lengths)
    size = -(-size // multiple) * multiple
    shape = [None, size]
    return {
        "token_ids": ids.to_tensor(pad_id, shape=shape),
        "padding_mask": tf.ones_like(ids).to_tensor(0, shape=shape),
        "segment_ids": segments.to_tensor(0, shape=shape),
    }
