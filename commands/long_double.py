"""The arithmetic of INCRBYFLOAT: C's long double, printed with 17 digits after the point.

1. The format is x86's long double, with a significand of 64 bits. Python's float has 53, and the difference is visible:
   with a long double, 0.1 + 0.2 is printed as 0.3.
2. A number is a pair of integers. Where C rounds, the exact result is rounded to the nearest pair (ties to even).
3. `parse` accepts what strtold accepts, including hexadecimal numbers (0x1.8p3) and infinity.

Refused: `decimal` with many digits, which rounds at other places than C and so yields another last digit; `Fraction`,
which is ten times slower.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

SIGNIFICAND_BITS = 64
SMALLEST_EXPONENT = -16445  # the exponent of the smallest positive number
LARGEST_EXPONENT = 16384  # 2 ** 16384 is the first number that is too large
MAX_TEXT_BYTES = 5 * 1024 - 1  # Redis, too, refuses longer texts
DIGITS = 17

DECIMAL = re.compile(rb"([+-]?)(?=\.?[0-9])([0-9]*)\.?([0-9]*)(?:e([+-]?[0-9]+))?", re.IGNORECASE)
HEXADECIMAL = re.compile(rb"([+-]?)0x(?=\.?[0-9a-f])([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?[0-9]+))?", re.IGNORECASE)
INFINITY = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)


class LongDouble(NamedTuple):
    """The number significand * 2 ** exponent."""

    significand: int
    exponent: int


def parse(text: bytes) -> LongDouble:
    """Parse a number. Raises ValueError if the text is none or out of range, OverflowError for infinity."""
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("too many digits")
    if INFINITY.fullmatch(text):
        raise OverflowError
    match, base, digit_bits = DECIMAL.fullmatch(text), 10, 3.3219
    if match is None:
        match, base, digit_bits = HEXADECIMAL.fullmatch(text), 2, 4
    if match is None:
        raise ValueError("not a number")
    sign, whole, fraction, exponent = match.groups()
    digits = (whole + fraction).lstrip(b"0").decode()
    if not digits:
        return LongDouble(0, 0)
    # int() refuses decimal texts of more than 4300 digits, Decimal does not
    integer = int(Decimal(digits)) if base == 10 else int(digits, 16)
    power = int(Decimal((exponent or b"0").decode())) - len(fraction) * (1 if base == 10 else 4)
    size_bits = len(digits) * digit_bits + power * (digit_bits if base == 10 else 1)
    if not SMALLEST_EXPONENT - 10 < size_bits < LARGEST_EXPONENT + 10:
        raise ValueError("out of range")  # the exact test is the one below; this one keeps `power` small
    number = _nearest(integer * base ** max(power, 0), base ** max(-power, 0))
    if not number.significand or _is_too_large(number):
        raise ValueError("out of range")
    return number._replace(significand=-number.significand) if sign == b"-" else number


def add(left: LongDouble, right: LongDouble) -> LongDouble:
    """Return the rounded sum. Raises OverflowError if it is too large."""
    exponent = min(left.exponent, right.exponent)
    total = (left.significand << left.exponent - exponent) + (right.significand << right.exponent - exponent)
    number = _nearest(abs(total) << max(exponent, 0), 1 << max(-exponent, 0))
    if _is_too_large(number):
        raise OverflowError
    return number._replace(significand=-number.significand) if total < 0 else number


def to_text(number: LongDouble) -> bytes:
    """Format a number as Redis does: no exponent, no trailing zeros, no minus sign for zero."""
    numerator = abs(number.significand) * 10**DIGITS
    scaled = _divide(numerator << max(number.exponent, 0), 1 << max(-number.exponent, 0))
    # str() refuses integers of more than 4300 digits, Decimal does not
    digits = str(Decimal(scaled)).zfill(DIGITS + 1)
    text = f"{digits[:-DIGITS]}.{digits[-DIGITS:]}".rstrip("0").rstrip(".")
    return f"{'-' if scaled and number.significand < 0 else ''}{text}".encode()


def _nearest(numerator: int, denominator: int) -> LongDouble:
    """Round a non-negative ratio to the nearest long double, without an upper limit."""
    exponent = numerator.bit_length() - denominator.bit_length() - SIGNIFICAND_BITS
    while True:  # at most twice: the first guess may be one too low
        exponent = max(exponent, SMALLEST_EXPONENT)
        significand = _divide(numerator << max(-exponent, 0), denominator << max(exponent, 0))
        if significand.bit_length() <= SIGNIFICAND_BITS:
            return LongDouble(significand, exponent)
        exponent += 1


def _divide(numerator: int, denominator: int) -> int:
    """Return the integer nearest to a ratio (ties to even)."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))


def _is_too_large(number: LongDouble) -> bool:
    return number.significand.bit_length() + number.exponent > LARGEST_EXPONENT
