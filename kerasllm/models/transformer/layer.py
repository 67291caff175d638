"""One transformer layer: attention, cross-attention where there is an encoder, feed-forward."""

from functools import partial
from typing import Any

import keras

from kerasllm.models.transformer.attention import Attention
from kerasllm.models.transformer.disentangled import DisentangledAttention
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.feed_forward import Experts, FeedForward
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.recomputation import recomputed
from kerasllm.models.transformer.settings import StackSettings, as_settings, to_dict

__all__ = ["TransformerLayer"]


@keras.saving.register_keras_serializable(package="kerasllm")
class TransformerLayer(keras.layers.Layer):
    """A layer of a stack.

    Args:
        settings: `StackSettings`, or `to_dict` of it.
        layer: Number of the layer in its stack. Defaults to `0`.

    Call arguments:
        inputs: Token vectors `(batch, sequence, dim)`.
        bias: What is added to the scores of attention.
        rotary: Cosines and sines of the positions, or `None`.
        distances: What `DistanceEmbeddings` gave, or `None`.
        memory: Output of the encoder, where there is one.
        memory_bias: What is added to the scores of cross-attention.
        first_only: Whether it answers for the first token alone, `(batch, 1, dim)`.

    Attributes:
        recompute: Whether training keeps only the inputs for the gradient, and computes the layer once more
            there. It belongs to a run, not to the model, so it is neither saved nor copied; it is read when
            the training function is traced.
    """

    def __init__(self, settings, layer=0, **kwargs):
        # Masks and rotary positions stay in float32, whatever the precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.settings = settings = as_settings(settings, StackSettings)
        self.layer = layer
        self.recompute = False
        kind = Attention if settings.disentangled is None else DisentangledAttention
        self.attention_norm = Normalization.of(settings, dtype=self.dtype_policy, name="attention_norm")
        self.attention = kind(settings, layer, dtype=self.dtype_policy, name="attention")
        self.cross_attention_norm: Normalization | None = None
        self.cross_attention: Attention | None = None
        if settings.cross_attention:
            self.cross_attention_norm = Normalization.of(
                settings, dtype=self.dtype_policy, name="cross_attention_norm"
            )
            self.cross_attention = Attention(settings, layer, dtype=self.dtype_policy, name="cross_attention")
        network = FeedForward if settings.experts is None else Experts
        self.feed_forward_norm = Normalization.of(settings, dtype=self.dtype_policy, name="feed_forward_norm")
        self.feed_forward = network(settings, dtype=self.dtype_policy, name="feed_forward")
        self.attention_end_norm = self.feed_forward_end_norm = None
        if settings.norm_place == "both":
            self.attention_end_norm = Normalization.of(
                settings, dtype=self.dtype_policy, name="attention_end_norm"
            )
            self.feed_forward_end_norm = Normalization.of(
                settings, dtype=self.dtype_policy, name="feed_forward_end_norm"
            )
        self.dropout = Dropout(settings.dropout, dtype=self.dtype_policy)

    def build(self, *shapes, **named_shapes):
        """Makes the weights."""
        shape = (None, None, self.settings.hidden_dim)
        parts = (
            self.attention_norm,
            self.attention,
            self.attention_end_norm,
            self.cross_attention_norm,
            self.cross_attention,
            self.feed_forward_norm,
            self.feed_forward,
            self.feed_forward_end_norm,
        )
        for part in parts:
            if part is not None:
                part.build(shape)

    def call(
        self,
        inputs,
        bias=None,
        rotary=None,
        distances=None,
        memory=None,
        memory_bias=None,
        first_only=False,
        training=None,
    ):
        """See the class."""
        tensors = (inputs, bias, rotary, distances, memory, memory_bias)
        if self.recompute and training:
            return recomputed(self, partial(self._forward, first_only=first_only, training=True), tensors)
        return self._forward(*tensors, first_only=first_only, training=training)

    def _forward(self, inputs, bias, rotary, distances, memory, memory_bias, *, first_only, training):
        def attend(tokens):
            if first_only:
                return self.attention(tokens, bias, None, inputs, training=training)
            if distances is not None:
                return self.attention(tokens, bias, distances, training=training)
            return self.attention(tokens, bias, rotary, training=training)

        cross_attention: Any = self.cross_attention

        def remember(tokens):
            return cross_attention(tokens, memory_bias, None, memory, training=training)

        def network(tokens):
            return self.feed_forward(tokens, training=training)

        return self.steps(
            inputs[:, :1] if first_only else inputs, attend, remember, network, training=training
        )

    def steps(self, inputs, attend, remember, network, *, training=None):
        """Goes through the layer, with the given functions for its three parts."""
        drop, place = self.dropout, self.settings.norm_place
        if place == "parallel":
            seen = attend(self.attention_norm(inputs))
            thought = network(self.feed_forward_norm(inputs))
            return inputs + drop(seen, training=training) + drop(thought, training=training)
        parts = [(attend, self.attention_norm, self.attention_end_norm)]
        if self.cross_attention is not None:
            parts.append((remember, self.cross_attention_norm, None))
        parts.append((network, self.feed_forward_norm, self.feed_forward_end_norm))
        hidden = inputs
        for part, norm, end_norm in parts:
            if place == "post":
                hidden = norm(hidden + drop(part(hidden), training=training))
                continue
            added = part(norm(hidden))
            hidden = hidden + drop(added if end_norm is None else end_norm(added), training=training)
        return hidden

    def compute_output_spec(self, inputs, *tensors, first_only=False, **named_tensors):
        """Like the input."""
        shape = (inputs.shape[0], 1, inputs.shape[2]) if first_only else inputs.shape
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "settings": to_dict(self.settings), "layer": self.layer}
