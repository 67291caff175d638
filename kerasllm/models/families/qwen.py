"""Qwen 2, 2.5 and 3.

Sources: Yang et al., 2024 (https://arxiv.org/abs/2407.10671) and 2025 (https://arxiv.org/abs/2505.09388);
names, defaults and numerics as in `transformers/models/qwen2` and `transformers/models/qwen3`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import HeadFormat
from kerasllm.models.families.llama import NAMES, Llama, decoder_heads
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import StackSettings

__all__ = ["Qwen2", "Qwen3"]


class Qwen2(Llama):
    """Llama with biases on queries, keys and values."""

    model_type = "qwen2"
    title = "Qwen 2, 2.5"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Llama.defaults,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    }
    may_be_zero = ("max_window_layers",)
    nullable = ("sliding_window",)
    base_architecture = "Qwen2Model"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Qwen2")
    stop_tokens: ClassVar[tuple[str, ...]] = ("<|im_end|>", "<|endoftext|>")

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        return super().stack(config, **{"query_key_value_bias": True, "output_bias": False, **changes})

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """See `Llama.windows`: `layer_types` names those that slide, or `max_window_layers` the first."""
        if not config["use_sliding_window"] or config["sliding_window"] is None:
            return ()
        if config.get("layer_types"):
            return self.layer_windows(config)
        layers = range(config["num_hidden_layers"])
        return tuple(config["sliding_window"] if i >= config["max_window_layers"] else None for i in layers)


class Qwen3(Qwen2):
    """Qwen 2 without those biases, and with normalized queries and keys."""

    model_type = "qwen3"
    title = "Qwen 3"
    defaults: ClassVar[Mapping[str, Any]] = {**Qwen2.defaults, "head_dim": 128}
    base_architecture = "Qwen3Model"
    names: ClassVar[Names] = {
        **NAMES,
        "decoder_layer_{}/attention/query_norm": "layers.{}.self_attn.q_norm",
        "decoder_layer_{}/attention/key_norm": "layers.{}.self_attn.k_norm",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Qwen3")

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        bias = bool(config["attention_bias"])
        options = {"query_key_norm": True, "query_key_value_bias": bias, "output_bias": bias}
        return super().stack(config, **{**options, **changes})
