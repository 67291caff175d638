"""OPT.

Source: Zhang et al., 2022 (https://arxiv.org/abs/2205.01068); names, defaults and numerics as in
`transformers/models/opt`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.llama import decoder_heads
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings

__all__ = ["OPT"]

_OFFSET = 2  # of the positions, after fairseq


class OPT(Family):
    """Learned positions that count what the padding mask keeps; embeddings of another width in OPT-350m."""

    model_type = "opt"
    title = "OPT"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 50272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "ffn_dim": 3072,
        "max_position_embeddings": 2048,
        "do_layer_norm_before": True,
        "_remove_final_layer_norm": False,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "num_attention_heads": 12,
        "activation_function": "relu",
        "init_std": 0.02,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "tie_word_embeddings": True,
    }
    prefixes = ("model.decoder.", "decoder.")
    base_prefix = "decoder."
    base_architecture = "OPTModel"
    names: ClassVar[Names] = {
        "token_embedding": "embed_tokens",
        "decoder_embeddings/positions": "embed_positions",
        "decoder_embeddings/projection": "project_in",
        "decoder_layer_{}/attention_norm": "layers.{}.self_attn_layer_norm",
        **dense_parts(
            "decoder_layer_{}/attention",
            query="layers.{}.self_attn.q_proj",
            key="layers.{}.self_attn.k_proj",
            value="layers.{}.self_attn.v_proj",
            output="layers.{}.self_attn.out_proj",
        ),
        "decoder_layer_{}/feed_forward_norm": "layers.{}.final_layer_norm",
        **dense_parts("decoder_layer_{}/feed_forward", up="layers.{}.fc1", down="layers.{}.fc2"),
        "decoder_norm": "final_layer_norm",
        "output_projection": "project_out",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = decoder_heads("OPT", tokens=None)
    stop_tokens = ("</s>",)
    deviation = "init_std"
    activation = "activation_function"

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        dim, heads = config["hidden_size"], config["num_attention_heads"]
        narrow = config.get("word_embed_proj_dim") or dim
        before = config["do_layer_norm_before"]
        stack = StackSettings(
            config["num_hidden_layers"],
            dim,
            heads,
            heads,
            dim // heads,
            config["ffn_dim"],
            activation=self.act(config),
            norm_place="pre" if before else "post",
            norm_scaled=config["layer_norm_elementwise_affine"],
            query_key_value_bias=config["enable_bias"],
            output_bias=config["enable_bias"],
            feed_forward_bias=config["enable_bias"],
            attention_scale=(dim // heads) ** -0.5,
            causal=True,
            dropout=config["dropout"],
            attention_dropout=config["attention_dropout"],
        )
        embedding = EmbeddingSettings(
            config["vocab_size"],
            narrow,
            projection_bias=False,
            num_positions=config["max_position_embeddings"] + _OFFSET,
            position_offset=_OFFSET,
            positions_from="mask",
            positions_late=True,
        )
        return BackboneSettings(
            embedding,
            decoder=stack,
            final_norm=before and not config["_remove_final_layer_norm"],
            output_dim=None if narrow == dim else narrow,
        )

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        if config["hidden_size"] % config["num_attention_heads"]:
            return [
                f"`hidden_size` {config['hidden_size']} is not a multiple of `num_attention_heads` "
                f"{config['num_attention_heads']}"
            ]
        return []
