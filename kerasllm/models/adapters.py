"""LoRA: small matrices that are trained beside frozen ones, put on by role and merged with proof."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasllm.errors import AdapterError
from kerasllm.models.lora import LoRA, LoRASettings
from kerasllm.models.quantization import quantized_layers
from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.paths import dense_layers, in_scope_of, unlocked

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


def adapted_layers(model: keras.Model) -> dict[str, Dense]:
    """The dense layers that have an adapter, by their paths."""
    return {path: layer for path, layer in dense_layers(model).items() if layer.adapter is not None}


def add_lora(
    model: keras.Model, settings: LoRASettings | None = None, *, roles: Sequence[str] = ("query", "value")
) -> list[str]:
    """Freezes the backbone, and puts an adapter beside each of its dense layers of the given roles.

    The model computes the same as before, until the adapters are trained. A classifier's head stays
    trainable; that of a language model, which was trained with the backbone, is frozen as well.

    Args:
        model: A backbone, or a model with a head on one.
        settings: How the layers are adapted. Defaults to `LoRASettings()`.
        roles: Keys of `ROLES`, or `"all"` for all of them.

    Returns:
        Paths of the layers.

    Raises:
        AdapterError: If a role is unknown, no layer has one of the roles, a number is out of range, the rank
            is above the width of a layer, or the model has adapters already.

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
    for path, layer in chosen.items():
        most = min(layer.input_dim, layer.units)
        if settings.rank > most:
            raise AdapterError(
                f"The rank is {settings.rank}, but the matrix of `{path}` is {layer.input_dim} x "
                f"{layer.units}, so its own rank is at most {most}. Choose a smaller one, such as "
                f"{min(8, most)}, or other roles."
            )
    freeze(model)
    for layer in chosen.values():
        attach(layer, settings)
    return list(chosen)


def freeze(model: keras.Model) -> None:
    """Freezes what adapters leave as it is: the backbone, and the head of a language model."""
    getattr(model, "backbone", model).trainable = False
    if "language" in getattr(model, "kind", ""):
        model.head.trainable = False


def attach(layer: Dense, settings: LoRASettings) -> None:
    """Puts an adapter beside one dense layer."""
    adapter = LoRA(layer.units, settings, dtype=layer.dtype_policy, name="lora")
    with in_scope_of(layer):
        adapter.build((None, layer.input_dim))
    adapter.start_from(layer.matrix())
    with unlocked(layer):
        layer.adapter = adapter
    adapter.trainable = True


def merge_lora(model: "ModelWithHead") -> "ModelWithHead":
    """Copies a model into one without adapters, whose matrices have taken them in.

    Where the backbone is in 8 bits, the new one has what the 8 bits stand for, in float32.

    Args:
        model: The model, which stays as it is.

    Returns:
        A new float32 model; proved to compute the same on random token ids.

    Raises:
        AdapterError: If the logits before and after differ by more than 1e-4, relative to the largest.
    """
    from kerasllm.models.builders import like, with_dtype_policy

    exact = model
    if model.backbone.compute_dtype != "float32":
        exact = with_dtype_policy(model, "float32")
    plain, values = like(model, "float32"), values_by_path(model)
    changed = {**adapted_layers(model), **quantized_layers(model)}
    merged = {f"{path}/kernel": layer for path, layer in changed.items()}
    for weight in plain.weights:
        layer = merged.get(weight.path)
        weight.assign(values[weight.path] if layer is None else _merged(layer))
    plain.backbone.trainable = plain.head.trainable = True
    if not merged:
        return plain
    inputs = _proof_inputs(plain)
    before = np.asarray(exact(inputs, training=False))
    after = np.asarray(plain(inputs, training=False))
    difference = float(np.max(np.abs(after - before)) / max(1.0, float(np.max(np.abs(before)))))
    if not difference <= TOLERANCE:
        raise AdapterError(
            f"Merging the adapters changes the logits by {difference:.1e}, more than {TOLERANCE:.0e}; the "
            "merged model was thrown away. The adapters hold values that float32 cannot add to the matrices: "
            "were they trained until they diverged?"
        )
    return plain


def _merged(layer: Dense) -> Any:
    """The one float32 matrix that does what a dense layer and its adapter do."""
    return layer.matrix() if layer.adapter is None else layer.adapter.merged(layer.matrix())


def copy_adapters(source: keras.Model, target: keras.Model) -> None:
    """Gives a model the adapters of another with the same backbone, which is then frozen as there."""
    layers = dense_layers(target)
    if not getattr(source, "backbone", source).trainable:
        freeze(target)
    for path, layer in adapted_layers(source).items():
        attach(layers[path], layer.adapter.settings)
        for weight, values in zip(layers[path].adapter.weights, layer.adapter.weights, strict=True):
            weight.assign(values)


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
