"""Commands of sets.

1. Each logs what came out: only the members that were new or there, and a DEL where a set becomes empty.
2. Up to AT_ONCE_MEMBERS members are handled at once. A command of more members is work in slices: a read works on
   copies of its sets, which are cheap (`values/table.py`), a write locks its keys.
3. SUNIONSTORE, SINTERSTORE and SDIFFSTORE log themselves, or the members that they store if these are shorter.

The module has more than 500 lines because each of the seventeen commands has a form for sets of millions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import compress
from random import Random
from typing import Any, NamedTuple, TypeVar

from commands import ALL, DENYOOM, FAST, FIRST, FIRST_TWO, READONLY, WRITE, Counted, command, fold, for_many
from commands.arguments import MAX_INTEGER, MIN_INTEGER, parse_bounded, parse_integer
from commands.keyspace_walk import run_at_once
from commands.long_commands import (
    PART_WORDS,
    Copies,
    Run,
    copies_in_slices,
    in_parts_of_key,
    is_long,
    lock_keys,
    run_locked,
    with_keys_locked,
    words_of,
)
from commands.scanning import scan_table
from errors import (
    COUNT_NEGATIVE,
    COUNT_OUT_OF_RANGE,
    LIMIT_NEGATIVE,
    NUMKEYS_NOT_POSITIVE,
    NUMKEYS_TOO_LARGE,
    SYNTAX,
    TOO_MANY_REPEATED,
    CommandError,
)
from keyspace.key_locks import KeyLock
from keyspace.many_keys import changed_by_all
from replies import HELD_BACK, LongArray, LongSet, Members, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values.sets import (
    SET_TYPE,
    Set,
    Steps,
    count_common,
    difference,
    distinct,
    intersection,
    repeated,
    union,
)

AT_ONCE_MEMBERS = 2048  # to handle so many takes one or two milliseconds
PART_POPPED = 64  # members of a step; to choose one takes some microseconds
MOST_REPEATED = 1 << 20  # members of a reply that may name one more than once
DEL_BYTES = 24  # of the record of a DEL, without its key
EMPTY = Set()  # for a key that does not exist; never changed
T = TypeVar("T")


# ---- members


@command("SADD", "key member [member ...]", arity=-3, flags=WRITE | DENYOOM | FAST, keys=FIRST)
def sadd(session: Session, argv: list[bytes]) -> Reply:
    """Add members to a set, and count the new ones."""
    db, key = session.db, argv[1]
    if len(argv) == 3:
        found: Set = db.create(key, SET_TYPE)
        if not found.set(argv[2], None):
            return 0
        db.done(key, found, b"SADD", key, argv[2])
        return 1
    if is_long(argv):
        return _sum_of_parts(session, argv, sadd)
    found = db.create(key, SET_TYPE)
    added = found.add_all(argv[2:])
    if added:
        db.done(key, found, b"SADD", key, *added)
    return len(added)


@command("SREM", "key member [member ...]", arity=-3, flags=WRITE | FAST, keys=FIRST)
def srem(session: Session, argv: list[bytes]) -> Reply:
    """Remove members from a set, and count those that were there."""
    if is_long(argv):
        return _sum_of_parts(session, argv, srem)
    _, key, *members = argv
    found: Set | None = session.db.change(key, SET_TYPE)
    if found is None:
        return 0
    removed = list(filter(found.discard, members))
    if removed:
        _removed(session.db, key, found, removed)
    return len(removed)


def _removed(db: Keyspace, key: bytes, found: Set, removed: Sequence[bytes]) -> None:
    """Store a set from which members were removed, and log it."""
    if found:
        db.done(key, found, b"SREM", key, *removed)
    else:
        db.done(key, found, b"DEL", key)


def _sum_of_parts(session: Session, argv: list[bytes], run: Run) -> Work:
    counts: list[Any] = yield from in_parts_of_key(session, argv, run)
    count: int = sum(counts)
    return count


@command("SMOVE", "source destination member", arity=4, flags=WRITE | FAST, keys=FIRST_TWO)
def smove(session: Session, argv: list[bytes]) -> Reply:
    """Move a member from one set to another."""
    _, source, destination, member = argv
    db = session.db
    found: Set | None = db.change(source, SET_TYPE)
    if found is None:
        return 0
    target: Set = db.create(destination, SET_TYPE)
    if source == destination:
        return int(member in found)
    if not found.discard(member):
        return 0
    db.done(source, found)
    if target.add(member):
        db.done(destination, target, b"SMOVE", source, destination, member)
    else:
        db.effect(b"SMOVE", source, destination, member)
    return 1


@command("SISMEMBER", "key member", arity=3, flags=READONLY | FAST, keys=FIRST)
def sismember(session: Session, argv: list[bytes]) -> Reply:
    """Return 1 if a set has a member, else 0."""
    _, key, member = argv
    found: Set | None = session.db.value(key, SET_TYPE)
    return 0 if found is None else int(member in found)


@command("SMISMEMBER", "key member [member ...]", arity=-3, flags=READONLY | FAST, keys=FIRST, since="6.2.0")
def smismember(session: Session, argv: list[bytes]) -> Reply:
    """Return, for each member, 1 if a set has it, else 0."""
    if is_long(argv):
        return _find_in_slices(session, argv)
    _, key, *members = argv
    return list(map(int, map(_set(session.db, key).finder(), members)))


def _set(db: Keyspace, key: bytes, *, again: bool = False) -> Set:
    """Return the set of a key for reading, as `Keyspace.value` does. Raises WRONGTYPE."""
    found: Set = db.value(key, SET_TYPE, again=again) or EMPTY
    return found


def _find_in_slices(session: Session, argv: list[bytes]) -> Work:
    if session.store.key_lock is not None:  # in a pool an entry began to run after this request was admitted
        return HELD_BACK
    is_there = _set(session.db, argv.pop(1)).copy().finder()
    chunks: list[tuple[int, ...]] = []
    for members in words_of(argv):
        chunks.append(tuple(map(int, map(is_there, members))))
        yield
    return LongArray(chunks)


@command("SCARD", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def scard(session: Session, argv: list[bytes]) -> Reply:
    """Count the members of a set."""
    _, key = argv
    return len(_set(session.db, key))


@command("SMEMBERS", "key", arity=2, flags=READONLY, keys=FIRST)
def smembers(session: Session, argv: list[bytes]) -> Reply:
    """Return all members of a set."""
    _, key = argv
    found = _set(session.db, key)
    if len(found) <= AT_ONCE_MEMBERS:
        return Members(found)
    return _list_in_slices(session, found.copy().parts(), LongSet)


def _list_in_slices(session: Session, parts: Iterator[tuple[bytes, ...]], kind: type[LongArray] = LongArray) -> Work:
    chunks: list[tuple[Any, ...]] = []
    try:
        for part in parts:
            chunks.append(part)
            yield
    except GeneratorExit:
        session.store.garbage.append(chunks)
        raise
    return kind(chunks)


@command("SSCAN", "key cursor [MATCH pattern] [COUNT count]", arity=-3, flags=READONLY, keys=FIRST, since="2.8.0")
def sscan(session: Session, argv: list[bytes]) -> Reply:
    """List some members of a set, and the cursor to continue with.

    Differs from Redis: COUNT is limited to 2048, and to less with a long pattern, so that no call delays other clients.
    """
    return scan_table(session, argv, SET_TYPE, lambda items: [member for member, _ in items])


# ---- random members


@command("SPOP", "key [count]", arity=-2, flags=WRITE | FAST, keys=FIRST)
def spop(session: Session, argv: list[bytes]) -> Reply:
    """Remove a random member from a set and return it, or up to `count` of them."""
    if len(argv) > 2:
        return _pop_some(session, argv)
    _, key = argv
    found: Set | None = session.db.change(key, SET_TYPE)
    if found is None:
        return None
    member = found.pop_random(session.store.random)
    _removed(session.db, key, found, (member,))
    return member


def _pop_some(session: Session, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    _, key, text = argv
    count = parse_bounded(text, 0, MAX_INTEGER, COUNT_NEGATIVE)
    db = session.db
    found = _set(db, key)
    if not found or not count:
        return Members()
    if count >= len(found):
        popped = found.copy()
        db.remove(key)
        db.effect(b"DEL", key)
        if len(popped) <= AT_ONCE_MEMBERS:
            return Members(popped)
        return _list_in_slices(session, popped.parts(), LongSet)
    if count <= AT_ONCE_MEMBERS:
        return Members(_pop(session, db, key, count))
    return _pop_in_slices(session, key, count)


def _pop(session: Session, db: Keyspace, key: bytes, count: int) -> list[bytes]:
    """Remove up to `count` random members, and log it."""
    found: Set | None = db.change(key, SET_TYPE)
    if found is None:
        return []
    popped = _pop_from(found, count, session.store.random)
    _removed(db, key, found, popped)
    return popped


def _pop_from(found: Set, count: int, random: Random) -> list[bytes]:
    popped: list[bytes] = []
    while found and len(popped) < count:
        popped.append(found.pop_random(random))
    return popped


def _pop_in_slices(session: Session, key: bytes, count: int) -> Work:
    return with_keys_locked(session, [key], lambda effects: _pop_locked(session, effects, key, count))


def _pop_locked(session: Session, effects: EffectLog, key: bytes, count: int) -> Work:
    db = session.db
    chunks: list[tuple[Any, ...]] = []
    while count > 0:
        with session.store.collecting(effects):
            popped = _pop(session, db, key, min(count, PART_POPPED))
        if not popped:  # the key has expired meanwhile, or it was empty before
            break
        chunks.append(tuple(popped))
        count -= len(popped)
        yield
    return LongSet(chunks)


@command("SRANDMEMBER", "key [count]", arity=-2, flags=READONLY, keys=FIRST)
def srandmember(session: Session, argv: list[bytes]) -> Reply:
    """Return a random member of a set, or `count` different ones, or -`count` that may be equal.

    Differs from Redis: a negative count is at least -1048576.
    """
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    random, count = session.store.random, _parse_count(argv[2]) if len(argv) == 3 else None
    found = _set(session.db, argv[1])
    if count is None:
        return found.random_member(random) if found else None
    if not found or not count:
        return []
    if abs(count) <= AT_ONCE_MEMBERS and (count * 3 <= len(found) or len(found) <= AT_ONCE_MEMBERS):
        return [member for part in _choose(found, count, random) for member in part]
    return _list_in_slices(session, _choose(found.copy(), count, random))


def _parse_count(text: bytes) -> int:
    count = parse_integer(text)
    if count == MIN_INTEGER:
        raise CommandError(COUNT_OUT_OF_RANGE)
    if count < -MOST_REPEATED:
        raise CommandError(TOO_MANY_REPEATED % MOST_REPEATED)
    return count


def _choose(members: Set, count: int, random: Random) -> Iterator[tuple[bytes, ...]]:
    if count < 0:
        return repeated(members, -count, random)
    return distinct(members, count, random) if count < len(members) else members.parts()


# ---- pipelines of one command on one key: one change, and one effect


@for_many("SADD")
def sadd_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run SADDs of one member each to one set."""
    if len(columns) != 1 or (found := changed_by_all(session.db, keys, SET_TYPE, is_created=True)) is None:
        return None
    members = columns[0]
    replies: list[int] = found.set_each(members, [None] * len(members))
    if any(replies):
        session.db.done(keys[0], found, b"SADD", keys[0], *compress(members, replies))
    return replies


