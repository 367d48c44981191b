"""The longest common subsequence of two byte strings: the algorithm behind LCS.

The textbook's table has a cell for each pair of bytes, which Python fills at ten million a second. But neighbours in a
row differ by 0 or 1, so a row is a string of bits, and Python's long integers do 64 cells with one instruction: row
`i` has a 0 at bit `j - 1` where the table grows between `(i, j - 1)` and `(i, j)` (Crochemore et al., 2001). The way
back through the table needs nothing but these bits, and leaps over each run of cells that hold nothing new.

    4096 x 4096 bytes: 10 ms; at the limits below never more than 50 ms

It answers the very subsequence that Redis answers where there are several. (Refused: Redis's own limit, 2**27 pairs, at
which others wait for half a second or have to be served between steps.)
"""

from __future__ import annotations

from typing import NamedTuple

MAX_PAIRS = 2**24  # of a byte of the one string and one of the other
MAX_BYTES = 2**16  # of each string: a row of the table costs a microsecond however short it is


class Range(NamedTuple):
    """Where the strings agree: from `left` and from `right`, for `length` bytes."""

    left: int
    right: int
    length: int


def is_too_large(left: bytes, right: bytes) -> bool:
    """Return True if it would take too long to compare these."""
    return max(len(left), len(right)) > MAX_BYTES or len(left) * len(right) > MAX_PAIRS


def common_length(left: bytes, right: bytes) -> int:
    """Return the length of the longest common subsequence."""
    places = _places(left, right)
    rows = _rows(left, right, places)
    return len(right) - rows[-1].bit_count()


def common_ranges(left: bytes, right: bytes) -> list[Range]:
    """Return the longest common subsequence as ranges, the last one first."""
    places = _places(left, right)
    rows = _rows(left, right, places)
    ranges: list[Range] = []
    column = len(right)
    for row in range(len(left), 0, -1):
        here = places.get(left[row - 1], 0)
        # the next cell to the left that holds a match, or from which the way leads up
        column = ((here | ~rows[row]) & ((1 << column) - 1)).bit_length()
        if not column:
            break
        if left[row - 1] == right[column - 1]:
            column -= 1
            if ranges and ranges[-1][:2] == (row, column + 1):
                ranges[-1] = Range(row - 1, column, ranges[-1].length + 1)
            else:
                ranges.append(Range(row - 1, column, 1))
    return ranges


def _places(left: bytes, right: bytes) -> dict[int, int]:
    """Return for each byte that both strings hold where it stands in the right one, as bits."""
    digits = right[::-1]
    places = {}
    for byte in sorted(set(left) & set(right)):
        is_byte = bytearray(b"0" * 256)
        is_byte[byte] = ord("1")
        places[byte] = int(digits.translate(is_byte), 2)
    return places


def _rows(left: bytes, right: bytes, places: dict[int, int]) -> list[int]:
    full = (1 << len(right)) - 1
    row = full
    rows = [row]
    for byte in left:
        matches = row & places.get(byte, 0)
        row = ((row + matches) | (row - matches)) & full
        rows.append(row)
    return rows
