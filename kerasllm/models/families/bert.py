"""BERT, and encoders of other names that keep its architecture, such as MiniLM.

Sources: Devlin et al., 2018 (https://arxiv.org/abs/1810.04805); names, defaults and numerics
as in `transformers/models/bert`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from kerasllm.models.families.encoders import Encoder, classifier_head, language_head, token_head
from kerasllm.models.families.family import HeadFormat

__all__ = ["BERT"]


class BERT(Encoder):
    """See the module."""

    model_type = "bert"
    title = "BERT, MiniLM"
    prefixes = ("bert.",)
    base_architecture = "BertModel"
    heads: ClassVar[Mapping[str, HeadFormat]] = {
        "pooled_classifier": HeadFormat(
            ("BertForSequenceClassification",), classifier_head, {"head/output": "classifier"}
        ),
        "token_classifier": HeadFormat(
            ("BertForTokenClassification",), token_head, {"head/output": "classifier"}
        ),
        "masked_language": HeadFormat(
            ("BertForMaskedLM", "BertForPreTraining"),
            language_head,
            {
                "head/dense": "cls.predictions.transform.dense",
                "head/norm": "cls.predictions.transform.LayerNorm",
                "head/output/bias": "cls.predictions.bias",
            },
            # transformers takes the bias beside the matrix then.
            {
                "head/output/kernel": "cls.predictions.decoder.weight",
                "head/output/bias": "cls.predictions.decoder.bias",
            },
        ),
    }
    copies = ("cls.predictions.decoder.bias",)
    keras_hub_class = "BertBackbone"
    keras_hub_paths: ClassVar[Mapping[str, str]] = {
        "token_embedding": "token_embedding",
        "encoder_embeddings/positions": "position_embedding",
        "encoder_embeddings/segments": "segment_embedding",
        "encoder_embeddings/norm": "embeddings_layer_norm",
        "encoder_layer_{}/attention/query": "transformer_layer_{}/self_attention_layer/query",
        "encoder_layer_{}/attention/key": "transformer_layer_{}/self_attention_layer/key",
        "encoder_layer_{}/attention/value": "transformer_layer_{}/self_attention_layer/value",
        "encoder_layer_{}/attention/output": "transformer_layer_{}/self_attention_layer/attention_output",
        "encoder_layer_{}/attention_norm": "transformer_layer_{}/self_attention_layer_norm",
        "encoder_layer_{}/feed_forward/up": "transformer_layer_{}/feedforward_intermediate_dense",
        "encoder_layer_{}/feed_forward/down": "transformer_layer_{}/feedforward_output_dense",
        "encoder_layer_{}/feed_forward_norm": "transformer_layer_{}/feedforward_layer_norm",
        "pooler": "pooled_dense",
    }

    def from_keras_hub(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the config that computes what `keras_hub.models.BertBackbone` with these settings does."""
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": settings["vocabulary_size"],
            "hidden_size": settings["hidden_dim"],
            "num_hidden_layers": settings["num_layers"],
            "num_attention_heads": settings["num_heads"],
            "intermediate_size": settings["intermediate_dim"],
            "max_position_embeddings": settings["max_sequence_length"],
            "type_vocab_size": settings["num_segments"],
            "hidden_dropout_prob": settings["dropout"],
            "attention_probs_dropout_prob": settings["dropout"],
            "hidden_act": "gelu_new",  # whatever the original was trained with: the preset computes tanh GELU
            "layer_norm_eps": 1e-12,
        }

    def keras_hub_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Family.keras_hub_settings`."""
        config = self.with_defaults(config)
        return {
            "vocabulary_size": config["vocab_size"],
            "num_layers": config["num_hidden_layers"],
            "num_heads": config["num_attention_heads"],
            "hidden_dim": config["hidden_size"],
            "intermediate_dim": config["intermediate_size"],
            "max_sequence_length": config["max_position_embeddings"],
            "num_segments": config["type_vocab_size"],
            "dropout": config["hidden_dropout_prob"],
        }
