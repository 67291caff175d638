"""ELECTRA.

Source: Clark et al., 2020 (https://arxiv.org/abs/2003.10555); names, defaults and numerics as in
`transformers/models/electra`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.encoders import Encoder, language_head, token_head
from kerasllm.models.families.family import Family, HeadFormat
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import HeadSettings

__all__ = ["ELECTRA"]


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    rate, dim = token_head(family, config, units).dropout, family.setting(config, "hidden_size")
    return HeadSettings(units, "first", dim=dim, activation="gelu", dropout_before=rate, dropout=rate)


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    narrow = family.setting(config, "embedding_size")
    # Its GELU does not follow the config.
    return dataclasses.replace(language_head(family, config, units), dim=narrow, activation="gelu")


class ELECTRA(Encoder):
    """BERT without a pooler, with narrow embeddings in the small sizes; discriminator and generator."""

    model_type = "electra"
    title = "ELECTRA"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Encoder.defaults,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }
    prefixes = ("electra.",)
    base_architecture = "ElectraModel"
    names: ClassVar[Names] = {**Encoder.names, "encoder_embeddings/projection": "embeddings_project"}
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "pooled_classifier": HeadFormat(
            ("ElectraForSequenceClassification",),
            _classifier,
            {"head/dense": "classifier.dense", "head/output": "classifier.out_proj"},
        ),
        "token_classifier": HeadFormat(
            ("ElectraForTokenClassification",), token_head, {"head/output": "classifier"}
        ),
        "masked_language": HeadFormat(
            ("ElectraForMaskedLM",),
            _language,
            {
                "head/dense": "generator_predictions.dense",
                "head/norm": "generator_predictions.LayerNorm",
                "head/output/bias": "generator_lm_head.bias",
            },
            {"head/output/kernel": "generator_lm_head.weight"},
        ),
    }
    pooler = None
