"""Llama 1, 2, 3, 3.1, 3.2 and whatever has its architecture, SmolLM2 for one.

Source: Touvron et al., 2023 (https://arxiv.org/abs/2302.13971); names, defaults and numerics as in
`transformers/models/llama`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import ACTIVATIONS, Family, HeadFormat, dense_parts
from kerasllm.models.families.names import Names
from kerasllm.models.families.rope import read_rotary, rotary_problems
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["NAMES", "Llama", "decoder_heads"]

NAMES: Names = {
    "token_embedding": "embed_tokens",
    "decoder_layer_{}/attention_norm": "layers.{}.input_layernorm",
    **dense_parts(
        "decoder_layer_{}/attention",
        query="layers.{}.self_attn.q_proj",
        key="layers.{}.self_attn.k_proj",
        value="layers.{}.self_attn.v_proj",
        output="layers.{}.self_attn.o_proj",
    ),
    "decoder_layer_{}/feed_forward_norm": "layers.{}.post_attention_layernorm",
    **dense_parts(
        "decoder_layer_{}/feed_forward",
        gate="layers.{}.mlp.gate_proj",
        up="layers.{}.mlp.up_proj",
        down="layers.{}.mlp.down_proj",
    ),
    "decoder_norm": "norm",
}


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(
        family.setting(config, "vocab_size"),
        bias=False,
        tied=family.tied(config),
        softcap=family.setting(config, "final_logit_softcapping"),
    )


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(units, "last", bias=False)


def _token_classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    rate = config.get("classifier_dropout")
    rate = config.get("hidden_dropout") if rate is None else rate
    return HeadSettings(units, dropout=0.1 if rate is None else rate)


def decoder_heads(
    name: str, *, language: str = "ForCausalLM", tokens: str | None = "score"
) -> dict[str, HeadFormat]:
    """The heads that transformers puts on a decoder whose classes begin with `name`."""
    heads = {
        "causal_language": HeadFormat((f"{name}{language}",), _language, {}, {"head/output": "lm_head"}),
        "pooled_classifier": HeadFormat(
            (f"{name}ForSequenceClassification",), _classifier, {"head/output": "score"}
        ),
    }
    if tokens is not None:
        architecture = (f"{name}ForTokenClassification",)
        heads["token_classifier"] = HeadFormat(architecture, _token_classifier, {"head/output": tokens})
    return heads


class Llama(Family):
    """See the module; also the base of the families that came after it."""

    model_type = "llama"
    title = "Llama 1 to 3.2, SmolLM2"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    }
    prefixes = ("model.",)
    base_architecture = "LlamaModel"
    names: ClassVar[Names] = NAMES
    expected_unused = r"rotary_emb\.inv_freq$"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("Llama")
    stop_tokens: ClassVar[tuple[str, ...]] = ("</s>", "<|eot_id|>", "<|im_end|>")
    epsilon = "rms_norm_eps"
    theta: ClassVar[float] = 10_000.0

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        return BackboneSettings(
            EmbeddingSettings(config["vocab_size"], config["hidden_size"]),
            decoder=self.stack(config),
            final_norm=True,
        )

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """The decoder's layers."""
        heads, head_dim = config["num_attention_heads"], self.head_dim(config)
        bias = bool(config.get("attention_bias"))
        common: dict[str, Any] = {
            "activation": ACTIVATIONS[config[self.activation]],
            "norm": "rms",
            "norm_epsilon": config[self.epsilon],
            "gated": True,
            "query_key_value_bias": bias,
            "output_bias": bias,
            "feed_forward_bias": bool(config.get("mlp_bias")),
            "attention_scale": head_dim**-0.5,
            "causal": True,
            "windows": self.windows(config),
            "rotary": read_rotary(config, head_dim, theta=self.theta),
            "attention_dropout": config.get("attention_dropout") or 0.0,
        }
        return StackSettings(
            config["num_hidden_layers"],
            config["hidden_size"],
            heads,
            config.get("num_key_value_heads") or heads,
            head_dim,
            config["intermediate_size"],
            **{**common, **changes},
        )

    def head_dim(self, config: Mapping[str, Any]) -> int:
        """Width of an attention head."""
        return int(self.setting(config, "head_dim") or config["hidden_size"] // config["num_attention_heads"])

    def windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """How far back each layer sees; empty where all see everything."""
        return ()

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        problems = rotary_problems(config)
        heads, shared = config["num_attention_heads"], config.get("num_key_value_heads")
        if not self.setting(config, "head_dim") and config["hidden_size"] % heads:
            problems.append(
                f"`hidden_size` {config['hidden_size']} is not a multiple of `num_attention_heads` {heads}"
            )
        if shared is not None and (not isinstance(shared, int) or shared < 1 or heads % shared):
            problems.append(
                f"`num_key_value_heads` is {shared!r}, but must divide `num_attention_heads`, {heads}"
            )
        if config.get("use_bidirectional_attention"):
            problems.append("`use_bidirectional_attention` is true, but only causal attention is computed")
        if config.get("pretraining_tp") not in (None, 1):
            problems.append(f"`pretraining_tp` is {config['pretraining_tp']!r}, only 1 works")
        return problems

    def layer_windows(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """Windows where `layer_types` names the layers that slide."""
        kinds = config.get("layer_types")
        window = config.get("sliding_window")
        if not kinds or window is None:
            return ()
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
