"""Commands on bitmaps: strings whose bits have numbers, from the highest bit of the first byte on.

1. SETBIT and BITFIELD write in place once a string is long (`values/long_string.py`).
2. Bits are counted, searched and combined at C's speed: bytes as one long integer, or a regular expression. Of more
   than HUGE_BYTES this is done in slices.
3. A command that changes bits logs itself. A BITOP that redis-server 7.0 does not know is logged as the string it made.

BITFIELD is in `bitfields.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from operator import and_, or_, xor
from typing import NamedTuple

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, Keys, command, fold, for_many
from commands.arguments import parse_integer
from commands.bitfields import String, parse_bit_offset
from commands.keyspace_walk import at_once
from commands.long_commands import HUGE_BYTES, PART_WORDS, is_long, lock_keys, run_locked
from errors import BIT_NOT_0_OR_1, BITOP_NOT, BITOP_TWO_SOURCES, NOT_A_BIT, SYNTAX, CommandError
from keyspace.key_locks import KeyLock
from replies import Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import STRING, LongString, rebuild
from values.entry import NO_DEADLINE
from values.long_string import CHUNK_BYTES, overwritten
from wire.columns import all_alike

STEP_BYTES = 1 << 17  # in one step; 0.5 ms
BITS = {b"0": 0, b"1": 1}
BYTES = [bytes((byte,)) for byte in range(256)]


@command("SETBIT", "key offset value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.2.0")
def setbit(session: Session, argv: list[bytes]) -> Reply:
    """Set or clear a bit of a string, which grows where it is too short; returns the old bit."""
    _, key, place, bit = argv
    offset = parse_bit_offset(place)
    if bit not in BITS:
        raise CommandError(NOT_A_BIT)
    db = session.db
    value: String = db.create(key, STRING)
    index, mask = offset >> 3, 128 >> (offset & 7)
    if index >= len(value):
        known, value = 0, overwritten(value, index, BYTES[BITS[bit] and mask])
    elif type(value) is LongString:
        known = value.exchange_bit(offset, BITS[bit])
        if known == BITS[bit]:
            return known
    else:
        byte = value[index]
        known = 1 if byte & mask else 0
        if known == BITS[bit]:
            return known
        value = overwritten(value, index, BYTES[byte ^ mask])
    db.done(key, value, b"SETBIT", key, place, bit)
    return known


@for_many("SETBIT")
def setbit_many(
    session: Session, keys: Sequence[bytes], places: Sequence[bytes], bits: Sequence[bytes]
) -> Sequence[Reply] | None:
    """Run SETBITs of one key."""
    if not all_alike(keys):
        return None
    db, key = session.db, keys[0]
    try:
        offsets = list(map(parse_bit_offset, places))
        wanted = [BITS[bit] for bit in bits]
        value: String = db.create(key, STRING)
    except (CommandError, KeyError):
        return None
    if max(offsets) >> 3 >= len(value):  # it may grow
        return None
    if isinstance(value, bytes) and len(value) > CHUNK_BYTES:
        value = LongString(value)
    if isinstance(value, LongString):
        value.own([offset >> 3 for offset in offsets])  # if there is no memory for it, nothing has changed yet
        replies: list[int] = list(map(value.exchange_bit, offsets, wanted))
    else:
        buffer = bytearray(value)
        replies = []
        for offset, bit in zip(offsets, wanted):  # noqa: B905 - as many as there are keys
            byte, mask = buffer[offset >> 3], 128 >> (offset & 7)
            known = 1 if byte & mask else 0
            replies.append(known)
            if known != bit:
                buffer[offset >> 3] = byte ^ mask
        value = bytes(buffer)
    if replies != wanted:
        db.done(key, value)
        log, number = db.store.log.append, db.index
        for known, bit, place, word in zip(replies, wanted, places, bits):  # noqa: B905
            if known != bit:
                log(number, (b"SETBIT", key, place, word))
    return replies


@command("GETBIT", "key offset", arity=3, flags=READONLY | FAST, keys=FIRST, since="2.2.0")
def getbit(session: Session, argv: list[bytes]) -> Reply:
    """Get a bit of a string; 0 behind its end."""
    _, key, place = argv
    offset = parse_bit_offset(place)
    value: String = session.db.value(key, STRING) or b""
    index = offset >> 3
    return value[index] >> (7 - (offset & 7)) & 1 if index < len(value) else 0


# ---- counting and searching


class Range(NamedTuple):
    """A part of a string, in bits, its last bit included. It is empty if `first` is greater than `last`."""

    first: int
    last: int


def _parse_range(value: String, start: int, end: int, unit: int) -> Range:
    """Return the range from `start` to `end`, in units of so many bits; a negative place counts from the end."""
    total = len(value) * 8 // unit
    first, last = (place if place >= 0 else max(0, total + place) for place in (start, end))
    return Range(first * unit, (min(last, total - 1) + 1) * unit - 1)


def _parse_unit(word: bytes) -> int:
    """Return the bits of a unit, BYTE or BIT. Raises CommandError."""
    unit = {b"BYTE": 8, b"BIT": 1}.get(fold(word))
    if unit is None:
        raise CommandError(SYNTAX)
    return unit


@command("BITCOUNT", "key [start end [BYTE | BIT]]", arity=-2, flags=READONLY, keys=FIRST, since="2.6.0")
def bitcount(session: Session, argv: list[bytes]) -> Reply:
    """Count the bits of a string that are 1; of a part, if one is given."""
    _, key, *words = argv
    value: String | None = session.db.value(key, STRING)
    if value is None:
        return 0
    if len(words) not in (0, 2, 3):
        raise CommandError(SYNTAX)
    start, end = map(parse_integer, words[:2] or (b"0", b"-1"))
    if 0 > start > end:
        return 0
    found = _parse_range(value, start, end, _parse_unit(words[2]) if len(words) > 2 else 8)
    return _in_slices(value, found, _count)


@command("BITPOS", "key bit [start [end [BYTE | BIT]]]", arity=-3, flags=READONLY, keys=FIRST, since="2.8.7")
def bitpos(session: Session, argv: list[bytes]) -> Reply:
    """Find the first bit of a string that is 1, or 0; in a part, if one is given. Returns -1 if there is none."""
    _, key, text, *words = argv
    bit = parse_integer(text)
    if bit not in (0, 1):
        raise CommandError(BIT_NOT_0_OR_1)
    value: String | None = session.db.value(key, STRING)
    if value is None:
        return -1 if bit else 0
    if len(words) > 3:
        raise CommandError(SYNTAX)
    start = parse_integer(words[0]) if words else 0
    unit = _parse_unit(words[2]) if len(words) > 2 else 8
    end = parse_integer(words[1]) if len(words) > 1 else -1
    found = _parse_range(value, start, end, unit)
    if bit:
        return _in_slices(value, found, _find_1)
    # Without an end the string counts as followed by zeros.
    return _in_slices(value, found, _find_0 if len(words) > 1 else _find_0_or_end)


Look = Callable[["String", Range], Work]


def _in_slices(value: String, part: Range, look: Look) -> Reply:
    """Look at a part of a string: at once, or in slices if it is long."""
    if part.last - part.first < 8 * HUGE_BYTES:
        return at_once(look(value, part))
    return look(value.copy() if isinstance(value, LongString) else value, part)


def _count(value: String, part: Range) -> Work:
    """Count the bits that are 1."""
    count = 0
    for _, piece in _pieces(value, part, 0):
        if piece != ALL_0:  # as in what was never written
            count += int.from_bytes(piece, "big").bit_count()
        yield
    return count


NOT_0, NOT_1 = re.compile(rb"[^\0]"), re.compile(rb"[^\xff]")
ALL_0, ALL_1 = bytes(STEP_BYTES), b"\xff" * STEP_BYTES


def _find_1(value: String, part: Range) -> Work:
    """Return the number of the first bit that is 1, or -1."""
    for start, piece in _pieces(value, part, 0):
        if piece != ALL_0[: len(piece)] and (match := NOT_0.search(piece)):
            return (start + match.start()) * 8 + 8 - piece[match.start()].bit_length()
        yield
    return -1


def _find_0(value: String, part: Range) -> Work:
    """Return the number of the first bit that is 0, or -1."""
    for start, piece in _pieces(value, part, 1):
        if piece != ALL_1[: len(piece)] and (match := NOT_1.search(piece)):
            return (start + match.start()) * 8 + 8 - (255 - piece[match.start()]).bit_length()
        yield
    return -1


def _find_0_or_end(value: String, part: Range) -> Work:
    """Return the number of the first bit that is 0, or of the bit behind the part; -1 if the part is empty."""
    found = yield from _find_0(value, part)
    return part.last + 1 if found == -1 and part.first <= part.last else found


def _pieces(value: String, part: Range, outside: int) -> Generator[tuple[int, bytes], None, None]:
    """Yield the bytes of a part in pieces, each with its place. The bits beside the part are set to `outside`."""
    begin, end = part.first >> 3, (part.last >> 3) + 1
    for start in range(begin, end if part.first <= part.last else begin, STEP_BYTES):
        piece = value[start : min(start + STEP_BYTES, end)]
        if start == begin and part.first & 7:
            piece = BYTES[_masked(piece[0], 255 >> (part.first & 7), outside)] + piece[1:]
        if start + len(piece) == end and ~part.last & 7:
            piece = piece[:-1] + BYTES[_masked(piece[-1], -1 << (~part.last & 7) & 255, outside)]
        yield start, piece


def _masked(byte: int, mask: int, outside: int) -> int:
    """Return a byte whose bits beside the mask are all `outside`."""
    return byte | ~mask & 255 if outside else byte & mask


# ---- combining


COMBINE: dict[bytes, Callable[[int, int], int]] = {b"AND": and_, b"OR": or_, b"XOR": xor, b"NOT": xor}
# of the first string, of what any other string has set, and of what several others have set
COMBINE_FIRST: dict[bytes, Callable[[int, int, int], int]] = {
    b"DIFF": lambda first, others, _: first & ~others,
    b"DIFF1": lambda first, others, _: others & ~first,
    b"ANDOR": lambda first, others, _: first & others,
    b"ONE": lambda first, others, several: (first ^ others) & ~several,
}


@command(
    "BITOP",
    "<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=Keys(2, -1, 1),
    since="2.6.0",
)
def bitop(session: Session, argv: list[bytes]) -> Reply:
    """Combine the bits of strings, and store the result; returns its length in bytes."""
    operation = fold(argv[1])
    if operation not in COMBINE and operation not in COMBINE_FIRST:
        raise CommandError(SYNTAX)
    if operation in COMBINE_FIRST and operation != b"ONE" and len(argv) < 5:
        raise CommandError(BITOP_TWO_SOURCES % operation)
    if operation == b"NOT" and len(argv) != 4:
        raise CommandError(BITOP_NOT)
    if is_long(argv):
        return _bitop_in_slices(session, argv)
    sources = _sources(session.db, argv[3:])
    if sum(map(len, sources)) > HUGE_BYTES:
        return _bitop_in_slices(session, argv)
    return at_once(_store(session.db, argv[2], _combined(operation, sources), argv))


def _sources(db: Keyspace, keys: Sequence[bytes], *, again: bool = False) -> list[String]:
    """Return strings as they are now, read as `Keyspace.value` does; empty where there is none. Raises WRONGTYPE."""
    found = [db.value(key, STRING, again=again) or b"" for key in keys]
    return [value.copy() if isinstance(value, LongString) else value for value in found]


def _bitop_in_slices(session: Session, argv: list[bytes]) -> Work:
    lock = yield from lock_keys(session, argv)
    size = yield from run_locked(session, lock, _combine_locked(session, lock, argv))
    return size


def _combine_locked(session: Session, lock: KeyLock, argv: list[bytes]) -> Work:
    sources: list[String] = []
    for start in range(3, len(argv), PART_WORDS):
        sources += _sources(session.db, argv[start : start + PART_WORDS], again=not is_long(argv))
        yield
    size = yield from _store(session.db, argv[2], _combined(fold(argv[1]), sources), argv, lock.effects)
    return size


def _combined(operation: bytes, sources: list[String]) -> Generator[None, None, String]:
    """Combine strings, a chunk of one of them a step. A string that is too short counts as followed by zeros."""
    size = max(map(len, sources))
    result: String = b""
    for start in range(0, size, CHUNK_BYTES):
        end = min(start + CHUNK_BYTES, size)
        made = None if operation != b"NOT" else (1 << 8 * (end - start)) - 1
        others = several = 0
        for source in sources:
            number = int.from_bytes(source[start:end].ljust(end - start, b"\0"), "big")
            if made is None:
                made = number
            elif operation in COMBINE:
                made = COMBINE[operation](made, number)
            else:
                several |= others & number
                others |= number
            yield
        assert made is not None
        if operation in COMBINE_FIRST:
            made = COMBINE_FIRST[operation](made, others, several)
        result = overwritten(result, start, made.to_bytes(end - start, "big"))
    return result


def _store(
    db: Keyspace, key: bytes, work: Generator[None, None, String], argv: list[bytes], log: EffectLog | None = None
) -> Work:
    """Store the result of BITOP, or delete the key if it is empty. Return its length."""
    value = yield from work
    log = db.store.log if log is None else log
    if not len(value):
        if db.remove(key) is not None:
            log.append(db.index, (b"DEL", key))
    else:
        db.put(key, value, NO_DEADLINE)
        is_whole = is_long(argv) or fold(argv[1]) in COMBINE_FIRST
        for effect in rebuild(key, value, NO_DEADLINE) if is_whole else [[b"BITOP", *argv[1:]]]:
            log.append(db.index, effect)
    return len(value)
