"""DeBERTa-v2 and DeBERTa-v3, whose configs and code are one.

Sources: He et al., 2021 (https://arxiv.org/abs/2006.03654 and https://arxiv.org/abs/2111.09543); names,
defaults and numerics as in `transformers/models/deberta_v2`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.encoders import Encoder, language_head
from kerasllm.models.families.family import ACTIVATIONS, Family, HeadFormat
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    DisentangledSettings,
    EmbeddingSettings,
    HeadSettings,
    StackSettings,
)

__all__ = ["DeBERTaV2"]

_TERMS = {"c2p", "p2c"}


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    rate = config.get("cls_dropout")
    return HeadSettings(
        units,
        "first",
        dim=config.get("pooler_hidden_size") or family.setting(config, "hidden_size"),
        activation=ACTIVATIONS[family.setting(config, "pooler_hidden_act")],
        dropout_before=family.setting(config, "pooler_dropout"),
        dropout=family.setting(config, "hidden_dropout_prob") if rate is None else rate,
    )


def _token_classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    return HeadSettings(units, dropout=family.setting(config, "hidden_dropout_prob"))


_CLASSIFIER_NAMES = {"head/dense": "pooler.dense", "head/output": "classifier"}
_OLD = "cls.predictions"


class DeBERTaV2(Encoder):
    """Attention to content and to distance; no pooler of its own."""

    model_type = "deberta-v2"
    title = "DeBERTa-v2, DeBERTa-v3"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Encoder.defaults,
        "vocab_size": 128100,
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
        "relative_attention": False,
        "position_biased_input": True,
        "pooler_dropout": 0.0,
        "pooler_hidden_act": "gelu",
    }
    may_be_zero = ("type_vocab_size",)
    prefixes = ("deberta.",)
    base_architecture = "DebertaV2Model"
    names: ClassVar[Names] = {
        **{path: name for path, name in Encoder.names.items() if path != "pooler"},
        "encoder_embeddings/projection": "embeddings.embed_proj",
        "encoder_layer_{}/attention/query": "encoder.layer.{}.attention.self.query_proj",
        "encoder_layer_{}/attention/key": "encoder.layer.{}.attention.self.key_proj",
        "encoder_layer_{}/attention/value": "encoder.layer.{}.attention.self.value_proj",
        "encoder_layer_{}/attention/distance_key": "encoder.layer.{}.attention.self.pos_key_proj",
        "encoder_layer_{}/attention/distance_query": "encoder.layer.{}.attention.self.pos_query_proj",
        "encoder_distances": "encoder.rel_embeddings",
        "encoder_distances/norm": "encoder.LayerNorm",
    }
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "pooled_classifier": HeadFormat(
            ("DebertaV2ForSequenceClassification",), _classifier, _CLASSIFIER_NAMES
        ),
        "token_classifier": HeadFormat(
            ("DebertaV2ForTokenClassification",), _token_classifier, {"head/output": "classifier"}
        ),
        "masked_language": HeadFormat(
            ("DebertaV2ForMaskedLM",),
            language_head,
            {
                "head/dense": f"{_OLD}.transform.dense",
                "head/norm": f"{_OLD}.transform.LayerNorm",
                "head/output/bias": f"{_OLD}.bias",
            },
            {"head/output/kernel": f"{_OLD}.decoder.weight", "head/output/bias": f"{_OLD}.decoder.bias"},
        ),
    }
    # The head of `legacy: false` has the same parts under other names.
    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *Encoder.old_names,
        (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
        (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
    )
    copies = ("cls.predictions.decoder.bias",)
    more_rates = ("cls_dropout",)
    pooler = None

    def embedding(self, config: Mapping[str, Any], **changes: Any) -> EmbeddingSettings:
        """See `Encoder.embedding`."""
        options: dict[str, Any] = {"hide_padding": True, "projection_bias": False, "positions_late": False}
        if not config["position_biased_input"]:
            options["num_positions"] = 0
        return super().embedding(config, **{**options, **changes})

    def stack(self, config: Mapping[str, Any], **changes: Any) -> StackSettings:
        """See `Encoder.stack`."""
        terms = _terms(config) if config["relative_attention"] else []
        heads = config["num_attention_heads"]
        head_dim = config["hidden_size"] // heads
        options: dict[str, Any] = {"attention_scale": (head_dim * (1 + len(terms))) ** -0.5}
        if config["relative_attention"]:
            longest = config.get("max_relative_positions") or -1
            options["disentangled"] = DisentangledSettings(
                config.get("position_buckets") or -1,
                longest if longest >= 1 else config["max_position_embeddings"],
                "c2p" in terms,
                "p2c" in terms,
                bool(config.get("share_att_key")),
                "layer_norm" in str(config.get("norm_rel_ebd") or "none").lower().split("|"),
            )
        return super().stack(config, **{**options, **changes})

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`."""
        return dataclasses.replace(super().backbone(config), pooler=None, pooler_dim=0)

    def saved_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.saved_config`: the head that guesses tokens is written under its older names."""
        return {**config, "legacy": True}

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        problems = super().problems(config)
        if (config.get("conv_kernel_size") or 0) > 0:
            problems.append(
                "`conv_kernel_size` is set: the convolution of DeBERTa-v2's large models is not computed"
            )
        unknown = set(_terms(config)) - _TERMS
        if unknown:
            problems.append(f"`pos_att_type` has {', '.join(sorted(unknown))}, known are: c2p, p2c")
        if (config.get("embedding_size") or config["hidden_size"]) != config["hidden_size"]:
            problems.append("`embedding_size` differs from `hidden_size`")
        if config.get("attention_head_size") not in (
            None,
            config["hidden_size"] // config["num_attention_heads"],
        ):
            problems.append("`attention_head_size` is not `hidden_size` divided by `num_attention_heads`")
        return problems


def _terms(config: Mapping[str, Any]) -> list[str]:
    stated = config.get("pos_att_type") or []
    if isinstance(stated, str):
        stated = stated.split("|")
    return [term.strip().lower() for term in stated if term.strip()]
