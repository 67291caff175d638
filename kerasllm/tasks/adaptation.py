"""Adapters in a run: put on as configured, kept apart when it ends."""

import logging
import shutil
from pathlib import Path

from kerasllm.config.schema import LoRAConfig
from kerasllm.errors import AdapterError, ConfigError
from kerasllm.models.adapters import LoRASettings, adapted_layers, add_lora, trainable_share
from kerasllm.models.heads import ModelWithHead
from kerasllm.models.peft_format import save_adapter
from kerasllm.models.presets import Preset
from kerasllm.models.quantization import quantize_backbone, quantized_layers

__all__ = ["adapt", "keep_adapter"]

_log = logging.getLogger("kerasllm")


def adapt(model: ModelWithHead, config: LoRAConfig | None, preset: Preset) -> None:
    """Freezes the backbone and puts adapters on it, where the config asks for them.

    Args:
        model: The model to train.
        config: The `model.lora` section; `None` leaves all weights to be trained.
        preset: The checkpoint.

    Raises:
        ConfigError: If the model's pooler is a new one, which would stay as random as it is.
        AdapterError: If the adapters do not fit the model.
    """
    if config is None:
        return
    if model.head.settings.pool == "pooled" and not preset.has_pooler:
        raise ConfigError(
            f"`{preset.handle}` has no trained pooler, and with `model.lora` a new one would not be trained. "
            "Use `-s model.pooling=mean`."
        )
    if config.quantize_base == "int8":
        quantize_backbone(model)
    settings = LoRASettings(config.rank, config.alpha, config.dropout, config.rank_stabilized, config.dora)
    layers = add_lora(model, settings, roles=config.roles)
    _log.info(
        "LoRA of rank %d on %d layers, %s: %.2f %% of the weights are trained.",
        config.rank,
        len(layers),
        "on a backbone in 8 bits" if quantized_layers(model) else "on a frozen backbone",
        100 * trainable_share(model),
    )


def keep_adapter(model: ModelWithHead, directory: Path, *, base_model: str) -> Path | None:
    """Writes the adapters in PEFT's format, in place of those of an earlier try.

    Args:
        model: The trained model, adapters not merged.
        directory: Where they go.
        base_model: Handle of the checkpoint that they are for.

    Returns:
        The directory, or `None` where the model has no adapters or PEFT's format has no place for them.
    """
    if directory.exists():
        shutil.rmtree(directory)
    if not adapted_layers(model):
        return None
    try:
        return save_adapter(model, directory, base_model=base_model)
    except AdapterError as error:
        _log.warning("The adapters are in `model/`, merged, but not kept apart: %s", error)
        return None
