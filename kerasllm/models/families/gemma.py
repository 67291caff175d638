"""Gemma, Gemma 2 and Gemma 3 (text).

Sources: Gemma Team, 2024 (https://arxiv.org/abs/2403.08295, https://arxiv.org/abs/2408.00118) and 2025
(https://arxiv.org/abs/2503.19786); names, defaults and numerics as in `transformers/models/gemma`, `gemma2`
and
`gemma3`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import HeadFormat
from kerasllm.models.families.llama import NAMES, Llama, decoder_heads
from kerasllm.models.families.names import Names
from kerasllm.models.families.rope import read_rotary
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings

__all__ = ["Gemma", "Gemma2", "Gemma3"]

_PATTERN = 6  # of Gemma 3's layers, every sixth sees everything


class Gemma(Llama):
    """Llama with scaled embeddings, and normalizations whose scales are kept around 0."""

    model_type = "gemma"
    title = "Gemma"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Llama.defaults,
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
    base_architecture = "GemmaModel"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Gemma")
    stop_tokens: ClassVar[tuple[str, ...]] = ("<eos>", "<end_of_turn>")

    def with_defaults(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.with_defaults`; the first releases said `gelu` and meant its tanh approximation."""
        full = super().with_defaults(config)
        if full.get("hidden_act") == "gelu":
            full["hidden_act"] = "gelu_pytorch_tanh"
        return full

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        settings = super().backbone(config)
        embedding = EmbeddingSettings(
            settings.embedding.vocabulary_size, settings.hidden_dim, scale=settings.hidden_dim**0.5
        )
        return dataclasses.replace(settings, embedding=embedding)

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        return super().stack(config, **{"norm_offset": 1.0, **changes})


class Gemma2(Gemma):
    """Gemma with norms before and after, squashed scores and logits, and a window on every other layer."""

    model_type = "gemma2"
    title = "Gemma 2"
    defaults: ClassVar[Mapping[str, Any]] = {
        **{key: value for key, value in Gemma.defaults.items() if key != "hidden_act"},
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    nullable = ("attn_logit_softcapping", "final_logit_softcapping", "sliding_window")
    activation = "hidden_activation"
    base_architecture = "Gemma2Model"
    names: ClassVar[Names] = {
        **NAMES,
        "decoder_layer_{}/attention_end_norm": "layers.{}.post_attention_layernorm",
        "decoder_layer_{}/feed_forward_norm": "layers.{}.pre_feedforward_layernorm",
        "decoder_layer_{}/feed_forward_end_norm": "layers.{}.post_feedforward_layernorm",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Gemma2")

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`."""
        options = {
            "norm_place": "both",
            "attention_scale": config["query_pre_attn_scalar"] ** -0.5,
            "softcap": config["attn_logit_softcapping"],
        }
        return super().stack(config, **{**options, **changes})

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """See `Llama.windows`: the first layer slides, the second does not, and so on."""
        if config.get("layer_types"):
            return self.layer_windows(config)
        layers = range(config["num_hidden_layers"])
        return tuple(None if i % 2 else config["sliding_window"] for i in layers)


class Gemma3(Gemma2):
    """Gemma 2 with normalized queries and keys, and other rotations for the layers with a window."""

    model_type = "gemma3_text"
    title = "Gemma 3 (text)"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Gemma2.defaults,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }
    base_architecture = "Gemma3TextModel"
    names: ClassVar[Names] = {
        **Gemma2.names,
        "decoder_layer_{}/attention/query_norm": "layers.{}.self_attn.q_norm",
        "decoder_layer_{}/attention/key_norm": "layers.{}.self_attn.k_norm",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        **decoder_heads("Gemma3", tokens=None),
        "pooled_classifier": decoder_heads("Gemma3Text")["pooled_classifier"],
    }
    theta = 1e6

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Llama.stack`; transformers squashes the scores of this family nowhere."""
        head_dim = self.head_dim(config)
        full, local = dict(config), dict(config)
        if not config.get("rope_parameters"):
            local["rope_theta"], local["rope_scaling"] = config.get("rope_local_base_freq"), None
        options = {
            "query_key_norm": True,
            "softcap": None,
            "rotary": read_rotary(full, head_dim, theta=self.theta, layers="full_attention"),
            "local_rotary": read_rotary(local, head_dim, theta=10_000.0, layers="sliding_attention"),
        }
        return super().stack(config, **{**options, **changes})

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """See `Llama.windows`: every sixth layer sees everything."""
        if config.get("layer_types"):
            return self.layer_windows(config)
        pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or _PATTERN
        layers = range(config["num_hidden_layers"])
        return tuple(None if (i + 1) % pattern == 0 else config["sliding_window"] for i in layers)
