"""Parts of the input erased from its token vectors."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.embedding_layer import EmbeddingAugmentation
from kerasllm.data.augmentation.phrases import Phrases
from kerasllm.data.augmentation.spans import draw_spans
from kerasllm.data.augmentation.token_layer import check_rate, choose, drawing
from kerasllm.data.augmentation.vocabulary import Vocabulary
from kerasllm.data.augmentation.words import find_words, tokens_as_words
from kerasllm.errors import ConfigError

__all__ = ["Cutoff"]

KINDS = ("token", "feature", "span")


@keras.saving.register_keras_serializable(package="kerasllm")
class Cutoff(EmbeddingAugmentation):
    """Sets token vectors to zero (Shen et al., 2020): of single words, of a span of words, or some features.

    With a vocabulary, whole words are erased, never special tokens or protected words, and one word of each
    text stays; without one, each token is a word.

    Args:
        rate: Share of the words, or of the features, that are erased. Defaults to 0.1.
        kind: `"token"`, each word by itself; `"span"`, one span of each text; `"feature"`, the same features
            of all tokens of a row. Defaults to `"token"`.
        vocabulary: A `kerasllm.Tokenizer` or `Vocabulary`; used where the layer is called with token ids, as
            by `augmented`. Defaults to `None`.
        protected: Words and phrases that are never erased. Defaults to none.
        seed: Defaults to `None`, another one each time.

    Call arguments:
        inputs: Token vectors `(batch, sequence, dim)`, or a batch of token ids.
        padding_mask: For vectors: `(batch, sequence)`, 1 for tokens. Defaults to `None`, all are.
        training: Whether something is erased.
    """

    def __init__(
        self,
        rate: float = 0.1,
        kind: str = "token",
        *,
        vocabulary: Any = None,
        protected: Sequence[Any] = (),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        if kind not in KINDS:
            raise ConfigError(f"`kind` of `Cutoff` is {kind!r}. Choose one of {list(KINDS)}.")
        if protected and vocabulary is None:
            raise ConfigError("`protected` of `Cutoff` needs a `vocabulary`: give the tokenizer.")
        self.rate = check_rate(self, rate)
        self.kind = kind
        self.vocabulary = None if vocabulary is None else Vocabulary.of(vocabulary)
        self.protected = Phrases(self.vocabulary.encode(protected) if self.vocabulary else [])

    def plan(self, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """See `EmbeddingAugmentation`."""
        draw = drawing(self.seed_generator)
        if self.kind == "feature":
            return draw, batch
        if self.vocabulary is None or "token_ids" not in batch:
            words = tokens_as_words(tf.cast(batch["padding_mask"], tf.bool))
        else:
            words = find_words(batch, self.vocabulary, self.protected)
        if self.kind == "token":
            erased = choose(words, self.rate, draw)
        else:
            place, first, last, _ = draw_spans(words, draw, self.rate, cut_off=False)
            erased = words.changeable & (place >= first) & (place < last)
        return ~(words.real & words.of_tokens(erased)), batch

    def embed(self, vectors: Any, plan: Any) -> Any:
        """See `EmbeddingAugmentation`."""
        if self.kind == "feature":
            shape = tf.shape(vectors)
            plan = plan([shape[0], shape[2]]) >= self.rate
            keep = plan[:, None, :]
        else:
            keep = plan[..., None]
        return tf.where(keep, vectors, tf.zeros([], vectors.dtype))

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "kind": self.kind,
            "vocabulary": None if self.vocabulary is None else self.vocabulary.get_config(),
            "protected": [list(sequence) for sequence in self.protected.sequences],
        }
