"""The words of a batch of token ids, found in the graph."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.data.augmentation.phrases import Phrases
from kerasllm.data.augmentation.vocabulary import Vocabulary

__all__ = ["Words", "find_words", "gather_words", "tokens_as_words"]


class Words(NamedTuple):
    """The words of each row. Arrays of tokens and of words both have the shape `(batch, sequence)`.

    A text is what stands between special tokens: both texts of a pair have their own number.

    Attributes:
        real: Tokens: whether it is no padding.
        starts: Tokens: whether a word begins there.
        number: Tokens: which word it belongs to; of padding, any.
        piece: Tokens: which piece of its word it is.
        start: Words: where it begins.
        length: Words: how many tokens it has; zero after the last word.
        text: Words: which text of the row it is in.
        is_word: Words: whether it is one; special tokens and punctuation are not.
        changeable: Words: whether it may be changed: a word without special tokens, not protected.
        removable: Words: the same, but for punctuation, too.
        bare: Words: whether it begins without a space where pieces carry the space before them.
    """

    real: Any
    starts: Any
    number: Any
    piece: Any
    start: Any
    length: Any
    text: Any
    is_word: Any
    changeable: Any
    removable: Any
    bare: Any

    def of_tokens(self, values: Any) -> Any:
        """Gives each token its word's value."""
        return gather_words(values, self.number)

    def of_first_pieces(self, values: Any) -> Any:
        """Gives each word the value of its first token."""
        return gather_words(values, self.start)

    def one_a_text(self, numbers: Any) -> Any:
        """Gives all words of a text the same one of the numbers `(batch, sequence)`."""
        return gather_words(numbers, tf.minimum(self.text, tf.shape(numbers)[1] - 1))

    def reduce_texts(self, values: Any, kind: str) -> Any:
        """Gives each word the `"max"`, `"min"` or `"sum"` of the values of all words of its text."""
        shape = tf.shape(values)
        rows, width = shape[0], shape[1] + 1
        groups = tf.reshape(tf.range(rows)[:, None] * width + self.text, [-1])
        reduce = {
            "max": tf.math.unsorted_segment_max,
            "min": tf.math.unsorted_segment_min,
            "sum": tf.math.unsorted_segment_sum,
        }[kind]
        return tf.reshape(tf.gather(reduce(tf.reshape(values, [-1]), groups, rows * width), groups), shape)


def find_words(inputs: dict[str, Any], vocabulary: Vocabulary, protected: Phrases) -> Words:
    """Finds the words of a batch.

    Args:
        inputs: `token_ids`, `padding_mask`, perhaps `segment_ids` and `protected`, `(batch, sequence)`.
        vocabulary: What the ids mean.
        protected: Words and phrases that are never changed.
    """
    flags = {name: tf.constant(values) for name, values in vocabulary.flags.items()}
    ids = tf.cast(inputs["token_ids"], tf.int32)
    known = tf.clip_by_value(ids, 0, vocabulary.size - 1)
    of_ids = {name: tf.gather(values, known) for name, values in flags.items()}
    real = tf.cast(inputs["padding_mask"], tf.bool)
    segments = tf.cast(inputs.get("segment_ids", tf.zeros_like(ids)), tf.int32)

    goes_on = of_ids["continues"] & _before(real, False) & ~_before(of_ids["closes"], True)
    goes_on &= tf.equal(segments, _before(segments, 0))
    starts = real & ~goes_on
    number, start, end = _places(starts, real)
    length = end - start
    separates = real & (of_ids["separates"] | tf.equal(ids, vocabulary.pad_id))
    cuts = tf.cast(separates | ~tf.equal(segments, _before(segments, 0)), tf.int32)

    kept = tf.cast(inputs.get("protected", tf.zeros_like(ids)), tf.bool)
    if protected:
        kept |= protected.cover(ids, starts, real)
    exists = length > 0

    def any_of(values: Any) -> Any:
        return _sums(values & real, start, end) > 0

    removable = exists & ~any_of(of_ids["special"]) & ~any_of(kept)
    is_word = exists & any_of(of_ids["letters"]) & ~any_of(separates)
    spaced = tf.gather(tf.constant(vocabulary.spaced), known)
    return Words(
        real=real,
        starts=starts,
        number=number,
        piece=tf.range(tf.shape(ids)[1]) - gather_words(start, number),
        start=start,
        length=length,
        text=gather_words(tf.cumsum(cuts, axis=1), start),
        is_word=is_word,
        changeable=is_word & removable & ~gather_words(of_ids["glued"], start),
        removable=removable,
        bare=exists & ~tf.equal(gather_words(spaced, start), gather_words(known, start)),
    )


def tokens_as_words(real: Any) -> Words:
    """Words of one token each, where nothing is known of a vocabulary.

    Args:
        real: bool `(batch, sequence)`, whether it is no padding.
    """
    zeros = tf.zeros_like(real, tf.int32)
    places = zeros + tf.range(tf.shape(real)[1])
    false = tf.zeros_like(real)
    length = tf.cast(real, tf.int32)
    return Words(real, real, places, zeros, places, length, zeros, real, real, real, false)


def gather_words(values: Any, places: Any) -> Any:
    """Picks values `(batch, n, ...)` at places `(batch, m)` of the same row."""
    return tf.gather(values, places, batch_dims=1)


def _before(values: Any, first: Any) -> Any:
    """Gives each token the value of the one before it."""
    filled = tf.fill([tf.shape(values)[0], 1], tf.cast(first, values.dtype))
    return tf.concat([filled, values[:, :-1]], axis=1)


def _places(starts: Any, real: Any) -> tuple[Any, Any, Any]:
    """Of each token its word; of each word its first place and the place after its last."""
    width = tf.shape(starts)[1]
    places = tf.range(width)
    number = tf.maximum(tf.cumsum(tf.cast(starts, tf.int32), axis=1) - 1, 0)
    # Words in the order of their places; what begins no word comes after them.
    start = tf.argsort(tf.where(starts, places, places + width), axis=1)
    count = tf.reduce_sum(tf.cast(starts, tf.int32), axis=1, keepdims=True)
    following = tf.where(places < count - 1, tf.roll(start, -1, axis=1), width)
    start = tf.where(places < count, start, 0)
    length = tf.where(places < count, _sums(real, start, following), 0)
    return number, start, start + length


def _sums(values: Any, start: Any, end: Any) -> Any:
    """Of each word the number of its tokens where `values` is true."""
    total = tf.pad(tf.cumsum(tf.cast(values, tf.int32), axis=1), [[0, 0], [1, 0]])
    return gather_words(total, end) - gather_words(total, start)
