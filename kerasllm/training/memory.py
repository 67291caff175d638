"""How much memory training will take, before the run, and what to do where there is too little."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.models.transformer.layer import TransformerLayer
from kerasllm.training.activations import Activations, count_activations

__all__ = ["MemoryEstimate", "estimate_memory", "in_gib"]

_MIB = 2**20
# What benchmarks/memory.py finds beside all that is counted: threads, kernels, scratch space and holes in the
# heap, and with each layer's part of the graph, which is there in several states of optimization.
_RUNTIME = 150 * _MIB
_GRAPH_OF_A_LAYER = 16 * _MIB
# Logits of one token are there as such, as probabilities, and as their gradient.
_COPIES_OF_LOGITS = 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes at its peak, beside TensorFlow itself.

    Attributes:
        weights: Of the model, trained or not.
        optimizer: Moments, averages, and sums of gradients where several micro-batches make a step.
        gradients: Of the trained weights.
        activations: Results of the forward pass that its gradient needs.
        logits: Over a vocabulary; 0 where there are few classes.
        runtime: Graph, threads and scratch space.
    """

    weights: int
    optimizer: int
    gradients: int
    activations: int
    logits: int
    runtime: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.runtime + self.in_a_step

    @property
    def in_a_step(self) -> int:
        """What a step takes beside what is there between two steps.

        When all gradients are there the activations are gone, but clipping makes the gradients once more:
        the larger of the two counts.
        """
        return max(self.activations + self.logits, self.gradients) + self.gradients

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "gradients": self.gradients,
            "activations": self.activations,
            "logits": self.logits,
        }
        listed = " · ".join(f"{name} {in_gib(size)}" for name, size in parts.items() if size >= _MIB)
        return f"about {in_gib(self.total)} beside TensorFlow" + (f" ({listed})" if listed else "")


def in_gib(num_bytes: float) -> str:
    """Bytes for reading, such as `1.4 GiB`."""
    return f"{num_bytes / 2**30:.1f} GiB"


def estimate_memory(
    model: keras.Model,
    *,
    batch_size: int,
    width: int,
    targets: int | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    accumulate: int = 1,
    logits_at_once: int | None = None,
    recompute: bool | None = None,
    known: dict[Any, Any] | None = None,
) -> MemoryEstimate:
    """Estimates the peak of the memory of training on batches of one shape, without computing anything.

    Weights, gradients and the optimizer's state are known exactly. Activations are counted in the graph of
    each kind of layer (see `count_activations`); with gradient checkpointing, a layer keeps its input only,
    and one layer at a time has the rest.

    Args:
        model: What is trained; what is frozen must be so already.
        batch_size: Texts of a micro-batch.
        width: Tokens of each, padding included.
        targets: Tokens that a decoder behind an encoder reads. Defaults to `None`, as many as the encoder.
        optimizer: Built for the model. Defaults to `None`, that of the model, or AdamW where it has none.
        accumulate: Micro-batches of a step. Defaults to 1.
        logits_at_once: Tokens whose logits over a vocabulary are there at the same time. Defaults to `None`,
            all of a batch; the chunked cross-entropy has fewer.
        recompute: Whether layers are recomputed. Defaults to `None`, as the layers are set.
        known: What was counted before for the same model; more is added. Defaults to `None`, nothing.

    Returns:
        The estimate.
    """
    trained = _num_bytes(model.trainable_variables, least=4)
    optimizer = optimizer or getattr(model, "optimizer", None)
    state = 2 * trained if optimizer is None or not optimizer.built else _num_bytes(optimizer.variables)
    backbone = getattr(model, "backbone", model)
    shape = _Shape(batch_size, width, targets or width, recompute)
    layers, activations = _backbone_activations(backbone, shape, {} if known is None else known)
    return MemoryEstimate(
        weights=_num_bytes(model.variables),
        optimizer=state + (trained if accumulate > 1 else 0),
        gradients=trained,
        activations=activations,
        logits=_logits(model, shape, logits_at_once),
        runtime=_RUNTIME + layers * _GRAPH_OF_A_LAYER,
    )


@dataclass(frozen=True)
class _Shape:
    batch: int
    width: int
    targets: int
    recompute: bool | None

    def of(self, stack: str, backbone: Any) -> "_Shape":
        """The shape that a stack sees."""
        behind = stack == "decoder" and backbone.settings.encoder is not None
        return replace(self, width=self.targets) if behind else self


def _num_bytes(variables: Any, least: int = 1) -> int:
    return sum(int(np.prod(v.shape)) * max(tf.as_dtype(v.dtype).size, least) for v in variables)


def _trained(layer: Any) -> list[Any]:
    """Its trained variables; `trainable_variables` of a frozen layer leaves out adapters inside it."""
    return [variable for variable in layer.variables if variable.trainable]


def _logits(model: Any, shape: _Shape, at_once: int | None) -> int:
    head = getattr(model, "head", None)
    if head is None or head.settings.pool != "none":
        return 0
    tokens = shape.batch * shape.of("decoder", model.backbone).width
    return _COPIES_OF_LOGITS * 4 * head.settings.units * min(tokens, at_once or tokens)


