"""Commands on numbers, which are strings: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.

1. A number is stored as its decimal text.
2. A command for integers logs an INCRBY: that is shorter than the new value and as deterministic. INCRBYFLOAT logs a
   SET of what came out.
"""

from __future__ import annotations

from collections.abc import Sequence

from commands import DENYOOM, FAST, FIRST, WRITE, command, for_many
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_integer
from errors import DECREMENT_OVERFLOW, NAN_OR_INFINITY, NOT_A_FLOAT, OVERFLOW, CommandError
from keyspace.many_keys import replace_many, short_strings
from replies import Reply
from session import Session
from store import Keyspace
from values import STRING
from values.entry import VALUE
from wire.columns import all_alike

FAR = 1 << 62  # the sum of two smaller numbers fits in 64 bits


@command("INCR", "key", arity=2, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incr(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by one; a key that does not exist counts as 0."""
    _, key = argv
    return _increment(session.db, key, 1)


@command("DECR", "key", arity=2, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def decr(session: Session, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by one; a key that does not exist counts as 0."""
    _, key = argv
    return _increment(session.db, key, -1)


@command("INCRBY", "key increment", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def incrby(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by a number; a key that does not exist counts as 0."""
    _, key, amount = argv
    return _increment(session.db, key, parse_integer(amount))


@command("DECRBY", "key decrement", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def decrby(session: Session, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by a number; a key that does not exist counts as 0."""
    _, key, amount = argv
    decrement = parse_integer(amount)
    if decrement == MIN_INTEGER:
        raise CommandError(DECREMENT_OVERFLOW)
    return _increment(session.db, key, -decrement)


@for_many("INCR")
def incr_many(session: Session, keys: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run INCRs of these keys."""
    return _increment_many(session.db, keys, 1)


@for_many("INCRBY")
def incrby_many(session: Session, keys: Sequence[bytes], amounts: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run INCRBYs that have the same increment."""
    try:
        return _increment_many(session.db, keys, parse_integer(amounts[0])) if all_alike(amounts) else None
    except CommandError:
        return None


def _increment_many(db: Keyspace, keys: Sequence[bytes], amount: int) -> list[int] | None:
    """Run INCRBYs at once; change nothing and return None if one could be refused or needs the general way."""
    distinct = list(dict.fromkeys(keys))
    entries = short_strings(db, distinct) if -FAR < amount < FAR else None
    if entries is None:
        return None
    texts = [b"0" if entry is None else entry[VALUE] for entry in entries]
    try:
        numbers = list(map(int, texts))
    except ValueError:
        return None
    if [b"%d" % number for number in numbers] != texts:  # one is not canonical: see `parse_integer`
        return None
    totals = dict(zip(distinct, numbers, strict=True))
    replies = []
    for key in keys:
        totals[key] = total = totals[key] + amount
        replies.append(total)
    if not -FAR < min(replies) <= max(replies) < FAR:
        return None
    replace_many(db, distinct, [b"%d" % total for total in totals.values()])
    db.store.log.append_alike(db.index, b"INCRBY", keys, b"%d" % amount)
    return replies


def _increment(db: Keyspace, key: bytes, amount: int) -> int:
    value = db.change(key, STRING)
    total = amount if value is None else parse_integer(value) + amount
    if not MIN_INTEGER <= total <= MAX_INTEGER:
        raise CommandError(OVERFLOW)
    db.done(key, b"%d" % total, b"INCRBY", key, b"%d" % amount)
    return total


@command("INCRBYFLOAT", "key increment", arity=3, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.6.0")
def incrbyfloat(session: Session, argv: list[bytes]) -> Reply:
    """Increment the floating-point value of a key by a number; a key that does not exist counts as 0."""
    from commands.long_double import add, parse, to_text  # noqa: PLC0415

    _, key, amount = argv
    db = session.db
    value = db.change(key, STRING)
    infinite = False
    numbers = []
    for text in (b"0" if value is None else value, amount):
        try:
            numbers.append(parse(text))
        except ValueError:
            raise CommandError(NOT_A_FLOAT) from None
        except OverflowError:
            infinite = True
    try:
        if infinite:
            raise OverflowError
        total = to_text(add(*numbers))
    except OverflowError:
        raise CommandError(NAN_OR_INFINITY) from None
    db.done(key, total, b"SET", key, total, b"KEEPTTL")
    return total
