"""KerasHub's BERT encoder, made to compute what a checkpoint's config says."""

import keras
import keras_hub


@keras.saving.register_keras_serializable(package="kerasllm")
def gelu_tanh(x):
    """GELU by its tanh approximation, which some checkpoints were trained with."""
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": keras.activations.gelu,  # exact, by erf: Keras' default
    "gelu_tanh": gelu_tanh,
    "relu": keras.activations.relu,
    "sigmoid": keras.activations.sigmoid,
    "silu": keras.activations.silu,
    "tanh": keras.activations.tanh,
}


@keras.saving.register_keras_serializable(package="kerasllm")
class BertBackbone(keras_hub.models.BertBackbone):
    """A BERT encoder whose activation, epsilon and attention dropout are the checkpoint's.

    KerasHub (0.32) hard-codes tanh GELU and an epsilon of 1e-12, has one dropout rate for
    everything, and takes the softmax over attention scores in the compute type, where
    float16 and bfloat16 lose digits. The layers are KerasHub's and so are the weights'
    names; only those settings of theirs are changed, after they are built.

    Args:
        vocabulary_size, num_layers, num_heads, hidden_dim, intermediate_dim,
            max_sequence_length, num_segments: As in `keras_hub.models.BertBackbone`.
        dropout: Rate for hidden states. Defaults to `0.1`.
        attention_dropout: Rate for attention probabilities. Defaults to `None`, the
            same as `dropout`.
        activation: A key of `ACTIVATIONS`. Defaults to `"gelu"`.
        layer_norm_epsilon: Epsilon of every layer normalization. Defaults to `1e-12`.

    Call arguments:
        inputs: Dict of `token_ids`, `segment_ids` and `padding_mask`, each int32 of
            shape `(batch, sequence)`; the mask is 1 for tokens and 0 for padding.

    Example:
    >>> backbone = BertBackbone(
    ...     vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8
    ... )
    >>> sorted(backbone.output)
    ['pooled_output', 'sequence_output']
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers,
        num_heads,
        hidden_dim,
        intermediate_dim,
        dropout=0.1,
        max_sequence_length=512,
        num_segments=2,
        dtype=None,
        *,
        attention_dropout=None,
        activation="gelu",
        layer_norm_epsilon=1e-12,
        **kwargs,
    ):
        attention_dropout = dropout if attention_dropout is None else attention_dropout
        super().__init__(
            vocabulary_size,
            num_layers,
            num_heads,
            hidden_dim,
            intermediate_dim,
            # A dropout layer built with rate 0 has no random state and could not be turned on.
            dropout=max(dropout, attention_dropout),
            max_sequence_length=max_sequence_length,
            num_segments=num_segments,
            dtype=dtype,
            **kwargs,
        )
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon

        self.embeddings_layer_norm.epsilon = layer_norm_epsilon
        self.embeddings_dropout.rate = dropout
        for layer in self.transformer_layers:
            self._set_layer(layer)

    def _set_layer(self, layer):
        activation = ACTIVATIONS[self.activation]
        layer.activation = activation
        layer._feedforward_intermediate_dense.activation = activation

        layer.layer_norm_epsilon = self.layer_norm_epsilon
        layer._self_attention_layer_norm.epsilon = self.layer_norm_epsilon
        layer._feedforward_layer_norm.epsilon = self.layer_norm_epsilon

        layer.dropout = self.dropout
        layer._self_attention_dropout.rate = self.dropout
        layer._feedforward_dropout.rate = self.dropout
        attention = layer._self_attention_layer
        attention._dropout = self.attention_dropout
        attention._dropout_layer.rate = self.attention_dropout
        attention._softmax.dtype_policy = keras.DTypePolicy("float32")

    def get_config(self):
        """Everything that `from_config` needs to compute the same."""
        return {
            **super().get_config(),
            "attention_dropout": self.attention_dropout,
            "activation": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }
