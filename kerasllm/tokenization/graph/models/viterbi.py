"""The best way through all words at once."""

from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["Lattice", "Parts", "best_way", "cut"]

_WORST = float("-inf")


class Lattice(NamedTuple):
    """The tokens that stand somewhere in some texts. Node p is the place before character p.

    Attributes:
        splits: int64[nodes + 1], where the tokens that start at each node begin among all tokens.
        starts: int64[tokens], the nodes they start at, in order; shorter ones of a node first.
        ends: int64[tokens], the nodes they end at.
        scores: float64[tokens].
    """

    splits: Any
    starts: Any
    ends: Any
    scores: Any


class Parts(NamedTuple):
    """A lattice after some nodes have become two, so that ways end at the one and start at the other.

    Attributes:
        lattice: The tokens, as many and in the same order as before.
        roots: int64[parts], where ways start, those of the words before those of cuts.
        leaves: int64[parts], where ways end.
    """

    lattice: Lattice
    roots: Any
    leaves: Any


@tf.function(autograph=False, reduce_retracing=True)  # eagerly, each turn would take a millisecond
def best_way(lattice: Lattice, roots: Any, leaves: Any, bases: Any, *, long: bool = False) -> Any:
    """The tokens of the ways with the highest sum of scores.

    The sums are those of the library, in the same order and so with the same rounding: the sum of each node
    is the highest that the sum of a node before and one token make, which holds for one set of sums only.
    Of equal ones the longest token wins, which is the first that the library comes to.

    Args:
        lattice: All tokens.
        roots: int64[ways], the nodes where ways start.
        leaves: int64[ways], those where they end.
        bases: float64[ways], the sums to start with.
        long: Whether ways have very many tokens, which only affects speed. Defaults to `False`.

    Returns:
        int64[tokens], those of the lattice that are on the best ways, in order.
    """
    best = _best_sums(lattice, roots, bases, long=long)
    count, num_nodes = tf.size(lattice.starts, tf.int64), tf.size(best, tf.int64)
    is_best = tf.equal(tf.gather(best, lattice.starts) + lattice.scores, tf.gather(best, lattice.ends))
    numbers = tf.where(is_best)
    chosen = tf.fill(num_nodes[None] + 1, count)
    # The longest token starts first.
    ends = tf.gather_nd(lattice.ends, numbers)
    chosen = tf.tensor_scatter_nd_min(chosen, ends[:, None], numbers[:, 0])
    before = tf.gather(tf.concat([lattice.starts, num_nodes[None]], axis=0), chosen)

    def step(before: Any, reached: Any) -> tuple[Any, Any]:
        further = tf.gather(before, reached)
        further = tf.gather_nd(further, tf.where(further < num_nodes))
        return tf.gather(before, before), tf.concat([reached, further], axis=0)

    _, reached = tf.while_loop(
        lambda before, _: tf.reduce_any(before < num_nodes),
        step,
        (before, leaves),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )
    way = tf.scatter_nd(reached[:, None], tf.ones_like(reached, tf.bool), num_nodes[None])
    way = tf.logical_and(way, chosen[:-1] < count)
    return tf.gather_nd(chosen, tf.where(way))


def _best_sums(lattice: Lattice, roots: Any, bases: Any, *, long: bool) -> Any:
    """The highest sum of each node, float64[nodes]: those that change pass it on in the next turn."""
    begin, limit = lattice.splits[:-1], lattice.splits[1:]
    best = tf.fill(tf.shape(begin), tf.constant(_WORST, tf.float64))
    best = tf.tensor_scatter_nd_update(best, roots[:, None], bases)

    def turn(changed: Any, best: Any) -> tuple[Any, Any]:
        tokens = tf.raw_ops.RaggedRange(
            starts=tf.gather(begin, changed),
            limits=tf.gather(limit, changed),
            deltas=tf.constant(1, tf.int64),
            Tsplits=tf.int64,
        ).rt_dense_values
        ends = tf.gather(lattice.ends, tokens)
        sums = tf.gather(best, tf.gather(lattice.starts, tokens)) + tf.gather(lattice.scores, tokens)
        if not long:
            higher = tf.tensor_scatter_nd_max(best, ends[:, None], sums)
            return tf.where(higher > best)[:, 0], higher
        # In this way a turn takes no time for nodes that have nothing to do with it.
        changed = tf.unique(tf.boolean_mask(ends, sums > tf.gather(best, ends))).y
        with tf.control_dependencies([changed]):
            return changed, tf.tensor_scatter_nd_max(best, ends[:, None], sums)

    _, best = tf.while_loop(
        lambda changed, _: tf.size(changed) > 0,
        turn,
        (roots, best),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )
    return best


def cut(lattice: Lattice, splits: Any, is_long: Any) -> Parts:
    """Cuts long words at the nodes that no token reaches across.

    Args:
        lattice: The tokens of the words.
        splits: int64[words + 1], where each word starts; it ends one node before the next.
        is_long: bool[words], which words are cut.
    """
    num_nodes = tf.size(lattice.splits, tf.int64) - 1
    ones = tf.ones_like(lattice.starts)
    across = tf.math.unsorted_segment_sum(ones, lattice.starts + 1, num_nodes + 1)
    across -= tf.math.unsorted_segment_sum(ones, lattice.ends, num_nodes + 1)
    may_cut = tf.repeat(is_long, splits[1:] - splits[:-1])
    outer = tf.concat([splits[:-1], splits[1:] - 1], axis=0)
    may_cut = tf.tensor_scatter_nd_update(may_cut, outer[:, None], tf.zeros_like(outer, tf.bool))
    cuts = tf.cast(tf.logical_and(may_cut, tf.equal(tf.cumsum(across)[:-1], 0)), tf.int64)
    # A node that is cut becomes one where tokens end and, next to it, one where tokens start.
    starts = tf.range(num_nodes) + tf.cumsum(cuts)
    ends = starts - cuts
    places = tf.where(cuts > 0)
    cut_starts, cut_ends = tf.gather_nd(starts, places), tf.gather_nd(ends, places)
    total = num_nodes + tf.size(cut_starts, tf.int64)
    shift = tf.cumsum(tf.scatter_nd(cut_starts[:, None], tf.ones_like(cut_starts), total[None] + 1))
    own_splits = tf.gather(lattice.splits, tf.range(total + 1) - shift)
    return Parts(
        Lattice(own_splits, tf.gather(starts, lattice.starts), tf.gather(ends, lattice.ends), lattice.scores),
        tf.concat([tf.gather(starts, splits[:-1]), cut_starts], axis=0),
        tf.concat([tf.gather(ends, splits[1:] - 1), cut_ends], axis=0),
    )
