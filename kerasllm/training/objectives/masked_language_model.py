"""Hidden tokens from all others: how encoders are pretrained, and fitted to the texts of a domain."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.training.objectives.language_head import LanguageOutputs, language_losses, token_vectors
from kerasllm.training.objectives.language_metrics import language_metrics
from kerasllm.training.objectives.objective import LossValue, Objective

__all__ = ["MaskedLanguageModel", "Masking"]


@dataclass(frozen=True)
class Masking:
    """Which tokens are hidden, and how.

    Attributes:
        mask_id: Id of the mask token.
        special: bool array of the length of the vocabulary: ids that are never chosen, and never put in.
        continues: bool array of the same length: ids that go on with the word before them, so that whole
            words are chosen; `None` for single tokens.
        rate: Share of the tokens that are chosen, each by itself (or each word).
        masked: Share of the chosen tokens that the mask takes the place of.
        replaced: Share of the chosen tokens that become a random one; the rest stay as they are.

    Raises:
        ConfigError: If a share is out of its range, or the arrays differ in length.
    """

    mask_id: int
    special: np.ndarray
    continues: np.ndarray | None = None
    rate: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ConfigError(f"`rate` of masking is {self.rate}, but must lie between 0 and 1.")
        if min(self.masked, self.replaced) < 0 or self.masked + self.replaced > 1 + 1e-9:
            raise ConfigError(
                f"`masked` is {self.masked} and `replaced` {self.replaced}, but they are shares of the "
                "chosen tokens: at least 0 each and at most 1 together."
            )
        if self.continues is not None and len(self.continues) != len(self.special):
            raise ConfigError(
                f"`continues` speaks of {len(self.continues)} ids and `special` of {len(self.special)}; give "
                "both the length of the vocabulary."
            )

    def choose(self, inputs: Any, random: Any) -> Any:
        """Chooses tokens, bool `(batch, sequence)`.

        Args:
            inputs: `token_ids` and `padding_mask`, `(batch, sequence)`.
            random: float32 of the same shape, from 0 to 1.
        """
        ids, texts = inputs["token_ids"], inputs["padding_mask"]
        if self.continues is not None:
            # Two words meet where a piece begins one, and at the borders of packed texts and segments.
            begins = ~tf.gather(tf.constant(self.continues), ids)
            for part in (texts, inputs.get("segment_ids")):
                begins |= False if part is None else tf.not_equal(part, tf.roll(part, 1, axis=1))
            word = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1, 0)
            random = tf.gather(random, word, batch_dims=1)
        return (texts > 0) & ~tf.gather(tf.constant(self.special), ids) & (random < self.rate)

    def hide(self, ids: Any, chosen: Any, action: Any, random: Any) -> Any:
        """Token ids of which the chosen ones are hidden.

        Args:
            ids: `(batch, sequence)`.
            chosen: bool of the same shape.
            action: float32 of the same shape, from 0 to 1: what becomes of each.
            random: The same: which token is put in.
        """
        ordinary = tf.constant(np.flatnonzero(~self.special), ids.dtype)
        number = tf.cast(random * tf.cast(tf.size(ordinary), tf.float32), tf.int32)
        others = tf.gather(ordinary, tf.minimum(number, tf.size(ordinary) - 1))
        others = tf.where(action < self.masked + self.replaced, others, ids)
        hidden = tf.where(action < self.masked, tf.cast(self.mask_id, ids.dtype), others)
        return tf.where(chosen, hidden, ids)


class MaskedLanguageModel(Objective):
    """Minimises the cross-entropy of hidden tokens; the metrics are perplexity and accuracy on them.

    Tokens are hidden in the graph, others in each epoch. Only the vectors of chosen tokens go through the
    head, so that the product with the vocabulary is done for 15 % of them. In evaluation the draws are the
    same each time, so that figures can be compared.

    Args:
        masking: What is hidden; `None` if the inputs have masks already. Defaults to `None`.
        seed: Of the choice. Defaults to 0.
        label_smoothing: Share of the target spread over the vocabulary. Defaults to 0.
        chunk_size: Most tokens whose logits are held. Defaults to `None`: as many as fit in 64 MiB.

    Call arguments of `loss`: `inputs` have `token_ids` and `padding_mask`. With `masking`, targets are passed
    over, and `weights` are those of texts `(batch,)`, or, as `LanguageModelTexts` gives them for each token
    after a place, `(batch, sequence)`: a token that counts as a target may be hidden. Without, `targets` are
    the ids `(batch, sequence)` of the tokens that stood at each place, and `weights`, of the same shape, are
    0 at all places that are not masked.

    Source: Devlin et al., 2018 (https://arxiv.org/abs/1810.04805), section 3.1; chosen anew in each epoch as
    by Liu et al., 2019 (https://arxiv.org/abs/1907.11692).
    """

    def __init__(
        self,
        masking: Masking | None = None,
        *,
        seed: int = 0,
        label_smoothing: float = 0.0,
        chunk_size: int | None = None,
    ):
        self.masking = masking
        self.label_smoothing = label_smoothing
        self.chunk_size = chunk_size
        self._seed = seed
        self._generator = keras.random.SeedGenerator(seed) if masking is not None else None

    @property
    def variables(self) -> list[keras.Variable]:
        """State of the random generator that chooses tokens."""
        return [] if self._generator is None else [self._generator.state]

    def loss(
        self, model: keras.Model, inputs: Any, targets: Any, weights: Any, *, training: bool
    ) -> LossValue:
        """See `Objective`; the outputs are `LanguageOutputs` of the hidden tokens."""
        if self.masking is not None:
            inputs, targets, weights = self.hidden(inputs, weights, training=training)
        places = tf.where(tf.not_equal(weights, 0.0))
        labels, weights = tf.gather_nd(targets, places), tf.gather_nd(weights, places)
        losses = language_losses(
            model,
            tf.gather_nd(token_vectors(model, inputs, training=training), places),
            labels,
            weights,
            training=training,
            label_smoothing=self.label_smoothing,
            chunk_size=self.chunk_size,
            skip_unweighted=False,
        )
        outputs = LanguageOutputs(losses.log_losses, losses.right, weights)
        return LossValue(losses.total, tf.reduce_sum(weights), outputs)

    def hidden(self, inputs: Any, weights: Any, *, training: bool) -> tuple[Any, Any, Any]:
        """Inputs with tokens hidden, what stood there, and what each place counts.

        Args:
            inputs: See the class.
            weights: See the class.
            training: Whether the draw is a new one.
        """
        masking: Any = self.masking
        ids = inputs["token_ids"]
        shape = tf.concat([[3], tf.shape(ids)], 0)
        if training and self._generator is not None:
            seed = tf.cast(self._generator.next(), tf.int32)
        else:
            seed = tf.constant([self._seed % 2**31, 0x5EED], tf.int32)
        choice, action, token = tf.unstack(tf.random.stateless_uniform(shape, seed))
        counts = _weights_of_places(weights, ids)
        chosen = masking.choose(inputs, choice) & tf.not_equal(counts, 0.0)
        changed = {**inputs, "token_ids": masking.hide(ids, chosen, action, token)}
        return changed, ids, tf.where(chosen, counts, 0.0)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Perplexity and token accuracy."""
        return language_metrics()


def _weights_of_places(weights: Any, ids: Any) -> Any:
    """Weights `(batch, sequence)` of the tokens themselves."""
    if weights is None:
        return tf.ones(tf.shape(ids))
    weights = tf.cast(weights, tf.float32)
    if weights.shape.rank == 1:
        return tf.broadcast_to(weights[:, None], tf.shape(ids))
    return tf.pad(weights[:, :-1], [[0, 0], [1, 0]])
