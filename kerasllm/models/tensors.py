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


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a checkpoint and the Keras variable that holds it.

    Attributes:
        name: The tensor's name in the checkpoint, in today's spelling.
        shape: Its shape in the checkpoint.
        path: The Keras variable's path in its model.
        transposed: Whether Keras stores a dense kernel the other way round; its
            axes may be split further, e.g. into heads.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    transposed: bool = False

    def to_keras(self, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Turns the checkpoint's values into those of a Keras variable of the given shape."""
        return (values.T if self.transposed else values).reshape(shape)

    def from_keras(self, values: np.ndarray) -> np.ndarray:
        """Turns a Keras variable's values into those of the checkpoint's tensor."""
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
    wrong = [
        f"`{spec.name}` is {shapes[spec.name]} instead of {spec.shape}"
        for spec in specs
        if spec.name in shapes and shapes[spec.name] != spec.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise PresetError(
            f"The weights of `{source}` do not have the shapes that its `config.json` asks for: "
            f"{'; '.join(wrong[:5])}{more}. Config and weights come from different checkpoints, or one was "
            "edited: "
            "fetch both again."
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
    return {spec.name: spec.from_keras(np.asarray(variables[spec.path], np.float32)) for spec in specs}
