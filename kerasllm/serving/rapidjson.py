"""Reads JSON exactly as TensorFlow Serving's parser (RapidJSON 1.1.0) does, errors and offsets included.

Where Python's `json` differs: text after the first document is ignored, `NaN`, `Inf` and `Infinity` are
numbers, all members of an object are kept in order (the first of equal names counts), strings are bytes
that need not be UTF-8, integers beyond 64 bits are doubles, and doubles are rounded as RapidJSON's fast
mode does, with denormal numbers flushed to zero. The parser does not recurse, so depth is no danger.
"""

import re
from typing import Any

from kerasllm.serving.rapid_numbers import to_double

__all__ = ["JsonObject", "JsonParseError", "parse_json"]

_INVALID_VALUE = "Invalid value."
_MISSING_NAME = "Missing a name for object member."
_BAD_ESCAPE = "Invalid escape character in string."
_BAD_SURROGATE = "The surrogate pair in string is invalid."

# What the parser waits for, and what it says when it gets something else.
_START, _FIRST_NAME, _NAME, _COLON, _MEMBER, _AFTER_MEMBER = range(6)
_FIRST_ELEMENT, _ELEMENT, _AFTER_ELEMENT, _DONE = range(6, 10)
_EXPECTED = {
    _START: "The document is empty.",
    _FIRST_NAME: _MISSING_NAME,
    _NAME: _MISSING_NAME,
    _COLON: "Missing a colon after a name of object member.",
    _MEMBER: _INVALID_VALUE,
    _AFTER_MEMBER: "Missing a comma or '}' after an object member.",
    _FIRST_ELEMENT: _INVALID_VALUE,
    _ELEMENT: _INVALID_VALUE,
    _AFTER_ELEMENT: "Missing a comma or ']' after an array element.",
}
_VALUE_EXPECTED = frozenset({_START, _MEMBER, _FIRST_ELEMENT, _ELEMENT})
# Where a mark of punctuation leads; opening and closing ones also change the container.
_NEXT = {
    (_COLON, b":"): _MEMBER,
    (_AFTER_MEMBER, b","): _NAME,
    (_AFTER_ELEMENT, b","): _ELEMENT,
}
_CLOSES = {
    (_FIRST_NAME, b"}"),
    (_AFTER_MEMBER, b"}"),
    (_FIRST_ELEMENT, b"]"),
    (_AFTER_ELEMENT, b"]"),
}

# The tokens that need no second look: punctuation, integers up to 18 digits, strings without escapes.
_TOKEN = re.compile(rb'[ \t\n\r]*(?:([][{}:,])|(-?(?:0|[1-9][0-9]{0,17})(?![0-9.eE]))|"([^"\\\x00-\x1f]*)")')
_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{0,4}")
_ESCAPES = {34: b'"', 47: b"/", 92: b"\\", 98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}
_LITERALS = {ord("n"): (b"null", None), ord("t"): (b"true", True), ord("f"): (b"false", False)}


class JsonObject(list):
    """Members of a JSON object as `(name, value)` pairs in the order of the text, repeated names included."""

    def find(self, name: bytes, default: Any = None) -> Any:
        """Returns the value of the first member called `name`."""
        return next((value for key, value in self if key == name), default)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self)


class JsonParseError(ValueError):
    """Text that is not JSON; worded as RapidJSON does.

    Attributes:
        text: What is wrong.
        offset: Byte at which it was noticed.
    """

    def __init__(self, text: str, offset: int):
        super().__init__(f"{text} at offset: {offset}")
        self.text = text
        self.offset = offset


def parse_json(body: bytes) -> Any:
    """Parses the first JSON document of `body`.

    Returns:
        `None`, `bool`, `int` (within 64 bits), `float`, `bytes` (a string), `list` or `JsonObject`.

    Raises:
        JsonParseError: If it is not JSON.
    """
    return _Parser(body).parse()


