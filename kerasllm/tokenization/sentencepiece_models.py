"""What a SentencePiece model file holds, read without the package `sentencepiece`."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kerasllm.errors import TokenizerError

__all__ = ["Piece", "SentencePieceModel", "read_sentencepiece"]

# Kinds of pieces that are no ordinary part of a text.
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
_KINDS = {1: "Unigram", 2: "BPE", 3: "WORD", 4: "CHAR"}


class Piece(NamedTuple):
    """A token.

    Attributes:
        text: The token, with U+2581 for a space.
        score: The higher, the better.
        kind: 1 for an ordinary one, 2 the unknown token, 3 control, 4 user-defined, 6 a byte.
    """

    text: str = ""
    score: float = 0.0
    kind: int = 1


class SentencePieceModel(NamedTuple):
    """A model file.

    Attributes:
        pieces: The tokens in the order of their ids.
        kind: `"Unigram"`, `"BPE"`, `"WORD"` or `"CHAR"`.
        character_map: Its `precompiled_charsmap`, empty if texts are left as they are.
    """

    pieces: tuple[Piece, ...]
    kind: str
    character_map: bytes


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Reads a model file.

    Its format is the message `ModelProto` of SentencePiece's `sentencepiece_model.proto`.

    Raises:
        TokenizerError: If the file is damaged or of another kind.
    """
    pieces, kind, character_map = [], 1, b""
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                pieces.append(_piece(_message(value)))
            elif number == 2:
                kind = next((v for n, v in _fields(_message(value)) if n == 3 and isinstance(v, int)), 1)
            elif number == 3:
                character_map = next((_message(v) for n, v in _fields(_message(value)) if n == 2), b"")
    except (ValueError, IndexError, struct.error) as error:
        raise TokenizerError(
            f"`{path}` is damaged or no SentencePiece model ({error}). Fetch it again."
        ) from error
    if not pieces or kind not in _KINDS:
        raise TokenizerError(f"`{path}` is no SentencePiece model: it holds no tokens. Fetch it again.")
    return SentencePieceModel(tuple(pieces), _KINDS[kind], character_map)


def _piece(message: bytes) -> Piece:
    found = dict(_fields(message))
    score = struct.unpack("<f", _message(found[2]))[0] if 2 in found else 0.0
    kind = found.get(3, 1)
    return Piece(_message(found[1]).decode("utf-8") if 1 in found else "", score, int(kind))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"a number, {value}, stands where a text is expected")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: numbers as they are, all else as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"field type {wire} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"cut short at byte {len(message)}")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"a number without an end at byte {at}")
