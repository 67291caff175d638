"""Mistral and Mixtral: Llama with a sliding window, and with a mixture of experts.

Sources: Jiang et al., 2023 (https://arxiv.org/abs/2310.06825) and 2024 (https://arxiv.org/abs/2401.04088);
names, defaults and numerics as in `transformers/models/mistral` and `transformers/models/mixtral`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import HeadFormat, dense_parts
from kerasllm.models.families.llama import NAMES, Llama, decoder_heads
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import ExpertSettings, StackSettings

__all__ = ["Mistral", "Mixtral"]


class Mistral(Llama):
    """Every layer sees `sliding_window` tokens back; `null` for all of them."""

    model_type = "mistral"
    title = "Mistral"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Llama.defaults,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    }
    nullable = ("sliding_window",)
    base_architecture = "MistralModel"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Mistral")
    stop_tokens: ClassVar[tuple[str, ...]] = ("</s>",)

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """See `Llama.windows`."""
        window = config["sliding_window"]
        return () if window is None else (window,) * config["num_hidden_layers"]


class Mixtral(Mistral):
    """Mistral whose feed-forward networks are mixtures of experts."""

    model_type = "mixtral"
    title = "Mixtral"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Mistral.defaults,
        "rms_norm_eps": 1e-5,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    }
    base_architecture = "MixtralModel"
    names: ClassVar[Names] = {
        **NAMES,
        "decoder_layer_{}/feed_forward/router": "layers.{}.block_sparse_moe.gate",
        **dense_parts(
            "decoder_layer_{}/feed_forward/expert_{}",
            gate="layers.{}.block_sparse_moe.experts.{}.w1",
            up="layers.{}.block_sparse_moe.experts.{}.w3",
            down="layers.{}.block_sparse_moe.experts.{}.w2",
        ),
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Mixtral")
    theta = 1e6
    counts_layers = ("num_hidden_layers", "num_local_experts")

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        experts = ExpertSettings(config["num_local_experts"], config["num_experts_per_tok"])
        return super().stack(config, experts=experts, **changes)
