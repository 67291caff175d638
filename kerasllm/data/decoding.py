"""Bytes become numbered lines of text; bytes of another encoding are named, never guessed away."""

import codecs
import difflib
import io
from collections.abc import Iterator
from typing import BinaryIO

from kerasllm.data import limits
from kerasllm.data.compression import DamagedStreamError
from kerasllm.data.problems import Problems, quote
from kerasllm.errors import DataError

_COMMON = ("utf-8", "cp1252", "latin-1", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "cp1251")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_encoding(encoding: str) -> str:
    """Gives Python's name of a text encoding.

    Raises:
        DataError: If there is none of that name; with close matches.
    """
    try:
        found = codecs.lookup(encoding)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding:
        close = difflib.get_close_matches(encoding.lower(), _COMMON, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        raise DataError(f"{quote(encoding)} is no text encoding that Python knows.{hint}")
    return found.name


class NumberedLines:
    """The lines of a stream, decoded; iterating gives them with their line ends.

    A line that cannot be decoded is still given, with replacement characters, so that the rows
    around it can be read; its number is in `bad`.

    Attributes:
        number: Number of the last line given, from 1.
        bad: Numbers of the lines whose rows may not be used.
    """

    def __init__(self, stream: BinaryIO, *, encoding: str, problems: Problems):
        self.number = 0
        self.bad: set[int] = set()
        self._stream = stream
        self._encoding = check_encoding(encoding)
        self._problems = problems
        self._shown = problems.origin.name
        self._offset = 0
        self._saw_multibyte = False

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._text_lines()
        except DamagedStreamError as error:
            how = "incomplete: it ends too early," if error.cut_off else "corrupt"
            raise DataError(
                f"`{error.shown}` is {how} after {self.number:,} good lines. Fetch it again."
            ) from None

    def _text_lines(self) -> Iterator[str]:
        if len("\n".encode(self._encoding)) > 1:  # UTF-16, UTF-32: a line end is several bytes
            yield from self._wide_lines()
            return
        raw_lines = self._raw_lines()
        first = next(raw_lines, b"")
        first = self._check_start(first)
        if b"\r" in first and not first.endswith(b"\n"):  # one line in all: ends are lone carriage returns
            for piece in first.split(b"\r"):
                yield self._decode(piece + b"\n")
            return
        if first:
            yield self._decode(first)
        for raw in raw_lines:
            yield self._decode(raw)

    def _raw_lines(self) -> Iterator[bytes]:
        while raw := self._stream.readline(limits.MAX_LINE_BYTES + 1):
            if len(raw) > limits.MAX_LINE_BYTES:
                raise DataError(
                    f"{self._problems.origin.where(self.number + 1)} is longer than "
                    f"{limits.MAX_LINE_BYTES / 2**20:.0f} MiB. Is this a text file with line ends?"
                )
            yield raw

    def _check_start(self, first: bytes) -> bytes:
        if self._encoding != "utf-8":
            return first
        if first.startswith(codecs.BOM_UTF8):
            self._offset = len(codecs.BOM_UTF8)
            return first[len(codecs.BOM_UTF8) :]
        zeros = first[:1000].count(0)
        if first.startswith(_UTF16_MARKS) or zeros * 3 > len(first[:1000]):
            raise DataError(
                f"`{self._shown}` is not UTF-8 at byte 0 (0x{first[0]:02X}) on line 1; it looks like UTF-16: "
                "pass `encoding='utf-16'` or `-s data.encoding=utf-16`."
            )
        return first

    def _decode(self, raw: bytes) -> str:
        self.number += 1
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            text = raw.decode(self._encoding, errors="replace")
            self._note_undecodable(raw, error.start)
        else:
            self._saw_multibyte = self._saw_multibyte or len(text) != len(raw)
        if "\0" in text:
            self.bad.add(self.number)
            self._problems.add("a NUL character", self.number, noun="line")
        self._offset += len(raw)
        return text

    def _note_undecodable(self, raw: bytes, at: int) -> None:
        first = not self.bad
        self.bad.add(self.number)
        shown = "UTF-8" if self._encoding == "utf-8" else self._encoding
        detail = f"byte {self._offset + at:,} (0x{raw[at]:02X})"
        self._problems.add(f"bytes that are not {shown}", self.number, detail, noun="line")
        if not first or self._encoding != "utf-8":
            return
        if self._saw_multibyte:
            self._problems.hint(
                "Lines before it are UTF-8, so the file mixes encodings: convert those lines."
            )
        elif _is_cp1252(raw):
            self._problems.hint(
                "It looks like cp1252: pass `encoding='cp1252'` or `-s data.encoding=cp1252`, "
                "or convert the file to UTF-8."
            )
        else:
            self._problems.hint("Pass the file's encoding as `encoding=…` or `-s data.encoding=…`.")

    def _wide_lines(self) -> Iterator[str]:
        wrapper = io.TextIOWrapper(self._stream, encoding=self._encoding, newline="\n")
        try:
            for text in wrapper:
                self.number += 1
                yield text.removeprefix("\ufeff") if self.number == 1 else text
        except UnicodeError as error:
            raise DataError(
                f"`{self._shown}` is not {self._encoding} after line {self.number:,}: {error}."
            ) from None


def _is_cp1252(raw: bytes) -> bool:
    """Whether all bytes above ASCII mean letters or punctuation in Windows' Western encoding."""
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() for character in text.strip())
