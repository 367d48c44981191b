"""Redis's glob patterns, as KEYS and SCAN MATCH have them: `*`, `?`, `[a-c]`, `[^x]`, and `\\` before a plain byte.

A pattern is translated once into a regular expression over bytes. What lies between two stars has a fixed length, so
the first place where it fits is always the right one to take, and taking it for good makes matching linear: a pattern
such as `a*a*a*a*b` cannot be made to explode. (`(?=(?P<s1>.*?x))(?P=s1)` is how Python 3.10 spells "take the first x
and never come back".)

Redis's corners are kept: an unclosed class ends with the pattern, ranges compare bytes as signed, `[a-]` is a range up
to `]`, and the empty key is matched by nothing but an empty pattern and a single star.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from errors import PATTERN_TOO_LONG, CommandError

MAX_PATTERN_BYTES = 1024  # compiling takes up to 15 microseconds a byte


def compile_pattern(pattern: bytes) -> Callable[[bytes], object]:
    """Return the function that says, by a true value, whether a key matches. Raises CommandError if it is too long."""
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError(PATTERN_TOO_LONG)
    first, *others = _segments(pattern)
    source = first if pattern in (b"", b"*") else b"(?=.)" + first
    for number, segment in enumerate(others[:-1]):
        if segment:
            source += b"(?=(?P<s%d>.*?%b))(?P=s%d)" % (number, segment, number)
    if others:
        source += b".*" + others[-1]
    return re.compile(source, re.DOTALL).fullmatch


def _segments(pattern: bytes) -> list[bytes]:
    """Cut a pattern at its stars and translate the pieces: each byte or class in them stands for one byte of a key."""
    segments = [b""]
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"*":
            segments.append(b"")
        elif byte == b"?":
            segments[-1] += b"."
        elif byte == b"[":
            translated, at = _byte_class(pattern, at + 1)
            segments[-1] += translated
        else:
            if byte == b"\\" and at + 1 < len(pattern):
                at += 1
            segments[-1] += re.escape(pattern[at : at + 1])
        at += 1
    return segments


def _byte_class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Translate the class whose first byte stands at `at`; return it and the place of its closing bracket."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members = b""
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            at += 1
            members += _span(pattern[at], pattern[at])
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            members += _span(pattern[at], pattern[at + 2])
            at += 2
        else:
            members += _span(pattern[at], pattern[at])
        at += 1
    if not members:
        return b"." if negated else b"(?!)", at
    return b"[%b%b]" % (b"^" if negated else b"", members), at


def _span(first: int, last: int) -> bytes:
    """Spell the bytes from one to another, as part of a class; from 128 on they count as below 0, as in C."""
    low, high = sorted(byte - 256 if byte > 127 else byte for byte in (first, last))
    if low < 0 <= high:
        return _span(low & 255, 255) + _span(0, high)
    return b"\\x%02x-\\x%02x" % (low & 255, high & 255)
