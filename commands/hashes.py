"""Commands of hashes.

1. Each logs what came out: HINCRBYFLOAT an HSET, HDEL the fields that were there, and a DEL where a hash becomes empty.
2. A field whose deadline has passed counts as absent. `Store.expire_cycle` deletes it, and then logs an HDEL.
3. Up to AT_ONCE_FIELDS fields are handled at once. A command of more fields is work in slices: a read works on a copy
   of the hash, which is cheap (`values/table.py`), a write locks the key.

The module has more than 400 lines because each of its commands has a form for hashes of millions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command, fold, for_many
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded, parse_integer
from commands.long_commands import PART_WORDS, in_parts_of_key, is_long
from commands.scanning import Items, scan_table
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
from keyspace.many_keys import changed_by_all
from replies import OK, FlatMap, LongArray, LongMap, LongPairs, Pairs, Reply, Strings, Work
from session import Session
from store import Keyspace
from values.entry import NO_DEADLINE
from values.hashes import HASH, PART_FIELDS, Hash, Item, deadline_effect
from values.sets import distinct, repeated
from wire.columns import all_alike

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
        if fields.deadlines is not None:
            added |= _end_deadlines(session, fields, argv[2:3]) > 0
        db.done(key, fields, b"HSET", key, argv[2], argv[3])
        return 1 if added else 0
    if len(argv) % 2:
        raise CommandError(WRONG_ARITY % argv[0].lower())
    if is_long(argv):
        return _sum_of_parts(session, argv, hset)
    fields = db.create(key, HASH)
    count = fields.update(zip(argv[2::2], argv[3::2], strict=True))
    if fields.deadlines is not None:
        count += _end_deadlines(session, fields, argv[2::2])
    db.done(key, fields, b"HSET", *argv[1:])
    return count


def _end_deadlines(session: Session, fields: Hash, names: Iterable[bytes]) -> int:
    """Remove the deadlines of fields that were just set, and return how many of them had expired."""
    count = 0
    for name in names:
        count += is_due(session, fields, name)
        fields.persist(name)
    return count


def is_due(session: Session, fields: Hash, name: bytes) -> bool:
    """Return True if a field has a deadline that has passed."""
    return NO_DEADLINE < fields.deadline_ms(name) <= session.store.expired_until_ms


def live(session: Session, fields: Hash) -> Callable[[bytes], bytes | None]:
    """Return a function that returns the value of a field, None for a field that has expired."""
    get = fields.getter()
    if fields.deadlines is None:
        return get
    return lambda name: None if is_due(session, fields, name) else get(name)


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
    if field in fields and not is_due(session, fields, field):
        return 0
    fields.set(field, value)
    fields.persist(field)
    session.db.done(key, fields, b"HSET", key, field, value)
    return 1


@command("HGET", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hget(session: Session, argv: list[bytes]) -> Reply:
    """Get the value of a field of a hash."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    if fields is None:
        return None
    return fields.get(field) if fields.deadlines is None else live(session, fields)(field)


