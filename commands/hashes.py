"""Commands of hashes.

1. Each logs what came out: HINCRBYFLOAT an HSET, HDEL the fields that were there, and a DEL where a hash becomes empty.
2. Up to AT_ONCE_FIELDS fields are handled at once. A command of more fields is work in slices: a read works on a copy
   of the hash, which is cheap (`values/table.py`), a write locks the key.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command, fold
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded, parse_integer
from commands.long_commands import PART_WORDS, in_parts_of_key, is_long
from commands.long_double import add, parse, to_text
from commands.scanning import scan_table
from errors import (
    COUNT_OUT_OF_RANGE,
    HASH_NOT_A_FLOAT,
    HASH_NOT_AN_INTEGER,
    IS_NAN_OR_INFINITY,
    NAN_OR_INFINITY,
    NOT_A_FLOAT,
    OUT_OF_RANGE,
    OVERFLOW,
    SYNTAX,
    TOO_MANY_REPEATED,
    WRONG_ARITY,
    CommandError,
)
from replies import OK, FlatMap, LongArray, LongMap, LongPairs, Pairs, Reply, Work
from session import Session
from store import Keyspace
from values.hashes import HASH, PART_FIELDS, Hash, Item
from values.sets import distinct, repeated

AT_ONCE_FIELDS = 1024  # to handle so many takes about a millisecond
MOST_REPEATED = 1 << 20  # fields of a reply that may name one more than once
FEW_FIELDS = 128  # to choose so many of a large hash takes less than a millisecond
EMPTY = Hash()  # for a key that does not exist; never changed
Chunk = tuple[Any, ...]  # some words of a reply

# ---- fields


@command("HSET", "key field value [field value ...]", arity=-4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def hset(session: Session, argv: list[bytes]) -> Reply:
    """Set fields of a hash, and count the new ones."""
    db, key = session.db, argv[1]
    if len(argv) == 4:
        fields: Hash = db.create(key, HASH)
        added = fields.set(argv[2], argv[3])
        db.done(key, fields, b"HSET", key, argv[2], argv[3])
        return 1 if added else 0
    if len(argv) % 2:
        raise CommandError(WRONG_ARITY % argv[0].lower())
    if is_long(argv):
        return _sum_of_parts(session, argv, hset)
    fields = db.create(key, HASH)
    count = fields.update(zip(argv[2::2], argv[3::2], strict=True))
    db.done(key, fields, b"HSET", *argv[1:])
    return count


@command(
    "HMSET", "key field value [field value ...]", arity=-4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0"
)
def hmset(session: Session, argv: list[bytes]) -> Reply:
    """Set fields of a hash."""
    reply = hset(session, argv)
    return _ok_after(reply) if isinstance(reply, Generator) else OK


def _ok_after(work: Work) -> Work:
    yield from work
    return OK


@command("HSETNX", "key field value", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def hsetnx(session: Session, argv: list[bytes]) -> Reply:
    """Set a field of a hash, unless the field exists."""
    _, key, field, value = argv
    fields: Hash = session.db.create(key, HASH)
    if field in fields:
        return 0
    fields.set(field, value)
    session.db.done(key, fields, b"HSET", key, field, value)
    return 1


@command("HGET", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hget(session: Session, argv: list[bytes]) -> Reply:
    """Get the value of a field of a hash."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    return None if fields is None else fields.get(field)


