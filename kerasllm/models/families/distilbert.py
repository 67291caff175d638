"""DistilBERT.

Source: Sanh et al., 2019 (https://arxiv.org/abs/1910.01108); names, defaults and numerics as in
`transformers/models/distilbert`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["DistilBERT"]

_EPSILON = 1e-12  # its config has no setting for it


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    rate = family.setting(config, "seq_classif_dropout")
    return HeadSettings(units, "first", dim=family.setting(config, "dim"), activation="relu", dropout=rate)


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(
        family.setting(config, "vocab_size"),
        dim=family.setting(config, "dim"),
        activation=family.act(config),
        norm_epsilon=_EPSILON,
        tied=family.tied(config),
    )


class DistilBERT(Family):
    """BERT without segments and pooler."""

    model_type = "distilbert"
    title = "DistilBERT"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation": "gelu",
        "seq_classif_dropout": 0.2,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
    }
    prefixes = ("distilbert.",)
    base_architecture = "DistilBertModel"
    names: ClassVar[Names] = {
        "token_embedding": "embeddings.word_embeddings",
        "encoder_embeddings/positions": "embeddings.position_embeddings",
        "encoder_embeddings/norm": "embeddings.LayerNorm",
        **dense_parts(
            "encoder_layer_{}/attention",
            query="transformer.layer.{}.attention.q_lin",
            key="transformer.layer.{}.attention.k_lin",
            value="transformer.layer.{}.attention.v_lin",
            output="transformer.layer.{}.attention.out_lin",
        ),
        "encoder_layer_{}/attention_norm": "transformer.layer.{}.sa_layer_norm",
        **dense_parts(
            "encoder_layer_{}/feed_forward",
            up="transformer.layer.{}.ffn.lin1",
            down="transformer.layer.{}.ffn.lin2",
        ),
        "encoder_layer_{}/feed_forward_norm": "transformer.layer.{}.output_layer_norm",
    }
    expected_unused = r"^(vocab_\w+|pre_classifier|classifier|qa_outputs)\."
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "pooled_classifier": HeadFormat(
            ("DistilBertForSequenceClassification",),
            _classifier,
            {"head/dense": "pre_classifier", "head/output": "classifier"},
        ),
        "token_classifier": HeadFormat(
            ("DistilBertForTokenClassification",),
            lambda family, config, units: HeadSettings(units, dropout=family.setting(config, "dropout")),
            {"head/output": "classifier"},
        ),
        "masked_language": HeadFormat(
            ("DistilBertForMaskedLM",),
            _language,
            {
                "head/dense": "vocab_transform",
                "head/norm": "vocab_layer_norm",
                "head/output/bias": "vocab_projector.bias",
            },
            {"head/output/kernel": "vocab_projector.weight"},
        ),
    }
    activation = "activation"
    counts_layers = ("n_layers",)

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        config = self.with_defaults(config)
        dim, heads = config["dim"], config["n_heads"]
        stack = StackSettings(
            config["n_layers"],
            dim,
            heads,
            heads,
            dim // heads,
            config["hidden_dim"],
            activation=self.act(config),
            norm_epsilon=_EPSILON,
            norm_place="post",
            attention_scale=(dim // heads) ** -0.5,
            dropout=config["dropout"],
            attention_dropout=config["attention_dropout"],
        )
        embedding = EmbeddingSettings(
            config["vocab_size"],
            dim,
            num_positions=config["max_position_embeddings"],
            norm=True,
            norm_epsilon=_EPSILON,
            dropout=config["dropout"],
        )
        return BackboneSettings(embedding, encoder=stack)

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        if config["dim"] % config["n_heads"]:
            return [f"`dim` {config['dim']} is not a multiple of `n_heads` {config['n_heads']}"]
        return []
