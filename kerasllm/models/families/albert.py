"""ALBERT.

Source: Lan et al., 2020 (https://arxiv.org/abs/1909.11942); names, defaults and numerics as in
`transformers/models/albert`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.encoders import EMBEDDING_NAMES, Encoder, language_head
from kerasllm.models.families.family import Family, HeadFormat, dense_parts
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import HeadSettings, StackSettings

__all__ = ["ALBERT"]

_LAYER = "encoder.albert_layer_groups.{}.albert_layers.{}"


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(units, "pooled", dropout=family.setting(config, "classifier_dropout_prob"))


def _token_classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return dataclasses.replace(_classifier(family, config, units), pool="none")


class ALBERT(Encoder):
    """BERT whose layers share their weights, with narrow embeddings."""

    model_type = "albert"
    title = "ALBERT"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Encoder.defaults,
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
    }
    prefixes = ("albert.",)
    base_architecture = "AlbertModel"
    names: ClassVar[Names] = {
        **EMBEDDING_NAMES,
        "encoder_embeddings/projection": "encoder.embedding_hidden_mapping_in",
        **dense_parts(
            "encoder_layer_{}/attention",
            query=f"{_LAYER}.attention.query",
            key=f"{_LAYER}.attention.key",
            value=f"{_LAYER}.attention.value",
            output=f"{_LAYER}.attention.dense",
        ),
        "encoder_layer_{}/attention_norm": f"{_LAYER}.attention.LayerNorm",
        **dense_parts("encoder_layer_{}/feed_forward", up=f"{_LAYER}.ffn", down=f"{_LAYER}.ffn_output"),
        "encoder_layer_{}/feed_forward_norm": f"{_LAYER}.full_layer_layer_norm",
        "pooler": "pooler",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "pooled_classifier": HeadFormat(
            ("AlbertForSequenceClassification",), _classifier, {"head/output": "classifier"}
        ),
        "token_classifier": HeadFormat(
            ("AlbertForTokenClassification",), _token_classifier, {"head/output": "classifier"}
        ),
        "masked_language": HeadFormat(
            ("AlbertForMaskedLM", "AlbertForPreTraining"),
            language_head,
            {
                "head/dense": "predictions.dense",
                "head/norm": "predictions.LayerNorm",
                "head/output/bias": "predictions.bias",
            },
            {
                "head/output/kernel": "predictions.decoder.weight",
                "head/output/bias": "predictions.decoder.bias",
            },
        ),
    }
    counts_layers = ("num_hidden_layers", "num_hidden_groups", "inner_group_num")
    copies = ("predictions.decoder.bias",)

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Encoder.stack`: a group of layers shares its weights, and each layer may be several."""
        inner, groups, layers = (
            config["inner_group_num"],
            config["num_hidden_groups"],
            config["num_hidden_layers"],
        )
        of_group = [int(layer / (layers / groups)) for layer in range(layers)]
        shared = [of_group.index(group) * inner + part for group in of_group for part in range(inner)]
        settings = super().stack(config, **changes)
        return dataclasses.replace(settings, num_layers=layers * inner, shared_layers=tuple(shared))

    def renumber(self, config: Mapping[str, Any], numbers: list[int]) -> list[int]:
        """See `Family.renumber`: the number of the group, and of the layer in it."""
        if not numbers:
            return numbers
        inner, groups = self.setting(config, "inner_group_num"), self.setting(config, "num_hidden_groups")
        layer, part = divmod(numbers[0], inner)
        return [int(layer / (self.setting(config, "num_hidden_layers") / groups)), part]

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        problems = super().problems(config)
        if config["num_hidden_groups"] > config["num_hidden_layers"]:
            problems.append("`num_hidden_groups` is more than `num_hidden_layers`")
        return problems
