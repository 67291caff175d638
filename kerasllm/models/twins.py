"""The same Keras model in another precision, or for inference alone."""

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from kerasllm.errors import ExportError

if TYPE_CHECKING:
    import keras

__all__ = ["inference_twin", "share_weights", "to_dtype"]


def to_dtype(model: "keras.Model", dtype: str) -> "keras.Model":
    """Returns the model with weights and computation in one precision.

    Args:
        model: Functional Keras model.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`.

    Returns:
        The model itself where it has that precision throughout and no adapters. Otherwise a twin; weights
        that have the precision already, as the float32 weights of a model trained in mixed precision, are
        shared with it, not copied: training the model on trains the twin.

    Raises:
        ExportError: If the model cannot be rebuilt from its config.
    """
    import keras

    from kerasllm.models.adapters import adapted_layers, merge_lora
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.quantization import quantized_layers

    if isinstance(model, ModelWithHead) and (adapted_layers(model) or quantized_layers(model)):
        model = merge_lora(model)
    layers = [layer for layer in model._flatten_layers() if layer.weights]
    if all(layer.dtype_policy.name == dtype for layer in layers if not isinstance(layer, keras.Model)):
        return model
    if isinstance(model, ModelWithHead):
        backbone = type(model.backbone).from_config({**model.backbone.get_config(), "dtype": dtype})
        config = {name: value for name, value in model.get_config().items() if name != "trainable"}
        twin = type(model)(**{**config, "backbone": backbone})
    else:
        twin = keras.models.clone_model(model, clone_function=lambda layer: _with_policy(layer, dtype))
    if [weight.shape for weight in twin.weights] != [weight.shape for weight in model.weights]:
        raise ExportError(
            f"The model cannot be rebuilt in {dtype}: its config gives other weights than it has. Train it "
            f"with `dtype_policy={dtype!r}`, or export it in the precision that it was trained in."
        )
    share_weights(twin, model)
    return twin


def inference_twin(model: Any, dtype: str) -> Any:
    """A model of ours for inference alone: matrices in one precision, adapters merged.

    Additions, normalization and softmax are float32 in every precision; the products of matrices, where the
    time goes, are in the precision asked for. Where the head sees the first token only, so does the last
    layer.

    Args:
        model: `kerasllm.models.heads.ModelWithHead`.
        dtype: Precision of the matrices, `"float32"`, `"bfloat16"` or `"float16"`.

    Returns:
        The twin; it shares the variables that have their precision already.
    """
    from kerasllm.models.adapters import adapted_layers, merge_lora
    from kerasllm.models.quantization import quantized_layers
    from kerasllm.models.transformer.backbone import TransformerBackbone
    from kerasllm.models.transformer.dense import matrices_in

    if adapted_layers(model) or quantized_layers(model):
        model = merge_lora(model)
    settings = model.backbone.settings
    first_only = model.head.settings.pool in ("first", "pooled") and settings.can_answer_first
    settings = dataclasses.replace(settings, first_only=first_only)
    config = {
        name: value for name, value in model.get_config().items() if name not in ("backbone", "trainable")
    }
    is_narrow = dtype != "float32"
    with matrices_in(dtype) if is_narrow else contextlib.nullcontext():
        backbone = TransformerBackbone(settings, dtype="float32", name=model.backbone.name)
    # The matrix of a language head is the largest of all; other heads are small, and keep their digits.
    with matrices_in(dtype) if is_narrow and "language" in model.kind else contextlib.nullcontext():
        twin = type(model)(backbone, **config)
    share_weights(twin, model)
    return twin


def share_weights(twin: "keras.Model", model: "keras.Model") -> None:
    """Gives a model the weights of another: the very same where their precision is equal, otherwise copies.

    Args:
        twin: Gets the weights.
        model: Has as many, in the same order.
    """
    import keras

    for new, old in zip(twin.weights, model.weights, strict=True):
        if new.dtype == old.dtype:
            new._value = old.value  # Keras has no public way to let two layers share a variable
        else:
            new.assign(keras.ops.cast(old.value, new.dtype))


def _with_policy(layer: Any, dtype: str) -> Any:
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = dtype
    return type(layer).from_config(config)
