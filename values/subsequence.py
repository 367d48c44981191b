"""The longest common subsequence of two byte strings: the algorithm behind LCS.

1. If there are several longest subsequences, it returns the one that Redis returns.
2. 4096 x 4096 bytes take 10 ms. Strings within the limits below never take more than 50 ms.

The textbook's table has a cell for each pair of bytes, and Python fills ten million cells a second. But adjacent cells
of a row differ by 0 or 1, so a row can be a string of bits, and Python's long integers process 64 cells with one
instruction: row `i` has a 0 at bit `j - 1` if the table grows from `(i, j - 1)` to `(i, j)` (Crochemore et al., 2001).
The backtracking needs only these bits, and skips each run of cells without a match.

(Refused: Redis's own limit, 2**27 pairs. Other clients would wait for half a second, or the algorithm would have to run
in steps.)
"""

from __future__ import annotations

from typing import NamedTuple

MAX_PAIRS = 2**24  # pairs of a byte of one string and a byte of the other
MAX_BYTES = 2**16  # of each string, because even a short row of the table costs a microsecond


class Range(NamedTuple):
    """A common part: `length` bytes from `left` in the one string and from `right` in the other."""

    left: int
    right: int
    length: int


def is_too_large(left: bytes, right: bytes) -> bool:
    """Return True if two strings are beyond the limits."""
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
        # The next cell to the left that has a match, or from which the path goes up.
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
    """Return, for each byte that is in both strings, its places in the right one as bits."""
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
