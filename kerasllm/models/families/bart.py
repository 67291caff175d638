"""BART.

Source: Lewis et al., 2020 (https://arxiv.org/abs/1910.13461); names, defaults and numerics as in
`transformers/models/bart`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.names import Names, Stored
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["BART"]

_OFFSET = 2  # of the positions, after fairseq


def _attention(stack: str, part: str, name: str) -> dict[str, Any]:
    stem = f"{stack}.layers.{{}}.{name}"
    return dense_parts(
        f"{stack}_layer_{{}}/{part}",
        query=f"{stem}.q_proj",
        key=f"{stem}.k_proj",
        value=f"{stem}.v_proj",
        output=f"{stem}.out_proj",
    )


def _stack_names(stack: str) -> dict[str, Any]:
    layer, stem = f"{stack}_layer_{{}}", f"{stack}.layers.{{}}"
    names = {
        f"{stack}_embeddings/positions": f"{stack}.embed_positions",
        f"{stack}_embeddings/norm": f"{stack}.layernorm_embedding",
        f"{layer}/attention_norm": f"{stem}.self_attn_layer_norm",
        **_attention(stack, "attention", "self_attn"),
        f"{layer}/feed_forward_norm": f"{stem}.final_layer_norm",
        **dense_parts(f"{layer}/feed_forward", up=f"{stem}.fc1", down=f"{stem}.fc2"),
    }
    if stack == "decoder":
        names[f"{layer}/cross_attention_norm"] = f"{stem}.encoder_attn_layer_norm"
        names |= _attention(stack, "cross_attention", "encoder_attn")
    return names


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(family.setting(config, "vocab_size"), tied=family.tied(config))


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    dim, rate = family.setting(config, "d_model"), family.setting(config, "classifier_dropout")
    return HeadSettings(units, "end", dim=dim, activation="tanh", dropout_before=rate, dropout=rate)


class BART(Family):
    """Norms after attention and feed-forward, learned positions from 2 on."""

    model_type = "bart"
    title = "BART"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 50265,
        "max_position_embeddings": 1024,
        "encoder_layers": 12,
        "encoder_ffn_dim": 4096,
        "encoder_attention_heads": 16,
        "decoder_layers": 12,
        "decoder_ffn_dim": 4096,
        "decoder_attention_heads": 16,
        "activation_function": "gelu",
        "d_model": 1024,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "init_std": 0.02,
        "classifier_dropout": 0.0,
        "scale_embedding": False,
        "tie_word_embeddings": True,
    }
    prefixes = ("model.",)
    base_architecture = "BartModel"
    names: ClassVar[Names] = {
        "token_embedding": "shared",
        **_stack_names("encoder"),
        **_stack_names("decoder"),
    }
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "seq2seq_language": HeadFormat(
            ("BartForConditionalGeneration",),
            _language,
            {"head/output/bias": Stored("final_logits_bias", row=True)},
            {"head/output/kernel": "lm_head.weight"},
            optional=("final_logits_bias",),
        ),
        "pooled_classifier": HeadFormat(
            ("BartForSequenceClassification",),
            _classifier,
            {"head/dense": "classification_head.dense", "head/output": "classification_head.out_proj"},
        ),
    }
    stop_tokens = ("</s>",)
    deviation = "init_std"
    activation = "activation_function"
    counts_layers = ("encoder_layers", "decoder_layers")

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        embedding = EmbeddingSettings(
            config["vocab_size"],
            config["d_model"],
            num_positions=config["max_position_embeddings"] + _OFFSET,
            position_offset=_OFFSET,
            scale=config["d_model"] ** 0.5 if config["scale_embedding"] else 1.0,
            norm=True,
            dropout=config["dropout"],
        )
        return BackboneSettings(
            embedding,
            encoder=self._stack(config, "encoder"),
            decoder=self._stack(config, "decoder", causal=True, cross_attention=True),
        )

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        return [
            f"`d_model` {config['d_model']} is not a multiple of `{stack}_attention_heads` "
            f"{config[f'{stack}_attention_heads']}"
            for stack in ("encoder", "decoder")
            if config["d_model"] % config[f"{stack}_attention_heads"]
        ]

    def _stack(self, config: Mapping[str, Any], stack: str, **options: Any) -> StackSettings:
        dim, heads = config["d_model"], config[f"{stack}_attention_heads"]
        return StackSettings(
            config[f"{stack}_layers"],
            dim,
            heads,
            heads,
            dim // heads,
            config[f"{stack}_ffn_dim"],
            activation=self.act(config),
            norm_place="post",
            attention_scale=(dim // heads) ** -0.5,
            dropout=config["dropout"],
            attention_dropout=config["attention_dropout"],
            activation_dropout=config["activation_dropout"],
            **options,
        )
