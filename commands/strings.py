"""Commands on strings: whole values, parts of values, numbers.

A string is `bytes`, and a number is a string that spells one: nothing else is kept of it. A command that changes a
part of a string (APPEND, SETRANGE, INCRBY) logs itself, which is shorter than the new value and just as deterministic;
one that sets a whole string logs a SET with its absolute deadline.
"""

from __future__ import annotations

from typing import NamedTuple

from commands import ALL, DENYOOM, FAST, FIRST, PAIRS, READONLY, WRITE, command
from commands.arguments import EXPIRY_OPTIONS, MAX_INTEGER, MIN_INTEGER, parse_deadline, parse_integer
from errors import (
    OVERFLOW,
    SYNTAX,
    TEXT_NO_VALUE,
    WRONG_TYPE,
    CommandError,
)
from replies import OK, Reply
from session import Session
from store import NO_DEADLINE, Keyspace


def rebuild(key: bytes, value: bytes, deadline_ms: int) -> list[bytes]:
    """Return the command that makes this key anew, whatever was there."""
    if deadline_ms == NO_DEADLINE:
        return [b"SET", key, value]
    return [b"SET", key, value, b"PXAT", b"%d" % deadline_ms]


def assign(db: Keyspace, key: bytes, value: bytes, deadline_ms: int) -> None:
    """Set a whole string and log it."""
    db.put(key, value, deadline_ms)
    if deadline_ms == NO_DEADLINE:
        db.effect(b"SET", key, value)
    else:
        db.store.log.append_set(db.index, key, value, deadline_ms)


def string_to_change(db: Keyspace, key: bytes) -> bytes | None:
    """Return the string at a key or None; no hit and no miss, since nobody reads it. Raises WRONGTYPE."""
    value = db.get(key)
    if value is not None and type(value) is not bytes:
        raise CommandError(WRONG_TYPE)
    return value


# ---- whole strings


@command("GET", "key", arity=2, flags=READONLY | FAST, keys=FIRST, text_null=TEXT_NO_VALUE)
def get(session: Session, argv: list[bytes]) -> Reply:
    """Get the string value of a key."""
    _, key = argv
    return session.db.string(key)


class SetOptions(NamedTuple):
    """What stands behind key and value of SET, or behind the key of GETEX."""

    deadline_ms: int
    keep_deadline: bool = False
    only_new: bool = False
    only_old: bool = False
    return_old: bool = False
    persist: bool = False


@command(
    "SET",
    "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds"
    " | KEEPTTL]",
    arity=-3,
    flags=WRITE | DENYOOM,
    keys=FIRST,
)
def set_string(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key, whatever type it was; without a time to live it gets the default one."""
    if len(argv) == 3:  # most writes are this one: no options, no second look
        _, key, value = argv
        assign(session.db, key, value, session.store.default_deadline_ms)
        return OK
    return _set_with_options(session, argv)


def _set_with_options(session: Session, argv: list[bytes]) -> Reply:
    _, key, value, *words = argv
    db = session.db
    options = _parse_options(session, b"set", words, {b"NX", b"XX", b"GET", b"KEEPTTL"})
    old = db.string(key) if options.return_old else db.get(key)
    if (options.only_new and old is not None) or (options.only_old and old is None):
        return old if options.return_old else None
    if options.keep_deadline:
        deadline_ms = NO_DEADLINE if old is None else db.deadline_ms(key)
    else:
        deadline_ms = options.deadline_ms
    assign(db, key, value, deadline_ms)
    return old if options.return_old else OK


def _parse_options(session: Session, name: bytes, words: list[bytes], allowed: set[bytes]) -> SetOptions:
    """Read the options of SET or GETEX, as strict about combinations as Redis. Raises CommandError."""
    seen: set[bytes] = set()
    life = b""  # the one option that says how long
    amount = b""
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option in EXPIRY_OPTIONS:
            if life not in (b"", option):
                raise CommandError(SYNTAX)
            following = next(rest, None)
            if following is None:
                raise CommandError(SYNTAX)
            life, amount = option, following
        elif option not in allowed:
            raise CommandError(SYNTAX)
        elif option in (b"KEEPTTL", b"PERSIST"):
            if life not in (b"", option):
                raise CommandError(SYNTAX)
            life = option
        else:
            seen.add(option)
    if {b"NX", b"XX"} <= seen:
        raise CommandError(SYNTAX)
    deadline_ms = session.store.default_deadline_ms
    if amount:
        deadline_ms = parse_deadline(life, amount, session.store.now_ms, name)
    return SetOptions(deadline_ms, life == b"KEEPTTL", b"NX" in seen, b"XX" in seen, b"GET" in seen, life == b"PERSIST")


@command("SETEX", "key seconds value", arity=4, flags=WRITE | DENYOOM, keys=FIRST, since="2.0.0")
def setex(session: Session, argv: list[bytes]) -> Reply:
    """Set the string value of a key, and the seconds it lives."""
    _, key, seconds, value = argv
    assign(session.db, key, value, parse_deadline(b"EX", seconds, session.store.now_ms, b"setex"))
    return OK


@command("MGET", "key [key ...]", arity=-2, flags=READONLY | FAST, keys=ALL)
def mget(session: Session, argv: list[bytes]) -> Reply:
    """Get the string values of keys; null for a key that is not there or is no string."""
    read = session.db.read
    return [value if type(value) is bytes else None for value in map(read, argv[1:])]


@command("MSET", "key value [key value ...]", arity=-3, flags=WRITE | DENYOOM, keys=PAIRS, since="1.0.1")
def mset(session: Session, argv: list[bytes]) -> Reply:
    """Set the string values of keys, all at once."""
    _assign_pairs(session, argv)
    return OK


def _assign_pairs(session: Session, argv: list[bytes]) -> None:
    db = session.db
    deadline_ms = session.store.default_deadline_ms
    for key, value in zip(argv[1::2], argv[2::2], strict=True):
        assign(db, key, value, deadline_ms)


# ---- numbers


@command("INCR", "key", arity=2, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incr(session: Session, argv: list[bytes]) -> Reply:
    """Add one to the integer that a key spells; a key that is not there counts as 0."""
    _, key = argv
    return _increment(session.db, key, 1)


def _increment(db: Keyspace, key: bytes, amount: int) -> int:
    value = string_to_change(db, key)
    total = amount if value is None else parse_integer(value) + amount
    if not MIN_INTEGER <= total <= MAX_INTEGER:
        raise CommandError(OVERFLOW)
    db.replace(key, b"%d" % total)
    db.effect(b"INCRBY", key, b"%d" % amount)
    return total


@command("INCRBY", "key increment", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incrby(session: Session, argv: list[bytes]) -> Reply:
    """Add to the integer that a key spells; a key that is not there counts as 0."""
    _, key, amount = argv
    return _increment(session.db, key, parse_integer(amount))
