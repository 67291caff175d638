"""Numbers of texts, and the similarity of two."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.models.heads import MeanPooling
from kerasllm.training.losses.regression import cosine_similarity, huber, squared_error
from kerasllm.training.objectives.objective import LossValue, Objective, weighted

__all__ = ["SECOND", "PairSimilarity", "Regression"]

SECOND = "second_"


class Regression(Objective):
    """Minimises the squared error or the Huber loss of a model's numbers.

    Args:
        kind: `"squared_error"` or `"huber"`. Defaults to `"squared_error"`.
        delta: Error from which on the Huber loss is a straight line. Defaults to 1.

    Call arguments of `loss`: `targets` are numbers `(batch,)` or `(batch, numbers)`; `weights` are
    `(batch,)`; the outputs are the model's numbers in the shape of the targets.

    Raises:
        ConfigError: If the kind is unknown or `delta` not above zero.
    """

    def __init__(self, kind: str = "squared_error", *, delta: float = 1.0):
        if kind not in ("squared_error", "huber"):
            raise ConfigError(f"The loss {kind!r} is unknown; choose 'squared_error' or 'huber'.")
        if delta <= 0:
            raise ConfigError(f"`delta` of the Huber loss is {delta}, but must be above 0.")
        self.kind = kind
        self.delta = delta

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`."""
        outputs = tf.cast(model(inputs, training=training), tf.float32)
        if self.kind == "huber":
            losses = huber(targets, outputs, delta=self.delta)
        else:
            losses = squared_error(targets, outputs)
        return weighted(losses, weights, tf.reshape(outputs, tf.shape(targets)))

    def metrics(self) -> list[keras.metrics.Metric]:
        """Mean absolute and root mean squared error."""
        return [
            keras.metrics.MeanAbsoluteError(name="mean_absolute_error"),
            keras.metrics.RootMeanSquaredError(name="root_mean_squared_error"),
        ]


class PairSimilarity(Objective):
    """Teaches a model whose output is a vector a text how similar two texts are.

    Minimises the squared error of the cosine similarity of both vectors. A backbone will do: its token
    vectors are averaged.

    Call arguments of `loss`: `inputs` are those of the first texts and, with names that begin with `second_`,
    those of the second; `targets` are scores `(batch,)` from -1 or 0 to 1; `weights` are `(batch,)`; the
    outputs are the similarities.

    Source: Reimers and Gurevych, 2019 (https://arxiv.org/abs/1908.10084), section 3.
    """

    def __init__(self) -> None:
        self._pooling = MeanPooling(dtype="float32")

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`."""
        second = {name[len(SECOND) :]: value for name, value in inputs.items() if name.startswith(SECOND)}
        first = {name: value for name, value in inputs.items() if not name.startswith(SECOND)}
        if set(first) != set(second):
            raise ConfigError(
                f"Pairs of texts need the same inputs twice, but there are {sorted(first)} for the first "
                f"text and {sorted(SECOND + name for name in second)} for the second."
            )
        vectors = [self._vectors(model, texts, training=training) for texts in (first, second)]
        similarities = cosine_similarity(*vectors)
        return weighted(squared_error(targets, similarities), weights, similarities)

    def _vectors(self, model: keras.Model, inputs: Any, *, training: bool) -> Any:
        outputs = model(inputs, training=training)
        if isinstance(outputs, dict):
            return self._pooling(outputs["sequence_output"], padding_mask=inputs["padding_mask"])
        return outputs

    def metrics(self) -> list[keras.metrics.Metric]:
        """Mean absolute error of the similarity."""
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
