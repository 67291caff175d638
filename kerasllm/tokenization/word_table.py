"""Which token ids begin, go on with and end the words of a text."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.library import run_normalizer, run_pre_tokenizer
from kerasllm.tokenization.spec import Specification
from kerasllm.tokenization.spec.models import BPE, Unigram, WordLevel, WordPiece

__all__ = ["WordTable", "word_table"]

_SPACE_MARKS = ("▁", "Ġ")
_APOSTROPHES = ("'", "\u2019")  # inside of a word, as in `isn't`
_ASCII_SIGNS = frozenset("$+<=>^`|~")  # of the category S, yet punctuation to BERT


@dataclass(frozen=True)
class WordTable:
    """What each token id says about the words of a text; arrays of the length of the vocabulary.

    A word is a piece that begins one and the pieces that go on with it: `un ##forget ##table`. Where pieces
    carry the space before them (`Ġfilm`, `▁film`), punctuation that stands directly behind a word (`,`) is no
    part of it.

    Attributes:
        continues: bool, whether the piece goes on with the word before it.
        closes: bool, whether the piece ends its word, whatever follows.
        glued: bool, whether the piece is punctuation that stands directly behind a word.
        letters: bool, whether the piece holds more than punctuation and white space.
        whole: bool, whether the piece by itself is a word of letters.
        spaced: int32, the same piece with a space before it; itself where it has one or spaces are not
            part of pieces; -1 where the vocabulary has no such piece.
        separates: bool, whether the token is a special one that no text holds, such as `[SEP]`.
        suffix: What pieces that end a word end with; some tokenizers leave it in decoded texts.
    """

    continues: np.ndarray
    closes: np.ndarray
    glued: np.ndarray
    letters: np.ndarray
    whole: np.ndarray
    spaced: np.ndarray
    separates: np.ndarray
    suffix: str = ""


def word_table(specification: Specification) -> WordTable:
    """Makes the table of a tokenizer.

    Args:
        specification: The tokenizer.

    Raises:
        TokenizerError: If its pieces do not show where words begin.
    """
    size = specification.vocabulary_size
    flags = {name: np.zeros(size, bool) for name in ("continues", "closes", "glued", "letters", "whole")}
    spaced = np.arange(size, dtype=np.int32)
    read = _reader(specification)
    vocabulary = specification.model.vocabulary
    for token, index in vocabulary.items():
        piece = read(token)
        flags["continues"][index] = piece.continues and not piece.glued
        flags["closes"][index] = piece.closes
        flags["glued"][index] = piece.glued
        flags["letters"][index] = piece.letters
        flags["whole"][index] = piece.whole
        if piece.spaced is not None:
            spaced[index] = vocabulary.get(piece.spaced, -1)
    separates = np.zeros(size, bool)
    unknown = _unknown_id(specification)
    for added in specification.added_tokens:
        if added.id == unknown:
            continue
        separates[added.id] = added.special
        for name in flags:
            flags[name][added.id] = name == "closes" or (name == "letters" and not added.special)
        spaced[added.id] = added.id
    if unknown is not None:  # part of a word like any other, but for that it is never changed
        flags["whole"][unknown], flags["letters"][unknown] = False, True
        flags["continues"][unknown] = _marks(specification)[1]
        spaced[unknown] = unknown
    suffix = getattr(specification.model, "suffix", "")
    return WordTable(**flags, spaced=spaced, separates=separates, suffix=suffix)


@dataclass(frozen=True)
class _Piece:
    continues: bool
    closes: bool = False
    glued: bool = False
    letters: bool = True
    whole: bool = False
    spaced: str | None = None


def _reader(specification: Specification) -> Callable[[str], _Piece]:
    model = specification.model
    if isinstance(model, WordLevel):
        return lambda token: _Piece(False, letters=_has_letters(token), whole=_is_word(token))
    if isinstance(model, WordPiece) or (isinstance(model, BPE) and model.prefix):
        return lambda token: _after_prefix(token, model.prefix)
    text = _text_of(specification)
    if isinstance(model, BPE) and model.suffix:
        return lambda token: _before_suffix(token, model.suffix, text)
    mark, _ = _marks(specification)
    if mark is None:
        raise TokenizerError(
            f"the pieces of this {type(model).__name__} tokenizer do not show where words begin, which "
            "augmentation of whole words needs. Expected `##`, `</w>`, or a mark for the space before a word "
            "(`Ġ`, `▁`). Augment the texts before tokenization instead, e.g. with `RandomTypo`."
        )
    return lambda token: _after_space(token, mark, text)


def _after_prefix(token: str, prefix: str) -> _Piece:
    if token.startswith(prefix) and len(token) > len(prefix):
        return _Piece(True, letters=_has_letters(token[len(prefix) :]))
    return _Piece(False, letters=_has_letters(token), whole=_is_word(token))


def _before_suffix(token: str, suffix: str, text: Callable[[str], str | None]) -> _Piece:
    ends = token.endswith(suffix)
    content = text(token.removesuffix(suffix))
    whole = ends and content is not None and _is_word(content)
    return _Piece(True, closes=ends, letters=content is None or _has_letters(content), whole=whole)


def _after_space(token: str, mark: str, text: Callable[[str], str | None]) -> _Piece:
    marked = token.startswith(mark)
    content = text(token[1:] if marked else token)
    if content is None:  # some bytes of a character
        return _Piece(not marked, spaced=None if marked else mark + token)
    letters = _has_letters(content)
    line_end = content[-1:] in ("\n", "\r", "\t", "\v", "\f")
    if not marked and content[:1].isspace():
        return _Piece(False, closes=line_end, letters=letters)
    whole = marked and _is_word(content)
    glued = not marked and not letters and content not in _APOSTROPHES
    return _Piece(
        not marked, line_end, glued, letters=letters, whole=whole, spaced=None if marked else mark + token
    )


def _has_letters(content: str) -> bool:
    return not all(
        character.isspace() or character in _ASCII_SIGNS or unicodedata.category(character).startswith("P")
        for character in content.replace("▁", " ")
    )


def _is_word(content: str) -> bool:
    return content.isalpha() and (len(content) > 1 or not content.isascii())


def _text_of(specification: Specification) -> Callable[[str], str | None]:
    """From a piece, as it stands in the vocabulary, to its text; `None` for a part of a character."""
    if not specification.pre_tokenizer.byte_level and _marks(specification)[0] != "Ġ":
        fallback = {f"<0x{byte:02X}>": chr(byte) if byte < 0x80 else None for byte in range(256)}
        return lambda token: fallback.get(token, token)
    from kerasllm.tokenization.graph.byte_alphabet import to_bytes

    def decode(token: str) -> str | None:
        content = to_bytes(token, byte_level=True)
        try:
            return None if content is None else content.decode("utf-8")
        except UnicodeDecodeError:
            return None

    return decode


def _marks(specification: Specification) -> tuple[str | None, bool]:
    """The mark of a space that pieces begin with, and whether other pieces go on with a word."""
    model = specification.model
    if isinstance(model, WordPiece | WordLevel) or (
        isinstance(model, BPE) and (model.prefix or model.suffix)
    ):
        return None, False
    steps = [json.loads(step.specification) for step in specification.normalizer]
    text = "a b"
    if steps:
        text = run_normalizer(json.dumps({"type": "Sequence", "normalizers": steps}))(text)
    if specification.pre_tokenizer.specification != "null":
        words = run_pre_tokenizer(specification.pre_tokenizer.specification)(text)
        text = "".join(word for word, _ in words)
    return next((mark for mark in _SPACE_MARKS if mark in text), None), True


def _unknown_id(specification: Specification) -> int | None:
    """Id of the unknown token; `None` without one, or if it also stands around texts, as CLIP's."""
    model = specification.model
    if isinstance(model, Unigram):
        found: int | None = model.unknown_id
    else:
        found = None if model.unknown_token is None else model.vocabulary.get(model.unknown_token)
    pieces = (*specification.post_processor.single, *specification.post_processor.pair)
    return None if any(found in piece.ids for piece in pieces) else found