def _backbone_activations(backbone: Any, shape: _Shape, known: dict[Any, Any]) -> tuple[int, int]:
    """Number of layers, and bytes of activations at the worst moment."""
    kept = num_layers = 0
    widest = 0  # of what is there only while one layer is computed
    learning = bool(_trained(backbone.token_embedding))
    for name in ("encoder", "decoder"):
        if getattr(backbone.settings, name) is None:
            continue
        stack = _Stack(backbone, name, shape.of(name, backbone), shape.width, known)
        parts = stack.parts(learning)
        kept += sum(part.kept for part in parts)
        widest = max([widest, *(part.passing for part in parts)])
        num_layers += len(parts) - 1
        learning = learning or stack.learns
    return num_layers, kept + widest


class _Stack:
    """The activations of an encoder or a decoder."""

    def __init__(self, backbone: Any, name: str, shape: _Shape, others: int, known: dict[Any, Any]):
        self.backbone, self.name, self.shape, self.others = backbone, name, shape, others
        self.settings = getattr(backbone.settings, name)
        self.layers = backbone.stack_layers(name)
        self.dtype = self.layers[0].compute_dtype
        self._known = known

    @property
    def learns(self) -> bool:
        return any(_trained(layer) for layer in self.layers)

    def parts(self, learning: bool) -> list[Activations]:
        """Of the embeddings and of each layer; nothing is kept below the lowest one that learns."""
        embeddings = self.backbone.get_layer(f"{self.name}_embeddings")
        parts = [self._count(embeddings, self._embedding_arguments(embeddings), {}, learning)]
        learning = learning or bool(_trained(embeddings))
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            options = {"first_only": self.backbone.settings.first_only and last}
            parts.append(self._of_layer(layer, options, learning))
            learning = learning or bool(_trained(layer))
        return parts

    def _of_layer(self, layer: TransformerLayer, options: Any, learning: bool) -> Activations:
        recompute, asked = layer.recompute, self.shape.recompute
        layer.recompute = False  # counts what one computation keeps
        try:
            counted = self._count(layer, self._layer_arguments(), options, learning)
        finally:
            layer.recompute = recompute
        if not (recompute if asked is None else asked) or not counted.kept:
            return counted
        hidden = self._vectors(self.settings.hidden_dim)
        inputs = int(np.prod(hidden.shape)) * hidden.dtype.size
        return Activations(inputs, counted.kept + counted.passing - inputs)

    def _count(self, layer: Any, arguments: Any, options: Any, learning: bool) -> Activations:
        variables = [variable.value for variable in _trained(layer)]
        shapes = tuple(str(variable.shape) for variable in variables)
        key = (type(layer), self.name, str(options), learning, shapes, self.shape.width, self.others)
        if key not in self._known:

            def call(*tensors: Any) -> Any:
                return layer(*tensors, **options, training=True)

            counted = count_activations(
                call,
                arguments,
                variables,
                learn_input=learning,
                unknown=self._tokens_of_an_expert(),
            )
            self._known[key] = (self.shape.batch, counted)
        batch, counted = self._known[key]
        share = self.shape.batch / batch  # what does not grow with the batch is small
        return Activations(round(counted.kept * share), round(counted.passing * share))

    def _tokens_of_an_expert(self) -> int:
        experts = self.settings.experts
        tokens = self.shape.batch * self.shape.width
        return 1 if experts is None else tokens * experts.num_per_token // experts.num_experts

    def _vectors(self, dim: int, dtype: Any = None, width: int | None = None) -> tf.TensorSpec:
        return tf.TensorSpec((self.shape.batch, width or self.shape.width, dim), dtype or self.dtype)

    def _embedding_arguments(self, embeddings: Any) -> list[Any]:
        ids = tf.TensorSpec((self.shape.batch, self.shape.width), tf.int32)
        segments = [ids] if embeddings.settings.num_segments else []
        return [self._vectors(embeddings.settings.dim), ids, ids, *segments]

    def _layer_arguments(self) -> list[Any]:
        """Inputs, bias, rotary, distances, memory and its bias, as `TransformerLayer` takes them."""
        settings, shape = self.settings, self.shape
        square = settings.causal or any(settings.windows) or settings.disentangled is not None
        rows = shape.width if square or settings.relative_bias is not None else 1
        heads = 1 if settings.relative_bias is None else settings.num_heads
        rotary = distances = memory = memory_bias = None
        if settings.rotary is not None:
            rotary = (self._vectors(settings.rotary.dim // 2, tf.float32),) * 2
        if settings.disentangled is not None:
            vectors = tf.TensorSpec((2 * settings.disentangled.span, settings.hidden_dim), self.dtype)
            distances = (vectors, tf.TensorSpec((shape.width, shape.width), tf.int32))
        if settings.cross_attention:
            memory = self._vectors(settings.hidden_dim, width=self.others)
            memory_bias = tf.TensorSpec((shape.batch, 1, 1, self.others), tf.float32)
        bias = tf.TensorSpec((shape.batch, heads, rows, shape.width), tf.float32)
        return [self._vectors(settings.hidden_dim), bias, rotary, distances, memory, memory_bias]
