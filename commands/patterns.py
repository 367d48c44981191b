"""Redis's glob patterns, as KEYS and SCAN MATCH have them: `*`, `?`, `[a-c]`, `[^x]`, and `\\` before a plain byte.

A pattern is translated once into a regular expression over bytes. What lies between two stars has a fixed length, so
the first place where it fits is always the right one to take, and taking it for good makes matching linear: a pattern
such as `a*a*a*a*b` cannot be made to explode. (`(?=(?P<s1>.*?x))(?P=s1)` is how Python 3.10 spells "take the first x
and never come back".)

Redis's corners are kept: an unclosed class ends with the pattern, ranges compare bytes as signed, `[a-]` is a range up
to `]`, and the empty key is matched by nothing but an empty pattern and a single star.

A nanosecond for each byte of the key and of the pattern, at worst, makes minutes for a key of 512 MB. So what takes
long is matched in steps: what lies between two stars is searched for in one window of the key after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable

from errors import PATTERN_TOO_LONG, CommandError

QUICK_PAIRS = 1 << 19  # of a byte of a key and one of the pattern: half a millisecond
MAX_PATTERN_BYTES = 1024  # compiling takes up to 15 microseconds a byte


def compile_pattern(pattern: bytes) -> Callable[[bytes], object]:
    """Return the function that says, by a true value, whether a key matches. Raises CommandError if it is too long."""
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError(PATTERN_TOO_LONG)
    first, *others = [segment for segment, _ in _segments(pattern)]
    source = first if pattern in (b"", b"*") else b"(?=.)" + first
    for number, segment in enumerate(others[:-1]):
        if segment:
            source += b"(?=(?P<s%d>.*?%b))(?P=s%d)" % (number, segment, number)
    if others:
        source += b".*" + others[-1]
    return re.compile(source, re.DOTALL).fullmatch


def is_quick(pattern: bytes, keys: Iterable[bytes]) -> bool:
    """Say whether matching all these keys takes no time."""
    return len(pattern) * sum(map(len, keys)) <= QUICK_PAIRS


def matches_in_steps(pattern: bytes, key: bytes) -> Generator[None, None, bool]:
    """Say what the function of `compile_pattern` says, in steps of about half a millisecond."""
    (first, position), *others = _segments(pattern)
    if not re.compile(first, re.DOTALL).match(key) or (not key and pattern not in (b"", b"*")):
        return False
    if not others:
        return position == len(key)
    for source, size in others[:-1]:
        search = re.compile(source, re.DOTALL).search
        window = QUICK_PAIRS // (size + 1)
        while (found := search(key, position, position + window + size)) is None:
            position += window
            if position + size > len(key):
                return False
            yield
        position = found.end()
    source, size = others[-1]
    start = len(key) - size
    return start >= position and re.compile(source, re.DOTALL).match(key, start) is not None


def _segments(pattern: bytes) -> list[tuple[bytes, int]]:
    """Cut a pattern at its stars and translate the pieces; say of each how many bytes of a key it stands for."""
    segments = []
    source, size = b"", 0
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"*":
            segments.append((source, size))
            source, size = b"", -1
        elif byte == b"?":
            source += b"."
        elif byte == b"[":
            translated, at = _byte_class(pattern, at + 1)
            source += translated
        else:
            if byte == b"\\" and at + 1 < len(pattern):
                at += 1
            source += re.escape(pattern[at : at + 1])
        size += 1
        at += 1
    return [*segments, (source, size)]


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
