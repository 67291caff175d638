"""Forward passes for inference: the same numbers as the model that was trained, and nothing that inference
does not need.

The layers of our backbones are written as products of matrices of tokens, so that TensorFlow's CPU runtime
makes one op of product, bias and exact GELU, on a server too. Export compares what comes out with the Keras
model before anything is published.
"""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.models.twins import inference_twin, to_dtype

if TYPE_CHECKING:
    import keras

__all__ = ["DTYPES", "HeadForward", "KerasForward", "make_forward"]

DTYPES = ("float32", "bfloat16", "float16")


def make_forward(model: "keras.Model", dtype: str) -> "HeadForward | KerasForward":
    """Chooses the fastest forward pass that is known for a classifier.

    Args:
        model: Keras model that takes `token_ids`, `padding_mask` and `segment_ids` and returns logits.
        dtype: Precision of weights and computation.

    Returns:
        A callable `(token_ids, lengths, segment_ids) -> float32 logits` with the `variables` that it uses.
        Where they have the precision already they are the model's own: training it on changes the answers.

    Raises:
        ExportError: If the precision is unknown.
    """
    from kerasllm.models.heads import ModelWithHead

    if dtype not in DTYPES:
        raise ExportError(f"The weights cannot be exported as {dtype!r}; choose one of {list(DTYPES)}.")
    if isinstance(model, ModelWithHead):
        return HeadForward(model, dtype)
    return KerasForward(model, dtype)


class KerasForward:
    """Any Keras model, as it is.

    Args:
        model: The model; rebuilt where its precision is another.
        dtype: Precision of weights and computation.
    """

    max_sequence_length: int | None = None

    def __init__(self, model: "keras.Model", dtype: str):
        self.model = to_dtype(model, dtype)
        self.variables = [weight.value for weight in self.model.weights]

    def __call__(self, token_ids: tf.Tensor, lengths: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        """Logits of padded token ids `int32[batch, sequence]`, of which `lengths` are real."""
        inputs = {
            "token_ids": token_ids,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(token_ids)[1], tf.int32),
            "segment_ids": segment_ids,
        }
        return tf.cast(self.model(inputs, training=False), tf.float32)


class HeadForward:
    """A backbone of ours and its head.

    Additions, normalization, softmax and the head are float32 in every precision; the matrix
    products, where the time goes, are in the precision asked for. Where the head sees the first token only,
    so does the last layer.

    Args:
        model: `kerasllm.models.heads.ModelWithHead`.
        dtype: Precision of the backbone's matrices and of the products with them.
    """

    def __init__(self, model: Any, dtype: str):
        self.model = inference_twin(model, dtype)
        self.variables = [weight.value for weight in self.model.weights]
        embedding = model.backbone.settings.embedding
        limit = embedding.num_positions - embedding.position_offset
        self.max_sequence_length: int | None = limit if embedding.num_positions else None

    def __call__(self, token_ids: tf.Tensor, lengths: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        """Logits of padded token ids `int32[batch, sequence]`, of which `lengths` are real."""
        inputs = {
            "token_ids": token_ids,
            "padding_mask": tf.sequence_mask(lengths, tf.shape(token_ids)[1], tf.int32),
            "segment_ids": segment_ids,
        }
        return self.model({name: inputs[name] for name in self.model.input}, training=False)