@command("HMGET", "key field [field ...]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hmget(session: Session, argv: list[bytes]) -> Reply:
    """Get the values of fields of a hash."""
    _, key, *names = argv
    fields: Hash = session.db.value(key, HASH) or EMPTY
    if not is_long(argv):
        return list(map(fields.getter(), names))
    parts = (names[start : start + PART_WORDS] for start in range(0, len(names), PART_WORDS))
    return _in_parts(session, fields, lambda copied: (tuple(map(copied.get, part)) for part in parts))


@command("HEXISTS", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hexists(session: Session, argv: list[bytes]) -> Reply:
    """Return 1 if a hash has a field, else 0."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else int(field in fields)


@command("HSTRLEN", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="3.2.0")
def hstrlen(session: Session, argv: list[bytes]) -> Reply:
    """Get the length of the value of a field of a hash."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else len(fields.get(field, b""))


@command("HDEL", "key field [field ...]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="2.0.0")
def hdel(session: Session, argv: list[bytes]) -> Reply:
    """Delete fields of a hash, and count those that were there. A hash without fields is deleted."""
    if is_long(argv):
        return _sum_of_parts(session, argv, hdel)
    _, key, *names = argv
    fields: Hash | None = session.db.change(key, HASH)
    if fields is None:
        return 0
    removed = [name for name in names if fields.pop(name) is not None]
    if removed:
        _removed(session.db, key, fields, removed)
    return len(removed)


def _removed(db: Keyspace, key: bytes, fields: Hash, removed: Sequence[bytes]) -> None:
    """Store a hash from which fields were removed, and log it."""
    if fields:
        db.done(key, fields, b"HDEL", key, *removed)
    else:
        db.done(key, fields, b"DEL", key)


def _sum_of_parts(session: Session, argv: list[bytes], run: Callable[[Session, list[bytes]], Reply]) -> Work:
    counts: list[Any] = yield from in_parts_of_key(session, argv, run)
    count: int = sum(counts)
    return count


# ---- numbers


@command("HINCRBY", "key field increment", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def hincrby(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a field of a hash by a number; a field that does not exist counts as 0."""
    _, key, field, amount = argv
    increment = parse_integer(amount)
    fields: Hash = session.db.create(key, HASH)
    known = fields.get(field)
    total = increment
    if known is not None:
        total += parse_bounded(known, MIN_INTEGER, MAX_INTEGER, HASH_NOT_AN_INTEGER)
        if not MIN_INTEGER <= total <= MAX_INTEGER:
            raise CommandError(OVERFLOW)
        if not increment:
            return total
    fields.set(field, b"%d" % total)
    session.db.done(key, fields, b"HINCRBY", key, field, amount)
    return total


@command("HINCRBYFLOAT", "key field increment", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.6.0")
def hincrbyfloat(session: Session, argv: list[bytes]) -> Reply:
    """Increment the floating-point value of a field of a hash; a field that does not exist counts as 0."""
    _, key, field, amount = argv
    try:
        increment = parse(amount)
    except ValueError:
        raise CommandError(NOT_A_FLOAT) from None
    except OverflowError:
        raise CommandError(IS_NAN_OR_INFINITY) from None
    fields: Hash = session.db.create(key, HASH)
    known = fields.get(field)
    try:
        total = to_text(add(parse(b"0" if known is None else known), increment))
    except ValueError:
        raise CommandError(HASH_NOT_A_FLOAT) from None
    except OverflowError:
        raise CommandError(NAN_OR_INFINITY) from None
    if total != known:
        fields.set(field, total)
        session.db.done(key, fields, b"HSET", key, field, total)
    return total


# ---- whole hashes


@command("HLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hlen(session: Session, argv: list[bytes]) -> Reply:
    """Count the fields of a hash."""
    _, key = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else len(fields)


@command("HGETALL", "key", arity=2, flags=READONLY, keys=FIRST, since="2.0.0")
def hgetall(session: Session, argv: list[bytes]) -> Reply:
    """List all fields of a hash with their values."""
    _, key = argv
    fields: Hash | None = session.db.value(key, HASH)
    if fields is None:
        return FlatMap()
    if len(fields) <= AT_ONCE_FIELDS:
        return FlatMap(_flat(fields.items()))
    return _in_parts(session, fields, lambda copied: map(_flat, copied.parts()), LongMap)


def _flat(items: Iterable[Item]) -> tuple[bytes, ...]:
    return tuple(chain.from_iterable(items))


@command("HKEYS", "key", arity=2, flags=READONLY, keys=FIRST, since="2.0.0")
def hkeys(session: Session, argv: list[bytes]) -> Reply:
    """List all fields of a hash."""
    return _list(session, argv, iter)


@command("HVALS", "key", arity=2, flags=READONLY, keys=FIRST, since="2.0.0")
def hvals(session: Session, argv: list[bytes]) -> Reply:
    """List the values of all fields of a hash."""
    return _list(session, argv, Hash.values)


def _list(session: Session, argv: list[bytes], words_of: Callable[[Hash], Iterator[bytes]]) -> Reply:
    _, key = argv
    fields: Hash | None = session.db.value(key, HASH)
    if fields is None:
        return []
    if len(fields) <= AT_ONCE_FIELDS:
        return list(words_of(fields))
    return _in_parts(session, fields, lambda copied: _parts_of(words_of(copied)))


def _parts_of(words: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    while part := tuple(islice(words, PART_FIELDS)):
        yield part


def _in_parts(
    session: Session, fields: Hash, parts_of: Callable[[Hash], Iterator[Chunk]], kind: type[LongArray] = LongArray
) -> Work:
    """Return work that makes a long reply of a copy of the hash, part by part."""
    copied = fields.copy()  # now, because the work begins later
    return _reply_in_parts(session, copied, parts_of(copied), kind)


def _reply_in_parts(session: Session, copied: Hash, parts: Iterator[Chunk], kind: type[LongArray]) -> Work:
    chunks: list[Chunk] = []
    try:
        for part in parts:
            chunks.append(part)
            yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    finally:
        session.store.garbage.append(copied)
    return kind(chunks, copied.size_bytes())


@command("HSCAN", "key cursor [MATCH pattern] [COUNT count]", arity=-3, flags=READONLY, keys=FIRST, since="2.8.0")
def hscan(session: Session, argv: list[bytes]) -> Reply:
    """List some fields of a hash with their values, and the next cursor.

    Differs from Redis: COUNT is limited to 2048, and to less with a long pattern, so that no call delays other clients.
    """
    return scan_table(session, argv, HASH, lambda items: [word for item in items for word in item])


# ---- random fields


@command("HRANDFIELD", "key [count [WITHVALUES]]", arity=-2, flags=READONLY, keys=FIRST, since="6.2.0")
def hrandfield(session: Session, argv: list[bytes]) -> Reply:
    """Get a random field of a hash, or `count` different ones; a negative count allows repetition.

    Differs from Redis: a negative count is at least -1048576.
    """
    key, words = argv[1], argv[2:]
    if not words:
        fields: Hash | None = session.db.value(key, HASH)
        return None if fields is None else fields.random_item(session.store.random)[0]
    count, kind = _parse_random(words)
    fields = session.db.value(key, HASH)
    if fields is None or not count:
        return kind()
    if count < -MOST_REPEATED:
        raise CommandError(TOO_MANY_REPEATED % MOST_REPEATED)
    return _choose(session, fields, count, kind)


def _parse_random(words: list[bytes]) -> tuple[int, type[list[Any]]]:
    """Return the count, and how the reply is sent: as Pairs if the values are wanted. Raises CommandError."""
    count = parse_integer(words[0])
    if count < -MAX_INTEGER:
        raise CommandError(COUNT_OUT_OF_RANGE)
    if len(words) == 1:
        return count, list
    if len(words) > 2 or fold(words[1]) != b"WITHVALUES":
        raise CommandError(SYNTAX)
    if abs(count) > MAX_INTEGER // 2:
        raise CommandError(OUT_OF_RANGE)
    return count, Pairs


def _choose(session: Session, fields: Hash, count: int, kind: type[list[Any]]) -> Reply:
    """Return random fields, with their values if `kind` is Pairs; work if they are many."""

    def parts_of(copied: Hash) -> Iterator[Chunk]:
        random, get = session.store.random, copied.getter()
        parts = distinct(copied, count, random) if count > 0 else repeated(copied, -count, random)
        return (_flat(zip(part, map(get, part), strict=True)) for part in parts) if kind is Pairs else parts

    count = min(count, len(fields))
    if abs(count) <= AT_ONCE_FIELDS and (count < 0 or len(fields) <= AT_ONCE_FIELDS or count <= FEW_FIELDS):
        return kind(chain.from_iterable(parts_of(fields)))
    return _in_parts(session, fields, parts_of, LongPairs if kind is Pairs else LongArray)
