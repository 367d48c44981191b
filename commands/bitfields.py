"""BITFIELD: integers of any number of bits, at any place of a string.

1. A request is parsed to its end before its first operation runs, so an error changes nothing.
2. Several writes, and those that are done in slices, write a copy that replaces the string. So a request for which
   there is no memory changes nothing either. A copy of a long string shares its chunks.
3. BITFIELD logs itself if the string has grown or changed. A long request logs its parts.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command, fold
from commands.arguments import MIN_INTEGER, parse_bounded, parse_integer
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, is_long, with_keys_locked
from errors import BIT_OFFSET, BITFIELD_READ_ONLY, BITFIELD_TYPE, OVERFLOW_TYPE, SYNTAX, CommandError
from replies import LongArray, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import STRING, LongString
from values.long_string import CHUNK_BYTES, overwritten

WRAP, SATURATE, FAIL = b"WRAP", b"SAT", b"FAIL"
MOST_BITS = 64
MOST_BIT = 2**32 - 1
ZERO = ord("0")

String = bytes | LongString


def parse_bit_offset(text: bytes) -> int:
    """Parse the number of a bit. Raises CommandError."""
    if len(text) < 10 and text.isdigit() and (text[0] != ZERO or len(text) == 1):  # the usual case, in half the time
        return int(text)
    return parse_bounded(text, 0, MOST_BIT, BIT_OFFSET)


class Field(NamedTuple):
    """An integer in a string."""

    first: int  # the number of its first bit
    bits: int
    signed: bool

    def read(self, value: String | bytearray) -> int:
        """Return the integer. The bits behind the end of the string are 0."""
        begin, end, shift = self._place()
        number = int.from_bytes(value[begin:end], "big") << 8 * max(0, end - max(begin, len(value)))
        number = number >> shift & (1 << self.bits) - 1
        return number - (1 << self.bits) if self.signed and number >> (self.bits - 1) else number

    def written(self, value: String, number: int) -> String:
        """Return a string with the integer written into it, whose lowest bits count."""
        begin, end, shift = self._place()
        mask = (1 << self.bits) - 1
        known = int.from_bytes(value[begin:end], "big")
        return overwritten(
            value, begin, (known & ~(mask << shift) | (number & mask) << shift).to_bytes(end - begin, "big")
        )

    def _place(self) -> tuple[int, int, int]:
        """Return the place of the first byte and that behind the last one, and the bits behind the integer."""
        end = (self.first + self.bits + 7) >> 3
        return self.first >> 3, end, 8 * end - self.first - self.bits

    def fit(self, number: int, overflow: bytes) -> int | None:
        """Return the number that is stored for a number that may be too large; None: nothing is stored."""
        least = -(1 << (self.bits - 1)) if self.signed else 0
        most = least + (1 << self.bits) - 1
        if least <= number <= most:
            return number
        if overflow == FAIL:
            return None
        if overflow == SATURATE:
            return min(max(number, least), most)
        return (number - least & (1 << self.bits) - 1) + least

    def is_mistaken(self, number: int) -> bool:
        """Return True for a number so small that Redis takes it for one that is too large: its test overflows."""
        return self.bits < MOST_BITS and number < MIN_INTEGER + (1 << self.bits - 1)


class Operation(NamedTuple):
    """One GET, SET or INCRBY."""

    name: bytes
    field: Field
    amount: int
    overflow: bytes


class Request(NamedTuple):
    """A request that has been parsed."""

    operations: list[Operation]
    cuts: list[tuple[int, bytes]]  # where it may be divided: the position of a word, and the OVERFLOW that holds there

    @property
    def writes(self) -> int:
        """The number of operations that write."""
        return sum(operation.name != b"GET" for operation in self.operations)

    @property
    def written_bytes(self) -> int:
        """The length that its writes need."""
        return max(
            ((each.field.first + each.field.bits + 7) >> 3 for each in self.operations if each.name != b"GET"),
            default=0,
        )


def _parse_field(kind: bytes, place: bytes) -> Field:
    """Parse a type such as i16, and an offset such as 100 or #3. Raises CommandError."""
    signed = kind[:1] == b"i"
    try:
        bits = parse_integer(kind[1:]) if kind[:1] in (b"i", b"u") else 0
    except CommandError:
        bits = 0
    if not 1 <= bits <= MOST_BITS - (not signed):
        raise CommandError(BITFIELD_TYPE)
    if place[:1] != b"#":
        return Field(parse_bit_offset(place), bits, signed)
    first = parse_bit_offset(place[1:]) * bits
    if first > MOST_BIT:
        raise CommandError(BIT_OFFSET)
    return Field(first, bits, signed)


