"""Phi-3.

Source: Abdin et al., 2024 (https://arxiv.org/abs/2404.14219); names, defaults and numerics as in
`transformers/models/phi3`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import HeadFormat, dense_parts
from kerasllm.models.families.llama import NAMES, Llama, decoder_heads
from kerasllm.models.families.mistral import Mistral
from kerasllm.models.families.names import Names, Stored
from kerasllm.models.transformer.settings import StackSettings

__all__ = ["Phi3"]

_QUERY_KEY_VALUE = Stored("layers.{}.self_attn.qkv_proj", parts=("query", "key", "value"))
_GATE_UP = Stored("layers.{}.mlp.gate_up_proj", parts=("gate", "up"))


class Phi3(Llama):
    """Mistral with queries, keys and values in one matrix, and gate and input in another."""

    model_type = "phi3"
    title = "Phi-3"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Llama.defaults,
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "sliding_window": None,
    }
    nullable = ("sliding_window",)
    base_architecture = "Phi3Model"
    names: ClassVar[Names] = {
        **NAMES,
        **dense_parts(
            "decoder_layer_{}/attention",
            query=_QUERY_KEY_VALUE,
            key=_QUERY_KEY_VALUE,
            value=_QUERY_KEY_VALUE,
        ),
        **dense_parts("decoder_layer_{}/feed_forward", gate=_GATE_UP, up=_GATE_UP),
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Phi3")
    stop_tokens: ClassVar[tuple[str, ...]] = ("<|end|>", "<|endoftext|>")
    windows = Mistral.windows

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        return super().stack(config, dropout=config["resid_pdrop"], **changes)
