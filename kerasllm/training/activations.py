"""How much memory a layer's activations take until its gradient, counted in the graph that is really run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["Activations", "count_activations"]

# These give what they got: no bytes of their own.
_SAME = {"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "IdentityN", "PreventGradient"}
_SAME |= {"EnsureShape", "CheckNumerics"}
# What they give was there before: arguments of the function, weights, constants.
_GIVEN = {"Placeholder", "ReadVariableOp", "Const", "VarHandleOp"}


@dataclass(frozen=True)
class Activations:
    """Bytes of one layer, its weights and their gradients aside.

    Attributes:
        kept: What stays from the forward pass until the gradient, the layer's input included.
        passing: Most that is there beside `kept` at any moment, forwards or backwards.
    """

    kept: int
    passing: int

    @property
    def most(self) -> int:
        """While the layer itself is being computed."""
        return self.kept + self.passing


def count_activations(
    function: Callable[..., Any],
    arguments: Any,
    variables: Sequence[tf.Variable],
    *,
    learn_input: bool = True,
    unknown: int = 1,
) -> Activations:
    """Traces a function with its gradient, without computing anything, and counts the bytes it keeps.

    A formula for a layer (such as that of Korthikanti et al., 2022, https://arxiv.org/abs/2205.05198) is
    right for one implementation only. Here the graph says which results of the forward pass the gradient
    reads; with frozen weights these are fewer. Results are taken to be there from the op that makes them
    to the last op that reads them, in the order of the graph.

    Args:
        function: Called with `*arguments`; gives a tensor.
        arguments: Nested `tf.TensorSpec` and `None`; every shape fully known.
        variables: Those that are trained.
        learn_input: Whether the gradient of the first argument is wanted. Defaults to `True`.
        unknown: What stands in for a dimension that only the values decide. Defaults to 1.

    Returns:
        The bytes; none at all are kept if there is nothing to learn.
    """
    border: list[int] = []

    def step(*arguments: Any) -> Any:
        # Integers (rows of tables) have no gradient.
        sources = [arguments[0]] if learn_input and arguments[0].dtype.is_floating else []
        with tf.GradientTape() as tape:
            tape.watch(sources)
            result = function(*arguments)
        border.append(len(tf.compat.v1.get_default_graph().get_operations()))
        if not sources and not variables:
            return result
        return [g for g in tape.gradient(result, [*sources, *variables]) if g is not None]

    graph = tf.function(step, autograph=False).get_concrete_function(*arguments).graph
    return _Liveness(graph, border[-1], unknown).count()


class _Liveness:
    """From when to when each result of a graph is needed."""

    def __init__(self, graph: Any, border: int, unknown: int):
        self.unknown = unknown
        needed = _needed(graph.outputs)
        operations = graph.get_operations()
        forward = [op for op in operations[:border] if op in needed]
        self.order = [*forward, *(op for op in operations[border:] if op in needed)]
        self.num_forward = len(forward)
        self.input = graph.inputs[0]
        # Gradients of weights are counted elsewhere: they stay until the optimizer has seen them all.
        self.results = {_source(tensor).ref() for tensor in graph.outputs}
        # Where the shape of a result is not known before, that of its reshaped form often is.
        same = [tensor for op in self.order if op.type in _SAME for tensor in op.outputs]
        self.shapes = {_source(t).ref(): t.shape for t in same if t.shape.is_fully_defined()}

    def count(self) -> Activations:
        last = {_source(t).ref(): place for place, op in enumerate(self.order) for t in op.inputs}
        alive: dict[Any, int] = {}
        kept = now = most = 0
        for place, op in enumerate(self.order):
            for ref in (tensor.ref() for tensor in op.outputs if self._takes_memory(tensor)):
                if ref in last:
                    alive[ref] = self._size(ref.deref())
                    now += alive[ref]
            most = max(most, now)
            for ref in {_source(tensor).ref() for tensor in op.inputs}:
                if last[ref] == place:
                    now -= alive.pop(ref, 0)
            if place == self.num_forward - 1 < len(self.order) - 1:
                kept = now
        return Activations(kept, most - kept)

    def _takes_memory(self, tensor: Any) -> bool:
        if tensor.op.type in _GIVEN:
            return tensor is self.input and tensor.dtype.is_floating
        return tensor.op.type not in _SAME and tensor.ref() not in self.results

    def _size(self, tensor: Any) -> int:
        shape = tensor.shape
        if not shape.is_fully_defined():
            shape = self.shapes.get(tensor.ref(), shape)
        if tensor.dtype in (tf.resource, tf.variant, tf.string) or shape.rank is None:
            return 0
        sizes = [self.unknown if size is None else size for size in shape]
        return int(np.prod(sizes, dtype=np.int64)) * tensor.dtype.size


def _needed(outputs: Sequence[Any]) -> set[Any]:
    """The ops behind the outputs: TensorFlow runs no others."""
    found: set[Any] = set()
    todo = [tensor.op for tensor in outputs]
    while todo:
        op = todo.pop()
        if op not in found:
            found.add(op)
            todo += [tensor.op for tensor in op.inputs]
    return found


def _source(tensor: Any) -> Any:
    """The tensor whose bytes these are."""
    while tensor.op.type in _SAME:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor
