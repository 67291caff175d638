"""Tokenization in Python: the `tokenizers` library running the checkpoint's own `tokenizer.json`."""

import operator
import threading
from collections.abc import Sequence
from typing import Any

import tokenizers

from kerasllm.errors import TokenizerError

__all__ = ["EagerTokenizer", "as_texts", "check_pairs", "explain_texts"]


class EagerTokenizer:
    """The reference that the graph is held to; may be called from several threads.

    Args:
        specification: Text of a `tokenizer.json`. Its truncation and padding, which are one caller's
            settings and no part of the vocabulary, are not used.
        truncation_side: Where texts are cut that are too long, `"left"` or `"right"`. Defaults to `"right"`.
    """

    def __init__(self, specification: str, *, truncation_side: str = "right"):
        try:
            self.tokenizer = tokenizers.Tokenizer.from_str(specification)
        except Exception as error:  # the library raises bare `Exception`
            raise TokenizerError(
                f"the `tokenizers` library {tokenizers.__version__} cannot read this `tokenizer.json`: "
                f"{error}. Download the file again, or update `tokenizers`."
            ) from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        # These are settings of the object, so a call that needs other ones waits for its turn.
        self._lock = threading.Lock()
        self._side = truncation_side
        self._sequence_length: int | None = None
        self._keep_special = False

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        sequence_length: int | None,
        complete: bool = False,
        keep_special: bool = False,
    ) -> list[Any]:
        """Encodes texts, or pairs of texts, to `tokenizers.Encoding`s.

        Args:
            texts: Texts, or the first text of every pair.
            pairs: The second text of every pair, or `None`.
            sequence_length: Most tokens of an encoding, special tokens included; `None` for no limit.
            complete: Also fill in offsets and segments, which takes longer. Without, segments are wrong where
                there is no post-processor. Defaults to `False`.
            keep_special: Whether special tokens in the texts are left as text. Defaults to `False`.

        Returns:
            One encoding a text.

        Raises:
            TokenizerError: If a text is no string or holds a lone surrogate.
        """
        inputs = _inputs(texts, pairs)
        with self._lock:
            self._set(sequence_length, keep_special)
            run = self.tokenizer.encode_batch if complete else self.tokenizer.encode_batch_fast
            try:
                return list(run(inputs))
            except TypeError as error:
                explain_texts(texts, "texts")
                explain_texts(pairs or [], "pairs")
                raise TokenizerError(f"the texts cannot be tokenized: {error}") from error

    def encode_word(self, word: str) -> list[list[int]]:
        """The ids of a word in the middle and at the beginning of a text, if these differ."""
        with self._lock:
            self._set(None, self._keep_special)
            before, inside, alone = (
                self.tokenizer.encode(text, add_special_tokens=False).ids for text in ("x", f"x {word}", word)
            )
        found = [inside[len(before) :]] if inside[: len(before)] == before else []
        return [
            ids for number, ids in enumerate([*found, alone]) if ids and [*found, alone].index(ids) == number
        ]

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special_tokens: bool) -> list[str]:
        """Decodes token ids to texts, as `tokenizers` does."""
        try:
            rows = [[operator.index(token) for token in row] for row in ids]
            return list(self.tokenizer.decode_batch(rows, skip_special_tokens=skip_special_tokens))
        except (TypeError, OverflowError) as error:
            raise TokenizerError(
                f"expected token ids as a list of rows of whole numbers from 0 on, such as "
                f"`[[101, 102]]`, but: {error}. One row alone goes into a list: `decode([ids])`."
            ) from error

    def _set(self, sequence_length: int | None, keep_special: bool) -> None:
        if keep_special != self._keep_special:
            self.tokenizer.encode_special_tokens = keep_special
            self._keep_special = keep_special
        if sequence_length == self._sequence_length:
            return
        if sequence_length is None:
            self.tokenizer.no_truncation()
        else:
            self.tokenizer.enable_truncation(sequence_length, direction=self._side)
        self._sequence_length = sequence_length


def _inputs(texts: Sequence[str], pairs: Sequence[str] | None) -> list[Any]:
    first = as_texts(texts, "texts")
    if pairs is None:
        return first
    second = as_texts(pairs, "pairs")
    check_pairs(len(first), len(second))
    return list(zip(first, second, strict=True))


def as_texts(texts: Any, name: str) -> list[str]:
    """The texts as a list of strings.

    Raises:
        TokenizerError: If they are something else.
    """
    if isinstance(texts, str | bytes):
        raise TokenizerError(
            f"`{name}`: expected a list of texts, but got one {type(texts).__name__}. "
            "Put it in a list: `encode([text])`."
        )
    try:
        found = list(texts)
    except TypeError as error:
        raise TokenizerError(
            f"`{name}`: expected a list of texts, but got {texts!r:.100}. Give e.g. `[text]`."
        ) from error
    if not all(isinstance(text, str) for text in found):
        explain_texts(found, name)
    return found


def check_pairs(num_texts: int, num_pairs: int) -> None:
    """Raises a `TokenizerError` if the numbers differ."""
    if num_texts != num_pairs:
        raise TokenizerError(
            f"`pairs` must hold one text for every text, but there are {num_texts} texts and "
            f"{num_pairs} pairs. Give lists of the same length."
        )


def explain_texts(texts: Sequence[str], name: str) -> None:
    """Raises a `TokenizerError` for the first text that cannot be tokenized, if there is one."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TokenizerError(
                f"`{name}[{index}]` is of the type {type(text).__name__}, expected a string. "
                "Drop rows without text, or turn their values into strings; the second texts of pairs are "
                "given as `pairs`."
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            raise TokenizerError(
                f"`{name}[{index}]` holds the lone surrogate U+{code:04X} at character {error.start}, "
                "which is no Unicode character. Replace it, e.g. "
                "`text.encode('utf-8', 'replace').decode('utf-8')`."
            ) from error
