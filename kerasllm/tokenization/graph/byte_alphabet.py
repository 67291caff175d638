"""The byte alphabet of `ByteLevel`: a printable character for each byte."""

from typing import Any

import tensorflow as tf

from kerasllm.tokenization.graph.characters import Characters

__all__ = ["ALPHABET", "ByteAlphabetStage", "to_bytes", "utf8_bytes_of_letters"]


def _alphabet() -> str:
    # Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and on in their order.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256))


ALPHABET = _alphabet()
_BYTES = {letter: byte for byte, letter in enumerate(ALPHABET)}


def to_bytes(token: str, *, byte_level: bool) -> bytes | None:
    """The bytes of the text that a token stands for; `None` if it has letters that no byte has."""
    if not byte_level:
        return token.encode("utf-8")
    if any(letter not in _BYTES for letter in token):
        return None
    return bytes(_BYTES[letter] for letter in token)


def utf8_bytes_of_letters() -> list[int]:
    """How many bytes the letter of each byte has in UTF-8."""
    return [len(letter.encode("utf-8")) for letter in ALPHABET]


class ByteAlphabetStage(tf.Module):
    """Writes each character as those that stand for the bytes of its UTF-8; each stands where it stood."""

    def __init__(self) -> None:
        super().__init__()
        self._alphabet = tf.constant([ord(letter) for letter in ALPHABET])

    @tf.autograph.experimental.do_not_convert
    def __call__(self, characters: Characters) -> Characters:
        """Expands `characters`."""
        codes = characters.codes
        following = sum(tf.cast(codes >= first, tf.int32) for first in (0x80, 0x800, 0x10000))
        # Elements of a character count down, so that each is the number of bytes that come after it.
        starts = tf.range(tf.size(codes)) * 4
        origins, left = _count_down(starts, following)
        found = characters.gather(origins)
        parts = tf.gather(following, origins)
        shifted = tf.bitwise.right_shift(found.codes, 6 * left)
        lead = tf.gather(tf.constant([0, 0xC0, 0xE0, 0xF0]), parts)
        first = tf.bitwise.bitwise_or(shifted, lead)
        byte = tf.where(
            tf.equal(left, parts), first, tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(shifted, 0x3F), 0x80)
        )
        written = tf.gather(self._alphabet, tf.maximum(byte, 0))
        return found._replace(codes=tf.where(found.codes >= 0, written, found.codes))


def _count_down(starts: Any, following: Any) -> tuple[Any, Any]:
    """For each character and each of its bytes: which character, and how many bytes come after."""
    ranges = tf.raw_ops.RaggedRange(
        starts=starts + following, limits=starts - 1, deltas=tf.constant(-1, tf.int32)
    ).rt_dense_values
    return tf.bitwise.right_shift(ranges, 2), tf.bitwise.bitwise_and(ranges, 3)
