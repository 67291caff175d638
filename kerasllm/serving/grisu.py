"""The digits that RapidJSON prints for a double: Grisu2, which is short but not always the shortest.

Error messages of the server quote numbers this way. After Florian Loitsch, "Printing Floating-Point Numbers
Quickly and Accurately with Integers" (PLDI 2010), in the variant of RapidJSON 1.1.0.
"""

import math
from functools import cache

__all__ = ["double_text"]

_MASK = 2**64 - 1


def double_text(value: float) -> str:
    """Formats a finite double; without an exponent from 1e-6 to 1e21.

    Example:
    >>> double_text(2.0**64)
    '18446744073709553000.0'
    """
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0.0:
        return sign + "0.0"
    digits, power = _digits(abs(value))
    point = len(digits) + power
    if power >= 0 and point <= 21:
        return f"{sign}{digits}{'0' * power}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1}"


def _digits(value: float) -> tuple[str, int]:
    """Returns digits and the power of ten that they are to be multiplied with."""
    mantissa, exponent = math.frexp(value)
    significand, exponent = int(mantissa * 2**53), exponent - 53
    if exponent < -1074:  # denormal: fewer bits
        significand, exponent = significand >> (-1074 - exponent), -1074
    upper, upper_exponent = _normalize(2 * significand + 1, exponent - 1)
    if significand == 2**52:
        lower, lower_exponent = 4 * significand - 1, exponent - 2
    else:
        lower, lower_exponent = 2 * significand - 1, exponent - 1
    lower <<= lower_exponent - upper_exponent
    ten, ten_exponent, power = _cached_power(upper_exponent)
    middle = _times(_normalize(significand, exponent)[0], ten)
    high, low = _times(upper, ten) - 1, _times(lower, ten) + 1
    return _generate(middle, high, high - low, -(upper_exponent + ten_exponent + 64), power)


def _generate(middle: int, high: int, delta: int, shift: int, power: int) -> tuple[str, int]:
    """Writes digits of `high` until what is left lies within `delta`; `shift` bits are the fraction."""
    distance = high - middle
    whole, rest = high >> shift, high & ((1 << shift) - 1)
    digits = ""
    for kappa in range(len(str(whole)) - 1, -1, -1):
        digit, whole = divmod(whole, 10**kappa)
        digits += str(digit)
        left = (whole << shift) + rest
        if left <= delta:
            return _round(digits, delta, left, 10**kappa << shift, distance), power + kappa
    kappa = 0
    while True:
        rest, delta, kappa = rest * 10, delta * 10, kappa - 1
        digit, rest = rest >> shift, rest & ((1 << shift) - 1)
        if digit or digits.strip("0"):
            digits = digits.lstrip("0") + str(digit)
        if rest < delta:
            distance *= 10**-kappa if kappa > -9 else 0
            return _round(digits, delta, rest, 1 << shift, distance), power + kappa


def _round(digits: str, delta: int, rest: int, unit: int, distance: int) -> str:
    """Lowers the last digit while that comes closer to the number."""
    last = int(digits[-1])
    while (
        rest < distance
        and delta - rest >= unit
        and (rest + unit < distance or distance - rest > rest + unit - distance)
    ):
        last -= 1
        rest += unit
    return digits[:-1] + str(last)


def _normalize(significand: int, exponent: int) -> tuple[int, int]:
    shift = 64 - significand.bit_length()
    return significand << shift, exponent - shift


def _times(left: int, right: int) -> int:
    return (left * right + 2**63) >> 64


def _cached_power(exponent: int) -> tuple[int, int, int]:
    index = (math.ceil((-61 - exponent) * 0.30102999566398114 + 347) >> 3) + 1
    power = -348 + 8 * index
    return *_power_of_ten(power), -power


@cache
def _power_of_ten(power: int) -> tuple[int, int]:
    """Returns a 64-bit significand and its binary exponent, rounded to nearest."""
    numerator, denominator = (10**power, 1) if power >= 0 else (1, 10**-power)
    shift = numerator.bit_length() - denominator.bit_length() - 64
    if shift < 0:
        numerator <<= -shift
    else:
        denominator <<= shift
    significand = (2 * numerator + denominator) // (2 * denominator)
    if significand > _MASK:
        shift += 1
        significand = (significand + 1) >> 1
    return _normalize(significand, shift)