@for_many("SREM")
def srem_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run SREMs of one member each from one set."""
    if len(columns) != 1 or (found := changed_by_all(session.db, keys, SET_TYPE)) is None:
        return None
    members = columns[0]
    replies = list(map(int, map(found.discard, members)))
    if any(replies):
        _removed(session.db, keys[0], found, list(compress(members, replies)))
    return replies


@for_many("SPOP")
def spop_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run SPOPs of one set."""
    if columns or (found := changed_by_all(session.db, keys, SET_TYPE)) is None:
        return None
    popped = _pop_from(found, len(keys), session.store.random)
    _removed(session.db, keys[0], found, popped)
    return [*popped, *[None] * (len(keys) - len(popped))]


# ---- algebra


class Algebra(NamedTuple):
    """An operation on sets, and how many members it looks at."""

    run: Callable[[Sequence[Set]], Steps]
    cost: Callable[[Sequence[Set]], int]


UNION = Algebra(union, lambda sets: sum(map(len, sets)))
INTERSECTION = Algebra(intersection, lambda sets: min(map(len, sets)) * len(sets))
DIFFERENCE = Algebra(difference, lambda sets: len(sets[0]) * len(sets))


@command("SUNION", "key [key ...]", arity=-2, flags=READONLY, keys=ALL)
def sunion(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of any of the sets."""
    return _read(session, argv, UNION)


@command("SINTER", "key [key ...]", arity=-2, flags=READONLY, keys=ALL)
def sinter(session: Session, argv: list[bytes]) -> Reply:
    """Return the members that are in all sets."""
    return _read(session, argv, INTERSECTION)


@command("SDIFF", "key [key ...]", arity=-2, flags=READONLY, keys=ALL)
def sdiff(session: Session, argv: list[bytes]) -> Reply:
    """Return the members of the first set that are in none of the others."""
    return _read(session, argv, DIFFERENCE)


@command("SINTERCARD", "numkeys key [key ...] [LIMIT limit]", arity=-3, flags=READONLY, keys=Counted(1), since="7.0.0")
def sintercard(session: Session, argv: list[bytes]) -> Reply:
    """Count the members that are in all sets; stop at the limit, unless it is 0."""
    numkeys = parse_bounded(argv[1], 1, MAX_INTEGER, NUMKEYS_NOT_POSITIVE)
    if numkeys > len(argv) - 2:
        raise CommandError(NUMKEYS_TOO_LARGE)
    limit = _parse_limit(argv[2 + numkeys :])
    if is_long(argv):
        del argv[2 + numkeys :], argv[1]
        return _read_long(session, argv, lambda sets: count_common(sets, limit))
    sets = [_set(session.db, key) for key in argv[2 : 2 + numkeys]]
    if INTERSECTION.cost(sets) <= AT_ONCE_MEMBERS:
        return run_at_once(count_common(sets, limit))
    copies = list(map(Copies().of, sets))
    return _freeing(session, copies, count_common(copies, limit))


def _parse_limit(words: list[bytes]) -> int:
    limit = 0
    rest = iter(words)
    for word in rest:
        text = next(rest, None)
        if fold(word) != b"LIMIT" or text is None:
            raise CommandError(SYNTAX)
        limit = parse_bounded(text, 0, MAX_INTEGER, LIMIT_NEGATIVE)
    return limit


@command("SUNIONSTORE", "destination key [key ...]", arity=-3, flags=WRITE | DENYOOM, keys=ALL)
def sunionstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members of any of the sets, and count them."""
    return _store(session, argv, UNION)


@command("SINTERSTORE", "destination key [key ...]", arity=-3, flags=WRITE | DENYOOM, keys=ALL)
def sinterstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members that are in all sets, and count them."""
    return _store(session, argv, INTERSECTION)


@command("SDIFFSTORE", "destination key [key ...]", arity=-3, flags=WRITE | DENYOOM, keys=ALL)
def sdiffstore(session: Session, argv: list[bytes]) -> Reply:
    """Set a key to the members of the first set that are in none of the others, and count them."""
    return _store(session, argv, DIFFERENCE)


def _read(session: Session, argv: list[bytes], algebra: Algebra) -> Reply:
    if is_long(argv):
        return _read_long(session, argv, lambda sets: _run_and_list(session, algebra.run(sets)))
    sets = [_set(session.db, key) for key in argv[1:]]
    if algebra.cost(sets) <= AT_ONCE_MEMBERS:
        return Members(run_at_once(algebra.run(sets)))
    copies = list(map(Copies().of, sets))
    return _freeing(session, copies, _run_and_list(session, algebra.run(copies)))


def _run_and_list(session: Session, steps: Steps) -> Work:
    result = yield from steps
    reply = yield from _freeing(session, [result], _list_in_slices(session, result.parts(), LongSet))
    return reply


def _freeing(session: Session, sets: list[Set], work: Generator[None, None, T]) -> Generator[None, None, T]:
    """Do work, and then free sets in slices: all their members may have been removed from the keyspace meanwhile."""
    try:
        result = yield from work
    finally:
        session.store.garbage += [sets] if len(sets) > AT_ONCE_MEMBERS else sets
    return result


def _read_long(session: Session, argv: list[bytes], work_on: Callable[[list[Set]], Work]) -> Work:
    """Collect the sets of thousands of keys in slices, then do the work."""
    if session.store.key_lock is not None:  # as in `_find_in_slices`
        return HELD_BACK
    sets = yield from copies_in_slices(session, argv, (SET_TYPE,), missing=EMPTY)
    reply = yield from _freeing(session, sets, work_on(sets))
    return reply


def _store(session: Session, argv: list[bytes], algebra: Algebra) -> Reply:
    if not is_long(argv):
        db = session.db
        sets = [_set(db, key) for key in argv[2:]]
        if algebra.cost(sets) <= AT_ONCE_MEMBERS:
            return _put(db, argv, run_at_once(algebra.run(sets)))
    return _store_in_slices(session, argv, algebra)


def _put(db: Keyspace, argv: list[bytes], result: Set) -> int:
    """Store a result, and log the command or, if that is shorter, its outcome."""
    name, destination, *keys = argv
    existed = db.remove(destination) is not None
    left_bytes = sum(map(len, keys)) - existed * (DEL_BYTES + len(destination))
    if not result or (len(result) <= len(keys) and sum(map(len, result)) < left_bytes):
        if existed:
            db.effect(b"DEL", destination)
        if result:
            db.done(destination, result, b"SADD", destination, *result)
    else:
        db.done(destination, result, name.upper(), destination, *keys)
    return len(result)


def _store_in_slices(session: Session, argv: list[bytes], algebra: Algebra) -> Work:
    lock = yield from lock_keys(session, argv)
    reply = yield from run_locked(session, lock, _store_locked(session, lock, argv, algebra))
    return reply


def _store_locked(session: Session, lock: KeyLock, argv: list[bytes], algebra: Algebra) -> Work:
    """Run an operation, store its result, and log it.

    Though a key is locked, it may expire or be evicted. Its DEL is then in the log before the effects of this command,
    so the command begins again with what is there, and what is logged is true.
    """
    db, ended_keys, again = session.db, -1, not is_long(argv)
    while ended_keys != lock.ended_keys:
        ended_keys, sets, copy = lock.ended_keys, list[Set](), Copies().of
        for start in range(2, len(argv), PART_WORDS):
            sets += [copy(_set(db, key, again=again)) for key in argv[start : start + PART_WORDS]]
            yield
        again = True
        result = yield from _freeing(session, sets, algebra.run(sets))
    if not is_long(argv):
        with session.store.collecting(lock.effects):
            return _put(db, argv, result)
    reply = yield from _put_in_slices(db, lock, argv, result)
    return reply


def _put_in_slices(db: Keyspace, lock: KeyLock, argv: list[bytes], result: Set) -> Work:
    """Store a result, and log its members, because thousands of keys are too many for one record."""
    destination = argv[1]
    with db.store.collecting(lock.effects):
        if db.remove(destination) is not None:
            db.effect(b"DEL", destination)
        db.done(destination, result)
    size, ended_keys = len(result), lock.ended_keys
    for part in result.copy().parts():
        lock.effects.append(db.index, (b"SADD", destination, *part))
        yield
        if lock.ended_keys != ended_keys and db.peek(destination) is not result:
            break  # evicted, and its DEL is logged
    for _ in words_of(argv):
        yield
    return size
