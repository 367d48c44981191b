"""Doubles as texts: what a client may write for one, and how one is printed.

1. A text is a double if C's strtod takes all of it: 3, .5, 1e3, 0x1p3, inf. It is refused if it is nan, if it begins
   with a space, or if its value is too large or too close to 0 for a double.
2. A double is printed with the fewest digits that read back as it, laid out as C's %.17g does. So what Redis 7.0 prints
   with %.17g is printed alike if it has few digits: 3, 0.5, 1e+20. 0.1 is 0.1, as in Redis 7.2, and not
   0.10000000000000001.
"""

from __future__ import annotations

import re

MAX_TEXT_BYTES = 5 * 1024 - 1  # a longer text takes long to parse; as for the numbers of INCRBYFLOAT

_DECIMAL = re.compile(rb"[+-]?(?=\.?[0-9])([0-9]*\.?[0-9]*)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(rb"[+-]?0[xX](?=\.?[0-9a-fA-F])([0-9a-fA-F]*\.?[0-9a-fA-F]*)(?:[pP][+-]?[0-9]+)?")
_INFINITY = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_SPACES = b" \t\n\v\f\r"


def format_float(x: float) -> bytes:
    """Return the shortest text that reads back as `x`: 3 and not 3.0; inf, -inf, nan."""
    text = repr(x)
    if text.endswith(".0"):
        return text[:-2].encode()
    return b"%d" % x if text.endswith("e+16") else text.encode()


def parse_float(text: bytes) -> float:
    """Parse a double. Raises ValueError if the text is none, or if its value is out of range."""
    if text.isdigit() and len(text) < 300:
        return float(text)
    number, is_exact = _parse(text)
    if not is_exact:
        raise ValueError("out of range")
    return number


def parse_bound(text: bytes) -> float:
    """Parse a double as strtod does for a range: spaces may come first, nothing is 0, and any value has a double."""
    if text.isdigit() and len(text) < 300:
        return float(text)
    text = text.split(b"\0", 1)[0]
    if not text:
        return 0.0
    return _parse(text.lstrip(_SPACES))[0]


def _parse(text: bytes) -> tuple[float, bool]:
    """Return a double, and False if it stands for a value out of range. Raises ValueError if the text is none."""
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError("too long")
    if match := _DECIMAL.fullmatch(text):
        number = float(text)
    elif match := _HEXADECIMAL.fullmatch(text):
        try:
            number = float.fromhex(text.decode())
        except OverflowError:
            number = float("-inf" if text.startswith(b"-") else "inf")
    elif _INFINITY.fullmatch(text):
        return float(text), True
    else:
        raise ValueError("not a number")
    is_out_of_range = number in (float("inf"), float("-inf")) or (not number and match[1].strip(b"0."))
    return number, not is_out_of_range
