"""Rows of tokens made anew: some left out, some put in, in another order; everything else follows."""

from typing import Any

import tensorflow as tf

from kerasllm.data.augmentation.vocabulary import Vocabulary
from kerasllm.data.augmentation.words import Words, gather_words

__all__ = ["keep_tokens", "put_in", "with_spacing"]


def keep_tokens(
    inputs: dict[str, Any], keep: Any, words: Words, vocabulary: Vocabulary, fillers: dict[str, Any]
) -> dict[str, Any]:
    """Leaves tokens out and moves the others together.

    Args:
        inputs: Arrays of tokens `(batch, sequence, ...)` by name.
        keep: bool `(batch, sequence)`.
        words: The words of the inputs.
        vocabulary: What the ids mean.
        fillers: What stands behind the last token, by name.
    """
    order, length = _order(keep)
    if vocabulary.has_spaces:
        inputs = {**inputs, "token_ids": _closed_up(inputs["token_ids"], keep, order, words, vocabulary)}
    return _taken(inputs, order[:, : tf.shape(keep)[1]], length, fillers)


def put_in(
    inputs: dict[str, Any],
    words: Words,
    ids: Any,
    lengths: Any,
    *,
    replaced: Any,
    after: Any,
    fillers: dict[str, Any],
) -> dict[str, Any]:
    """Puts words in, after words or in place of them.

    The first pieces of a new word that replaces another one have the labels of the pieces that stood there.
    The caller sees to it that everything fits into the width.

    Args:
        inputs: Arrays of tokens `(batch, sequence, ...)` by name.
        words: The words of the inputs.
        ids: int32 `(batch, sequence, k)`, for each word the ids that are put in.
        lengths: `(batch, sequence)`, how many of them; zero for none.
        replaced: bool, words whose tokens are left out.
        after: bool, whether the ids come after the word's last token, else in place of its first.
        fillers: What stands behind the last token, and is the label of new tokens, by name.
    """
    width, most = tf.shape(ids)[1], ids.shape[2]
    anchor = tf.where(after, words.length - 1, 0)
    here = words.real & tf.equal(words.piece, words.of_tokens(anchor))
    count = tf.where(here, words.of_tokens(lengths), 0)
    keep = words.real & ~words.of_tokens(replaced)
    steps = tf.range(most)
    valid = tf.concat([keep[..., None], steps < count[..., None]], axis=2)
    # Where the values of new tokens come from: the piece of the old word at the same place, if there is one.
    places = tf.range(width)[None, :, None] + steps
    inherits = words.of_tokens(replaced)[..., None] & (steps < words.of_tokens(words.length)[..., None])
    places = tf.minimum(places, width - 1) + tf.zeros_like(valid[..., 1:], tf.int32)
    new: dict[str, Any] = {}
    for name, values in inputs.items():
        if name == "token_ids":
            added = tf.cast(words.of_tokens(ids), values.dtype)
        elif name == "padding_mask":
            added = tf.ones_like(places, values.dtype)
        elif name == "segment_ids":
            added = tf.zeros_like(places, values.dtype) + values[..., None]
        else:
            rest = [1] * (values.shape.rank - 2)
            filler = tf.cast(fillers[name], values.dtype)
            old = gather_words(values, places)
            added = tf.where(tf.reshape(inherits, tf.concat([tf.shape(inherits), rest], 0)), old, filler)
        both = tf.concat([tf.expand_dims(values, 2), added], axis=2)
        shape = tf.concat([tf.shape(both)[:1], [-1], tf.shape(both)[3:]], axis=0)
        new[name] = tf.reshape(both, shape)
    order, length = _order(tf.reshape(valid, [tf.shape(valid)[0], -1]))
    return _taken(new, order[:, :width], length, fillers, inputs)


def with_spacing(ids: Any, bare: Any, vocabulary: Vocabulary) -> Any:
    """The same pieces with or without the space before them, where the vocabulary has them.

    Args:
        ids: int32 of any shape.
        bare: bool of the same shape, whether there is no space.
        vocabulary: What the ids mean.
    """
    if not vocabulary.has_spaces:
        return ids
    known = tf.clip_by_value(ids, 0, vocabulary.size - 1)
    spaced = tf.gather(tf.constant(vocabulary.spaced), known)
    without = tf.gather(tf.constant(vocabulary.bare), known)
    is_bare = ~tf.equal(spaced, ids)
    wanted = tf.where(is_bare == bare, ids, tf.where(bare, without, spaced))
    return tf.where(wanted >= 0, wanted, ids)


def _order(keep: Any) -> tuple[Any, Any]:
    """Kept places first, in their order; and how many there are."""
    places = tf.range(tf.shape(keep)[1])
    order = tf.argsort(tf.where(keep, places, places + tf.shape(keep)[1]), axis=1)
    return order, tf.reduce_sum(tf.cast(keep, tf.int32), axis=1)


def _taken(
    values: dict[str, Any],
    order: Any,
    length: Any,
    fillers: dict[str, Any],
    like: dict[str, Any] | None = None,
) -> dict[str, Any]:
    real = tf.range(tf.shape(order)[1]) < length[:, None]
    taken = {}
    for name, value in values.items():
        picked = gather_words(value, order)
        rest = [1] * (picked.shape.rank - 2)
        mask = tf.reshape(real, tf.concat([tf.shape(real), rest], 0)) if rest else real
        taken[name] = tf.where(mask, picked, tf.cast(fillers[name], picked.dtype))
        taken[name] = tf.ensure_shape(taken[name], (like or values)[name].shape)
    return taken


def _closed_up(ids: Any, keep: Any, order: Any, words: Words, vocabulary: Vocabulary) -> Any:
    """Takes the space from a word that now begins a text whose first word had none."""
    places = tf.range(tf.shape(ids)[1])
    kept_before = tf.cumsum(tf.cast(keep, tf.int32), axis=1, exclusive=True)
    last = gather_words(order, tf.maximum(kept_before - 1, 0))
    first_gone = tf.where(kept_before > 0, last + 1, 0)
    bare = words.of_tokens(words.bare) & words.starts
    begins = keep & words.starts & (first_gone < places)
    inherits = begins & gather_words(bare, tf.minimum(first_gone, tf.shape(ids)[1] - 1))
    return tf.where(inherits, with_spacing(ids, inherits, vocabulary), ids)
