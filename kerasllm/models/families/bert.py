"""BERT, and encoders of other names that keep its architecture, such as MiniLM.

Sources: Devlin et al., 2018 (https://arxiv.org/abs/1810.04805); names, defaults and numerics
as in `transformers/models/bert`.
"""

from collections.abc import Mapping
from typing import ClassVar

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
