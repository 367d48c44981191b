"""Redis's glob patterns, as KEYS and SCAN MATCH have them: `*`, `?`, `[a-c]`, `[^x]`, and `\\` before a plain byte.

1. A pattern is cut at its stars. What lies between two stars has a fixed length, so the first place where it fits is
   always the right one to take: a pattern such as `a*a*a*a*b` costs one search for each `a`, and never goes back.
2. A piece of plain bytes is searched for by `bytes.find`. In any other piece each byte has a table that holds 1 for
   each byte that fits. To search for such a piece, each table translates the whole key into a long integer of ones and
   zeros, a byte for each place. These integers, shifted, have a one in common where the piece fits.
3. Redis's corners are kept: an unclosed class ends with the pattern, ranges compare bytes as signed, `[a-]` is a range
   up to `]`, and the empty key is matched by nothing but an empty pattern and a single star.
4. A pattern of more than MAX_PATTERN_BYTES is refused. A key of more than MAX_KEY_BYTES is matched only by plain bytes
   and stars: with tables one of 512 MB would take minutes. So to match any other takes some milliseconds at most.

(Refused: regular expressions, which match a key in half the time. To compile one takes up to 15 us a byte of the
pattern: 15 s for a SCAN by each of 1000 clients.)
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Union

from errors import PATTERN_TOO_LONG, CommandError

MAX_PATTERN_BYTES = 1024
MAX_KEY_BYTES = 16384
QUICK_PAIRS = 1 << 16  # of a byte of a key and one of the pattern
ANY = b"\1" * 256
FLIPPED = b"\1\0" + bytes(254)
PLAIN = [bytes(byte) + b"\1" + bytes(255 - byte) for byte in range(256)]

Piece = Union[bytes, "list[bytes]"]  # what lies between two stars: plain bytes, or a table for each byte


class Pattern:
    """A pattern, to be matched with many keys. Raises CommandError if it is too long."""

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
        if isinstance(first, bytes) and not key.startswith(first):  # most keys: this alone is a third faster
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
    """Return True if it takes no time to match all these keys."""
    return len(pattern) * sum(map(len, keys)) <= QUICK_PAIRS


def _fits(piece: Piece, key: bytes, place: int) -> bool:
    """Return True if a piece fits a place of a key that is long enough."""
    if isinstance(piece, bytes):
        return key.startswith(piece, place)
    return all(map(getitem, piece, key[place : place + len(piece)]))


def _find(piece: Piece, key: bytes, start: int, end: int) -> int:
    """Return the first place between two where a piece fits, or -1."""
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
    """Cut a pattern at its stars."""
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
    """Return the table of the class whose first byte stands at `at`, and the place of its closing bracket."""
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
    """Let the bytes from one to another fit; from 128 on they count as below 0, as in C."""
    low, high = sorted(byte - 256 if byte > 127 else byte for byte in (first, last))
    for byte in range(low, high + 1):
        table[byte] = 1  # from 128 on by an index below 0
