"""A backbone: from token ids to token vectors."""

from typing import Any

import keras

from kerasllm.models.transformer.biases import AttentionBias, DistanceEmbeddings, RelativeBias
from kerasllm.models.transformer.dense import Dense, Embedding
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.embeddings import InputEmbeddings, TokenPositions
from kerasllm.models.transformer.layer import TransformerLayer
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.pooling import TextPooling
from kerasllm.models.transformer.rotary import RotaryPositions
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    StackSettings,
    as_settings,
    to_dict,
)

__all__ = ["TransformerBackbone"]


@keras.saving.register_keras_serializable(package="kerasllm")
class TransformerBackbone(keras.Model):
    """An encoder, a decoder, or both, as the settings describe it.

    Args:
        settings: `BackboneSettings`, or `to_dict` of it.
        dtype: Keras dtype policy. Defaults to Keras' own.

    Call arguments:
        inputs: Dict of int32 tensors of shape `(batch, sequence)`: `token_ids`; `padding_mask`, 1 for tokens
            and 0 for padding, or where texts are packed (`kerasllm.models.packing`) the number of the token's
            text in its row; `segment_ids` where there are segments; and of shape `(batch, targets)`
            `decoder_token_ids` and `decoder_padding_mask` where there are an encoder and a decoder.

    Returns:
        Dict of `sequence_output`, `(batch, sequence, dim)`, of the decoder where there is one, and
        `pooled_output`, `(batch, pooler_dim)`, where there is a pooler; `(texts, pooler_dim)` where texts are
        packed.
    """

    def __init__(self, settings, *, dtype=None, **kwargs):
        settings = as_settings(settings, BackboneSettings)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in _inputs(settings)}

        # === Layers and functional model ===
        token_embedding = Embedding(
            settings.embedding.vocabulary_size, settings.embedding.dim, dtype=policy, name="token_embedding"
        )
        make = _StackMaker(settings, token_embedding, policy)
        hidden: Any = None
        memory: Any = None
        if settings.encoder is not None:
            hidden = make.stack("encoder", settings.encoder, settings.embedding, inputs)
        if settings.decoder is not None:
            embedding = settings.decoder_embedding or settings.embedding
            memory = None if hidden is None else (hidden, inputs["padding_mask"])
            hidden = make.stack("decoder", settings.decoder, embedding, inputs, memory)
        if settings.output_dim is not None:
            hidden = Dense(settings.output_dim, use_bias=False, dtype=policy, name="output_projection")(
                hidden
            )
        outputs = {"sequence_output": hidden}
        if settings.pooler is not None:
            deviation = settings.initializer_range
            pooler = Dense(
                settings.pooler_dim, settings.pooler, initializer_range=deviation, dtype=policy, name="pooler"
            )
            first = TextPooling("first", name="first_tokens")(hidden, inputs["padding_mask"])
            outputs["pooled_output"] = pooler(first)
        super().__init__(inputs, outputs, **kwargs)

        # === Config ===
        self.settings = settings
        self.token_embedding = token_embedding
        self.dtype_policy = policy

    def stack_layers(self, stack: str) -> list[TransformerLayer]:
        """The layers of `"encoder"` or `"decoder"`, in order; shared ones several times."""
        settings = getattr(self.settings, stack)
        return [self.get_layer(f"{stack}_layer_{settings.owner(i)}") for i in range(settings.num_layers)]

    def recompute_layers(self, recompute: bool = True) -> None:
        """Switches gradient checkpointing on or off, before the training function is traced.

        A layer then keeps only its inputs for the gradient: less memory, for one more forward pass.

        Args:
            recompute: Whether layers are computed once more for their gradient. Defaults to `True`.
        """
        for stack in ("encoder", "decoder"):
            if getattr(self.settings, stack) is not None:
                for layer in self.stack_layers(stack):
                    layer.recompute = recompute

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            "settings": to_dict(self.settings),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the architecture, with new weights."""
        config = dict(config)
        trainable = config.pop("trainable", True)
        model = cls(**config)
        model.trainable = trainable
        return model


def _inputs(settings: BackboneSettings) -> list[str]:
    names = ["token_ids", "padding_mask"]
    if settings.embedding.num_segments:
        names.append("segment_ids")
    if settings.encoder is not None and settings.decoder is not None:
        names += ["decoder_token_ids", "decoder_padding_mask"]
    return names


class _StackMaker:
    """Makes the layers of a backbone and calls them."""

    def __init__(self, settings: BackboneSettings, token_embedding: Any, policy: Any):
        self.settings = settings
        self.token_embedding = token_embedding
        self.policy = policy

    def stack(
        self, name: str, stack: StackSettings, embedding: EmbeddingSettings, inputs: Any, memory: Any = None
    ) -> Any:
        prefix = "" if memory is None else "decoder_"
        ids, mask = inputs[f"{prefix}token_ids"], inputs[f"{prefix}padding_mask"]
        source = TokenPositions(embedding.positions_from, embedding.padding_id, name=f"{name}_positions")
        positions = source(ids, mask)
        embed = InputEmbeddings(
            embedding, stack.hidden_dim, stack.norm, dtype=self.policy, name=f"{name}_embeddings"
        )
        segments = {"segment_ids": inputs["segment_ids"]} if embedding.num_segments else {}
        hidden = embed(self.token_embedding(ids), positions, mask, **segments)
        biases, rotary = self._biases(name, stack, ids, mask), self._rotary(name, stack, positions)
        options = {}
        if stack.disentangled is not None:
            options["distances"] = DistanceEmbeddings(stack, dtype=self.policy, name=f"{name}_distances")(ids)
        if memory is not None:
            options["memory"] = memory[0]
            options["memory_bias"] = AttentionBias(name=f"{name}_memory_bias")(memory[1])
        own = {
            layer: TransformerLayer(stack, layer, dtype=self.policy, name=f"{name}_layer_{layer}")
            for layer in stack.own_layers
        }
        for number in range(stack.num_layers):
            window = stack.window(number)
            turned = None if number in stack.without_rotary else rotary[window is not None]
            layer = own[stack.owner(number)]
            if self.settings.first_only and number == stack.num_layers - 1:
                options["first_only"] = True
            hidden = layer(hidden, bias=biases[window], rotary=turned, **options)
        return self._finish(name, stack, hidden)

    def _biases(self, name: str, stack: StackSettings, ids: Any, mask: Any) -> dict[int | None, Any]:
        """What each kind of layer adds to its scores, by its window."""
        relative = None
        if stack.relative_bias is not None:
            relative = RelativeBias(
                stack.num_heads,
                stack.causal,
                stack.relative_bias,
                dtype=self.policy,
                name=f"{name}_relative_bias",
            )(ids)
        biases = {}
        for window in dict.fromkeys(stack.window(layer) for layer in range(stack.num_layers)):
            suffix = "" if window is None else f"_{window}"
            blind = stack.disentangled is not None
            bias = AttentionBias(stack.causal, window, blind, name=f"{name}_bias{suffix}")(mask)
            biases[window] = bias if relative is None else bias + relative
        return biases

    def _rotary(self, name: str, stack: StackSettings, positions: Any) -> dict[bool, Any]:
        """Cosines and sines of layers without and with a window."""
        if stack.rotary is None:
            return {False: None, True: None}
        plain = RotaryPositions(stack.rotary, name=f"{name}_rotary")(positions)
        local = plain
        if stack.local_rotary is not None:
            local = RotaryPositions(stack.local_rotary, name=f"{name}_local_rotary")(positions)
        return {False: plain, True: local}

    def _finish(self, name: str, stack: StackSettings, hidden: Any) -> Any:
        if self.settings.final_norm:
            hidden = Normalization.of(stack, dtype=self.policy, name=f"{name}_norm")(hidden)
        if self.settings.final_dropout:
            rate = self.settings.final_dropout
            hidden = Dropout(rate, dtype=self.policy, name=f"{name}_dropout")(hidden)
        return hidden
