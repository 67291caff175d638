"""The single characters that merging starts from."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.graph.byte_alphabet import ALPHABET, utf8_bytes_of_letters
from kerasllm.tokenization.spec.component import refuse
from kerasllm.tokenization.spec.models import BPE

__all__ = ["Symbolizer", "Symbols", "byte_tokens"]

_PAGE = 256
_UNKNOWN = -1
_NO_BYTE = 0xFF  # occurs in no UTF-8, so it may stand at the end of each word
# The bytes that occur in UTF-8.
_UTF8_BYTES = [byte for byte in range(256) if byte not in (0xC0, 0xC1) and byte < 0xF5]


class Symbols(NamedTuple):
    """The symbols of some words.

    Attributes:
        ids: int64[n], with a barrier twice in front, after each word, and one more at the end.
        first: int64[n], in which character of its word each begins; `None` unless asked for.
        last: int64[n], in which it ends.
    """

    ids: Any
    first: Any = None
    last: Any = None


def byte_tokens(vocabulary: dict[str, int], kind: str) -> list[int] | None:
    """The id of the token `<0x..>` of each byte (0 of those not in UTF-8); `None` if there is none at all."""
    names = {byte: f"<0x{byte:02X}>" for byte in _UTF8_BYTES}
    found = [name for name in names.values() if name in vocabulary]
    if not found:
        return None
    if len(found) < len(names):
        missing = sorted(set(names.values()) - set(found))
        raise refuse(
            f"model `{kind}` with `byte_fallback` and",
            f"no token {missing[0]} but {found[0]}",
            ["tokens for all bytes", "tokens for none"],
        )
    return [vocabulary[names[byte]] if byte in names else 0 for byte in range(256)]


class Symbolizer(tf.Module):
    """Cuts words into characters, or bytes, and turns these into the tokens that are merged.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the symbols are bytes.
        barrier: Stands between words.
    """

    def __init__(self, model: BPE, *, byte_level: bool, barrier: int):
        super().__init__()
        self._byte_level = byte_level
        self._barrier = barrier
        self._fuse = model.fuse_unknown
        self._varies = bool(model.prefix or model.suffix)
        variants = ["{}"]
        if self._varies:
            variants = [model.prefix + "{}", "{}", model.prefix + "{}" + model.suffix, "{}" + model.suffix]
        self._make_tables(model.vocabulary, variants)
        self._bytes = None
        self._unknown = None
        self.drops = False
        self.complete = byte_level and bool(np.all(self._ids.numpy()[:, _UTF8_BYTES] != _UNKNOWN))
        if self.complete:
            return
        if model.byte_fallback:
            fallback = byte_tokens(model.vocabulary, "BPE")
            if fallback and (self._varies or byte_level):
                raise refuse(
                    "model `BPE` with `byte_fallback` and",
                    "bytes, a prefix or a suffix",
                    ["characters alone"],
                )
            self._bytes = None if fallback is None else tf.constant(fallback, tf.int64)
        if self._bytes is None and model.unknown_token is not None:
            if model.unknown_token not in model.vocabulary:
                raise TokenizerError(
                    f"the unknown token {model.unknown_token!r} is not in the vocabulary of the "
                    "`tokenizer.json`, so unknown characters have no id. Add it to the vocabulary, or set "
                    "`unk_token` to null to leave them out."
                )
            self._unknown = model.vocabulary[model.unknown_token]
        self.drops = self._bytes is None and self._unknown is None
        self._letter_bytes = tf.constant(utf8_bytes_of_letters(), tf.int64)

    def _make_tables(self, vocabulary: dict[str, int], variants: list[str]) -> None:
        if self._byte_level:
            letters = list(ALPHABET)
        else:
            codes = sorted({ord(letter) for token in vocabulary for letter in token})
            pages = np.zeros(0x110000 // _PAGE, np.int32)
            used = sorted({code // _PAGE for code in codes})
            pages[used] = np.arange(1, len(used) + 1) * _PAGE
            # The first page is that of characters that no token has.
            letters = [""] * (_PAGE * (len(used) + 1))
            for code in codes:
                letters[pages[code // _PAGE] + code % _PAGE] = chr(code)
            self._pages = tf.constant(pages)
        rows = [
            [vocabulary.get(variant.format(c), _UNKNOWN) if c else _UNKNOWN for c in letters]
            for variant in variants
        ]
        if self._byte_level:
            for row in rows:
                row[_NO_BYTE] = _UNKNOWN
        self._ids = tf.constant(rows, tf.int64)

    def known(self, codes: Any) -> Any:
        """Which characters have a token; for models without prefix and suffix."""
        return self._look_up(codes, None) != _UNKNOWN

    def __call__(self, words: Any, *, spans: bool) -> Symbols:
        """The symbols of `words`, string[words]."""
        splits, codes = tf.raw_ops.UnicodeDecode(
            input=tf.strings.join([words, b"\xff" if self._byte_level else b" "]),
            input_encoding="ISO-8859-1" if self._byte_level else "UTF-8",
            errors="replace",
            Tsplits=tf.int64,
        )
        ids = self._look_up(codes, splits if self._varies else None)
        ends = splits[1:] - 1
        ids = tf.tensor_scatter_nd_update(
            ids, ends[:, None], tf.fill([tf.size(ends)], tf.constant(self._barrier, tf.int64))
        )
        places = self._characters(codes, splits) if spans else tf.zeros_like(ids)
        symbols = Symbols(ids, places, places)
        if not self.complete:
            symbols = Symbols(
                *tf.cond(
                    tf.reduce_any(tf.equal(ids, _UNKNOWN)),
                    lambda: tuple(self._replace_unknown(codes, symbols, spans)),
                    lambda: tuple(symbols),
                )
            )
        barrier = tf.constant([self._barrier], tf.int64)
        ids = tf.concat([barrier, barrier, symbols.ids, barrier], axis=0)
        if not spans:
            return Symbols(ids)
        return Symbols(
            ids,
            *(tf.concat([[0, 0], values, [0]], axis=0) for values in (symbols.first, symbols.last)),
        )

    def _look_up(self, codes: Any, splits: Any) -> Any:
        slots = codes
        if not self._byte_level:
            page = tf.gather(self._pages, tf.bitwise.right_shift(codes, 8))
            slots = page + tf.bitwise.bitwise_and(codes, _PAGE - 1)
        if splits is None:
            return tf.gather(self._ids[0], slots)
        ones = tf.ones([tf.size(splits) - 1], tf.int32)
        # A word has one character or more, and what ends it.
        variant = tf.tensor_scatter_nd_add(tf.zeros_like(codes), splits[:-1, None], ones)
        variant = tf.tensor_scatter_nd_add(variant, splits[1:, None] - 2, ones * 2)
        return tf.gather(tf.reshape(self._ids, [-1]), variant * self._ids.shape[1] + slots)

    def _characters(self, codes: Any, splits: Any) -> Any:
        """Which character of its word each symbol belongs to."""
        count = tf.range(tf.size(codes, tf.int64))
        if self._byte_level:
            continues = tf.equal(tf.bitwise.bitwise_and(codes, 0xC0), 0x80)
            count = tf.cumsum(tf.cast(tf.logical_not(continues), tf.int64)) - 1
        rows = tf.searchsorted(
            splits[1:], tf.range(tf.size(codes, tf.int64)), side="right", out_type=tf.int64
        )
        return count - tf.gather(count, tf.gather(splits, rows))

    def _replace_unknown(self, codes: Any, symbols: Symbols, spans: bool) -> Symbols:
        unknown = tf.equal(symbols.ids, _UNKNOWN)
        if self._bytes is not None:
            return self._spell_bytes(codes, symbols, unknown)
        if self._unknown is not None:
            ids = tf.where(unknown, tf.constant(self._unknown, tf.int64), symbols.ids)
            symbols = symbols._replace(ids=ids)
            if not self._fuse:
                return symbols
            again = tf.logical_and(unknown[1:], unknown[:-1])
            starts = tf.where(tf.concat([[True], tf.logical_not(again)], axis=0))[:, 0]
            ends = tf.where(tf.concat([tf.logical_not(again), [True]], axis=0))[:, 0]
            return Symbols(
                tf.gather(ids, starts), tf.gather(symbols.first, starts), tf.gather(symbols.last, ends)
            )
        kept = tf.where(tf.logical_not(unknown))[:, 0]
        if spans:
            symbols = self._shift(codes, symbols, unknown)
        return Symbols(*(tf.gather(values, kept) for values in symbols))

    def _spell_bytes(self, codes: Any, symbols: Symbols, unknown: Any) -> Symbols:
        size = _utf8_size(codes)
        splits, indices = tf.raw_ops.RaggedRange(
            starts=tf.range(tf.size(codes, tf.int64)),
            limits=tf.range(tf.size(codes, tf.int64)) + tf.where(unknown, size, 1),
            deltas=tf.constant(1, tf.int64),
            Tsplits=tf.int64,
        )
        own = tf.searchsorted(
            splits[1:], tf.range(tf.size(indices, tf.int64)), side="right", out_type=tf.int64
        )
        codes, size = tf.cast(tf.gather(codes, own), tf.int64), tf.gather(size, own)
        place = indices - own
        value = tf.bitwise.right_shift(codes, 6 * tf.maximum(size - 1 - place, 0))
        lead = tf.gather(tf.constant([0, 0, 0xC0, 0xE0, 0xF0], tf.int64), size)
        byte = tf.where(
            tf.equal(place, 0),
            tf.bitwise.bitwise_or(lead, value),
            0x80 | tf.bitwise.bitwise_and(value, 0x3F),
        )
        spelled = tf.gather(self._bytes, tf.bitwise.bitwise_and(byte, 0xFF))
        return Symbols(
            tf.where(tf.gather(unknown, own), spelled, tf.gather(symbols.ids, own)),
            tf.gather(symbols.first, own),
            tf.gather(symbols.last, own),
        )

    def _shift(self, codes: Any, symbols: Symbols, unknown: Any) -> Symbols:
        """Moves symbols to where the library says they are: as if what is left out stood at the word's end.

        It adds up the bytes of the symbols that are kept.
        """
        size = tf.gather(self._letter_bytes, codes) if self._byte_level else _utf8_size(codes)
        own = tf.where(unknown, tf.constant(0, tf.int64), size)
        ends = tf.equal(symbols.ids, self._barrier)
        row = tf.cumsum(tf.cast(ends, tf.int64), exclusive=True)
        starts = tf.concat([[0], tf.where(ends)[:, 0] + 1], axis=0)
        place, kept = tf.cumsum(size, exclusive=True), tf.cumsum(own, exclusive=True)
        begin = tf.gather(starts, row)
        place_begin, kept_begin = tf.gather(place, begin), tf.gather(kept, begin)

        def character(values: Any) -> Any:
            at = (
                tf.searchsorted(place, place_begin + values - kept_begin, side="right", out_type=tf.int64) - 1
            )
            return tf.gather(symbols.first, tf.maximum(at, 0))

        return Symbols(symbols.ids, character(kept), character(kept + own - 1))


def _utf8_size(codes: Any) -> Any:
    return 1 + sum(tf.cast(codes >= bound, tf.int64) for bound in (0x80, 0x800, 0x10000))
