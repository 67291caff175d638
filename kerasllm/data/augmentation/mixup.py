"""Pairs of texts mixed into one."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kerasllm.data.augmentation.embedding_layer import EmbeddingAugmentation
from kerasllm.data.augmentation.token_layer import drawing
from kerasllm.errors import ConfigError

__all__ = ["Mixing", "Mixup"]


class Mixing(NamedTuple):
    """Which rows of a batch were mixed, and how much.

    Attributes:
        share: float32 `(batch,)`, lambda: the share of the row itself.
        permutation: int32 `(batch,)`, the row that it was mixed with.
        padding_mask: int32 `(batch, sequence)`, the tokens of each row before.
    """

    share: Any
    permutation: Any
    padding_mask: Any

    def partners(self, values: Any) -> Any:
        """The values `(batch, ...)` of the rows that each row was mixed with."""
        return tf.gather(values, self.permutation)

    def mix(self, own: Any, partners: Any) -> Any:
        """`lambda * own + (1 - lambda) * partners`, for float values `(batch, ...)`.

        For losses: `mix(loss(outputs, targets), loss(outputs, partners(targets)))`.
        """
        shape = tf.concat([tf.shape(self.share), tf.ones([tf.rank(own) - 1], tf.int32)], 0)
        share = tf.reshape(tf.cast(self.share, own.dtype), shape)
        return share * own + (1 - share) * partners

    def parts(self, targets: Any, weights: Any = None) -> list[tuple[Any, Any]]:
        """Two sets of targets and weights, whose losses for the same outputs add up to the mixed loss.

        Args:
            targets: `(batch, ...)`.
            weights: `(batch, ...)`, of the shape of the elements of the loss, or `None` where these are the
                rows and each weighs 1.
        """
        weights = tf.ones_like(self.share) if weights is None else tf.cast(weights, tf.float32)
        zeros = tf.zeros_like(weights)
        own = (targets, self.mix(weights, zeros))
        return [own, (self.partners(targets), self.mix(zeros, self.partners(weights)))]


@keras.saving.register_keras_serializable(package="kerasllm")
class Mixup(EmbeddingAugmentation):
    """Mixes the vectors of each row with those of another (Zhang et al., 2018; wordMixup, Guo et al., 2019).

    `lambda` is drawn for each row from Beta(alpha, alpha). Padding counts as zero, and a row gets as long as
    the longer of the two. The targets must be mixed in the same way: `mixing` says how.

    Args:
        alpha: Parameter of the Beta distribution, above 0: small values leave most rows nearly as they were.
            Defaults to 0.2.
        seed: Defaults to `None`, another one each time.

    Attributes:
        mixing: The `Mixing` of the last call, in the same `tf.function`; `None` before.

    Example:
    >>> with augmented(model, [mixup], inputs) as batch:
    ...     logits = model(batch, training=True)
    >>> losses = mixup.mixing.mix(loss(targets, logits), loss(mixup.mixing.partners(targets), logits))
    """

    def __init__(self, alpha: float = 0.2, *, seed: int | None = None, **kwargs: Any):
        super().__init__(seed=seed, **kwargs)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1e6:
            raise ConfigError(f"`alpha` of `Mixup` is {alpha!r}, expected a number above 0, such as 0.2.")
        self.alpha = float(alpha)

    @property
    def mixing(self) -> Mixing | None:
        """How the rows of the last call were mixed."""
        plan: Mixing | None = self._plan
        return plan

    def plan(self, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """See `EmbeddingAugmentation`."""
        mask = tf.cast(batch["padding_mask"], tf.int32)
        rows = tf.shape(mask)[0]
        seed = tf.cast(self.seed_generator.next(), tf.int64)
        first, second = (
            tf.random.stateless_gamma(
                [rows], tf.random.experimental.stateless_fold_in(seed, part, alg="philox"), self.alpha
            )
            for part in tf.unstack(tf.constant([1, 2], tf.int64))
        )
        # Both may be zero where alpha is small; the row is then its partner's, as likely as its own.
        share = tf.math.divide_no_nan(first, first + second)
        permutation = tf.argsort(drawing(self.seed_generator)([rows]))
        mixing = Mixing(share, permutation, mask)
        changed = {
            **batch,
            "padding_mask": tf.maximum(batch["padding_mask"], mixing.partners(batch["padding_mask"])),
        }
        for name in ("token_ids", "segment_ids"):  # positions and segments behind the row's own end
            if name in batch:
                changed[name] = tf.where(mask > 0, batch[name], mixing.partners(batch[name]))
        return mixing, changed

    def embed(self, vectors: Any, plan: Any) -> Any:
        """See `EmbeddingAugmentation`."""
        own = vectors * tf.cast(plan.padding_mask, vectors.dtype)[..., None]
        return plan.mix(own, plan.partners(own))

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "alpha": self.alpha}
