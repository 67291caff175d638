"""From token vectors to one vector a text, also where a row holds several texts."""

from typing import Any

import keras
import tensorflow as tf

__all__ = ["TextPooling"]


@keras.saving.register_keras_serializable(package="kerasllm")
class TextPooling(keras.layers.Layer):
    """One vector a text: that of its first or last token, or the mean of all.

    Where `packed` is set (`kerasllm.models.packing`), a row gives as many vectors as it has texts, row after
    row.

    Args:
        kind: `"first"`, `"last"` or `"mean"`. The mean is summed up in float32.

    Call arguments:
        inputs: Token vectors `(batch, sequence, dim)`.
        padding_mask: `(batch, sequence)`, 1 for tokens and 0 for padding; in packed rows the number of each
            token's text, from 1 on, the texts one after the other and padding at the end.

    Returns:
        `(batch, dim)`, or `(texts, dim)` where texts are packed.
    """

    packed = False

    def __init__(self, kind, **kwargs):
        # Vectors come and go in the precision of the backbone.
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.kind = kind

    def call(self, inputs, padding_mask):
        """See the class."""
        if self.packed:
            return self._of_packed(inputs, padding_mask)
        if self.kind == "first":
            return inputs[:, 0]
        if self.kind == "mean":
            mask = tf.cast(padding_mask, tf.float32)
            total = tf.einsum("bs,bsd->bd", mask, tf.cast(inputs, tf.float32))
            return tf.cast(total / tf.maximum(tf.reduce_sum(mask, 1), 1.0)[:, None], inputs.dtype)
        places = tf.range(tf.shape(inputs)[1]) * tf.cast(padding_mask, tf.int32)
        return tf.gather(inputs, tf.reduce_max(places, axis=1), batch_dims=1)

    def _of_packed(self, inputs: Any, mask: Any) -> Any:
        if self.kind == "mean":
            in_row = tf.reduce_max(mask, axis=1)
            texts = mask - 1 + tf.cumsum(in_row, exclusive=True)[:, None]
            # Padding gets the number -1, which is left out of the sums.
            texts = tf.reshape(tf.where(mask > 0, texts, -1), [-1])
            vectors = tf.reshape(tf.cast(inputs, tf.float32), [-1, inputs.shape[-1]])
            return tf.cast(tf.math.unsorted_segment_mean(vectors, texts, tf.reduce_sum(in_row)), inputs.dtype)
        if self.kind == "first":
            other = tf.pad(mask[:, :-1], [[0, 0], [1, 0]])  # the text of the token before
        else:
            other = tf.pad(mask[:, 1:], [[0, 0], [0, 1]])  # the text of the token after
        return tf.gather_nd(inputs, tf.where(tf.logical_and(mask > 0, tf.not_equal(mask, other))))

    def compute_output_spec(self, inputs, padding_mask):
        """One vector a text."""
        return keras.KerasTensor((inputs.shape[0], inputs.shape[2]), dtype=inputs.dtype)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "kind": self.kind}
