"""Commands on keys of any type: whether they are there, until when, under which name, in which database."""

from __future__ import annotations

from commands import ALL, FAST, FIRST, READONLY, WRITE, command
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_integer
from errors import INVALID_EXPIRE, CommandError
from replies import Deleted, Reply
from session import Session
from store import NO_DEADLINE

# ---- being there


@command("DEL", "key [key ...]", arity=-2, flags=WRITE, keys=ALL)
def delete(session: Session, argv: list[bytes]) -> Reply:
    """Delete keys; answers how many there were, in the text dialect their values."""
    db = session.db
    keys = argv[1:]
    values = [db.remove(key) for key in keys]
    removed = [key for key, value in zip(keys, values, strict=True) if value is not None]
    if removed:
        db.effect(b"DEL", *removed)
    reply = Deleted(len(removed))
    reply.values = values
    return reply


@command("EXISTS", "key [key ...]", arity=-2, flags=READONLY | FAST, keys=ALL)
def exists(session: Session, argv: list[bytes]) -> Reply:
    """Count how many of the keys named are there; one named twice counts twice."""
    read = session.db.read
    return sum(read(key) is not None for key in argv[1:])


# ---- deadlines


@command("TTL", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def ttl(session: Session, argv: list[bytes]) -> Reply:
    """Get the seconds a key has to live; -1 if it has no end, -2 if it is not there."""
    _, key = argv
    left_ms = _time_left_ms(session, key)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


def _time_left_ms(session: Session, key: bytes) -> int:
    db = session.db
    if db.read(key) is None:
        return -2
    deadline_ms = db.deadline_ms(key)
    return -1 if deadline_ms == NO_DEADLINE else max(0, deadline_ms - session.store.now_ms)


@command("EXPIRE", "key seconds [NX | XX | GT | LT]", arity=-3, flags=WRITE | FAST, keys=FIRST)
def expire(session: Session, argv: list[bytes]) -> Reply:
    """Set the seconds that a key has to live."""
    return _expire(session, argv, b"expire", 1000, session.store.now_ms)


@command("PEXPIREAT", "key unix-time-milliseconds [NX | XX | GT | LT]", arity=-3, flags=WRITE | FAST, keys=FIRST)
def pexpireat(session: Session, argv: list[bytes]) -> Reply:
    """Set the Unix time in milliseconds at which a key ends."""
    return _expire(session, argv, b"pexpireat", 1, 0)


def _expire(session: Session, argv: list[bytes], name: bytes, unit_ms: int, base_ms: int) -> int:
    _, key, amount, *words = argv
    conditions = _parse_conditions(words)
    units = parse_integer(amount)
    deadline_ms = units * unit_ms + base_ms
    if not MIN_INTEGER <= units * unit_ms <= MAX_INTEGER or deadline_ms > MAX_INTEGER:
        raise CommandError(INVALID_EXPIRE % name)
    db = session.db
    if db.get(key) is None or not _meets(conditions, db.deadline_ms(key), deadline_ms):
        return 0
    if deadline_ms <= session.store.expired_until_ms:
        db.remove(key)
        db.effect(b"DEL", key)
    else:
        db.set_deadline(key, deadline_ms)
        db.effect(b"PEXPIREAT", key, b"%d" % deadline_ms)
    return 1


def _parse_conditions(words: list[bytes]) -> set[bytes]:
    """Read the options of EXPIRE. Raises CommandError for one that is unknown and for two that contradict."""
    conditions = set()
    for word in words:
        condition = word.upper()
        if condition not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(b"ERR Unsupported option %b" % word)
        conditions.add(condition)
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= conditions:
        raise CommandError(b"ERR GT and LT options at the same time are not compatible")
    return conditions


def _meets(conditions: set[bytes], known_ms: int, wanted_ms: int) -> bool:
    """Say whether a key's deadline may be replaced; no deadline counts as one that never comes."""
    endless = known_ms == NO_DEADLINE
    for condition in conditions:
        if condition == b"NX" and not endless:
            return False
        if condition == b"XX" and endless:
            return False
        if condition == b"GT" and (endless or wanted_ms <= known_ms):
            return False
        if condition == b"LT" and not endless and wanted_ms >= known_ms:
            return False
    return True
