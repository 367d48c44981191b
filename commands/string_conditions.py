"""Conditions on the value of a string: those of SET, and the commands that delete by one.

1. A digest is XXH3 with 64 bits, as 16 hexadecimal digits: what DIGEST returns, and IFDEQ and IFDNE compare with.
2. DELEX and DELIFEQ log a DEL, which a redis-server of any version knows.
"""

from __future__ import annotations

from commands import FAST, FIRST, READONLY, WRITE, command, fold
from errors import (
    DELEX_CONDITION,
    DELEX_NOT_A_STRING,
    DIGEST_LENGTH,
    WRONG_ARITY,
    CommandError,
)
from replies import Reply
from session import Session
from store import Keyspace
from values import STRING, LongString
from values.long_string import CHUNK_BYTES

VALUE_CONDITIONS = frozenset([b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"])
DIGEST_DIGITS = 16


def digest_of(value: bytes | LongString) -> bytes:
    """Return the digest of a string, in lower case."""
    from xxhash import xxh3_64  # noqa: PLC0415 - few servers need it, and each start would pay

    if isinstance(value, LongString):
        made = xxh3_64()
        for start in range(0, len(value), CHUNK_BYTES):
            made.update(value[start : start + CHUNK_BYTES])
    else:
        made = xxh3_64(value)
    return made.hexdigest().encode()


def holds(condition: bytes, operand: bytes, value: bytes | LongString | None) -> bool:
    """Return True if a condition on the value of a string holds; None: there is no key. Raises CommandError.

    A key that does not exist is equal to nothing. Like Redis, this checks a digest only if there is one to compare.
    """
    is_negated = condition in (b"IFNE", b"IFDNE")
    if value is None:
        return is_negated
    if condition in (b"IFEQ", b"IFNE"):
        return (value == operand) != is_negated
    if len(operand) != DIGEST_DIGITS:
        raise CommandError(DIGEST_LENGTH)
    return (digest_of(value) == operand.lower()) != is_negated


@command("DIGEST", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="8.4.0")
def digest(session: Session, argv: list[bytes]) -> Reply:
    """Get the digest of a string: XXH3 with 64 bits, as 16 hexadecimal digits."""
    value: bytes | LongString | None = session.db.value(argv[1], STRING)
    return None if value is None else digest_of(value)


@command("DELIFEQ", "key value", arity=3, flags=WRITE | FAST, keys=FIRST, since="9.0.0")
def delifeq(session: Session, argv: list[bytes]) -> Reply:
    """Delete a key if its string value is the given one. A command of Valkey."""
    _, key, operand = argv
    value: bytes | LongString | None = session.db.value(key, STRING)
    return _delete(session.db, key) if holds(b"IFEQ", operand, value) else 0


@command(
    "DELEX",
    "key [IFEQ comparison-value | IFNE comparison-value | IFDEQ digest | IFDNE digest]",
    arity=-2,
    flags=WRITE | FAST,
    keys=FIRST,
    since="8.4.0",
)
def delex(session: Session, argv: list[bytes]) -> Reply:
    """Delete a key, with a condition only if it is a string and the condition holds for its value or its digest."""
    db, key = session.db, argv[1]
    if len(argv) not in (2, 4):
        raise CommandError(WRONG_ARITY % b"delex")
    if len(argv) == 4 and fold(argv[2]) not in VALUE_CONDITIONS:
        raise CommandError(DELEX_CONDITION)
    if db.get(key) is None:
        return 0
    if len(argv) == 4:
        try:
            value = db.value(key, STRING)
        except CommandError:
            raise CommandError(DELEX_NOT_A_STRING) from None
        if not holds(fold(argv[2]), argv[3], value):
            return 0
    return _delete(db, key)


def _delete(db: Keyspace, key: bytes) -> int:
    db.remove(key)
    db.effect(b"DEL", key)
    return 1
