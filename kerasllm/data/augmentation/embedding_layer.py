"""The base of the layers that change token vectors, and how they get behind a model's token embedding."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.seeded import Seeded
from kerasllm.errors import ConfigError

__all__ = ["EmbeddingAugmentation", "augmented"]


class EmbeddingAugmentation(Seeded, keras.layers.Layer):
    """A layer on token vectors `(batch, sequence, dim)` that changes them in training only.

    In a model of one's own it stands behind the embedding, as any layer. For a model that is built already,
    `augmented` puts it there for one step: then it is first called with the batch of token ids, where it
    draws what it will do, and later with the vectors.

    Args:
        seed: Defaults to `None`, another one each time.
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.make_generator(seed)
        self.built = True
        self._plan: Any = None

    def plan(self, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Draws what is to be done to a batch.

        Args:
            batch: `padding_mask`, and `token_ids` and `segment_ids` where they are known.

        Returns:
            What `embed` needs, and the batch as the model should get it.
        """
        raise NotImplementedError

    def embed(self, vectors: Any, plan: Any) -> Any:
        """Changes token vectors as it was drawn."""
        raise NotImplementedError

    def call(self, inputs, padding_mask=None, training=None):
        """See the class."""
        if not training:
            return inputs
        if isinstance(inputs, dict):
            self._plan, batch = self.plan({name: tf.convert_to_tensor(v) for name, v in inputs.items()})
            return {**inputs, **batch}
        inputs = tf.convert_to_tensor(inputs)
        if padding_mask is None:
            padding_mask = tf.ones(tf.shape(inputs)[:2], tf.int32)
        self._plan, _ = self.plan({"padding_mask": tf.convert_to_tensor(padding_mask)})
        return self.embed(inputs, self._plan)

    def embed_planned(self, vectors: Any) -> Any:
        """Changes the vectors of the batch that the layer was last called with."""
        return self.embed(vectors, self._plan)

    def compute_output_spec(self, inputs, padding_mask=None, training=None):
        """The same shapes and types."""
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), inputs)

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "seed": self.seed}


@contextlib.contextmanager
def augmented(
    model: keras.Model, layers: Sequence[keras.layers.Layer], inputs: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Augments one training step: the inputs, and inside of the block the model's token vectors.

    Outside of the block the model is what it was. Layers on token ids run in their order; then those on
    vectors draw what they will do, and do it where the model embeds the tokens.

    Args:
        model: A model with a `backbone`, or a backbone; its `token_embedding` has an attribute
            `augmentation`.
        layers: Layers of this package.
        inputs: A batch of token ids as a dict.

    Yields:
        The inputs that the model is to be called with, with `training=True`.

    Raises:
        ConfigError: If a layer works on vectors, and the model does not say where it embeds tokens.

    Example:
    >>> with augmented(model, [deletion, mixup], inputs) as batch:
    ...     logits = model(batch, training=True)
    """
    behind = [layer for layer in layers if isinstance(layer, EmbeddingAugmentation)]
    for layer in [*(layer for layer in layers if layer not in behind), *behind]:
        inputs = layer(inputs, training=True)
    if not behind:
        yield inputs
        return
    embedding: Any = getattr(getattr(model, "backbone", model), "token_embedding", None)
    if not hasattr(embedding, "augmentation"):
        raise ConfigError(
            f"{', '.join(type(layer).__name__ for layer in behind)} works on token vectors, but "
            f"`{type(model).__name__}` has no `backbone.token_embedding` where it could stand. Put the layer "
            "behind the embedding when you build the model."
        )
    embedding.augmentation = _on_the_first(behind)
    try:
        yield inputs
    finally:
        embedding.augmentation = None


def _on_the_first(layers: Sequence[EmbeddingAugmentation]) -> Any:
    """Changes the vectors of the ids that are embedded first, each time that these are embedded.

    A model may be called twice in a step, and the decoder of an encoder-decoder shares the table with the
    encoder, whose ids come first.
    """
    seen: list[Any] = []

    def augment(vectors: Any, ids: Any) -> Any:
        if not seen:
            seen.append(ids)
        if ids is not seen[0]:
            return vectors
        for layer in layers:
            vectors = layer.embed_planned(vectors)
        return vectors

    return augment
