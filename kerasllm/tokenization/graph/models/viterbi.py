"""The best way through all words at once."""

from typing import Any

import tensorflow as tf

__all__ = ["best_lengths", "best_lengths_and_margins", "on_best_way", "uncovered"]

_WORST = float("-inf")


def best_lengths(scores: Any, splits: Any) -> Any:
    """How many characters the last token of the best way to the end of each character has.

    All words go on by one character in each turn. The sums are those of the library, in the same order and
    so with the same rounding; of equal ones the longest token wins, which is the first that it comes to.

    Args:
        scores: float64[characters, longest]: the scores of the tokens that end at each character, that of
            one character in the last column; `-inf` where there is none.
        splits: int64[words + 1], where each word starts, in `scores`.

    Returns:
        int64[characters].
    """
    columns, _, places = _walk(scores, splits, margins=False)
    longest = tf.shape(scores, tf.int64)[1]
    return tf.scatter_nd(places[:, None], longest - columns, tf.shape(places, tf.int64))


def best_lengths_and_margins(scores: Any, splits: Any) -> tuple[Any, Any]:
    """The same, and float64[characters]: how much lower the sum with the second best last token is."""
    # A column of its own, so that there always is a second best.
    nothing = tf.fill([tf.shape(scores)[0], 1], tf.constant(_WORST, tf.float64))
    scores = tf.concat([nothing, scores], axis=1)
    columns, margins, places = _walk(scores, splits, margins=True)
    longest = tf.shape(scores, tf.int64)[1]
    shape = tf.shape(places, tf.int64)
    return (
        tf.scatter_nd(places[:, None], longest - columns, shape),
        tf.scatter_nd(places[:, None], margins, shape),
    )


def _walk(scores: Any, splits: Any, *, margins: bool) -> tuple[Any, Any, Any]:
    """The best column, and how far the second best is, of the characters whose places come third."""
    lengths = splits[1:] - splits[:-1]
    # Long words first: so those that go on are the first rows.
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    lengths, starts = tf.gather(lengths, order), tf.gather(splits[:-1], order)
    turn_splits, turns = tf.raw_ops.RaggedRange(
        starts=tf.zeros_like(lengths), limits=lengths, deltas=tf.constant(1, tf.int64), Tsplits=tf.int64
    )
    words = tf.searchsorted(
        turn_splits[1:], tf.range(tf.size(turns, tf.int64)), side="right", out_type=tf.int64
    )
    # Characters in the order in which they are visited.
    visits = tf.argsort(turns, stable=True)
    places = tf.gather(turns + tf.gather(starts, words), visits)
    scores = tf.gather(scores, places)
    active = tf.math.bincount(tf.cast(turns, tf.int32), dtype=tf.int64)
    begins = tf.cumsum(active, exclusive=True)
    num_turns = tf.size(active)

    def turn(number: Any, best: Any, arrays: Any) -> tuple[Any, Any, Any]:
        count, begin = active[number], begins[number]
        sums = scores[begin : begin + count] + best[:count]
        if margins:
            highest, column = tf.math.top_k(sums, 2)
            results: tuple[Any, ...] = tf.cast(column[:, 0], tf.int64), highest[:, 0] - highest[:, 1]
            best = tf.concat([best[:count, 1:], highest[:, :1]], axis=1)
        else:
            results = (tf.argmax(sums, axis=1),)
            best = tf.concat([best[:count, 1:], tf.reduce_max(sums, axis=1, keepdims=True)], axis=1)
        return (
            number + 1,
            best,
            tuple(array.write(number, result) for array, result in zip(arrays, results, strict=True)),
        )

    # An empty one at the end, as arrays of nothing cannot be put together outside of graphs.
    arrays = tuple(
        tf.TensorArray(dtype, size=num_turns + 1, infer_shape=False, element_shape=[None]).write(
            num_turns, tf.zeros([0], dtype)
        )
        for dtype in ((tf.int64, tf.float64) if margins else (tf.int64,))
    )
    before = tf.fill([tf.size(lengths), tf.shape(scores)[1] - 1], tf.constant(_WORST, tf.float64))
    best = tf.concat([before, tf.zeros([tf.size(lengths), 1], tf.float64)], axis=1)
    any_shape = tf.TensorShape([])
    _, _, arrays = tf.while_loop(
        lambda number, *_: number < num_turns,
        turn,
        (tf.constant(0), best, arrays),
        shape_invariants=(any_shape, tf.TensorShape([None, None]), (any_shape,) * len(arrays)),
    )
    return arrays[0].concat(), arrays[1].concat() if margins else None, places


def on_best_way(lengths: Any, splits: Any) -> Any:
    """The characters that tokens of the best way end at, in order.

    Args:
        lengths: int64[characters], from `best_lengths`.
        splits: int64[words + 1].

    Returns:
        int64[tokens].
    """
    count = tf.size(lengths, tf.int64)
    places = tf.range(count)
    before = places - lengths
    # What comes before a word's first token is the end of another word, reached anyway.
    before = tf.where(before < 0, count, before)
    reached = tf.scatter_nd(splits[1:, None] - 1, tf.ones_like(splits[1:], tf.int32), count[None] + 1)
    before = tf.concat([before, count[None]], axis=0)
    longest = tf.reduce_max(tf.concat([splits[1:] - splits[:-1], [0]], axis=0))

    def step(stride: Any, before: Any, reached: Any) -> tuple[Any, Any, Any]:
        further = tf.math.unsorted_segment_max(reached, before, count + 1)
        return stride * 2, tf.gather(before, before), tf.maximum(reached, further)

    _, _, reached = tf.while_loop(
        lambda stride, *_: stride < longest, step, (tf.constant(1, tf.int64), before, reached)
    )
    return tf.where(reached[:-1] > 0)[:, 0]


def uncovered(scores: Any) -> Any:
    """Which characters, bool[characters], start where no token reaches across."""
    count, longest = tf.unstack(tf.shape(scores, tf.int64))
    # The first column with a score is that of the longest token.
    length = longest - tf.argmax(tf.cast(scores > _WORST, tf.int32), axis=1)
    end = tf.range(count) + 1
    opened = tf.math.bincount(tf.cast(end - length + 1, tf.int32), minlength=tf.cast(count + 1, tf.int32))
    closed = tf.math.bincount(tf.cast(end, tf.int32), minlength=tf.cast(count + 1, tf.int32))
    return tf.equal(tf.cumsum(opened - closed)[:-1], 0)
