"""Commands on HyperLogLogs: strings that estimate how many distinct elements were added to them.

1. A value is the string that Redis has, byte for byte: see `values/hyperloglog.py`.
2. PFADD logs the elements that changed something. A pipeline of it is hashed at once, and logged by key.
3. PFCOUNT of one key stores the cardinality in the value, as Redis does, where a read may write: see
   `Store.may_delete`. It is logged as a SETRANGE.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import compress
from typing import Any

from commands import ALL, DENYOOM, FAST, FIRST, MAY_REPLICATE, READONLY, WRITE, command, for_many
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, copies_in_slices, is_long, lock_keys, run_locked, with_keys_locked
from errors import CORRUPT_HYPERLOGLOG, NO_HYPERLOGLOG, WRONG_TYPE, CommandError
from replies import HELD_BACK, OK, Reply, Work
from session import Session
from store import EffectLog, Keyspace
from values import STRING, LongString, is_string
from values.hyperloglog import (
    EMPTY,
    REGISTERS,
    Added,
    Corrupt,
    add,
    cached,
    count,
    greatest,
    is_sparse,
    is_valid,
    raised,
    registers_of,
    stale,
    with_cached,
)
from values.long_string import LONG_STRING
from values.murmur import MOST_LANES, TABLED, hash_in_steps, hash_of, hashes_of
from wire.columns import all_alike

CARDINALITY = slice(8, 16)  # of a value
HEAD = slice(0, 16)
ADDED_AT_ONCE = 512  # words; to add a new element takes 10 µs
LONG_BYTES = 1 << 16  # elements of so many bytes take some milliseconds
UNITED_AT_ONCE = 32  # words; to unite two takes 0.1 ms


def _checked(value: bytes | LongString | None) -> bytes | None:
    """Return a value that is a HyperLogLog, or None. Raises CommandError for another string."""
    if value is None or (isinstance(value, bytes) and is_valid(value)):
        return value
    # None is as long as a LongString: Redis finds out when it reads the runs of a sparse one.
    raise CommandError(NO_HYPERLOGLOG if isinstance(value, bytes) or not is_valid(value[HEAD]) else CORRUPT_HYPERLOGLOG)


@command("PFADD", "key [element ...]", arity=-2, flags=WRITE | DENYOOM | FAST, keys=FIRST, since="2.8.9")
def pfadd(session: Session, argv: list[bytes]) -> Reply:
    """Add elements to a HyperLogLog; returns 1 if its estimate may have changed."""
    if len(argv) > ADDED_AT_ONCE or is_long(argv) or sum(map(len, argv)) > LONG_BYTES:
        return _add_in_slices(session, argv)
    _, key, *elements = argv
    db = session.db
    known: bytes | LongString | None = db.change(key, STRING)
    if not elements and isinstance(known, LongString) and is_valid(known[HEAD]):
        return 0  # as Redis, which does not look at the runs
    value = _checked(known)
    try:
        added = add(EMPTY if value is None else value, _hashes_of(elements))
    except Corrupt:
        raise CommandError(CORRUPT_HYPERLOGLOG) from None
    _store(db, key, value, elements, added)
    return int(value is None or True in added.changes)


def _hashes_of(elements: Sequence[bytes]) -> list[int]:
    if len(elements) == 1:
        return [hash_of(elements[0])]
    parts = (elements[start : start + MOST_LANES] for start in range(0, len(elements), MOST_LANES))
    return [number for part in parts for number in hashes_of(part)]


def _store(db: Keyspace, key: bytes, value: bytes | None, elements: Sequence[bytes], added: Added) -> None:
    """Store and log what has become of a value, or of None, if it has changed."""
    new, changes = added
    if True in changes:
        changed = elements if len(changes) == 1 else compress(elements, changes)
        db.done(key, new, b"PFADD", key, *changed)
    elif value is None:
        db.done(key, stale(EMPTY), b"PFADD", key)


@for_many("PFADD")
def pfadd_many(session: Session, keys: Sequence[bytes], *columns: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run PFADDs of one element each: each key is changed once."""
    if len(columns) != 1 or len(keys) > MOST_LANES or max(map(len, columns[0])) >= TABLED:
        return None
    db, (elements,) = session.db, columns
    hashes = hashes_of(elements)
    is_one = all_alike(keys)
    groups: dict[bytes, list[int]] = {}
    if not is_one:
        for number, key in enumerate(keys):
            groups.setdefault(key, []).append(number)
    try:
        if is_one:
            value = _checked(db.change(keys[0], STRING))
            added = add(EMPTY if value is None else value, hashes)
            _store(db, keys[0], value, elements, added)
            return list(map(int, added.changes))
        values = {key: _checked(db.change(key, STRING)) for key in groups}
        all_added = {
            key: add(values[key] or EMPTY, [hashes[number] for number in numbers]) for key, numbers in groups.items()
        }
    except (CommandError, Corrupt):
        return None
    replies = [0] * len(keys)
    for key, numbers in groups.items():
        _store(db, key, values[key], [elements[number] for number in numbers], all_added[key])
        for number in compress(numbers, all_added[key].changes):
            replies[number] = 1
    return replies


