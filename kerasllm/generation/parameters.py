"""What a request may ask of generation, each of it for each row of a batch."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.generation.settings import DEFAULTS

__all__ = ["Parameters"]


class Parameters(NamedTuple):
    """Tensors of shape `(batch,)`, so that different requests may share a batch.

    Attributes:
        max_new_tokens: int32, most tokens of the answer, the one that ends it included.
        min_new_tokens: int32, tokens before which no token may end it.
        temperature: float32, 0 for the likeliest token each time.
        top_k: int32, how many of the likeliest tokens may be drawn, 0 for all.
        top_p: float32, the likeliest tokens that together have this probability may be drawn (Holtzman et
            al., 2020, https://arxiv.org/abs/1904.09751), 1 for all.
        min_p: float32, tokens may be drawn that have this share of the likeliest one's probability (Nguyen et
            al., 2024, https://arxiv.org/abs/2407.01082), 0 for all.
        repetition_penalty: float32, divides the positive logits of tokens of the prompt and of the answer,
            and multiplies negative ones (Keskar et al., 2019, https://arxiv.org/abs/1909.05858); 1 for none.
        presence_penalty: float32, taken from the logits of tokens that the answer has already; 0 for none.
        no_repeat_ngram_size: int32, no sequence of so many tokens comes twice; 0 for no such rule.
        seed: int64, of the draws; negative for another one each time.
    """

    max_new_tokens: Any
    min_new_tokens: Any
    temperature: Any
    top_k: Any
    top_p: Any
    min_p: Any
    repetition_penalty: Any
    presence_penalty: Any
    no_repeat_ngram_size: Any
    seed: Any

    @classmethod
    def of(cls, batch: Any, **values: Any) -> "Parameters":
        """Each as one value for all of `batch` rows, or as a tensor `(batch,)`; `DEFAULTS` for the others."""
        filled = {**DEFAULTS, **values}
        dtypes = {name: _dtype(value) for name, value in DEFAULTS.items()} | {"seed": tf.int64}
        return cls(
            **{
                name: tf.broadcast_to(tf.cast(tf.convert_to_tensor(filled[name]), dtypes[name]), [batch])
                for name in cls._fields
            }
        )

    def rows(self, rows: Any) -> "Parameters":
        """Those of some rows, int32[rows]."""
        return Parameters(*(tf.gather(part, rows) for part in self))


def _dtype(value: float) -> Any:
    return tf.float32 if isinstance(value, float) else tf.int32