def _parse(argv: list[bytes]) -> Generator[None, None, Request]:
    """Parse a request, in steps of some operations. Raises CommandError."""
    request, overflow, position = Request([], [(2, WRAP)]), WRAP, 2
    while position < len(argv):
        name = fold(argv[position])
        size = {b"GET": 3, b"SET": 4, b"INCRBY": 4, b"OVERFLOW": 2}.get(name, 0)
        words = argv[position + 1 : position + size]
        if not size or len(words) != size - 1:
            raise CommandError(SYNTAX)
        if name == b"OVERFLOW":
            overflow = fold(words[0])
            if overflow not in (WRAP, SATURATE, FAIL):
                raise CommandError(OVERFLOW_TYPE)
        else:
            field = _parse_field(words[0], words[1])
            request.operations.append(Operation(name, field, parse_integer(words[2]) if size > 3 else 0, overflow))
        position += size
        if position - request.cuts[-1][0] > PART_WORDS:
            request.cuts.append((position, overflow))
            yield
    return request


@command(
    "BITFIELD",
    "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value |"
    " INCRBY encoding offset increment>> ...]",
    arity=-2,
    flags=WRITE | DENYOOM,
    keys=FIRST,
    since="3.2.0",
)
def bitfield(session: Session, argv: list[bytes]) -> Reply:
    """Get, set and increment integers of any number of bits in a string."""
    return _in_slices(session, argv) if is_long(argv) else at_once(_run(session, argv))


@command(
    "BITFIELD_RO",
    "key [GET encoding offset ...]",
    arity=-2,
    flags=READONLY | FAST,
    keys=FIRST,
    since="6.0.0",
)
def bitfield_ro(session: Session, argv: list[bytes]) -> Reply:
    """Get integers of any number of bits from a string."""
    return _in_slices(session, argv) if is_long(argv) else at_once(_run(session, argv))


def _in_slices(session: Session, argv: list[bytes]) -> Work:
    replies = yield from _run(session, argv)
    assert isinstance(replies, list)
    return LongArray([tuple(replies[at : at + PART_WORDS]) for at in range(0, len(replies), PART_WORDS)])


def _run(session: Session, argv: list[bytes]) -> Work:
    """Do what a request says, in steps of some operations; return the replies."""
    request = yield from _parse(argv)
    db, key = session.db, argv[1]
    if request.writes:
        if fold(argv[0]) == b"BITFIELD_RO":
            raise CommandError(BITFIELD_READ_ONLY)
        if not is_long(argv):
            return (yield from _write(db, argv, request, db.store.log))
        return (yield from with_keys_locked(session, [key], partial(_write, db, argv, request)))
    value: String = db.value(key, STRING) or b""
    if is_long(argv) and isinstance(value, LongString):
        value = value.copy()
    replies: list[Any] = []
    for operation in request.operations:
        replies.append(operation.field.read(value))
        if not len(replies) % PART_WORDS:
            yield
    return replies


def written_by(argv: list[bytes]) -> tuple[int, int]:
    """Return the number of a request's writes, and the length that they need; 0 for a request that is an error."""
    steps = _parse(argv)
    try:
        while True:
            next(steps)
    except CommandError:
        return 0, 0
    except StopIteration as end:
        request: Request = end.value
        return request.writes, request.written_bytes


def _write(db: Keyspace, argv: list[bytes], request: Request, log: EffectLog) -> Work:
    """Do what a request says that writes."""
    value: String = db.create(argv[1], STRING)
    known_size, size, changed = len(value), request.written_bytes, False
    if isinstance(value, LongString):
        value = value.copy() if request.writes > 1 or known_size < size else value
    elif size > CHUNK_BYTES:
        value = LongString(value)
    if known_size < size:
        value, changed = overwritten(value, size - 1, b"\0"), True
    replies: list[Any] = []
    for operation in request.operations:
        field, known = operation.field, operation.field.read(value)
        if operation.name == b"GET":
            replies.append(known)
        else:
            wanted = operation.amount + (known if operation.name == b"INCRBY" else 0)
            if not field.signed and operation.name == b"SET":
                wanted &= (1 << MOST_BITS) - 1  # Redis reads a negative number as a large one
            elif operation.name == b"SET" and operation.overflow == SATURATE and field.is_mistaken(wanted):
                wanted = -wanted
            number = field.fit(wanted, operation.overflow)
            if number is not None and number != known:
                value, changed = field.written(value, number), True
            replies.append(known if operation.name == b"SET" and number is not None else number)
        if not len(replies) % PART_WORDS:
            yield
    if changed:
        db.done(argv[1], value)
        _log(db, argv, request, log)
    return replies


def _log(db: Keyspace, argv: list[bytes], request: Request, log: EffectLog) -> None:
    """Log a request in its parts."""
    ends = [position for position, _ in request.cuts[1:]] + [len(argv)]
    for (start, overflow), end in zip(request.cuts, ends, strict=True):
        option = () if overflow == WRAP else (b"OVERFLOW", overflow)
        if start < end:
            log.append(db.index, [b"BITFIELD", argv[1], *option, *argv[start:end]])
