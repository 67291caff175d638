"""GPT-NeoX and what has its architecture, Pythia for one.

Source: Black et al., 2022 (https://arxiv.org/abs/2204.06745); names, defaults and numerics as in
`transformers/models/gpt_neox`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.llama import decoder_heads
from kerasllm.models.families.names import Names, Stored
from kerasllm.models.families.rope import read_rotary, rotary_problems
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings

__all__ = ["GPTNeoX"]

_QUERY_KEY_VALUE = Stored(
    "layers.{}.attention.query_key_value", parts=("query", "key", "value"), by_head=True
)


class GPTNeoX(Family):
    """Rotary positions on a part of each head; attention and feed-forward side by side."""

    model_type = "gpt_neox"
    title = "GPT-NeoX, Pythia"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 50432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "classifier_dropout": 0.1,
        "max_position_embeddings": 2048,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-5,
        "use_parallel_residual": True,
        "attention_bias": True,
        "tie_word_embeddings": False,
    }
    prefixes = ("gpt_neox.",)
    base_architecture = "GPTNeoXModel"
    names: ClassVar[Names] = {
        "token_embedding": "embed_in",
        "decoder_layer_{}/attention_norm": "layers.{}.input_layernorm",
        **dense_parts(
            "decoder_layer_{}/attention",
            query=_QUERY_KEY_VALUE,
            key=_QUERY_KEY_VALUE,
            value=_QUERY_KEY_VALUE,
            output="layers.{}.attention.dense",
        ),
        "decoder_layer_{}/feed_forward_norm": "layers.{}.post_attention_layernorm",
        **dense_parts(
            "decoder_layer_{}/feed_forward",
            up="layers.{}.mlp.dense_h_to_4h",
            down="layers.{}.mlp.dense_4h_to_h",
        ),
        "decoder_norm": "final_layer_norm",
    }
    old_names = ((r"^lm_head\.", "embed_out."),)
    expected_unused = r"attention\.(bias|masked_bias|rotary_emb\.inv_freq)$|^rotary_emb\.inv_freq$"
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        **decoder_heads("GPTNeoX", tokens="classifier"),
        "causal_language": HeadFormat(
            ("GPTNeoXForCausalLM",),
            decoder_heads("GPTNeoX")["causal_language"].settings,
            {},
            {"head/output": "embed_out"},
        ),
    }
    stop_tokens = ("<|endoftext|>",)

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        dim, heads = config["hidden_size"], config["num_attention_heads"]
        base, share = config.get("rotary_emb_base") or 10_000.0, config.get("rotary_pct") or 0.25
        stack = StackSettings(
            config["num_hidden_layers"],
            dim,
            heads,
            heads,
            dim // heads,
            config["intermediate_size"],
            activation=self.act(config),
            norm_epsilon=config["layer_norm_eps"],
            norm_place="parallel" if config["use_parallel_residual"] else "pre",
            query_key_value_bias=config["attention_bias"],
            output_bias=config["attention_bias"],
            attention_scale=(dim // heads) ** -0.5,
            causal=True,
            rotary=read_rotary(config, dim // heads, theta=base, share=share),
            dropout=config["hidden_dropout"],
            attention_dropout=config["attention_dropout"],
        )
        embedding = EmbeddingSettings(config["vocab_size"], dim, dropout=config["hidden_dropout"])
        return BackboneSettings(embedding, decoder=stack, final_norm=True)

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        problems = rotary_problems(config)
        if config["hidden_size"] % config["num_attention_heads"]:
            problems.append(
                f"`hidden_size` {config['hidden_size']} is not a multiple of `num_attention_heads` "
                f"{config['num_attention_heads']}"
            )
        return problems