class _Parser:
    def __init__(self, body: bytes):
        self.data = body + b"\0"  # RapidJSON reads a NUL at the end, and takes one for the end
        self.at = 0
        for mark in (0xEF, 0xBB, 0xBF):
            if self.data[self.at] == mark:
                self.at += 1
        self.state = _START
        self.open: list[tuple[Any, int, Any]] = []  # around the container: its container, state and name
        self.container: Any = None
        self.name: Any = None
        self.root: Any = None

    def parse(self) -> Any:
        while self.state != _DONE:
            match = _TOKEN.match(self.data, self.at)
            if match is None:
                self.other()
                continue
            kind = match.lastindex
            if kind == 1:
                self.at = match.start(1)
                self.punctuation(match.group(1))
            elif kind == 2:
                self.at = match.start(2)
                self.value(int(match.group(2)))
            else:
                self.at = match.start(3) - 1
                self.text(match.group(3))
            self.at = match.end()
        return self.root

    def error(self) -> JsonParseError:
        return JsonParseError(_EXPECTED[self.state], self.at)

    def punctuation(self, mark: bytes) -> None:
        if mark in b"{[" and self.state in _VALUE_EXPECTED:
            self.open.append((self.container, self.state, self.name))
            self.container = JsonObject() if mark == b"{" else []
            self.state = _FIRST_NAME if mark == b"{" else _FIRST_ELEMENT
        elif (self.state, mark) in _CLOSES:
            done = self.container
            self.container, self.state, self.name = self.open.pop()
            self.value(done)
        elif (self.state, mark) in _NEXT:
            self.state = _NEXT[self.state, mark]
        else:
            raise self.error()

    def text(self, text: bytes) -> None:
        if self.state == _FIRST_NAME or self.state == _NAME:
            self.name = text
            self.state = _COLON
        else:
            self.value(text)

    def value(self, value: Any) -> None:
        if self.state == _FIRST_ELEMENT or self.state == _ELEMENT:
            self.container.append(value)
            self.state = _AFTER_ELEMENT
        elif self.state == _MEMBER:
            self.container.append((self.name, value))
            self.state = _AFTER_MEMBER
        elif self.state == _START:
            self.root = value
            self.state = _DONE
        else:
            raise self.error()

    def other(self) -> None:
        """Reads what is not one of the plain tokens: the end, floats, literals, escapes, errors."""
        self.at = _SPACE.match(self.data, self.at).end()  # type: ignore[union-attr]
        char = self.data[self.at]
        names = self.state in (_FIRST_NAME, _NAME)
        if char == 0 or not (self.state in _VALUE_EXPECTED or (names and char == ord('"'))):
            raise self.error()
        if char == ord('"'):
            self.text(self.string())
        else:
            self.value(self.literal(char) if char in _LITERALS else self.number())

    def literal(self, char: int) -> Any:
        text, value = _LITERALS[char]
        for expected in text:
            if self.data[self.at] != expected:
                raise JsonParseError(_INVALID_VALUE, self.at)
            self.at += 1
        return value

    def string(self) -> bytes:
        self.at += 1
        parts = []
        while True:
            end = _PLAIN.match(self.data, self.at).end()  # type: ignore[union-attr]
            parts.append(self.data[self.at : end])
            self.at = end
            char = self.data[end]
            if char == ord('"'):
                self.at += 1
                return b"".join(parts)
            if char == 0:
                raise JsonParseError("Missing a closing quotation mark in string.", end)
            if char != ord("\\"):
                raise JsonParseError(_BAD_ESCAPE, end)
            parts.append(self.escape())

    def escape(self) -> bytes:
        start = self.at
        char = self.data[start + 1]
        self.at += 2
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != ord("u"):
            raise JsonParseError(_BAD_ESCAPE, start)
        code = self.hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or self.data[self.at : self.at + 2] != b"\\u":
                raise JsonParseError(_BAD_SURROGATE, start)
            self.at += 2
            low = self.hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise JsonParseError(_BAD_SURROGATE, start)
            code = ((code - 0xD800) << 10 | low - 0xDC00) + 0x10000
        return chr(code).encode()

    def hex(self, start: int) -> int:
        digits = _HEX.match(self.data, self.at).group()  # type: ignore[union-attr]
        if len(digits) < 4:
            raise JsonParseError("Incorrect hex digit after \\u escape in string.", start)
        self.at += 4
        return int(digits, 16)

    def number(self) -> Any:
        start = self.at
        match = _NUMBER.match(self.data, start)
        if match is None:
            return self.special()
        sign, digits, fraction, exponent = match.groups()
        if fraction == b".":
            raise JsonParseError("Miss fraction part in number.", match.end(3))
        if exponent is not None and exponent[-1:] not in b"0123456789":
            raise JsonParseError("Miss exponent in number.", match.end(4))
        self.at = match.end()
        if fraction is None and exponent is None and len(digits) < 21:
            number = -int(digits) if sign else int(digits)
            if -(2**63) <= number < 2**64:
                return number
        try:
            return to_double(match.group())
        except OverflowError as overflow:
            raise JsonParseError("Number too big to be stored in double.", start) from overflow

    def special(self) -> float:
        """Reads `NaN`, `Inf` or `Infinity`; the offset of an error is the first character that differs."""
        negative = self.data[self.at] == ord("-")
        self.at += negative
        text = b"NaN" if self.data[self.at] == ord("N") else b"Inf"
        if self.data[self.at : self.at + 4] == b"Infi":
            text = b"Infinity"
        for expected in text:
            if self.data[self.at] != expected:
                raise JsonParseError(_INVALID_VALUE, self.at)
            self.at += 1
        value = float(text)
        return -value if negative else value
