"""What the encoders that descend from BERT have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import ACTIVATIONS, Family, dense_parts
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["EMBEDDING_NAMES", "LAYER_NAMES", "Encoder", "classifier_head", "language_head", "token_head"]

EMBEDDING_NAMES: Names = {
    "token_embedding": "embeddings.word_embeddings",
    "encoder_embeddings/positions": "embeddings.position_embeddings",
    "encoder_embeddings/segments": "embeddings.token_type_embeddings",
    "encoder_embeddings/norm": "embeddings.LayerNorm",
}
LAYER_NAMES: Names = {
    **dense_parts(
        "encoder_layer_{}/attention",
        query="encoder.layer.{}.attention.self.query",
        key="encoder.layer.{}.attention.self.key",
        value="encoder.layer.{}.attention.self.value",
        output="encoder.layer.{}.attention.output.dense",
    ),
    "encoder_layer_{}/attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    **dense_parts(
        "encoder_layer_{}/feed_forward",
        up="encoder.layer.{}.intermediate.dense",
        down="encoder.layer.{}.output.dense",
    ),
    "encoder_layer_{}/feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}


class Encoder(Family):
    """An encoder with BERT's config; others change single parts."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "tie_word_embeddings": True,
    }
    names: ClassVar[Names] = {**EMBEDDING_NAMES, **LAYER_NAMES, "pooler": "pooler.dense"}
    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"(?<=LayerNorm\.)gamma$", "weight"),
        (r"(?<=LayerNorm\.)beta$", "bias"),
    )
    expected_unused = (
        r"^(cls|classifier|qa_outputs|lm_head|pre_classifier|vocab_\w+|predictions|sop_classifier|generator_\w+"
        r"|discriminator_\w+|lm_predictions|mask_predictions)\.|embeddings\.(position|token_type)_ids$"
    )
    more_rates = ("classifier_dropout",)
    pooler: ClassVar[str | None] = "tanh"

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        return BackboneSettings(
            self.embedding(config),
            encoder=self.stack(config),
            pooler=self.pooler,
            pooler_dim=config["hidden_size"] if self.pooler else 0,
            initializer_range=config["initializer_range"],
        )

    def embedding(self, config: Mapping[str, Any], **changes: Any) -> EmbeddingSettings:
        """Embeddings of tokens, positions and segments."""
        common: dict[str, Any] = {
            "num_positions": config["max_position_embeddings"],
            "num_segments": config["type_vocab_size"],
            "norm": True,
            "norm_epsilon": config["layer_norm_eps"],
            "dropout": config["hidden_dropout_prob"],
        }
        dim = config.get("embedding_size") or config["hidden_size"]
        return EmbeddingSettings(config["vocab_size"], dim, **{**common, **changes})

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """The encoder's layers."""
        dim, heads = config["hidden_size"], config["num_attention_heads"]
        common: dict[str, Any] = {
            "activation": ACTIVATIONS[config["hidden_act"]],
            "norm_epsilon": config["layer_norm_eps"],
            "norm_place": "post",
            "attention_scale": (dim // heads) ** -0.5,
            "dropout": config["hidden_dropout_prob"],
            "attention_dropout": config["attention_probs_dropout_prob"],
        }
        return StackSettings(
            config["num_hidden_layers"],
            dim,
            heads,
            heads,
            dim // heads,
            config["intermediate_size"],
            **{**common, **changes},
        )

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        if config["hidden_size"] % config["num_attention_heads"]:
            return [
                f"`hidden_size` {config['hidden_size']} is not a multiple of "
                f"`num_attention_heads` {config['num_attention_heads']}"
            ]
        return []


def _head_dropout(family: Family, config: Mapping[str, Any]) -> float:
    rate = config.get("classifier_dropout")
    return float(family.setting(config, "hidden_dropout_prob") if rate is None else rate)


def classifier_head(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    """On the pooler's vector."""
    return HeadSettings(units, "pooled", dropout=_head_dropout(family, config))


def token_head(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    """On every token's vector."""
    return HeadSettings(units, dropout=_head_dropout(family, config))


def language_head(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    """That guesses masked tokens."""
    return HeadSettings(
        family.setting(config, "vocab_size"),
        dim=config.get("embedding_size") or family.setting(config, "hidden_size"),
        activation=family.act(config),
        norm_epsilon=family.setting(config, "layer_norm_eps"),
        tied=family.tied(config),
    )
