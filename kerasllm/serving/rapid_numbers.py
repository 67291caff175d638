"""Rounds the text of a number as RapidJSON's fast mode does."""

import sys

__all__ = ["to_double"]

_POWERS = [float(f"1e{n}") for n in range(309)]


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
