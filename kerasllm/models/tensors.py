"""Moves values between the tensors of a checkpoint and the variables of a Keras model.

A family lists its tensors once, as `TensorSpec`s; loading reads the list in one direction and
saving in the other, so that the two cannot disagree.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kerasllm.errors import PresetError

if TYPE_CHECKING:
    import keras

__all__ = ["Part", "TensorSpec", "assign_tensors", "check_shapes", "extract_tensors", "join_parts"]


@dataclass(frozen=True)
class Part:
    """Which part of a tensor belongs to a variable, where a checkpoint keeps several in one.

    Attributes:
        dims: The tensor's shape, its axes split further where needed.
        axis: Of `dims`, the axis along which the parts lie.
        start, stop: Where on that axis this part lies.
    """

    dims: tuple[int, ...]
    axis: int
    start: int
    stop: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """This part of a tensor's values, with `dims` axes."""
        view = values.reshape(self.dims)
        return view[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint and the Keras variable that holds it, or a part of it.

    Attributes:
        name: The tensor's name in the checkpoint, in today's spelling.
        shape: Its shape in the checkpoint.
        path: The Keras variable's path in its model.
        transposed: Whether Keras stores a dense kernel the other way round; its
            axes may be split further, e.g. into heads.
        part: Which part of the tensor it is; `None` for all of it.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    transposed: bool = False
    part: Part | None = None

    def to_keras(self, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Turns the checkpoint's values into those of a Keras variable of the given shape."""
        if self.part is not None:
            values = self.part.of(values)
            values = values.reshape(tuple(shape)[::-1] if self.transposed else tuple(shape))
        return (values.T if self.transposed else values).reshape(shape)

    def from_keras(self, values: np.ndarray) -> np.ndarray:
        """Turns a Keras variable's values into those of the checkpoint's tensor, or of its part."""
        if self.part is not None:
            return values.T if self.transposed else values
        values = values.reshape(self.shape[::-1]).T if self.transposed else values.reshape(self.shape)
        return np.ascontiguousarray(values)


def check_shapes(specs: Iterable[TensorSpec], shapes: Mapping[str, tuple[int, ...]], *, source: str) -> None:
    """Compares the shapes in a checkpoint with what its config asks for.

    Args:
        specs: What is asked for.
        shapes: Shapes in the checkpoint, by the names of `specs`; missing ones are passed over.
        source: Names the checkpoint in the message.

    Raises:
        PresetError: If any shape differs; lists them.
    """
    wrong = {
        spec.name: f"`{spec.name}` is {shapes[spec.name]} instead of {spec.shape}"
        for spec in specs
        if spec.name in shapes and shapes[spec.name] != spec.shape
    }
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise PresetError(
            f"The weights of `{source}` do not have the shapes that its `config.json` asks for: "
            f"{'; '.join(list(wrong.values())[:5])}{more}. Config and weights come from different "
            "checkpoints, or one was edited: fetch both again."
        )


def assign_tensors(
    model: "keras.Model", specs: Iterable[TensorSpec], read: Callable[[str], np.ndarray]
) -> None:
    """Fills a Keras model from a checkpoint.

    Args:
        model: Has a variable for each spec.
        specs: Which tensor goes where; several may name one tensor (tied weights).
        read: Gives the values of the tensor of that name.
    """
    variables = {variable.path: variable for variable in model.weights}
    for spec in specs:
        variable = variables[spec.path]
        variable.assign(spec.to_keras(read(spec.name), variable.shape))


def extract_tensors(model: "keras.Model", specs: Iterable[TensorSpec]) -> dict[str, np.ndarray]:
    """Reads a Keras model back into checkpoint tensors, in float32.

    Args:
        model: Has a variable for each spec.
        specs: Which variable becomes which tensor.

    Returns:
        Values by the checkpoint's names.
    """
    variables = {variable.path: variable for variable in model.weights}
    return join_parts((spec, np.asarray(variables[spec.path], np.float32)) for spec in specs)


def join_parts(values: Iterable[tuple[TensorSpec, np.ndarray]]) -> dict[str, np.ndarray]:
    """Tensors of a checkpoint, by name, from the values of variables."""
    tensors: dict[str, np.ndarray] = {}
    for spec, variable in values:
        if spec.part is None:
            tensors[spec.name] = spec.from_keras(variable)
            continue
        whole = tensors.setdefault(spec.name, np.zeros(spec.shape, np.float32))
        part = spec.part.of(whole)
        part[...] = spec.from_keras(variable).reshape(part.shape)
    return tensors
