"""T5 (v1.0 and v1.1, FLAN) and mT5.

Sources: Raffel et al., 2020 (https://arxiv.org/abs/1910.10683), Xue et al., 2021 (https://arxiv.org/abs/2010.11934);
names, defaults and numerics as in `transformers/models/t5` and `transformers/models/mt5`.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.family import ACTIVATIONS, Family, HeadFormat, dense_parts
from kerasllm.models.families.names import Names
from kerasllm.models.transformer.settings import (
    BackboneSettings,
    EmbeddingSettings,
    HeadSettings,
    RelativeBiasSettings,
    StackSettings,
)

__all__ = ["MT5", "T5"]

_ENCODERS = ("EncoderModel", "ForTokenClassification")


def _network(layer: str, number: int) -> dict[str, Any]:
    return dense_parts(
        f"{layer}/feed_forward",
        gate=_block(layer, number, "DenseReluDense.wi_0"),
        up=_block(layer, number, "DenseReluDense.wi_1"),
        down=_block(layer, number, "DenseReluDense.wo"),
    )


def _block(layer: str, number: int, name: str) -> str:
    return f"{layer.partition('_')[0]}.block.{{}}.layer.{number}.{name}"


def _attention(layer: str, part: str, number: int, name: str) -> dict[str, Any]:
    names = {"query": "q", "key": "k", "value": "v", "output": "o"}
    return dense_parts(
        f"{layer}/{part}", **{ours: _block(layer, number, f"{name}.{q}") for ours, q in names.items()}
    )


def _stack_names(stack: str) -> dict[str, Any]:
    layer = f"{stack}_layer_{{}}"
    last = 1 if stack == "encoder" else 2
    names = {
        f"{stack}_relative_bias": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{layer}/attention_norm": _block(layer, 0, "layer_norm"),
        **_attention(layer, "attention", 0, "SelfAttention"),
        f"{layer}/feed_forward_norm": _block(layer, last, "layer_norm"),
        **_network(layer, last),
        f"{stack}_norm": f"{stack}.final_layer_norm",
    }
    if stack == "decoder":
        names[f"{layer}/cross_attention_norm"] = _block(layer, 1, "layer_norm")
        names |= _attention(layer, "cross_attention", 1, "EncDecAttention")
    return names


def _language(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    scales = isinstance(family, T5) and family.scales_output(config)
    scale = family.setting(config, "d_model") ** -0.5 if scales else 1.0
    return HeadSettings(family.setting(config, "vocab_size"), bias=False, tied=True, scale=scale)


def _classifier(family: Family, config: Mapping[str, Any], units: int) -> HeadSettings:
    dim, rate = family.setting(config, "d_model"), family.setting(config, "classifier_dropout")
    return HeadSettings(units, "end", dim=dim, activation="tanh", dropout_before=rate, dropout=rate)


def _heads(name: str) -> dict[str, HeadFormat]:
    return {
        "seq2seq_language": HeadFormat(
            (f"{name}ForConditionalGeneration", f"{name}WithLMHeadModel"),
            _language,
            {},
            {"head/output": "lm_head"},
            prefix="",
        ),
        "pooled_classifier": HeadFormat(
            (f"{name}ForSequenceClassification",),
            _classifier,
            {"head/dense": "classification_head.dense", "head/output": "classification_head.out_proj"},
        ),
        "token_classifier": HeadFormat(
            (f"{name}ForTokenClassification",),
            lambda family, config, units: HeadSettings(
                units, dropout=family.setting(config, "classifier_dropout")
            ),
            {"head/output": "classifier"},
        ),
    }


class T5(Family):
    """Relative positions by a bias that all layers share, no shift in the norms, no scale in the scores."""

    model_type = "t5"
    title = "T5 v1.0 and v1.1, FLAN-T5"
    defaults: ClassVar[Mapping[str, Any]] = {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "classifier_dropout": 0.0,
    }
    prefixes = ("transformer.",)
    base_architecture = "T5Model"
    names: ClassVar[Names] = {
        "token_embedding": "shared",
        **_stack_names("encoder"),
        **_stack_names("decoder"),
    }
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    # A table that the first release had and never used.
    expected_unused = r"EncDecAttention\.relative_attention_bias\.weight$"
    heads: ClassVar[Mapping[str, HeadFormat]] = _heads("T5")
    stop_tokens = ("</s>",)
    epsilon = "layer_norm_epsilon"
    activation = "dense_act_fn"
    counts_layers = ("num_layers",)

    def backbone(self, config: Mapping[str, Any]) -> BackboneSettings:
        """See `Family.backbone`; without a decoder where `architectures` names a model that has none."""
        config = self.with_defaults(config)
        embedding = EmbeddingSettings(config["vocab_size"], config["d_model"], dropout=config["dropout_rate"])
        return BackboneSettings(
            embedding,
            encoder=self._stack(config, config["num_layers"]),
            decoder=None
            if self._encodes_only(config)
            else self._stack(
                config,
                config.get("num_decoder_layers") or config["num_layers"],
                causal=True,
                cross_attention=True,
            ),
            final_norm=True,
            final_dropout=config["dropout_rate"],
        )

    def max_length(self, config: Mapping[str, Any]) -> int:
        """Positions are relative, so any length can be computed; this is what it was trained at."""
        return int(config.get("n_positions") or 512)

    def base_class(self, config: Mapping[str, Any]) -> str:
        """See `Family.base_class`."""
        return (
            self.base_architecture.replace("Model", "EncoderModel")
            if self._encodes_only(config)
            else self.base_architecture
        )

    def scales_output(self, config: Mapping[str, Any]) -> bool:
        """Whether token vectors are scaled before they meet the token embeddings.

        Only v1.0 does. Its configs do not say so: v1.1 is known by `tie_word_embeddings: false`.
        """
        stated = config.get("scale_decoder_outputs")
        return config.get("tie_word_embeddings") is not False if stated is None else bool(stated)

    def tied(self, config: Mapping[str, Any]) -> bool:
        """Whether `lm_head` is that of the embeddings is known by the tensors, not by the config."""
        return True

    def problems(self, config: Mapping[str, Any]) -> list[str]:
        """See `Family.problems`."""
        gate, _, activation = config["feed_forward_proj"].rpartition("-")
        problems = []
        if gate not in ("", "gated") or activation not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
            problems.append(
                f"`feed_forward_proj` is {config['feed_forward_proj']!r}, but must be an activation or "
                f"`gated-` and one: {known}"
            )
        decoders = config.get("num_decoder_layers")
        if decoders is not None and (not isinstance(decoders, int) or not 1 <= decoders <= 1000):
            problems.append(f"`num_decoder_layers` is {decoders!r}, but must be from 1 to 1000")
        return problems

    def backbone_names(self, config: Mapping[str, Any]) -> Names:
        """See `Family.backbone_names`; v1.0 calls the one matrix `wi`."""
        if self.with_defaults(config)["feed_forward_proj"].startswith("gated-"):
            return self.names
        return {
            path: re.sub("wi_1$", "wi", name) for path, name in self.names.items() if isinstance(name, str)
        }

    def _encodes_only(self, config: Mapping[str, Any]) -> bool:
        architecture = (config.get("architectures") or [""])[0] or ""
        return architecture.endswith(_ENCODERS)

    def _stack(self, config: Mapping[str, Any], layers: int, **options: Any) -> StackSettings:
        gate, _, activation = config["feed_forward_proj"].rpartition("-")
        # The config of v1.1 says "gated-gelu" and means the tanh approximation, as its authors did.
        name = "gelu_new" if config["feed_forward_proj"] == "gated-gelu" else activation
        return StackSettings(
            layers,
            config["d_model"],
            config["num_heads"],
            config["num_heads"],
            config["d_kv"],
            config["d_ff"],
            activation=ACTIVATIONS[name],
            norm="rms",
            norm_epsilon=config["layer_norm_epsilon"],
            gated=bool(gate),
            query_key_value_bias=False,
            output_bias=False,
            feed_forward_bias=False,
            relative_bias=RelativeBiasSettings(
                config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
            ),
            dropout=config["dropout_rate"],
            attention_dropout=config["dropout_rate"],
            activation_dropout=config["dropout_rate"],
            **options,
        )


class MT5(T5):
    """T5 v1.1 in many languages."""

    model_type = "mt5"
    title = "mT5"
    defaults: ClassVar[Mapping[str, Any]] = {
        **T5.defaults,
        "vocab_size": 250112,
        "d_ff": 1024,
        "num_layers": 8,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
    }
    base_architecture = "MT5Model"
    heads: ClassVar[Mapping[str, HeadFormat]] = _heads("MT5")

    def scales_output(self, config: Mapping[str, Any]) -> bool:
        """Never."""
        return False
