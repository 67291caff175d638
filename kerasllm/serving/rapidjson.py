"""Reads JSON exactly as TensorFlow Serving's parser (RapidJSON 1.1.0) does, errors and offsets included.

Where Python's `json` differs: text after the first document is ignored, `NaN`, `Inf` and `Infinity` are
numbers, all members of an object are kept in order (the first of equal names counts), strings are bytes
that need not be UTF-8, integers beyond 64 bits are doubles, and doubles are rounded as RapidJSON's fast
mode does, with denormal numbers flushed to zero. The parser does not recurse, so depth is no danger.
"""

import re
import sys
from typing import Any

__all__ = ["JsonObject", "JsonParseError", "parse_json", "to_double"]

_EMPTY = "The document is empty."
_INVALID_VALUE = "Invalid value."
_MISSING_NAME = "Missing a name for object member."
_MISSING_COLON = "Missing a colon after a name of object member."
_MISSING_COMMA_OBJECT = "Missing a comma or '}' after an object member."
_MISSING_COMMA_ARRAY = "Missing a comma or ']' after an array element."
_TOO_BIG = "Number too big to be stored in double."
_BAD_ESCAPE = "Invalid escape character in string."
_BAD_SURROGATE = "The surrogate pair in string is invalid."
_BAD_HEX = "Incorrect hex digit after \\u escape in string."

# What the parser waits for, and what it says when it gets something else.
_START, _FIRST_NAME, _COLON, _MEMBER, _AFTER_MEMBER, _NAME = range(6)
_FIRST_ELEMENT, _AFTER_ELEMENT, _ELEMENT = range(6, 9)
_EXPECTED = {
    _START: _EMPTY,
    _FIRST_NAME: _MISSING_NAME,
    _COLON: _MISSING_COLON,
    _MEMBER: _INVALID_VALUE,
    _AFTER_MEMBER: _MISSING_COMMA_OBJECT,
    _NAME: _MISSING_NAME,
    _FIRST_ELEMENT: _INVALID_VALUE,
    _AFTER_ELEMENT: _MISSING_COMMA_ARRAY,
    _ELEMENT: _INVALID_VALUE,
}
_VALUE_EXPECTED = frozenset({_START, _MEMBER, _FIRST_ELEMENT, _ELEMENT})

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{0,4}")
_ESCAPES = {34: b'"', 47: b"/", 92: b"\\", 98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}
_LITERALS = {ord("n"): (b"null", None), ord("t"): (b"true", True), ord("f"): (b"false", False)}
_POWERS = [float(f"1e{n}") for n in range(309)]


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
        self.open: list[tuple[Any, int, Any]] = []  # container, what comes after it, its name
        self.container: Any = None
        self.name: Any = None
        self.root: Any = None

    def parse(self) -> Any:
        state = _START
        while True:
            self.at = _SPACE.match(self.data, self.at).end()  # type: ignore[union-attr]
            state = self.step(state, self.data[self.at])
            if state is None:
                return self.root

    def step(self, state: int, char: int) -> Any:
        """Reads one token; returns the next state, or `None` after the last."""
        if char == 0:
            raise JsonParseError(_EXPECTED[state], self.at)
        if state in _VALUE_EXPECTED:
            return self.value(state, char)
        if state in (_FIRST_NAME, _NAME):
            if char == ord('"'):
                self.name = self.string()
                return _COLON
            if char == ord("}") and state == _FIRST_NAME:
                return self.close()
        elif state == _COLON and char == ord(":"):
            self.at += 1
            return _MEMBER
        elif state == _AFTER_MEMBER and char in b",}":
            return self.close() if char == ord("}") else self.skip(_NAME)
        elif state == _AFTER_ELEMENT and char in b",]":
            return self.close() if char == ord("]") else self.skip(_ELEMENT)
        raise JsonParseError(_EXPECTED[state], self.at)

    def value(self, state: int, char: int) -> Any:
        if char in b"{[":
            self.open.append((self.container, state, self.name))
            self.container = JsonObject() if char == ord("{") else []
            return self.skip(_FIRST_NAME if char == ord("{") else _FIRST_ELEMENT)
        if char in b"]},:":
            if char == ord("]") and state == _FIRST_ELEMENT:
                return self.close()
            raise JsonParseError(_EXPECTED[state], self.at)
        if char == ord('"'):
            return self.add(self.string(), state)
        return self.add(self.literal(char) if char in _LITERALS else self.number(), state)

    def skip(self, state: int) -> int:
        self.at += 1
        return state

    def close(self) -> Any:
        self.at += 1
        done = self.container
        self.container, state, self.name = self.open.pop()
        return self.add(done, state)

    def add(self, value: Any, state: int) -> Any:
        if state == _START:
            self.root = value
            return None
        if state == _MEMBER:
            self.container.append((self.name, value))
            return _AFTER_MEMBER
        self.container.append(value)
        return _AFTER_ELEMENT

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
            raise JsonParseError(_BAD_HEX, start)
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
            raise JsonParseError(_TOO_BIG, start) from overflow

    def special(self) -> float:
        """Reads `NaN`, `Inf` or `Infinity`; the offset of an error is the first character that differs."""
        negative = self.data[self.at] == ord("-")
        self.at += negative
        text = b"NaN" if self.data[self.at] == ord("N") else b"Inf"
        if self.data[self.at + 3] == ord("i") and text == b"Inf":
            text = b"Infinity"
        for expected in text:
            if self.data[self.at] != expected:
                raise JsonParseError(_INVALID_VALUE, self.at)
            self.at += 1
        value = float(text)
        return -value if negative else value


