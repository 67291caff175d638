"""GPT-2.

Source: Radford et al., 2019, "Language Models are Unsupervised Multitask Learners"; names, defaults and
numerics as in `transformers/models/gpt2`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.llama import decoder_heads
from kerasllm.models.families.names import Names, Stored
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings

__all__ = ["GPT2"]

_QUERY_KEY_VALUE = Stored("h.{}.attn.c_attn", transposed=False, parts=("query", "key", "value"))


class GPT2(Family):
    """Learned positions, norms before attention and feed-forward, matrices kept as `(inputs, outputs)`."""

    model_type = "gpt2"
    title = "GPT-2"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
    }
    prefixes = ("transformer.",)
    base_architecture = "GPT2Model"
    names: ClassVar[Names] = {
        "token_embedding": "wte",
        "decoder_embeddings/positions": "wpe",
        "decoder_layer_{}/attention_norm": "h.{}.ln_1",
        **dense_parts(
            "decoder_layer_{}/attention",
            query=_QUERY_KEY_VALUE,
            key=_QUERY_KEY_VALUE,
            value=_QUERY_KEY_VALUE,
            output=Stored("h.{}.attn.c_proj", transposed=False),
        ),
        "decoder_layer_{}/feed_forward_norm": "h.{}.ln_2",
        **dense_parts(
            "decoder_layer_{}/feed_forward",
            up=Stored("h.{}.mlp.c_fc", transposed=False),
            down=Stored("h.{}.mlp.c_proj", transposed=False),
        ),
        "decoder_norm": "ln_f",
    }
    expected_unused = r"^h\.\d+\.attn\.(bias|masked_bias)$"
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads(
        "GPT2", language="LMHeadModel", tokens="classifier"
    )
    stop_tokens = ("<|endoftext|>",)
    epsilon = "layer_norm_epsilon"
    activation = "activation_function"
    positions = "n_positions"
    counts_layers = ("n_layer",)

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        dim, heads = config["n_embd"], config["n_head"]
        stack = StackSettings(
            config["n_layer"],
            dim,
            heads,
            heads,
            dim // heads,
            config.get("n_inner") or 4 * dim,
            activation=self.act(config),
            norm_epsilon=config["layer_norm_epsilon"],
            attention_scale=(dim // heads) ** -0.5 if config["scale_attn_weights"] else 1.0,
            scale_by_layer=bool(config["scale_attn_by_inverse_layer_idx"]),
            causal=True,
            dropout=config["resid_pdrop"],
            attention_dropout=config["attn_pdrop"],
        )
        embedding = EmbeddingSettings(
            config["vocab_size"], dim, num_positions=config["n_positions"], dropout=config["embd_pdrop"]
        )
        return BackboneSettings(embedding, decoder=stack, final_norm=True)

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        if config["n_embd"] % config["n_head"]:
            return [f"`n_embd` {config['n_embd']} is not a multiple of `n_head` {config['n_head']}"]
        return []
