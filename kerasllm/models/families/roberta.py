"""RoBERTa and XLM-RoBERTa.

Sources: Liu et al., 2019 (https://arxiv.org/abs/1907.11692), Conneau et al., 2020 (https://arxiv.org/abs/1911.02116);
names, defaults and numerics as in `transformers/models/roberta` and `transformers/models/xlm_roberta`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.encoders import Encoder, language_head, token_head
from kerasllm.models.families.family import Family, HeadFormat
from kerasllm.models.transformer.settings import EmbeddingSettings, HeadSettings

__all__ = ["RoBERTa", "XLMRoBERTa"]


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    rate, dim = token_head(family, config, units).dropout, family.setting(config, "hidden_size")
    return HeadSettings(units, "first", dim=dim, activation="tanh", dropout_before=rate, dropout=rate)


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    plain = language_head(family, config, units)
    # Its GELU does not follow the config.
    return HeadSettings(
        plain.units, dim=plain.dim, activation="gelu", norm_epsilon=plain.norm_epsilon, tied=plain.tied
    )


def _heads(name: str) -> dict[str, HeadFormat]:
    return {
        "pooled_classifier": HeadFormat(
            (f"{name}ForSequenceClassification",),
            _classifier,
            {"head/dense": "classifier.dense", "head/output": "classifier.out_proj"},
        ),
        "token_classifier": HeadFormat(
            (f"{name}ForTokenClassification",), token_head, {"head/output": "classifier"}
        ),
        "masked_language": HeadFormat(
            (f"{name}ForMaskedLM",),
            _language,
            {
                "head/dense": "lm_head.dense",
                "head/norm": "lm_head.layer_norm",
                "head/output/bias": "lm_head.bias",
            },
            {"head/output/kernel": "lm_head.decoder.weight", "head/output/bias": "lm_head.decoder.bias"},
        ),
    }


class RoBERTa(Encoder):
    """BERT with positions that count what is not padding, from `pad_token_id + 1` on."""

    model_type = "roberta"
    title = "RoBERTa"
    defaults: ClassVar[Mapping[str, Any]] = {**Encoder.defaults, "vocab_size": 50265, "pad_token_id": 1}
    prefixes = ("roberta.",)
    base_architecture = "RobertaModel"
    heads: ClassVar[Mapping[str, HeadFormat]] = _heads("Roberta")
    copies = ("lm_head.decoder.bias",)

    def embedding(self, config: Mapping[str, Any], **changes: Any) -> EmbeddingSettings:
        """See `Encoder.embedding`."""
        padding = config["pad_token_id"]
        options = {"position_offset": padding + 1, "positions_from": "ids", "padding_id": padding}
        return super().embedding(config, **{**options, **changes})


class XLMRoBERTa(RoBERTa):
    """RoBERTa in a hundred languages."""

    model_type = "xlm-roberta"
    title = "XLM-RoBERTa"
    defaults: ClassVar[Mapping[str, Any]] = {**RoBERTa.defaults, "vocab_size": 30522}
    base_architecture = "XLMRobertaModel"
    heads: ClassVar[Mapping[str, HeadFormat]] = _heads("XLMRoberta")
