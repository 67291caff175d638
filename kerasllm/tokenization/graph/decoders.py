"""Token ids to text."""

import re
from functools import reduce
from typing import Any

import tensorflow as tf

from kerasllm.tokenization.graph.byte_alphabet import to_bytes
from kerasllm.tokenization.spec import Specification
from kerasllm.tokenization.spec.decoder_steps import (
    EndWords,
    Metaspace,
    ReplaceText,
    Step,
    Strip,
    WordPiece,
    run_step,
)
from kerasllm.tokenization.spec.decoders import Decoder

__all__ = ["Detokenizer"]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x([0-9a-fA-F]{2}|\+[0-9a-fA-F])>")  # a sign is what Rust's parser reads, too


class Detokenizer(tf.Module):
    """Turns token ids into texts, as `tokenizers.Tokenizer.decode` does.

    What is done to each token by itself is done once to the whole vocabulary, when the graph is made; the
    graph looks the results up, joins them, and reads bytes as UTF-8. What is no UTF-8 becomes U+FFFD, once
    for each part of a character, as in Rust.

    Args:
        specification: The tokenizer.
    """

    def __init__(self, specification: Specification):
        super().__init__()
        self._decoder = specification.decoder
        contents = token_contents(specification)
        special = {token.content for token in specification.added_tokens if token.special}
        # The last entry stands for ids that are no token, which are left out.
        self._known = tf.constant([content is not None for content in contents] + [False])
        self._special = tf.constant([content in special for content in contents] + [False])
        texts = [content or "" for content in [*contents, None]]
        steps = self._decoder.steps
        self._by_first = any(isinstance(step, Metaspace | WordPiece) for step in steps)
        self._by_first |= self._decoder.separator != ""
        self._by_last = any(isinstance(step, EndWords) for step in steps)
        kept = [
            _run_steps(self._decoder, text, first=first, last=last)
            for first in ((True, False) if self._by_first else (False,))
            for last in ((True, False) if self._by_last else (False,))
            for text in texts
        ]
        self._is_byte: Any = None
        match self._decoder.join:
            case "bytes":
                self._texts = tf.constant(list(map(_of_alphabet, kept)), tf.string)
            case "byte_fallback":
                self._texts = tf.constant(list(map(_of_byte_token, kept)), tf.string)
                self._is_byte = tf.constant([_BYTE_TOKEN.fullmatch(text) is not None for text in kept])
            case _:
                self._texts = tf.constant(kept, tf.string)

    def __call__(self, token_ids: tf.RaggedTensor, *, skip_special_tokens: bool = True) -> Any:
        """The texts, string[batch], of token ids [batch, None]."""
        ids, rows = self._used(token_ids, skip_special_tokens=skip_special_tokens)
        entries = self._entries(ids, rows)
        texts = tf.gather(self._texts, entries)
        if self._is_byte is not None:
            texts = _repair_runs(texts, tf.gather(self._is_byte, entries), rows)
        texts = tf.strings.unsorted_segment_join(texts, rows, token_ids.nrows())
        if self._decoder.join == "bytes":
            texts = _repair(texts)
        return reduce(_finish, self._decoder.finish, texts)

    def _used(self, token_ids: tf.RaggedTensor, *, skip_special_tokens: bool) -> tuple[Any, Any]:
        """The ids that are decoded, and the text that each belongs to."""
        count = tf.size(self._known, tf.int64) - 1
        ids = tf.cast(token_ids.values, tf.int64)
        ids = tf.where((ids >= 0) & (ids < count), ids, count)
        used = tf.gather(self._known, ids)
        if skip_special_tokens:
            used = tf.logical_and(used, tf.logical_not(tf.gather(self._special, ids)))
        kept = tf.where(used)[:, 0]
        ids, rows = tf.gather(ids, kept), tf.gather(token_ids.value_rowids(), kept)
        if self._decoder.deduplicate:
            kept = tf.where(_differs(ids) | _differs(rows))[:, 0]
            ids, rows = tf.gather(ids, kept), tf.gather(rows, kept)
        return ids, rows

    def _entries(self, ids: Any, rows: Any) -> Any:
        """Where each token's text stands in the table, which depends on whether it is the first or last."""
        count = tf.size(self._known, tf.int64)
        starts = _differs(rows)
        if self._by_last:
            ends = tf.concat([starts[1:], tf.fill([tf.minimum(tf.size(rows), 1)], True)], axis=0)
            ids += tf.where(ends, tf.constant(0, tf.int64), count)
        if self._by_first:
            ids += tf.where(starts, tf.constant(0, tf.int64), count * (2 if self._by_last else 1))
        return ids


def token_contents(specification: Specification) -> list[str | None]:
    """The text of every token id, `None` for ids that are no token."""
    contents: list[str | None] = [None] * specification.vocabulary_size
    for token, index in specification.model.vocabulary.items():
        contents[index] = token
    for added in specification.added_tokens:
        contents[added.id] = added.pattern  # the library, too, shows what it looks for
    return contents


def _run_steps(decoder: Decoder, text: str, *, first: bool, last: bool) -> str:
    for step in decoder.steps:
        text = run_step(step, text, first=first, last=last)
    return text if first else decoder.separator + text


def _of_alphabet(text: str) -> bytes:
    found = to_bytes(text, byte_level=True)
    return text.encode("utf-8") if found is None else found


def _of_byte_token(text: str) -> bytes:
    found = _BYTE_TOKEN.fullmatch(text)
    return bytes([int(found[1], 16)]) if found else text.encode("utf-8")


def _differs(values: Any) -> Any:
    """Which of the values differ from the one before."""
    return tf.concat([tf.fill([tf.minimum(tf.size(values), 1)], True), values[1:] != values[:-1]], axis=0)


def _repair(texts: Any) -> Any:
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def _repair_runs(texts: Any, is_byte: Any, rows: Any) -> Any:
    """Puts U+FFFD in the place of every byte of a run of byte tokens that is no UTF-8 as a whole."""

    def repaired() -> Any:
        starts = _differs(rows) | _differs(is_byte)
        runs = tf.cumsum(tf.cast(starts, tf.int64)) - 1
        joined = tf.strings.unsorted_segment_join(texts, runs, tf.reduce_max(runs) + 1)
        valid = tf.gather(tf.equal(joined, _repair(joined)), runs)
        return tf.where(tf.logical_and(is_byte, tf.logical_not(valid)), _REPLACEMENT, texts)

    return tf.cond(tf.reduce_any(is_byte), repaired, lambda: texts)


def _finish(texts: Any, step: Step) -> Any:
    """Does to whole texts what `step` does to a token, by regular expressions that mean the same."""
    match step:
        case ReplaceText(pattern, content):
            return tf.strings.regex_replace(texts, _literal(pattern), content.replace("\\", r"\\"))
        case Strip(content, count):
            return tf.strings.regex_replace(texts, rf"\A(?:{_literal(content)}){{0,{count}}}", "")
    return texts


def _literal(text: str) -> str:
    return "".join(rf"\x{{{ord(character):x}}}" for character in text)
