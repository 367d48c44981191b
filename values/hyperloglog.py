"""HyperLogLog: an estimate of how many distinct elements were added, in a string with Redis's own bytes.

1. A value here is the whole string. It is `bytes`, so each function that changes it returns another one.
2. The bytes are those that redis-server 7 has after the same commands, in both representations. So GET, DUMP and a copy
   made by SET agree with it.
3. Nothing here knows keys, commands or the log.

    4 bytes   HYLL                                    the head
    1 byte    0: dense, 1: sparse
    3 bytes   zero
    8 bytes   the cardinality that was counted last, little-endian; bit 63 is set if it may be out of date
    ...       16384 registers of 6 bits each

An element's 64-bit hash selects a register by its lowest 14 bits. The register holds the greatest rank of all elements:
the place of the lowest bit that is 1 among the other 50.

    dense     registers one behind the other, the lowest bits first: 12288 bytes
    sparse    runs of registers: 00nnnnnn       n + 1 zeros
                                 01nnnnnn n...  n + 1 zeros, 14 bits
                                 1vvvvvnn       n + 1 registers that hold v + 1

A sparse string becomes dense when it outgrows SPARSE_BYTES, or a register exceeds 32. How its runs are divided depends
on the order of the changes; `Sparse.set` says how Redis does it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

REGISTERS = 1 << 14
LAST_REGISTER = REGISTERS - 1
INDEX_BITS, HASH_BITS = 14, 50
HASH_END = 1 << HASH_BITS
BELOW = [(1 << rank) - 1 << INDEX_BITS for rank in range(64)]  # the bits of a hash that are 0 for a greater rank
HEAD_BYTES = 16
DENSE_BYTES = HEAD_BYTES + REGISTERS * 6 // 8
SPARSE_BYTES = 3000  # of the whole string: the default of Redis's hll-sparse-max-bytes
DENSE, SPARSE = 0, 1
MAGIC = b"HYLL"
STALE = 0x80  # in the last byte of the cardinality
EMPTY = MAGIC + bytes((SPARSE, 0, 0, 0)) + bytes(8) + b"\x7f\xff"

MOST_SPARSE_RANK = 32
MOST_VALUE_RUN = 4
MOST_ZERO_RUN = 64
MARKED_BYTES = 64  # a block of runs that is searched at once, and between two runs whose places are known
CHANGED_BYTES = 16  # behind the place of a change, what may have been merged
MERGED_RUNS = 5  # behind a change, Redis looks at so many runs to merge
LONG_ZEROS, VALUE = 0x40, 0x80  # the kinds of runs, from the first bits of a byte
SPANS = [*range(1, 65), *[0] * 64, *[1, 2, 3, 4] * 32]  # byte -> registers of its run; 0: the next byte says more
SPAN_TABLE = bytes(SPANS)
LONG_RUN = re.compile(rb"[\x40-\x7f]").search


class Corrupt(Exception):
    """The bytes behind the head of a sparse string are not what they should be."""


def is_valid(value: bytes) -> bool:
    """Return True if a string has the head of a HyperLogLog, and as a dense one its length."""
    if len(value) < HEAD_BYTES or value[:4] != MAGIC:
        return False
    return value[4] == SPARSE or (value[4] == DENSE and len(value) == DENSE_BYTES)


def is_sparse(value: bytes) -> bool:
    """Return True if a HyperLogLog is in the sparse form."""
    return value[4] == SPARSE


# ---- changing registers


class Added(NamedTuple):
    """What became of a value: itself, if no register has changed; and of each hash, whether it changed one."""

    value: bytes
    changes: list[bool]


def add(value: bytes, hashes: Sequence[int]) -> Added:
    """Add elements by their hashes. The cached cardinality becomes stale if a register changes. Raises Corrupt."""
    if value[4] == DENSE:
        return _add_dense(value, hashes)
    sparse = Sparse(value)
    changes: list[bool] = []
    for place, number in enumerate(hashes):
        changed = sparse.set(number & LAST_REGISTER, _rank(number))
        if changed is None:
            rest = _add_dense(densified(sparse.value()), hashes[place:])
            return Added(rest.value, changes + rest.changes)
        changes.append(changed)
    return Added(stale(sparse.value()) if True in changes else value, changes)


def _add_dense(value: bytes, hashes: Sequence[int]) -> Added:
    dense: bytes | bytearray = value
    changes = []
    for number in hashes:
        bit = (number & LAST_REGISTER) * 6
        place, shift = HEAD_BYTES + (bit >> 3), bit & 7
        pair = dense[place : place + 2]  # one byte for the last register
        known = int.from_bytes(pair, "little") >> shift & 63
        # The rank is less than or equal to `known` if one of so many bits is 1: that is the usual case.
        if number & BELOW[known] or (rank := _rank(number)) <= known:
            changes.append(False)
            continue
        changes.append(True)
        if dense is value:
            dense = bytearray(value)
            dense[15] |= STALE
        word = int.from_bytes(pair, "little") + (rank - known << shift)
        dense[place : place + 2] = word.to_bytes(len(pair), "little")  # type: ignore[index]
    return Added(value if dense is value else bytes(dense), changes)


def _rank(number: int) -> int:
    """Return the rank of a hash: the place of the lowest bit that is 1 above those that select the register."""
    bits = number >> INDEX_BITS | HASH_END
    return (bits & -bits).bit_length()


def stale(value: bytes) -> bytes:
    """Return a value whose cached cardinality is marked as out of date."""
    return value[:15] + bytes((value[15] | STALE,)) + value[HEAD_BYTES:]


class Sparse:
    """The runs of a sparse string, while registers change.

    Marks are runs whose places are known, so that a search need not begin at the first one. They are sorted.
    """

    def __init__(self, value: bytes) -> None:
        self._head = value[:HEAD_BYTES]
        self.runs = bytearray(value[HEAD_BYTES:])
        self._marks = [0]  # the first register of each
        self._places = [0]

    def value(self) -> bytes:
        """Return the string."""
        return self._head + bytes(self.runs)

    def _find(self, index: int) -> tuple[int, int, int]:
        """Return the place of the run that holds a register, its first register, and the place of the run before it.

        -1: there is no run before it. Raises Corrupt.
        """
        # From the last mark but one, because the run before the one that is found must be known.
        mark = max(0, bisect_right(self._marks, index) - 2)
        runs, place = self.runs, self._places[mark]
        rest, before = index - self._marks[mark], -1
        while block := runs[place : place + MARKED_BYTES]:
            end = place + len(block)
            if LONG_RUN(block) is None:  # each byte is a run: they are added up at once, in a fifth of the time
                span = sum(block.translate(SPAN_TABLE))
                if rest >= span:
                    rest -= span
                    before, place = end - 1, end
                    self._mark(place, index - rest)
                    continue
            places = enumerate(block, place)
            for place, byte in places:
                span = SPANS[byte]
                if not span:
                    if place + 1 == len(runs):
                        raise Corrupt
                    span = ((byte & 63) << 8 | runs[place + 1]) + 1
                    next(places, None)
                if rest < span:
                    return place, index - rest, before
                rest -= span
                before = place
            place = before + (2 if LONG_ZEROS <= runs[before] < VALUE else 1)
            self._mark(place, index - rest)
        raise Corrupt

    def _mark(self, place: int, first: int) -> None:
        """Remember the place of a run, unless the one before it that is remembered is near."""
        at = bisect_left(self._places, place)
        if place >= self._places[at - 1] + MARKED_BYTES and (at == len(self._places) or self._places[at] > place):
            self._places.insert(at, place)
            self._marks.insert(at, first)

    def _move_marks(self, place: int, end: int, more: int) -> None:
        """Remove the marks behind a place, up to `end`; those behind it have moved by `more` bytes."""
        first, last = bisect_right(self._places, place), bisect_right(self._places, end)
        self._places[first:] = [each + more for each in self._places[last:]]
        del self._marks[first:last]

    def set(self, index: int, rank: int) -> bool | None:
        """Raise a register to a rank. Return True if it has changed; None, and change nothing, if it needs density.

        The run that holds the register is divided into up to three. Then values that are equal and side by side are
        merged, from the run before it on, in MERGED_RUNS runs.
        """
        if rank > MOST_SPARSE_RANK:
            return None
        runs = self.runs
        place, first, before = self._find(index)
        byte = runs[place]
        value, size = 0, 1
        if byte >= VALUE:
            value, span = (byte >> 2 & 31) + 1, (byte & 3) + 1
            if value >= rank:
                return False
        elif byte >= LONG_ZEROS:
            span, size = ((byte & 63) << 8 | runs[place + 1]) + 1, 2
        else:
            span = byte + 1
        new = _run(value, index - first) + _run(rank, 1) + _run(value, first + span - 1 - index)
        if len(new) > size and HEAD_BYTES + len(runs) + len(new) - size > SPARSE_BYTES:
            return None
        known = len(runs)
        runs[place : place + size] = new
        before = max(before, 0)
        self._merge(before)
        self._move_marks(before, place + CHANGED_BYTES, len(runs) - known)
        return True

    def _merge(self, place: int) -> None:
        runs = self.runs
        for _ in range(MERGED_RUNS):
            if place >= len(runs):
                return
            byte = runs[place]
            if byte < VALUE:
                place += 2 if byte >= LONG_ZEROS else 1
                continue
            if place + 1 < len(runs):
                other = runs[place + 1]
                span = (byte & 3) + (other & 3) + 2
                if other >= VALUE and other >> 2 == byte >> 2 and span <= MOST_VALUE_RUN:
                    runs[place : place + 2] = bytes((byte & 0xFC | span - 1,))
                    continue
            place += 1


def _run(value: int, span: int) -> bytes:
    """Return the run of so many registers with a value; nothing for no register."""
    if not span:
        return b""
    if value:
        return bytes((VALUE | value - 1 << 2 | span - 1,))
    if span > MOST_ZERO_RUN:
        return bytes((LONG_ZEROS | span - 1 >> 8, span - 1 & 255))
    return bytes((span - 1,))


# ---- all registers at once

WIDE = {  # for register 0 to 3 of a group of 3 bytes: tables that move its bits from two bytes to one
    0: (bytes(byte & 63 for byte in range(256)), None),
    1: (bytes(byte >> 6 for byte in range(256)), bytes((byte & 15) << 2 for byte in range(256))),
    2: (bytes(byte >> 4 for byte in range(256)), bytes((byte & 3) << 4 for byte in range(256))),
    3: (bytes(byte >> 2 for byte in range(256)), None),
}
HIGH = int.from_bytes(b"\x80" * REGISTERS, "little")


def registers_of(value: bytes) -> bytes:
    """Return all registers, a byte each. Raises Corrupt."""
    if value[4] == SPARSE:
        return b"".join([bytes((rank,)) * span for rank, span in _runs_of(value)])
    columns = [value[start::3] for start in range(HEAD_BYTES, HEAD_BYTES + 3)]
    registers = bytearray(REGISTERS)
    registers[0::4] = columns[0].translate(WIDE[0][0])
    registers[1::4] = _joined(columns[0].translate(WIDE[1][0]), columns[1].translate(WIDE[1][1]))
    registers[2::4] = _joined(columns[1].translate(WIDE[2][0]), columns[2].translate(WIDE[2][1]))
    registers[3::4] = columns[2].translate(WIDE[3][0])
    return bytes(registers)


def _joined(low: bytes, high: bytes) -> bytes:
    return (int.from_bytes(low, "little") | int.from_bytes(high, "little")).to_bytes(len(low), "little")


LOW_2 = bytes((byte & 3) << 6 for byte in range(256))
LOW_4 = bytes((byte & 15) << 4 for byte in range(256))
HIGH_4 = bytes(byte >> 2 for byte in range(256))
HIGH_2 = bytes(byte >> 4 for byte in range(256))
TOP_6 = bytes(byte << 2 & 255 for byte in range(256))


def _dense(head: bytes, registers: bytes) -> bytes:
    """Return a dense string with these registers, and the cardinality of a head."""
    zero, one, two, three = (registers[start::4] for start in range(4))
    packed = bytearray(DENSE_BYTES)
    packed[:HEAD_BYTES] = head[:4] + bytes((DENSE,)) + head[5:HEAD_BYTES]
    packed[HEAD_BYTES::3] = _joined(zero, one.translate(LOW_2))
    packed[HEAD_BYTES + 1 :: 3] = _joined(one.translate(HIGH_4), two.translate(LOW_4))
    packed[HEAD_BYTES + 2 :: 3] = _joined(two.translate(HIGH_2), three.translate(TOP_6))
    return bytes(packed)


def _runs_of(value: bytes) -> list[tuple[int, int]]:
    """Return the runs of a sparse string: the rank, and the number of registers. Raises Corrupt."""
    found, total = [], 0
    bytes_left = iter(value[HEAD_BYTES:])
    for byte in bytes_left:
        rank, span = 0, SPANS[byte]
        if byte >= VALUE:
            rank = (byte >> 2 & 31) + 1
        elif not span:
            span = ((byte & 63) << 8 | next(bytes_left, 0)) + 1
        found.append((rank, span))
        total += span
    if total != REGISTERS:
        raise Corrupt
    return found


def densified(value: bytes) -> bytes:
    """Return the dense form of a string. Raises Corrupt."""
    return value if value[4] == DENSE else _dense(value, registers_of(value))


def greatest(left: bytes, right: bytes) -> bytes:
    """Return the greater one of each two registers, a byte each."""
    one, other = int.from_bytes(left, "little"), int.from_bytes(right, "little")
    is_greater = (one | HIGH) - other & HIGH  # the highest bit of a byte: `one` is not less there
    mask = (is_greater << 1) - (is_greater >> 7)
    return (other ^ (one ^ other) & mask).to_bytes(REGISTERS, "little")


def raised(value: bytes, registers: bytes, stays_sparse: bool) -> bytes:
    """Return a value whose registers are at least these, a byte each. Raises Corrupt.

    A sparse string remains one only if it `stays_sparse`, and has room.
    """
    known = registers_of(value)
    if stays_sparse:
        sparse = Sparse(value)
        changes = ((index, rank) for index, (rank, was) in enumerate(zip(registers, known, strict=True)) if rank > was)
        if all(sparse.set(index, rank) for index, rank in changes):
            return sparse.value()
    return _dense(value, greatest(known, registers))


# ---- counting

ALPHA = 0.721347520444481703680  # 1 / (2 ln 2)


def cached(value: bytes) -> int | None:
    """Return the cardinality that was counted last, or None if it may be out of date."""
    return None if value[15] & STALE else int.from_bytes(value[8:HEAD_BYTES], "little")


def with_cached(value: bytes, cardinality: int) -> bytes:
    """Return a value with its cardinality."""
    return value[:8] + cardinality.to_bytes(8, "little") + value[HEAD_BYTES:]


def count(registers: bytes) -> int:
    """Estimate how many distinct elements were added, from the registers, a byte each.

    By Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", as in Redis.
    """
    histogram = [0] * (HASH_BITS + 2)
    left = REGISTERS
    for rank in range(HASH_BITS + 2):
        histogram[rank] = registers.count(rank)
        left -= histogram[rank]
        if not left:
            break
    total = REGISTERS * _tau((REGISTERS - histogram[HASH_BITS + 1]) / REGISTERS)
    for rank in range(HASH_BITS, 0, -1):
        total = (total + histogram[rank]) * 0.5
    total += REGISTERS * _sigma(histogram[0] / REGISTERS)
    return int(ALPHA * REGISTERS * REGISTERS / total + 0.5)


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = sqrt(x), z, y * 0.5
        z -= (1 - x) ** 2 * y
    return z / 3


def _sigma(x: float) -> float:
    if x == 1.0:
        return float("inf")
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z += x * y
        y += y
    return z
