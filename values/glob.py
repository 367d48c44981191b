"""Redis's glob patterns, for KEYS and SCAN MATCH: `*`, `?`, `[a-c]`, `[^x]`, and `\\` before a plain byte.

1. A match takes some milliseconds at most. So a pattern of more than MAX_PATTERN_BYTES is an error, and a key of more
   than MAX_KEY_BYTES matches only patterns of plain bytes and stars: with tables a key of 512 MB would take minutes.
2. Redis's edge cases are kept: an unclosed class ends with the pattern, ranges compare bytes as signed, `[a-]` is a
   range up to `]`, and the empty key matches only an empty pattern and a single star.

A pattern is cut at its stars. A piece between two stars has a fixed length, so its first match is always a right one: a
pattern such as `a*a*a*a*b` costs one search for each `a`, and never backtracks. A piece of plain bytes is searched for
with `bytes.find`. In any other piece, each byte has a table with a 1 for each byte that matches. To search for such a
piece, each table translates the whole key into a long integer of ones and zeros, a byte for each place. After a shift
these integers have a common one where the piece matches.

(Refused: regular expressions, which match a key in half the time. To compile one takes up to 15 µs a byte of the
pattern: 15 s for a SCAN by each of 1000 clients.)
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Union

from errors import PATTERN_TOO_LONG, CommandError

MAX_PATTERN_BYTES = 1024
MAX_KEY_BYTES = 16384
QUICK_PAIRS = 1 << 16  # pairs of a byte of a key and a byte of the pattern
ANY = b"\1" * 256
FLIPPED = b"\1\0" + bytes(254)
PLAIN = [bytes(byte) + b"\1" + bytes(255 - byte) for byte in range(256)]

Piece = Union[bytes, "list[bytes]"]  # the part between two stars: plain bytes, or a table for each byte


class Pattern:
    """A compiled pattern. Raises CommandError if it is too long."""

    def __init__(self, pattern: bytes) -> None:
        if len(pattern) > MAX_PATTERN_BYTES:
            raise CommandError(PATTERN_TOO_LONG)
        self._pattern = pattern
        self._is_plain = is_plain = not any(special in pattern for special in (b"?", b"[", b"\\"))
        pieces: list[Piece] = [*pattern.split(b"*")] if is_plain else _pieces(pattern)
        self._first, *self._middle = pieces
        self._last = self._middle.pop() if self._middle else None

    def matches(self, key: bytes) -> bool:
        """Return True if a key matches."""
        first, last = self._first, self._last
        if isinstance(first, bytes) and not key.startswith(first):  # rejects most keys a third faster
            return False
        if not key:
            return self._pattern in (b"", b"*")
        if len(key) > MAX_KEY_BYTES and not self._is_plain:
            return False
        if last is None:
            return len(first) == len(key) and _fits(first, key, 0)
        start, end = len(first), len(key) - len(last)
        if start > end or not _fits(first, key, 0) or not _fits(last, key, end):
            return False
        for piece in self._middle:
            place = _find(piece, key, start, end)
            if place < 0:
                return False
            start = place + len(piece)
        return True


def is_quick(pattern: bytes, keys: Iterable[bytes]) -> bool:
    """Return True if to match all these keys takes well under a millisecond."""
    return len(pattern) * sum(map(len, keys)) <= QUICK_PAIRS


def _fits(piece: Piece, key: bytes, place: int) -> bool:
    """Return True if a piece matches at a place of a key. The key must be long enough."""
    if isinstance(piece, bytes):
        return key.startswith(piece, place)
    return all(map(getitem, piece, key[place : place + len(piece)]))


def _find(piece: Piece, key: bytes, start: int, end: int) -> int:
    """Return the first place between `start` and `end` where a piece matches, or -1."""
    if isinstance(piece, bytes):
        return key.find(piece, start, end)
    places = end - start - len(piece) + 1
    if places <= 0:
        return -1
    part = key[start:end]
    fits = int.from_bytes(b"\1" * places, "little")
    for offset, table in enumerate(piece):
        if table is not ANY:
            fits &= int.from_bytes(part[offset : offset + places].translate(table), "little")
            if not fits:
                return -1
    return start + (fits & -fits).bit_length() // 8


def _pieces(pattern: bytes) -> list[Piece]:
    """Return the pieces of a pattern, which is cut at its stars."""
    pieces: list[Piece] = []
    tables: list[bytes] = []
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte == ord("*"):
            pieces.append(tables)
            tables = []
        elif byte == ord("?"):
            tables.append(ANY)
        elif byte == ord("["):
            table, at = _class(pattern, at + 1)
            tables.append(table)
        else:
            if byte == ord("\\") and at + 1 < len(pattern):
                at += 1
            tables.append(PLAIN[pattern[at]])
        at += 1
    return [*pieces, tables]


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return the table of the class whose first byte is at `at`, and the place of its closing bracket."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    table = bytearray(256)
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            at += 1
            table[pattern[at]] = 1
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            _add_range(table, pattern[at], pattern[at + 2])
            at += 2
        else:
            table[pattern[at]] = 1
        at += 1
    return bytes(table.translate(FLIPPED) if negated else table), at


def _add_range(table: bytearray, first: int, last: int) -> None:
    """Make a range of bytes match. Bytes from 128 on compare as negative numbers, as in C."""
    low, high = sorted(byte - 256 if byte > 127 else byte for byte in (first, last))
    for byte in range(low, high + 1):
        table[byte] = 1  # a negative index for bytes from 128 on
