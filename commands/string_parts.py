"""Commands on parts of strings: STRLEN, APPEND, GETRANGE, SETRANGE; and LCS, which compares two.

1. APPEND and SETRANGE log themselves: that is shorter than the new value and as deterministic.
2. They copy a short value. A longer one becomes a `LongString`, which they write in place. More than HUGE_BYTES are
   written in slices.
"""

from __future__ import annotations

from commands import DENYOOM, FAST, FIRST, FIRST_TWO, READONLY, WRITE, command, fold
from commands.arguments import check_option_words, parse_integer
from commands.long_commands import HUGE_BYTES, with_keys_locked
from errors import (
    LCS_LENGTH_AND_RANGES,
    LCS_NOT_STRINGS,
    LCS_TOO_LARGE,
    OFFSET_OUT_OF_RANGE,
    STRING_TOO_LONG,
    SYNTAX,
    CommandError,
)
from replies import Computed, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import STRING, LongString, is_string
from values.long_string import overwritten
from values.subsequence import MAX_BYTES, MAX_PAIRS, common_length, common_ranges, is_too_large

MAX_STRING_BYTES = 512 * 1024 * 1024  # the default of proto-max-bulk-len: the longest word of a request
STEP_BYTES = 1 << 20


@command("STRLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="2.2.0")
def strlen(session: Session, argv: list[bytes]) -> Reply:
    """Get the length of a string in bytes."""
    _, key = argv
    return len(session.db.value(key, STRING) or b"")


@command("APPEND", "key value", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def append(session: Session, argv: list[bytes]) -> Reply:
    """Append to a string; create the key, without a TTL, if it does not exist."""
    _, key, tail = argv
    db = session.db
    value: bytes | LongString | None = db.change(key, STRING)
    if value is None:
        value = tail
    elif not tail:
        db.touched(key)
        return len(value)
    else:
        _check_length(len(value) + len(tail))
        if len(tail) > HUGE_BYTES:
            return _write_huge(session, argv, None, tail)
        value = overwritten(value, len(value), tail)
    db.done(key, value, b"APPEND", key, tail)
    return len(value)


def _check_length(length: int) -> None:
    if length > MAX_STRING_BYTES:
        raise CommandError(STRING_TOO_LONG)


@command("GETRANGE", "key start end", arity=4, flags=READONLY, keys=FIRST, since="2.4.0")
def getrange(session: Session, argv: list[bytes]) -> Reply:
    """Get a substring, start and end included; a negative index counts from the end."""
    _, key, first, last = argv
    start, end = parse_integer(first), parse_integer(last)
    value: bytes | LongString = session.db.value(key, STRING) or b""
    if 0 > start > end:
        return b""
    # Redis reads an index before the string's beginning as 0.
    start, end = (place if place >= 0 else max(0, len(value) + place) for place in (start, end))
    end = min(end + 1, len(value))
    if end - start <= HUGE_BYTES:
        return value[start:end]
    return memoryview(value)[start:end] if isinstance(value, bytes) else _part_of(value.copy(), start, end)


def _part_of(value: LongString, start: int, end: int) -> Work:
    """Copy a part of a string that nothing changes, in slices."""
    part = LongString()
    for at in range(start, end, STEP_BYTES):
        part.write(at - start, value[at : min(at + STEP_BYTES, end)])
        yield
    return part


command("SUBSTR", "key start end", arity=4, flags=READONLY, keys=FIRST)(getrange)


@command("SETRANGE", "key offset value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.2.0")
def setrange(session: Session, argv: list[bytes]) -> Reply:
    """Overwrite a part of a string; a gap before the offset is filled with zero bytes."""
    _, key, start, patch = argv
    db = session.db
    offset = parse_integer(start)
    if offset < 0:
        raise CommandError(OFFSET_OUT_OF_RANGE)
    value: bytes | LongString = db.create(key, STRING)
    if not patch:
        return len(value)
    _check_length(offset + len(patch))
    if len(patch) > HUGE_BYTES:
        return _write_huge(session, argv, offset, patch)
    value = overwritten(value, offset, patch)
    db.done(key, value, b"SETRANGE", key, start, patch)
    return len(value)


def _write_huge(session: Session, argv: list[bytes], offset: int | None, patch: bytes) -> Work:
    """Write a part of a string in slices; None: at its end."""
    return with_keys_locked(
        session, [argv[1]], lambda effects: _write_in_steps(session.db, effects, argv, offset, patch)
    )


def _write_in_steps(db: Keyspace, effects: EffectLog, argv: list[bytes], offset: int | None, patch: bytes) -> Work:
    known: bytes | LongString = db.create(argv[1], STRING)
    value = LongString(known) if isinstance(known, bytes) else known.copy()
    begin = len(value) if offset is None else offset
    _check_length(begin + len(patch))
    for start in range(0, len(patch), STEP_BYTES):
        value.write(begin + start, patch[start : start + STEP_BYTES])
        yield
    db.done(argv[1], value)
    effects.append(db.index, [argv[0].upper(), *argv[1:]])
    return len(value)


# ---- two strings


@command(
    "LCS",
    "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    arity=-3,
    flags=READONLY,
    keys=FIRST_TWO,
    since="7.0.0",
)
def lcs(session: Session, argv: list[bytes]) -> Reply:
    """Find the longest common subsequence of two strings.

    Differs from Redis: strings of more than 64 KiB, or with more than 2**24 pairs of bytes, are refused.
    """
    check_option_words(argv)
    _, key1, key2, *words = argv
    read = session.db.read
    left, right = [b"" if value is None else value for value in map(read, (key1, key2))]
    if not (is_string(left) and is_string(right)):
        raise CommandError(LCS_NOT_STRINGS)
    options, shortest = _parse_lcs_options(words)
    if {b"LEN", b"IDX"} <= options:
        raise CommandError(LCS_LENGTH_AND_RANGES)
    if is_too_large(left, right):
        raise CommandError(LCS_TOO_LARGE % (MAX_BYTES, MAX_PAIRS))
    left, right = bytes(left), bytes(right)
    if b"LEN" in options:
        return common_length(left, right)
    ranges = common_ranges(left, right)
    if b"IDX" not in options:
        return Computed(b"".join(left[start : start + length] for start, _, length in reversed(ranges)))
    matches = [
        [[start, start + length - 1], [other, other + length - 1]] + [length] * (b"WITHMATCHLEN" in options)
        for start, other, length in ranges
        if length >= shortest
    ]
    return {b"matches": matches, b"len": sum(length for _, _, length in ranges)}


def _parse_lcs_options(words: list[bytes]) -> tuple[set[bytes], int]:
    options: set[bytes] = set()
    shortest = 0
    rest = iter(words)
    for word in rest:
        option = fold(word)
        options.add(option)
        if option == b"MINMATCHLEN":
            length = next(rest, None)
            if length is None:
                raise CommandError(SYNTAX)
            shortest = parse_integer(length)
        elif option not in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            raise CommandError(SYNTAX)
    return options, shortest
