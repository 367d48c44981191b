"""Add decimal numbers the way INCRBYFLOAT does: in C's long double, printed with 17 digits behind the point.

A long double has 64 bits of significand where Python's float has 53, and the difference shows: 0.1 + 0.2 is 0.3. So
numbers are exact fractions here, rounded to the nearest long double (ties to even) wherever C would round. It is the
long double of x86, as on the machines that most Redis servers run on.

Not taken over: hexadecimal numbers (0x10), which strtold happens to read.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

SIGNIFICAND_BITS = 64
SMALLEST_EXPONENT = -16445  # of the last bit of the smallest number
LIMIT = 2**16384  # the first number that is too large
MAX_POWER = 4933  # numbers from 10**4933 on are too large, those below 10**-4952 are none
MIN_POWER = -4952
MAX_TEXT_BYTES = 5 * 1024 - 1  # longer texts are no numbers for Redis either
DIGITS = 17

NUMBER = re.compile(rb"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?")
INFINITY = re.compile(rb"[+-]?inf(inity)?", re.IGNORECASE)


def parse(text: bytes) -> Fraction:
    """Return the long double that a text spells. Raises ValueError if it spells none, OverflowError for infinity."""
    if INFINITY.fullmatch(text):
        raise OverflowError
    match = NUMBER.fullmatch(text) if len(text) <= MAX_TEXT_BYTES else None
    if match is None:
        raise ValueError
    sign, whole, fraction, bare_fraction, exponent = (group or b"" for group in match.groups())
    fraction = fraction or bare_fraction
    digits = (whole + fraction).lstrip(b"0").decode()
    if not digits:
        return Fraction(0)
    power = int(Decimal((exponent or b"0").decode())) - len(fraction)
    if not MIN_POWER < power + len(digits) <= MAX_POWER:
        raise ValueError
    # int() refuses texts of more than 4300 digits, Decimal does not
    number = _round(int(Decimal(digits)) * Fraction(10) ** power)
    if not number or number >= LIMIT:
        raise ValueError
    return -number if sign == b"-" else number


def add(left: Fraction, right: Fraction) -> Fraction:
    """Return the sum, rounded. Raises OverflowError if it is too large."""
    total = left + right
    number = _round(abs(total))
    if number >= LIMIT:
        raise OverflowError
    return -number if total < 0 else number


def _round(number: Fraction) -> Fraction:
    """Round what is not negative to the nearest long double, ties to even."""
    if not number:
        return number
    bits = number.numerator.bit_length() - number.denominator.bit_length()  # or one less
    if Fraction(2) ** bits > number:
        bits -= 1
    unit = Fraction(2) ** max(bits + 1 - SIGNIFICAND_BITS, SMALLEST_EXPONENT)
    return round(number / unit) * unit


def spell(number: Fraction) -> bytes:
    """Return a number as Redis prints it: no exponent, no trailing zeros, no minus before a zero."""
    scaled = round(number * 10**DIGITS)
    # str() refuses integers of more than 4300 digits, Decimal does not
    digits = str(Decimal(abs(scaled))).zfill(DIGITS + 1)
    text = f"{digits[:-DIGITS]}.{digits[-DIGITS:]}".rstrip("0").rstrip(".")
    return f"{'-' if scaled < 0 else ''}{text}".encode()