@command("HMGET", "key field [field ...]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hmget(session: Session, argv: list[bytes]) -> Reply:
    """Get the values of fields of a hash."""
    _, key, *names = argv
    fields: Hash = session.db.value(key, HASH) or EMPTY
    if not is_long(argv):
        return list(map(live(session, fields), names))
    parts = (names[start : start + PART_WORDS] for start in range(0, len(names), PART_WORDS))
    return in_parts(session, fields, lambda copied: (tuple(map(live(session, copied), part)) for part in parts))


@command("HEXISTS", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hexists(session: Session, argv: list[bytes]) -> Reply:
    """Return 1 if a hash has a field, else 0."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else int(field in fields and not is_due(session, fields, field))


@command("HSTRLEN", "key field", arity=3, flags=READONLY | FAST, keys=FIRST, since="3.2.0")
def hstrlen(session: Session, argv: list[bytes]) -> Reply:
    """Get the length of the value of a field of a hash."""
    _, key, field = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else len(live(session, fields)(field) or b"")


@command("HDEL", "key field [field ...]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="2.0.0")
def hdel(session: Session, argv: list[bytes]) -> Reply:
    """Delete fields of a hash, and count those that were there. A hash without fields is deleted."""
    if is_long(argv):
        return _sum_of_parts(session, argv, hdel)
    _, key, *names = argv
    fields: Hash | None = session.db.change(key, HASH)
    if fields is None:
        return 0
    due = 0 if fields.deadlines is None else sum(is_due(session, fields, name) for name in dict.fromkeys(names))
    removed = [name for name in names if fields.pop(name) is not None]
    if removed:
        store_removed(session.db, key, fields, removed)
    return len(removed) - due


def store_removed(db: Keyspace, key: bytes, fields: Hash, removed: Sequence[bytes]) -> None:
    """Store a hash from which fields were removed, and log it."""
    if fields:
        db.done(key, fields, b"HDEL", key, *removed)
    else:
        db.done(key, fields, b"DEL", key)


def _sum_of_parts(session: Session, argv: list[bytes], run: Callable[[Session, list[bytes]], Reply]) -> Work:
    counts: list[Any] = yield from in_parts_of_key(session, argv, run)
    count: int = sum(counts)
    return count


# ---- a pipeline for one hash


def _hash_of_many(session: Session, keys: Sequence[bytes], *, is_created: bool = False) -> Hash | None:
    """Return the hash of all requests of a pipeline for changing, if its fields have no deadlines."""
    fields: Hash | None = changed_by_all(session.db, keys, HASH, is_created=is_created)
    return None if fields is None or fields.deadlines is not None else fields


@for_many("HSET")
def hset_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run HSETs of one field each to one hash."""
    if len(columns) != 2 or (fields := _hash_of_many(session, keys, is_created=True)) is None:
        return None
    names, values = columns
    replies: Sequence[Reply] = fields.set_each(names, values)
    session.db.done(keys[0], fields, b"HSET", keys[0], *chain.from_iterable(zip(names, values, strict=True)))
    return replies


@for_many("HGET")
def hget_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run HGETs of one hash."""
    db = session.db
    if db.usage is not None or not all_alike(keys):
        return None
    value = db.peek(keys[0])
    if type(value) is not Hash or value.deadlines is not None:
        return None
    db.store.hits += len(keys)
    return value.get_each(columns[0])


@for_many("HDEL")
def hdel_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run HDELs of one field each of one hash."""
    if len(columns) != 1 or (fields := _hash_of_many(session, keys)) is None:
        return None
    removed = [None if fields.pop(name) is None else name for name in columns[0]]
    if any(name is not None for name in removed):
        store_removed(session.db, keys[0], fields, [name for name in removed if name is not None])
    return [0 if name is None else 1 for name in removed]


# ---- numbers


@command("HINCRBY", "key field increment", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.0.0")
def hincrby(session: Session, argv: list[bytes]) -> Reply:
    """Increment the integer value of a field of a hash by a number; a field that does not exist counts as 0."""
    _, key, field, amount = argv
    increment = parse_integer(amount)
    fields: Hash = session.db.create(key, HASH)
    known = live(session, fields)(field)
    total = increment
    if known is not None:
        total += parse_bounded(known, MIN_INTEGER, MAX_INTEGER, HASH_NOT_AN_INTEGER)
        if not MIN_INTEGER <= total <= MAX_INTEGER:
            raise CommandError(OVERFLOW)
        if not increment:
            session.db.touched(key)
            return total
    effect = (b"HINCRBY", key, field, amount)
    if known is None and fields.persist(field):  # it has expired
        effect = (b"HSET", key, field, amount)
    fields.set(field, b"%d" % total)
    session.db.done(key, fields, *effect)
    return total


@command("HINCRBYFLOAT", "key field increment", arity=4, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.6.0")
def hincrbyfloat(session: Session, argv: list[bytes]) -> Reply:
    """Increment the floating-point value of a field of a hash; a field that does not exist counts as 0."""
    from commands.long_double import add, parse, to_text  # noqa: PLC0415

    _, key, field, amount = argv
    try:
        increment = parse(amount)
    except ValueError:
        raise CommandError(NOT_A_FLOAT) from None
    except OverflowError:
        raise CommandError(IS_NAN_OR_INFINITY) from None
    fields: Hash = session.db.create(key, HASH)
    known = live(session, fields)(field)
    try:
        total = to_text(add(parse(b"0" if known is None else known), increment))
    except ValueError:
        raise CommandError(HASH_NOT_A_FLOAT) from None
    except OverflowError:
        raise CommandError(NAN_OR_INFINITY) from None
    if total != known:
        if known is None:
            fields.persist(field)  # it may have expired
        fields.set(field, total)
        session.db.done(key, fields, b"HSET", key, field, total)
        if fields.deadline_ms(field) != NO_DEADLINE:  # HSET removes it
            session.db.effect(*deadline_effect(key, fields.deadline_ms(field), (field,)))
    else:
        session.db.touched(key)
    return total


# ---- whole hashes


@command("HLEN", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="2.0.0")
def hlen(session: Session, argv: list[bytes]) -> Reply:
    """Count the fields of a hash."""
    _, key = argv
    fields: Hash | None = session.db.value(key, HASH)
    return 0 if fields is None else len(fields) - fields.due_count(session.store.expired_until_ms)


@command("HGETALL", "key", arity=2, flags=READONLY, keys=FIRST, since="2.0.0")
def hgetall(session: Session, argv: list[bytes]) -> Reply:
    """List all fields of a hash with their values."""

    def reply(fields: Hash) -> Reply:
        if len(fields) <= AT_ONCE_FIELDS:
            return FlatMap(_flat(fields.items()))
        return in_parts(session, fields, lambda copied: map(_flat, copied.parts()), LongMap)

    _, key = argv
    fields = session.db.value(key, HASH)
    if fields is not None and fields.deadlines is None and len(fields) <= AT_ONCE_FIELDS:  # 1 µs less of 3
        return FlatMap(chain.from_iterable(fields.items()))
    return _reading(session, fields or EMPTY, reply)


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
    def reply(fields: Hash) -> Reply:
        if len(fields) <= AT_ONCE_FIELDS:
            return Strings(words_of(fields))
        return in_parts(session, fields, lambda copied: _parts_of(words_of(copied)))

    _, key = argv
    return _reading(session, session.db.value(key, HASH) or EMPTY, reply)


def _reading(session: Session, fields: Hash, reply: Callable[[Hash], Reply]) -> Reply:
    """Return the reply to a read of a whole hash, made of a copy without expired fields if there are some."""
    due = fields.due_count(session.store.expired_until_ms)
    if not due:
        return reply(fields)
    copied = fields.copy()
    steps = _remove_due(copied, session.store.expired_until_ms)
    if due > AT_ONCE_FIELDS:
        return _after(steps, copied, reply)
    for _ in steps:
        pass
    return reply(copied)


def _remove_due(copied: Hash, until_ms: int) -> Iterator[None]:
    while due := copied.due(until_ms, PART_FIELDS):
        for name in due:
            copied.pop(name)
        yield


def _after(steps: Iterator[None], copied: Hash, reply: Callable[[Hash], Reply]) -> Work:
    yield from steps
    made = reply(copied)
    return (yield from made) if isinstance(made, Generator) else made


def _parts_of(words: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    while part := tuple(islice(words, PART_FIELDS)):
        yield part


def in_parts(
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


@command(
    "HSCAN",
    "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
    arity=-3,
    flags=READONLY,
    keys=FIRST,
    since="2.8.0",
)
def hscan(session: Session, argv: list[bytes]) -> Reply:
    """List some fields of a hash with their values, or without, and the next cursor.

    Differs from Redis: COUNT is limited to 2048, and to less with a long pattern, so that no call delays other clients.
    """
    fields = session.db.peek(argv[1])

    def present(items: Items) -> Items:
        if fields.deadlines is None:
            return items
        return [item for item in items if not is_due(session, fields, item[0])]

    return scan_table(
        session,
        argv,
        HASH,
        lambda items: [word for item in present(items) for word in item],
        lambda items: [name for name, _ in present(items)],
    )


# ---- random fields


@command("HRANDFIELD", "key [count [WITHVALUES]]", arity=-2, flags=READONLY, keys=FIRST, since="6.2.0")
def hrandfield(session: Session, argv: list[bytes]) -> Reply:
    """Get a random field of a hash, or `count` different ones; a negative count allows repetition.

    Differs from Redis: a negative count is at least -1048576.
    """
    key, words = argv[1], argv[2:]
    if not words:
        fields: Hash = session.db.value(key, HASH) or EMPTY
        return _reading(session, fields, lambda found: found.random_item(session.store.random)[0] if found else None)
    count, kind = _parse_random(words)
    fields = session.db.value(key, HASH) or EMPTY
    return _reading(session, fields, lambda found: _choose(session, found, count, kind) if found and count else kind())


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

    if count < -MOST_REPEATED:
        raise CommandError(TOO_MANY_REPEATED % MOST_REPEATED)
    count = min(count, len(fields))
    if abs(count) <= AT_ONCE_FIELDS and (count < 0 or len(fields) <= AT_ONCE_FIELDS or count <= FEW_FIELDS):
        return kind(chain.from_iterable(parts_of(fields)))
    return in_parts(session, fields, parts_of, LongPairs if kind is Pairs else LongArray)