def to_double(literal: bytes | str) -> float:
    """Rounds a number's text as RapidJSON's fast mode does, which may be a unit or two in the last place off.

    Raises:
        OverflowError: If it is beyond the range of a double.
    """
    text = literal.decode() if isinstance(literal, bytes) else literal
    negative = text.startswith("-")
    mantissa, _, exponent = text.lstrip("-").replace("E", "e").partition("e")
    whole, _, fraction = mantissa.partition(".")
    value, shift = _significand(whole, fraction, 2**63 + 1 if negative else 2**64)
    power = int(exponent or 0) if len(exponent) < 12 else (-(10**9) if exponent[0] == "-" else 10**9)
    if power > 308 - shift:
        raise OverflowError(text)
    value = _scale(value, power + shift)
    if value > sys.float_info.max:
        raise OverflowError(text)
    return -value if negative else value


def _significand(whole: str, fraction: str, limit: int) -> tuple[float, int]:
    """Reads the digits: 64-bit integer steps while they are exact, then double steps up to 17 digits."""
    significant = len(whole) - 1
    integer = int(whole[:20])
    while integer >= limit:
        integer //= 10
    taken = len(str(integer))
    value = float(integer)
    for digit in whole[taken : taken + 400]:  # by then it is infinite
        value = value * 10.0 + int(digit)
    position = 0
    if taken == len(whole):
        for digit in fraction:
            if integer > 2**53 - 1:
                break
            integer = integer * 10 + int(digit)
            position += 1
            significant += integer != 0
        value = float(integer)
    shift = -position
    for digit in fraction[position:]:
        if significant >= 17:
            break
        value = value * 10.0 + int(digit)
        shift -= 1
        significant += value > 0.0
    return value, shift


def _scale(value: float, power: int) -> float:
    if power < -308:
        return _scale(_flush(value / _POWERS[308]), power + 308) if power > -(10**4) else 0.0
    if power >= 0:
        return value * _POWERS[min(power, 308)]
    return _flush(value / _POWERS[-power])


def _flush(value: float) -> float:
    """The server's threads compute without denormal numbers."""
    return value if value >= sys.float_info.min else 0.0
