"""LoRA: small matrices that are trained beside frozen ones, merged with proof, and kept in PEFT's format.

Sources: Hu et al., 2021 (https://arxiv.org/abs/2106.09685); Kalajdzievski, 2023, for the rank-stabilized
scale (https://arxiv.org/abs/2312.03732); files as `peft` writes them.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import AdapterError
from kerasllm.models.transformer.dense import Dense

if TYPE_CHECKING:
    from kerasllm.models.heads import ModelWithHead

__all__ = ["ROLES", "LoRA", "LoRASettings", "adapted_layers", "add_lora", "merge_lora"]

# A layer's role by the end of its path.
ROLES = {
    "query": ("attention/query",),
    "key": ("attention/key",),
    "value": ("attention/value",),
    "output": ("attention/output",),
    "feed_forward": ("gate", "up", "down"),
}
TOLERANCE = 1e-4


@dataclass(frozen=True)
class LoRASettings:
    """How a layer is adapted.

    Attributes:
        rank: Width of the small matrices.
        alpha: Their product is scaled by `alpha / rank`.
        dropout: Rate for what goes into them in training.
        rank_stabilized: Whether the scale is `alpha / sqrt(rank)` instead.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


@keras.saving.register_keras_serializable(package="kerasllm")
class LoRA(keras.layers.Layer):
    """What is added to the output of a dense layer: `scale * dropout(x) A B`.

    Args:
        units: Width of the output.
        settings: `LoRASettings`, or a dictionary of its attributes.

    Call arguments:
        inputs: `(rows, dim)`.
    """

    def __init__(self, units, settings, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.settings = settings if isinstance(settings, LoRASettings) else LoRASettings(**settings)
        self.dropout = None
        if self.settings.dropout:
            self.dropout = keras.layers.Dropout(self.settings.dropout, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Makes the matrices; their product is 0 at first."""
        rank = self.settings.rank
        # PEFT's: Kaiming with a = sqrt(5).
        initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.a = self.add_weight(name="a", shape=(input_shape[-1], rank), initializer=initializer)
        self.b = self.add_weight(name="b", shape=(rank, self.units), initializer="zeros")

    def call(self, inputs, training=None):
        """See the class."""
        hidden = inputs if self.dropout is None else self.dropout(inputs, training=training)
        hidden = tf.matmul(tf.cast(hidden, self.compute_dtype), self.a)
        return tf.matmul(hidden, self.b) * tf.cast(self.settings.scale, self.compute_dtype)

    def product(self) -> np.ndarray:
        """What merging adds to the layer's matrix, float32[dim, units]."""
        product = np.asarray(self.a, np.float32) @ np.asarray(self.b, np.float32)
        return np.asarray(product * np.float32(self.settings.scale))

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "units": self.units, "settings": dataclasses.asdict(self.settings)}


def dense_layers(model: keras.Model) -> dict[str, Dense]:
    """The dense layers of a backbone's stacks by their paths."""
    backbone = getattr(model, "backbone", model)
    return {
        layer.path: layer
        for layer in backbone._flatten_layers()
        if isinstance(layer, Dense) and "_layer_" in layer.path
    }


def adapted_layers(model: keras.Model) -> dict[str, Dense]:
    """The dense layers that have an adapter, by their paths."""
    return {path: layer for path, layer in dense_layers(model).items() if layer.adapter is not None}


def add_lora(
    model: keras.Model, settings: LoRASettings | None = None, *, roles: Sequence[str] = ("query", "value")
) -> list[str]:
    """Freezes the backbone, and puts an adapter beside each of its dense layers of the given roles.

    The model computes the same as before, until the adapters are trained. A head stays as it is.

    Args:
        model: A backbone, or a model with a head on one.
        settings: How the layers are adapted. Defaults to `LoRASettings()`.
        roles: Keys of `ROLES`, or `"all"` for all of them.

    Returns:
        Paths of the layers.

    Raises:
        AdapterError: If a role is unknown, no layer has one of the roles, a number is out of range, or the
            model has adapters already.

    Example:
    >>> len(add_lora(model, LoRASettings(rank=4), roles=("query", "value")))
    4
    """
    settings = settings or LoRASettings()
    _check(settings, roles)
    if adapted_layers(model):
        raise AdapterError(
            "The model has adapters already. Merge them first (`merge_lora`), or load it anew."
        )
    ends = tuple(f"/{end}" for role in (ROLES if "all" in roles else roles) for end in ROLES[role])
    chosen = {path: layer for path, layer in dense_layers(model).items() if path.endswith(ends)}
    if not chosen:
        raise AdapterError(
            f"No layer of the model has one of the roles {list(roles)}, so there would be nothing to train. "
            f"Its layers are: {', '.join(list(dense_layers(model))[:8])}, …"
        )
    getattr(model, "backbone", model).trainable = False
    for layer in chosen.values():
        attach(layer, settings)
    return list(chosen)


def attach(layer: Dense, settings: LoRASettings) -> None:
    """Puts an adapter beside one dense layer."""
    adapter = LoRA(layer.units, settings, dtype=layer.dtype_policy, name="lora")
    with contextlib.ExitStack() as scopes:  # so that its weights' paths begin with the layer's
        for name in layer.path.split("/"):
            scopes.enter_context(keras.name_scope(name))
        adapter.build((None, int(layer.kernel.shape[0])))
    layer._tracker.unlock()  # as Keras' own `enable_lora` does
    layer.adapter = adapter
    layer._tracker.lock()
    adapter.trainable = True


def merge_lora(model: "ModelWithHead") -> "ModelWithHead":
    """Copies a model into one without adapters, whose matrices have taken them in.

    Args:
        model: The model, which stays as it is.

    Returns:
        A new float32 model; proved to compute the same on random token ids.

    Raises:
        AdapterError: If the logits before and after differ by more than 1e-4, relative to the largest.
    """
    from kerasllm.models.builders import with_dtype_policy

    plain = with_dtype_policy(model, "float32")
    adapted = adapted_layers(plain)
    if not adapted:
        return plain
    inputs = _proof_inputs(plain)
    before = np.asarray(plain(inputs, training=False))
    for layer in adapted.values():
        layer.kernel.assign_add(layer.adapter.product())
        layer._tracker.unlock()
        layer.adapter = None
        layer._tracker.lock()
    after = np.asarray(plain(inputs, training=False))
    difference = float(np.max(np.abs(after - before)) / max(1.0, float(np.max(np.abs(before)))))
    if not difference <= TOLERANCE:
        raise AdapterError(
            f"Merging the adapters changes the logits by {difference:.1e}, more than {TOLERANCE:.0e}; the "
            "merged model was thrown away. The adapters hold values that float32 cannot add to the matrices: "
            "were they trained until they diverged?"
        )
    plain.backbone.trainable = True
    return plain


def copy_adapters(source: keras.Model, target: keras.Model) -> None:
    """Gives a model the adapters of another with the same backbone."""
    layers = dense_layers(target)
    for path, layer in adapted_layers(source).items():
        attach(layers[path], layer.adapter.settings)
        for name in ("a", "b"):
            getattr(layers[path].adapter, name).assign(getattr(layer.adapter, name))


def _check(settings: LoRASettings, roles: Sequence[str]) -> None:
    unknown = [role for role in roles if role not in ROLES and role != "all"]
    if unknown or isinstance(roles, str):
        raise AdapterError(f"The roles {roles!r} are unknown. Choose among {', '.join(ROLES)}, or 'all'.")
    if not isinstance(settings.rank, int) or settings.rank < 1:
        raise AdapterError(f"The rank is {settings.rank!r}, but must be a positive integer.")
    if not settings.alpha > 0:
        raise AdapterError(f"`alpha` is {settings.alpha!r}, but must be above 0.")
    if not 0 <= settings.dropout < 1:
        raise AdapterError(f"The dropout is {settings.dropout!r}, but must be from 0 to below 1.")


def _proof_inputs(model: "ModelWithHead") -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    most = model.backbone.settings.embedding.vocabulary_size
    return {
        name: random.integers(0, most, (2, 16)).astype(np.int32)
        if name.endswith("token_ids")
        else np.full((2, 16), "mask" in name, np.int32)
        for name in model.input
    }


def trainable_share(model: keras.Model) -> float:
    """The share of the weights that training changes."""
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return trained / max(1, sum(int(np.prod(weight.shape)) for weight in model.weights))


def base_weights(model: keras.Model) -> Iterator[Any]:
    """The weights that are not an adapter's."""
    adapters: set[int] = set()
    for layer in adapted_layers(model).values():
        adapters |= {id(weight) for weight in layer.adapter.weights}
    return (weight for weight in model.weights if id(weight) not in adapters)


def values_by_path(model: keras.Model) -> Mapping[str, Any]:
    """The weights that are not an adapter's, by their paths."""
    return {weight.path: weight for weight in base_weights(model)}
