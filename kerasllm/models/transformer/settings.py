"""What makes one transformer differ from another, as plain data; families translate their configs into it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BackboneSettings",
    "DisentangledSettings",
    "EmbeddingSettings",
    "ExpertSettings",
    "HeadSettings",
    "RelativeBiasSettings",
    "RotarySettings",
    "StackSettings",
    "as_settings",
    "from_dict",
    "to_dict",
]


@dataclass(frozen=True)
class RotarySettings:
    """Rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864) and how they are stretched.

    Attributes:
        dim: How many numbers of a head's vectors are rotated.
        theta: Base of the wavelengths.
        kind: `"default"`, `"linear"`, `"dynamic"`, `"yarn"`, `"longrope"` or `"llama3"`.
        options: What the kind needs, by transformers' names in `rope_parameters`.
        max_positions: `max_position_embeddings` of the config.
    """

    dim: int
    theta: float = 10_000.0
    kind: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    max_positions: int = 2048


@dataclass(frozen=True)
class RelativeBiasSettings:
    """T5's bias on attention scores by distance (Raffel et al., 2020, https://arxiv.org/abs/1910.10683).

    Attributes:
        num_buckets: Number of distances told apart.
        max_distance: Distances from here on share a bucket.
    """

    num_buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True)
class DisentangledSettings:
    """DeBERTa's attention to content and distance (He et al., 2021, https://arxiv.org/abs/2006.03654).

    Attributes:
        num_buckets: `position_buckets`; 0 or less for one bucket a distance.
        max_distance: `max_relative_positions`.
        content_to_position, position_to_content: Which of the two terms there are.
        share_key: Whether content and distance share their projections.
        normalize: Whether the embeddings of the distances pass a layer normalization.
    """

    num_buckets: int
    max_distance: int
    content_to_position: bool = True
    position_to_content: bool = True
    share_key: bool = True
    normalize: bool = True

    @property
    def span(self) -> int:
        """Half the number of embeddings."""
        return self.num_buckets if self.num_buckets > 0 else self.max_distance


@dataclass(frozen=True)
class ExpertSettings:
    """A mixture of experts (Jiang et al., 2024, https://arxiv.org/abs/2401.04088).

    Attributes:
        num_experts: Number of feed-forward networks a layer.
        num_per_token: How many of them each token passes.
    """

    num_experts: int
    num_per_token: int


@dataclass(frozen=True)
class StackSettings:
    """A stack of transformer layers.

    Attributes:
        num_layers: Number of layers.
        hidden_dim: Width of the token vectors.
        num_heads, num_key_value_heads, head_dim: Of attention; heads of keys and values are shared by
            groups of query heads.
        intermediate_dim: Width of the feed-forward network.
        activation: A key of `activations.ACTIVATIONS`.
        norm: `"layer"` or `"rms"`.
        norm_epsilon: Of every normalization.
        norm_offset: Added to the stored scales, 1 where a checkpoint stores them around 0.
        norm_scaled: Whether normalizations have weights at all.
        norm_place: `"pre"` or `"post"` of attention and feed-forward, `"both"`, or `"parallel"`: attention
            and feed-forward see the same token vectors, each through a norm of its own.
        gated: Whether the feed-forward network is a gated one (Shazeer, 2020, https://arxiv.org/abs/2002.05202).
        query_key_value_bias, output_bias, feed_forward_bias: Which dense layers have a bias.
        query_key_norm: Whether queries and keys are normalized, head by head.
        attention_scale: Factor of the scores.
        scale_by_layer: Whether layer `i` divides its scores by `i + 1` in addition.
        softcap: Scores are squashed to this range by tanh; `None` for not at all.
        causal: Whether a token sees only itself and those before.
        cross_attention: Whether the layers see an encoder's output.
        windows: Of each layer, how many tokens back it sees, itself included; `None` for all. Empty: all.
        rotary: Rotary positions of layers without a window, or of all where `local_rotary` is `None`.
        local_rotary: Rotary positions of layers with a window.
        without_rotary: Layers that have no positions at all.
        relative_bias, disentangled, experts: See there; `None` for without.
        shared_layers: Of each layer, whose weights it has. Empty: its own.
        dropout, attention_dropout, activation_dropout: Rates for what attention and feed-forward add, for
            attention probabilities, and inside the feed-forward network.
    """

    num_layers: int
    hidden_dim: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_dim: int
    activation: str = "gelu"
    norm: str = "layer"
    norm_epsilon: float = 1e-5
    norm_offset: float = 0.0
    norm_scaled: bool = True
    norm_place: str = "pre"
    gated: bool = False
    query_key_value_bias: bool = True
    output_bias: bool = True
    feed_forward_bias: bool = True
    query_key_norm: bool = False
    attention_scale: float = 1.0
    scale_by_layer: bool = False
    softcap: float | None = None
    causal: bool = False
    cross_attention: bool = False
    windows: tuple[int | None, ...] = ()
    rotary: RotarySettings | None = None
    local_rotary: RotarySettings | None = None
    without_rotary: tuple[int, ...] = ()
    relative_bias: RelativeBiasSettings | None = None
    disentangled: DisentangledSettings | None = None
    experts: ExpertSettings | None = None
    shared_layers: tuple[int, ...] = ()
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0

    def window(self, layer: int) -> int | None:
        """How many tokens back a layer sees, `None` for all."""
        return self.windows[layer] if self.windows else None

    def owner(self, layer: int) -> int:
        """The layer whose weights a layer has."""
        return self.shared_layers[layer] if self.shared_layers else layer

    @property
    def own_layers(self) -> list[int]:
        """The layers that have weights of their own."""
        return [layer for layer in range(self.num_layers) if self.owner(layer) == layer]


@dataclass(frozen=True)
class EmbeddingSettings:
    """What turns token ids into the first token vectors.

    Attributes:
        vocabulary_size: Number of tokens.
        dim: Width of the embeddings; where it is not that of the stack, a dense layer comes after.
        projection_bias: Whether that dense layer has a bias.
        num_positions: Number of position embeddings, those of `position_offset` included; 0 for none.
        position_offset: Number of the first position.
        positions_from: `"place"`, a token's place in its row; `"mask"`, the number of tokens before it that
            the padding mask keeps; or `"ids"`, of those that are not `padding_id`.
        padding_id: For `positions_from="ids"`.
        positions_late: Whether positions are added after the dense layer and not before it.
        norm_late: Whether the normalization comes after the dense layer and not before it.
        num_segments: Number of segment embeddings; 0 for none.
        scale: Factor of the token embeddings.
        norm: Whether a normalization comes after.
        norm_epsilon: Its epsilon.
        hide_padding: Whether the vectors of padding are set to 0.
        dropout: Rate for the vectors.
    """

    vocabulary_size: int
    dim: int
    projection_bias: bool = True
    num_positions: int = 0
    position_offset: int = 0
    positions_from: str = "place"
    padding_id: int = 0
    positions_late: bool = False
    norm_late: bool = False
    num_segments: int = 0
    scale: float = 1.0
    norm: bool = False
    norm_epsilon: float = 1e-5
    hide_padding: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class BackboneSettings:
    """A whole backbone.

    Attributes:
        embedding: Of the encoder, or of the decoder where there is no encoder.
        encoder: `None` in a model that only decodes.
        decoder: `None` in a model that only encodes.
        decoder_embedding: Of the decoder of an encoder-decoder; token embeddings are shared with the
            encoder. `None` for settings like those of the encoder.
        final_norm: Whether each stack ends in a normalization.
        final_dropout: Rate for what each stack gives.
        output_dim: Width of what leaves the decoder, where a dense layer without a bias changes it.
        pooler: `None`, or the activation of the dense layer on the first token.
        pooler_dim: Its width.
        first_only: Whether the last layer answers for the first token alone, so that the output is
            `(batch, 1, dim)`: all that some heads look at. See `can_answer_first`.
        initializer_range: Standard deviation of a new pooler's weights.
    """

    embedding: EmbeddingSettings
    encoder: StackSettings | None = None
    decoder: StackSettings | None = None
    decoder_embedding: EmbeddingSettings | None = None
    final_norm: bool = False
    final_dropout: float = 0.0
    output_dim: int | None = None
    pooler: str | None = None
    pooler_dim: int = 0
    first_only: bool = False
    initializer_range: float = 0.02

    @property
    def can_answer_first(self) -> bool:
        """Whether `first_only` is possible."""
        stack = self.stack
        positions = (stack.rotary, stack.relative_bias, stack.disentangled)
        return self.decoder is None and stack.norm_place == "post" and positions == (None,) * 3

    @property
    def stack(self) -> StackSettings:
        """The stack that the output comes from."""
        stack = self.decoder or self.encoder
        if stack is None:
            raise ValueError("A backbone needs an encoder or a decoder.")
        return stack

    @property
    def hidden_dim(self) -> int:
        """Width of the output."""
        return self.output_dim or self.stack.hidden_dim


@dataclass(frozen=True)
class HeadSettings:
    """What stands on a backbone: pooling, a dense layer and a norm where the head has them, and the output.

    Attributes:
        units: Width of the output.
        pool: `"pooled"` (the backbone's pooler), `"first"` (token), `"mean"`, `"last"` (token that is not
            padding), `"end"` (the decoder's vector where the encoder's last token is), or `"none"`: an
            output for each token.
        dim: Width of the dense layer before the output; 0 for none.
        activation: Of that dense layer, a key of `activations.ACTIVATIONS`.
        norm_epsilon: Of the layer normalization after it; `None` for none.
        bias: Whether the output has a bias.
        tied: Whether its matrix is that of the token embeddings.
        scale: Factor of the token vectors before the output.
        softcap: The output is squashed to this range by tanh; `None` for not at all.
        dropout_before, dropout: Rates for the vectors that come in and for those before the output.
    """

    units: int
    pool: str = "none"
    dim: int = 0
    activation: str = "tanh"
    norm_epsilon: float | None = None
    bias: bool = True
    tied: bool = False
    scale: float = 1.0
    softcap: float | None = None
    dropout_before: float = 0.0
    dropout: float = 0.0


_NESTED = {
    "embedding": EmbeddingSettings,
    "decoder_embedding": EmbeddingSettings,
    "encoder": StackSettings,
    "decoder": StackSettings,
    "rotary": RotarySettings,
    "local_rotary": RotarySettings,
    "relative_bias": RelativeBiasSettings,
    "disentangled": DisentangledSettings,
    "experts": ExpertSettings,
}


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as JSON-able data."""
    return dataclasses.asdict(settings)


def from_dict(data: Mapping[str, Any], kind: type = BackboneSettings) -> Any:
    """Settings from what `to_dict` gave, also after a way through JSON."""
    values = {}
    for name, value in data.items():
        if name in _NESTED and value is not None:
            value = from_dict(value, _NESTED[name])
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def as_settings(value: Any, kind: type) -> Any:
    """Settings as they are, or from what `to_dict` gave."""
    return value if isinstance(value, kind) else from_dict(value, kind)
