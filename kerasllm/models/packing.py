"""Several texts in one row, computed as if each stood alone.

A packed row is told by its `padding_mask`: 1 for the tokens of the first text, 2 for those of the second, and
so on, and 0 for padding at the end. Attention stays within a text, positions begin anew with each, and
pooling gives one vector a text. How rows are read is a matter of how a model is trained, not of what it is:
it is no part of a model's config, and copies, saved models and exports are unpacked.
"""

from typing import TYPE_CHECKING, Any

from kerasllm.errors import ConfigError

if TYPE_CHECKING:
    from kerasllm.models.heads import ModelWithHead

__all__ = ["check_packing", "is_packed", "rebuild", "set_packing"]


def check_packing(model: "ModelWithHead") -> None:
    """Raises a `ConfigError` that says why, if the texts of a model cannot be packed.

    Args:
        model: A backbone with a head.
    """
    settings = model.backbone.settings
    if settings.encoder is not None and settings.decoder is not None:
        raise ConfigError(
            "Texts cannot be packed for a model with an encoder and a decoder: which text of the encoder's "
            "row a token of the decoder may see is not defined. Set `training.packing` to false, and "
            "`training.batch_tokens` against padding."
        )
    if settings.first_only:
        raise ConfigError(
            "Texts cannot be packed for a backbone whose last layer answers for the first token of a row "
            "alone (`first_only`). Build it without."
        )


def set_packing(model: "ModelWithHead", packed: bool = True) -> None:
    """Makes a model read its rows as packed texts, or as one text each.

    A model that is set to packing gives the same answers for rows with one text, only more slowly: attention
    gets a mask for each pair of tokens and not for each token. Functions that were traced before keep what
    they were traced with.

    Args:
        model: A backbone with a head.
        packed: Defaults to `True`.

    Raises:
        ConfigError: If the texts of this model cannot be packed.

    Example:
    >>> set_packing(model)
    >>> model({"token_ids": [[5, 6, 7, 8, 0]], "padding_mask": [[1, 1, 2, 2, 0]]}).shape
    TensorShape([2, 3])
    """
    if packed:
        check_packing(model)
    for layer in _layers_that_tell(model):
        layer.packed = packed
    model.train_function = model.test_function = model.predict_function = None


def is_packed(model: Any) -> bool:
    """Whether a model reads its rows as packed texts."""
    return any(layer.packed for layer in _layers_that_tell(model))


def rebuild(model: "ModelWithHead", dtype_policy: str) -> "ModelWithHead":
    """`with_dtype_policy`, but the copy is packed where the model is.

    Args:
        model: The model, which stays as it is.
        dtype_policy: Keras dtype policy of the copy.
    """
    from kerasllm.models.builders import with_dtype_policy

    copy = with_dtype_policy(model, dtype_policy)
    if is_packed(model):
        set_packing(copy)
    return copy


def _layers_that_tell(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if hasattr(type(layer), "packed")]
