"""Which token comes next: the likeliest, or one that is drawn."""

from typing import Any

import tensorflow as tf

from kerasllm.generation.parameters import Parameters

__all__ = ["choose", "fresh_seeds", "uniform"]

_FIRST_SORTED = 512  # tokens that are sorted first; all of them only where these are not enough


def choose(logits: Any, parameters: Parameters, seeds: Any, step: Any) -> Any:
    """Chooses a token for each row, int32[rows].

    A row depends on its own logits, parameters and seed alone, never on the others of its batch.

    Args:
        logits: float32[rows, vocabulary], after penalties.
        parameters: Of the same rows.
        seeds: int64[rows].
        step: Number of the token in its answer, so that each is drawn anew.
    """
    likeliest = tf.argmax(logits, axis=-1, output_type=tf.int32)
    is_drawn = parameters.temperature > 0

    def draw() -> Any:
        heat = tf.where(is_drawn, parameters.temperature, 1.0)[:, None]
        # Taken from the largest first: divided by a tiny temperature, logits of their own would overflow.
        chances = tf.nn.softmax((logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / heat)
        drawn = _drawn(tf.where(_may_be_drawn(chances, parameters), chances, 0.0), uniform(seeds, step))
        return tf.where(is_drawn, drawn, likeliest)

    return tf.cond(tf.reduce_any(is_drawn), draw, lambda: likeliest)


def fresh_seeds(seeds: Any) -> Any:
    """The seeds, int64[rows], with random ones in place of negative ones."""
    random = tf.random.uniform(tf.shape(seeds), maxval=tf.int64.max, dtype=tf.int64)
    return tf.where(seeds < 0, random, seeds)


def uniform(seeds: Any, step: Any) -> Any:
    """A number from 0 to below 1 for each row, float32[rows], by its seed and the step.

    SplitMix64 (Steele et al., 2014, https://doi.org/10.1145/2660193.2660195): TensorFlow's generators take
    one seed for all rows.
    """
    bits = tf.bitcast(seeds, tf.uint64)
    for _ in range(2):  # once for the seed alone, so that neighbouring seeds have nothing in common
        bits = _mixed(bits + tf.constant(0x9E3779B97F4A7C15, tf.uint64) * tf.cast(step + 1, tf.uint64))
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(40, tf.uint64)), tf.float32) / 2.0**24


def _mixed(bits: Any) -> Any:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * tf.constant(factor, tf.uint64)
    return bits


def _may_be_drawn(chances: Any, parameters: Parameters) -> Any:
    """bool[rows, vocabulary]: what top-k, then top-p among those, and min-p leave; ties stay together."""
    size = tf.shape(chances)[1]
    limited = tf.logical_and(parameters.top_k > 0, parameters.top_k < size)
    count = tf.where(limited, parameters.top_k, size)
    by_mass = parameters.top_p < 1.0
    matters = tf.logical_or(limited, by_mass)

    def least_of(sorted_chances: Any) -> tuple[Any, Any]:
        """The least chance that is left, and whether so many sorted ones were enough to know it."""
        known = tf.shape(sorted_chances)[1]
        inside = tf.range(known) < count[:, None]
        mass = tf.where(inside, sorted_chances, 0.0)
        total = tf.where(limited, tf.reduce_sum(mass, axis=1), 1.0)
        before = tf.cumsum(mass, axis=1, exclusive=True)
        kept = tf.logical_and(inside, before < (tf.where(by_mass, parameters.top_p, 2.0) * total)[:, None])
        number = tf.maximum(tf.reduce_sum(tf.cast(kept, tf.int32), axis=1), 1)
        enough = tf.reduce_all((number < known) | (count <= known) | ~matters)
        return tf.gather(sorted_chances, number - 1, axis=1, batch_dims=1), enough

    def least() -> Any:
        first, enough = least_of(tf.math.top_k(chances, tf.minimum(size, _FIRST_SORTED))[0])
        return tf.cond(enough, lambda: first, lambda: least_of(tf.math.top_k(chances, size)[0])[0])

    found = tf.cond(tf.reduce_any(matters), least, lambda: tf.zeros_like(chances[:, 0]))
    floor = tf.where(matters, found, 0.0)
    floor = tf.maximum(floor, parameters.min_p * tf.reduce_max(chances, axis=1))
    return chances >= floor[:, None]


def _drawn(chances: Any, where: Any) -> Any:
    """The token at the share `where` of the sum of chances, int32[rows]."""
    reached = tf.cumsum(chances, axis=1)
    total = reached[:, -1:]
    passed = tf.reduce_sum(tf.cast(reached <= where[:, None] * total, tf.int32), axis=1)
    last = tf.reduce_sum(tf.cast(reached < total, tf.int32), axis=1)  # rounding may reach the very end
    return tf.minimum(passed, last)