def _add_in_slices(session: Session, argv: list[bytes]) -> Work:
    return with_keys_locked(session, argv[1:2], lambda effects: _add_parts(session.db, effects, argv))


def _add_parts(db: Keyspace, log: EffectLog, argv: list[bytes]) -> Work:
    """Add thousands of elements: each step makes a new value, and the last one is stored."""
    key = argv[1]
    known = _checked(db.change(key, STRING))
    value = known or EMPTY
    effects = []
    for start in range(2, len(argv), PART_WORDS):
        elements = argv[start : start + PART_WORDS]
        hashes = _hashes_of([element for element in elements if len(element) < TABLED])
        for place, element in enumerate(elements):
            if len(element) >= TABLED:
                hashes.insert(place, (yield from hash_in_steps(element)))
        try:
            value, changes = add(value, hashes)
        except Corrupt:
            raise CommandError(CORRUPT_HYPERLOGLOG) from None
        if True in changes:
            effects.append((b"PFADD", key, *compress(elements, changes)))
        yield
    if effects:
        db.done(key, value)
        for effect in effects:
            log.append(db.index, effect)
    return int(bool(effects))


@command("PFCOUNT", "key [key ...]", arity=-2, flags=READONLY | MAY_REPLICATE, keys=ALL, since="2.8.9")
def pfcount(session: Session, argv: list[bytes]) -> Reply:
    """Estimate the number of distinct elements of a HyperLogLog, or of all of several ones.

    Differs from Redis: in a pool the estimate is not stored in the value, so GET of it may differ.
    """
    if len(argv) > 2:
        work = _count_union(session, argv)
        return work if is_long(argv) or len(argv) > UNITED_AT_ONCE else at_once(work)
    _, key = argv
    db = session.db
    value = _checked(db.value(key, STRING))
    if value is None:
        return 0
    known = cached(value)
    if known is not None:
        return known
    try:
        cardinality = count(registers_of(value))
    except Corrupt:
        raise CommandError(CORRUPT_HYPERLOGLOG) from None
    if db.store.may_delete:
        new = with_cached(value, cardinality)
        db.done(key, new, b"SETRANGE", key, b"8", new[CARDINALITY])
    return cardinality


def _count_union(session: Session, argv: list[bytes]) -> Work:
    """Estimate the number of distinct elements of several ones, as they were at one moment."""
    if is_long(argv):
        if session.store.key_lock is not None:  # in a pool an entry began to run after this request was admitted
            return HELD_BACK
        values = yield from copies_in_slices(session, argv, (STRING, LONG_STRING), None)
    else:
        values = list(map(session.db.read, argv[1:]))
    registers, _ = yield from _union(values)
    return count(registers)


def _union(values: Sequence[Any]) -> Generator[None, None, tuple[bytes, bool]]:
    """Return the registers of all values, a byte each, and True if all are sparse. Raises CommandError."""
    registers, are_sparse = bytes(REGISTERS), True
    for value in values:
        if value is None:
            continue
        if not is_string(value):
            raise CommandError(WRONG_TYPE)
        try:
            registers = greatest(registers, registers_of(_checked(value) or EMPTY))
        except Corrupt:
            raise CommandError(CORRUPT_HYPERLOGLOG) from None
        are_sparse = are_sparse and is_sparse(value)
        yield
    return registers, are_sparse


@command(
    "PFMERGE",
    "destkey [sourcekey ...]",
    arity=-2,
    flags=WRITE | DENYOOM,
    keys=ALL,
    since="2.8.9",
)
def pfmerge(session: Session, argv: list[bytes]) -> Reply:
    """Merge HyperLogLogs into the first one, which is created if it does not exist."""
    if is_long(argv) or len(argv) > UNITED_AT_ONCE:
        return _merge_in_slices(session, argv)
    return at_once(_merge(session.db, session.store.log, argv))


def _merge_in_slices(session: Session, argv: list[bytes]) -> Work:
    lock = yield from lock_keys(session, argv)
    reply = yield from run_locked(session, lock, _merge(session.db, lock.effects, argv))
    return reply


def _merge(db: Keyspace, log: EffectLog, argv: list[bytes]) -> Work:
    key = argv[1]
    values: list[Any] = []
    for start in range(1, len(argv), PART_WORDS):
        values += map(db.read, argv[start : start + PART_WORDS])
        yield
    registers, are_sparse = yield from _union(values)
    known = values[0]
    new = stale(raised(known or EMPTY, registers, are_sparse))
    if new != known:
        db.change(key, STRING)
        db.done(key, new)
        log.append(db.index, (b"SET", key, new, b"KEEPTTL") if is_long(argv) else [b"PFMERGE", *argv[1:]])
    else:
        db.touched(key)
    return OK
