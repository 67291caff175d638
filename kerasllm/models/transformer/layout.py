"""Which weights a backbone and its head have, and in which shapes, without building them.

So a checkpoint is compared with its config, and refused, before TensorFlow is imported. A test holds the
list equal to the weights of the Keras model.
"""

from collections.abc import Iterator

from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["backbone_weights", "head_weights"]

_Weights = Iterator[tuple[str, tuple[int, ...]]]


def backbone_weights(settings: BackboneSettings) -> dict[str, tuple[int, ...]]:
    """Shapes of a backbone's weights by their paths, as `TransformerBackbone` names them.

    >>> stack = StackSettings(1, 8, 2, 2, 4, 16, causal=True)
    >>> backbone_weights(BackboneSettings(EmbeddingSettings(50, 8),
    decoder=stack))["token_embedding/embeddings"] (50, 8)
    """
    return dict(_backbone(settings))


def head_weights(settings: HeadSettings, backbone: BackboneSettings) -> dict[str, tuple[int, ...]]:
    """Shapes of a head's weights by their paths, without a matrix that is that of the token embeddings."""
    return dict(_head(settings, backbone))


def _backbone(settings: BackboneSettings) -> _Weights:
    yield "token_embedding/embeddings", (settings.embedding.vocabulary_size, settings.embedding.dim)
    if settings.encoder is not None:
        yield from _stack("encoder", settings.encoder, settings.embedding, settings.final_norm)
    if settings.decoder is not None:
        embedding = settings.decoder_embedding or settings.embedding
        yield from _stack("decoder", settings.decoder, embedding, settings.final_norm)
    if settings.output_dim is not None:
        yield from _dense("output_projection", settings.stack.hidden_dim, settings.output_dim, bias=False)
    if settings.pooler is not None:
        yield from _dense("pooler", settings.hidden_dim, settings.pooler_dim)


def _head(settings: HeadSettings, backbone: BackboneSettings) -> _Weights:
    dim = backbone.pooler_dim if settings.pool == "pooled" else backbone.hidden_dim
    if settings.dim:
        yield from _dense("head/dense", dim, settings.dim)
        dim = settings.dim
    if settings.norm_epsilon is not None:
        yield from (("head/norm/gamma", (dim,)), ("head/norm/beta", (dim,)))
    if not settings.tied:
        yield "head/output/kernel", (dim, settings.units)
    if settings.bias:
        yield "head/output/bias", (settings.units,)


def _stack(name: str, stack: StackSettings, embedding: EmbeddingSettings, final_norm: bool) -> _Weights:
    yield from _embeddings(f"{name}_embeddings", embedding, stack)
    if stack.relative_bias is not None:
        yield f"{name}_relative_bias/embeddings", (stack.relative_bias.num_buckets, stack.num_heads)
    if stack.disentangled is not None:
        yield f"{name}_distances/embeddings", (2 * stack.disentangled.span, stack.hidden_dim)
        if stack.disentangled.normalize:
            yield from ((f"{name}_distances/norm/{part}", (stack.hidden_dim,)) for part in ("gamma", "beta"))
    for layer in stack.own_layers:
        yield from _layer(f"{name}_layer_{layer}", stack)
    if final_norm:
        yield from _norm(f"{name}_norm", stack, stack.hidden_dim)


def _embeddings(name: str, embedding: EmbeddingSettings, stack: StackSettings) -> _Weights:
    if embedding.num_positions:
        dim = stack.hidden_dim if embedding.positions_late else embedding.dim
        yield f"{name}/positions/embeddings", (embedding.num_positions, dim)
    if embedding.num_segments:
        yield f"{name}/segments/embeddings", (embedding.num_segments, embedding.dim)
    if embedding.dim != stack.hidden_dim:
        yield from _dense(
            f"{name}/projection", embedding.dim, stack.hidden_dim, bias=embedding.projection_bias
        )
    if embedding.norm:
        yield from _norm(f"{name}/norm", stack, stack.hidden_dim if embedding.norm_late else embedding.dim)


def _layer(name: str, stack: StackSettings) -> _Weights:
    ends = stack.norm_place == "both"
    yield from _norm(f"{name}/attention_norm", stack, stack.hidden_dim)
    yield from _attention(f"{name}/attention", stack)
    if ends:
        yield from _norm(f"{name}/attention_end_norm", stack, stack.hidden_dim)
    if stack.cross_attention:
        yield from _norm(f"{name}/cross_attention_norm", stack, stack.hidden_dim)
        yield from _attention(f"{name}/cross_attention", stack, distances=False)
    yield from _norm(f"{name}/feed_forward_norm", stack, stack.hidden_dim)
    if stack.experts is None:
        yield from _feed_forward(f"{name}/feed_forward", stack)
    else:
        yield from _dense(
            f"{name}/feed_forward/router", stack.hidden_dim, stack.experts.num_experts, bias=False
        )
        for expert in range(stack.experts.num_experts):
            yield from _feed_forward(f"{name}/feed_forward/expert_{expert}", stack)
    if ends:
        yield from _norm(f"{name}/feed_forward_end_norm", stack, stack.hidden_dim)


def _attention(name: str, stack: StackSettings, distances: bool = True) -> _Weights:
    dim, bias = stack.hidden_dim, stack.query_key_value_bias
    wide, narrow = stack.num_heads * stack.head_dim, stack.num_key_value_heads * stack.head_dim
    yield from _dense(f"{name}/query", dim, wide, bias=bias)
    yield from _dense(f"{name}/key", dim, narrow, bias=bias)
    yield from _dense(f"{name}/value", dim, narrow, bias=bias)
    yield from _dense(f"{name}/output", wide, dim, bias=stack.output_bias)
    if stack.query_key_norm:
        yield from _norm(f"{name}/query_norm", stack, stack.head_dim)
        yield from _norm(f"{name}/key_norm", stack, stack.head_dim)
    apart = stack.disentangled
    if distances and apart is not None and not apart.share_key:
        if apart.content_to_position:
            yield from _dense(f"{name}/distance_key", dim, wide)
        if apart.position_to_content:
            yield from _dense(f"{name}/distance_query", dim, wide)


def _feed_forward(name: str, stack: StackSettings) -> _Weights:
    for part in ("gate", "up") if stack.gated else ("up",):
        yield from _dense(
            f"{name}/{part}", stack.hidden_dim, stack.intermediate_dim, bias=stack.feed_forward_bias
        )
    yield from _dense(f"{name}/down", stack.intermediate_dim, stack.hidden_dim, bias=stack.feed_forward_bias)


def _dense(name: str, inputs: int, outputs: int, *, bias: bool = True) -> _Weights:
    yield f"{name}/kernel", (inputs, outputs)
    if bias:
        yield f"{name}/bias", (outputs,)


def _norm(name: str, stack: StackSettings, dim: int) -> _Weights:
    if stack.norm_scaled:
        yield f"{name}/gamma", (dim,)
        if stack.norm == "layer":
            yield f"{name}/beta", (dim,)
