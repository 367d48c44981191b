"""Commands on the deadlines of a hash's fields.

1. Effects are HPEXPIREAT with an absolute deadline, HPERSIST, HSET, and HDEL if a deadline has passed.
2. A field whose deadline has passed counts as absent.
3. A command of more than AT_ONCE_FIELDS fields runs in slices, as in `hashes`.

The module has more than 400 lines because each of its commands has a form for hashes of millions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from commands import DENYOOM, FAST, FIRST, READONLY, WRITE, command, fold
from commands.arguments import EXPIRY_OPTIONS, MAX_INTEGER, parse_bounded, parse_integer
from commands.hashes import AT_ONCE_FIELDS, EMPTY, in_parts, is_due, live, store_removed
from commands.long_commands import PART_WORDS, in_parts_of_key, with_keys_locked
from errors import (
    EXPIRE_MISSING,
    EXPIRE_NEGATIVE,
    FIELDS_INVALID,
    FIELDS_NOT_POSITIVE,
    INVALID_EXPIRE,
    NO_FIELDS_WORD,
    NUMFIELDS_DIFFERS,
    NUMFIELDS_NOT_POSITIVE,
    ONE_CONDITION,
    ONE_EXPIRY,
    QUOTED_BYTES,
    UNKNOWN_ARGUMENT,
    WRONG_ARITY,
    WRONG_TYPE,
    CommandError,
)
from replies import LongArray, Reply, Work
from session import Session
from store import EffectLog
from values.entry import NO_DEADLINE
from values.hashes import HASH, Hash, deadline_effect

LATEST_MS = (1 << 46) - 1  # Redis's limit
NO_FIELD, UNMET, SET, DELETED = -2, 0, 1, 2
NO_TTL = -1
CONDITIONS = (b"NX", b"XX", b"GT", b"LT")
KEEP = -2  # instead of a deadline: the one that a field has

Operate = Callable[["list[bytes]"], "list[Any]"]


# ---- setting deadlines


@command(
    "HEXPIRE",
    "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    arity=-6,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="7.4.0",
)
def hexpire(session: Session, argv: list[bytes]) -> Reply:
    """Set the time to live of fields of a hash in seconds."""
    return _expire(session, argv, 1000, session.store.now_ms)


@command(
    "HPEXPIRE",
    "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    arity=-6,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="7.4.0",
)
def hpexpire(session: Session, argv: list[bytes]) -> Reply:
    """Set the time to live of fields of a hash in milliseconds."""
    return _expire(session, argv, 1, session.store.now_ms)


@command(
    "HEXPIREAT",
    "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    arity=-6,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="7.4.0",
)
def hexpireat(session: Session, argv: list[bytes]) -> Reply:
    """Set the Unix time in seconds at which fields of a hash expire."""
    return _expire(session, argv, 1000, 0)


@command(
    "HPEXPIREAT",
    "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    arity=-6,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="7.4.0",
)
def hpexpireat(session: Session, argv: list[bytes]) -> Reply:
    """Set the Unix time in ms at which fields of a hash expire."""
    return _expire(session, argv, 1, 0)


def _expire(session: Session, argv: list[bytes], unit_ms: int, base_ms: int) -> Reply:
    _peek(session, argv[1])
    deadline_ms = _parse_deadline(argv[2], unit_ms, base_ms, argv[0])
    condition = fold(argv[3])
    names = _parse_fields(argv, 4 if condition in CONDITIONS else 3, NUMFIELDS_NOT_POSITIVE)
    return _for_fields(session, argv, names, lambda part: _end_at(session, argv[1], part, deadline_ms, condition))


def _end_at(session: Session, key: bytes, names: list[bytes], deadline_ms: int, condition: bytes) -> list[Any]:
    """Set the deadline of some fields where the condition holds; return the outcome for each of them."""
    fields: Hash | None = session.db.change(key, HASH)
    if fields is None:
        return [NO_FIELD] * len(names)
    outcomes: list[Any] = []
    chosen: dict[bytes, None] = {}
    is_past = deadline_ms <= session.store.expired_until_ms
    for name in names:
        if name not in fields or is_due(session, fields, name):
            outcomes.append(NO_FIELD)
        elif not _holds(condition, fields.deadline_ms(name), deadline_ms):
            outcomes.append(UNMET)
        else:
            outcomes.append(DELETED if is_past else SET)
            chosen[name] = None
            if is_past:
                fields.pop(name)
            else:
                fields.set_deadline(name, deadline_ms)
    if chosen and is_past:
        store_removed(session.db, key, fields, list(chosen))
    elif chosen:
        session.store.expect_field_deadlines()
        session.db.done(key, fields, *deadline_effect(key, deadline_ms, list(chosen)))
    return outcomes


def _holds(condition: bytes, known_ms: int, deadline_ms: int) -> bool:
    """Return True if a condition holds; a field without a deadline counts as one that never expires."""
    if known_ms == NO_DEADLINE:
        return condition not in (b"XX", b"GT")
    if condition == b"GT":
        return deadline_ms > known_ms
    return deadline_ms < known_ms if condition == b"LT" else condition != b"NX"


@command(
    "HPERSIST",
    "key FIELDS numfields field [field ...]",
    arity=-5,
    flags=WRITE | FAST,
    keys=FIRST,
    since="7.4.0",
)
def hpersist(session: Session, argv: list[bytes]) -> Reply:
    """Remove the deadlines of fields of a hash."""
    key = argv[1]
    _peek(session, key)
    names = _parse_fields(argv, 2, FIELDS_NOT_POSITIVE)
    return _for_fields(session, argv, names, lambda part: _persist(session, key, part)[0])


def _persist(session: Session, key: bytes, names: list[bytes]) -> tuple[list[Any], list[Any]]:
    """Remove the deadlines of some fields; return the outcome for each of them, and their values."""
    fields: Hash = session.db.change(key, HASH) or EMPTY
    values = list(map(live(session, fields), names))
    outcomes = [
        NO_FIELD if value is None else SET if fields.persist(name) else NO_TTL
        for name, value in zip(names, values, strict=True)
    ]
    if SET in outcomes:
        ended = [name for name, outcome in zip(names, outcomes, strict=True) if outcome == SET]
        session.db.done(key, fields, b"HPERSIST", key, b"FIELDS", b"%d" % len(ended), *ended)
    return outcomes, values


# ---- reading deadlines


@command("HTTL", "key FIELDS numfields field [field ...]", arity=-5, flags=READONLY | FAST, keys=FIRST, since="7.4.0")
def httl(session: Session, argv: list[bytes]) -> Reply:
    """Get the time to live of fields of a hash in seconds; -1 for a field without one, -2 for no such field."""
    now_ms = session.store.now_ms
    return _deadlines(session, argv, lambda deadline_ms: (deadline_ms - now_ms + 999) // 1000)


@command("HPTTL", "key FIELDS numfields field [field ...]", arity=-5, flags=READONLY | FAST, keys=FIRST, since="7.4.0")
def hpttl(session: Session, argv: list[bytes]) -> Reply:
    """Get the time to live of fields of a hash in milliseconds; -1 for a field without one, -2 for no such field."""
    now_ms = session.store.now_ms
    return _deadlines(session, argv, lambda deadline_ms: deadline_ms - now_ms)


@command(
    "HEXPIRETIME", "key FIELDS numfields field [field ...]", arity=-5, flags=READONLY | FAST, keys=FIRST, since="7.4.0"
)
def hexpiretime(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix time in seconds at which fields of a hash expire; -1 if they do not, -2 for no such field."""
    return _deadlines(session, argv, lambda deadline_ms: (deadline_ms + 999) // 1000)


@command(
    "HPEXPIRETIME", "key FIELDS numfields field [field ...]", arity=-5, flags=READONLY | FAST, keys=FIRST, since="7.4.0"
)
def hpexpiretime(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix time in ms at which fields of a hash expire; -1 if they do not, -2 for no such field."""
    return _deadlines(session, argv, lambda deadline_ms: deadline_ms)


def _deadlines(session: Session, argv: list[bytes], spell: Callable[[int], int]) -> Reply:
    fields: Hash = session.db.value(argv[1], HASH) or EMPTY
    names = _parse_fields(argv, 2, FIELDS_NOT_POSITIVE)

    def outcomes(found: Hash, part: list[bytes]) -> Iterator[int]:
        for name in part:
            deadline_ms = found.deadline_ms(name)
            if deadline_ms == NO_DEADLINE:
                yield NO_TTL if name in found else NO_FIELD
            else:
                yield NO_FIELD if is_due(session, found, name) else spell(deadline_ms)

    if len(names) <= AT_ONCE_FIELDS:
        return list(outcomes(fields, names))
    return in_parts(session, fields, lambda copied: (tuple(outcomes(copied, part)) for part in _parts_of(names)))


def _parts_of(words: list[bytes]) -> Iterator[list[bytes]]:
    return (words[start : start + PART_WORDS] for start in range(0, len(words), PART_WORDS))


# ---- values and deadlines


@command("HGETDEL", "key FIELDS numfields field [field ...]", arity=-5, flags=WRITE | FAST, keys=FIRST, since="8.0.0")
def hgetdel(session: Session, argv: list[bytes]) -> Reply:
    """Get the values of fields of a hash, and delete the fields."""
    key = argv[1]
    _peek(session, key)
    names = _parse_fields(argv, 2, FIELDS_NOT_POSITIVE)
    return _for_fields(session, argv, names, lambda part: _get_and_delete(session, key, part))


def _get_and_delete(session: Session, key: bytes, names: list[bytes]) -> list[Any]:
    fields: Hash = session.db.change(key, HASH) or EMPTY
    dead = {name: None for name in names if is_due(session, fields, name)}
    values = [None if name in dead else fields.pop(name) for name in names]
    removed = [name for name, value in zip(names, values, strict=True) if value is not None]
    if removed:
        store_removed(session.db, key, fields, removed)
    return values


@command(
    "HGETEX",
    "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]"
    " FIELDS numfields field [field ...]",
    arity=-5,
    flags=WRITE | FAST,
    keys=FIRST,
    since="8.0.0",
)
def hgetex(session: Session, argv: list[bytes]) -> Reply:
    """Get the values of fields of a hash, and set or remove their deadlines."""
    key, option, at = argv[1], fold(argv[2]), 2
    _peek(session, key)
    deadline_ms = NO_DEADLINE
    if option in EXPIRY_OPTIONS:
        unit_ms, from_now = EXPIRY_OPTIONS[option]
        deadline_ms = _parse_deadline(argv[3], unit_ms, session.store.now_ms if from_now else 0, argv[0])
        if len(argv) == 5:
            raise CommandError(WRONG_ARITY % b"hgetex")
        at = 4
    elif option == b"PERSIST":
        at = 3
    names = _parse_fields(argv, at, FIELDS_NOT_POSITIVE)
    return _for_fields(session, argv, names, lambda part: _get_and_end(session, key, part, option, deadline_ms))


def _get_and_end(session: Session, key: bytes, names: list[bytes], option: bytes, deadline_ms: int) -> list[Any]:
    if option == b"PERSIST":
        return _persist(session, key, names)[1]
    fields: Hash = _peek(session, key)
    values = list(map(live(session, fields), names))
    if option in EXPIRY_OPTIONS and fields:
        _end_at(session, key, list(dict.fromkeys(names)), deadline_ms, b"")
    return values


@command(
    "HSETEX",
    "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]"
    " FIELDS numfields field value [field value ...]",
    arity=-6,
    flags=WRITE | DENYOOM | FAST,
    keys=FIRST,
    since="8.0.0",
)
def hsetex(session: Session, argv: list[bytes]) -> Reply:
    """Set fields of a hash and their deadline, with FNX only if none of them exists, with FXX only if all exist."""
    key = argv[1]
    options = _parse_setex(session, argv)
    _peek(session, key)
    work = _setex_in_parts(session, key, options)
    if len(options.items) <= AT_ONCE_FIELDS:
        if not _may_set(session, key, options.condition, options.items):
            return 0
        _setex(session, key, options.items, options.deadline_ms)
        return 1
    return work


class _SetEx(NamedTuple):
    """The options of HSETEX, and the fields with their values."""

    condition: bytes
    deadline_ms: int  # or NO_DEADLINE, or KEEP
    items: list[tuple[bytes, bytes]]


def _parse_setex(session: Session, argv: list[bytes]) -> _SetEx:
    """Parse the words of HSETEX. Raises CommandError."""
    condition, deadline_ms, has_expiry, at = b"", NO_DEADLINE, False, 2
    while at < len(argv):
        option = fold(argv[at])
        if option == b"FIELDS":
            items = _parse_items(argv, at)
            return _SetEx(condition, deadline_ms, items)
        if option in EXPIRY_OPTIONS or option == b"KEEPTTL":
            if has_expiry:
                raise CommandError(ONE_EXPIRY)
            has_expiry, deadline_ms = True, KEEP
            if option != b"KEEPTTL":
                at += 1
                if at >= len(argv):
                    raise CommandError(EXPIRE_MISSING)
                unit_ms, from_now = EXPIRY_OPTIONS[option]
                deadline_ms = _parse_deadline(argv[at], unit_ms, session.store.now_ms if from_now else 0, argv[0])
        elif option in (b"FNX", b"FXX"):
            if condition:
                raise CommandError(ONE_CONDITION)
            condition = option
        else:
            raise CommandError(UNKNOWN_ARGUMENT % argv[at][:QUOTED_BYTES])
        at += 1
    raise CommandError(WRONG_ARITY % b"hsetex")


def _parse_items(argv: list[bytes], at: int) -> list[tuple[bytes, bytes]]:
    words = argv[at + 2 :]
    if len(words) < 2:
        raise CommandError(WRONG_ARITY % b"hsetex")
    if parse_bounded(argv[at + 1], 1, 2**31 - 1, FIELDS_INVALID) * 2 != len(words):
        raise CommandError(WRONG_ARITY % b"hsetex")
    return list(zip(words[::2], words[1::2], strict=True))


def _may_set(session: Session, key: bytes, condition: bytes, items: list[tuple[bytes, bytes]]) -> bool:
    """Return True if the condition of HSETEX holds for these fields."""
    if not condition:
        return True
    get = live(session, _peek(session, key))
    return all((get(name) is not None) == (condition == b"FXX") for name, _ in items)


def _setex(session: Session, key: bytes, items: list[tuple[bytes, bytes]], deadline_ms: int) -> None:
    """Set some fields and their deadlines. A deadline that has passed deletes them."""
    db = session.db
    if NO_DEADLINE < deadline_ms <= session.store.expired_until_ms:
        fields: Hash | None = db.change(key, HASH)
        if fields is not None:
            removed = [name for name, _ in items if fields.pop(name) is not None]
            if removed:
                store_removed(db, key, fields, removed)
        return
    fields = db.create(key, HASH)
    kept: dict[int, list[bytes]] = {}  # deadline -> fields
    for name, value in items:
        fields.set(name, value)
        known_ms = fields.deadline_ms(name)
        if deadline_ms == NO_DEADLINE or (deadline_ms == KEEP and is_due(session, fields, name)):
            fields.persist(name)
        elif deadline_ms != KEEP:
            fields.set_deadline(name, deadline_ms)
            kept.setdefault(deadline_ms, []).append(name)
        elif known_ms != NO_DEADLINE:
            kept.setdefault(known_ms, []).append(name)
    if kept:
        session.store.expect_field_deadlines()
    db.done(key, fields, b"HSET", key, *(word for item in items for word in item))
    for each_ms, names in kept.items():
        db.effect(*deadline_effect(key, each_ms, list(dict.fromkeys(names))))


def _setex_in_parts(session: Session, key: bytes, options: _SetEx) -> Work:
    """Do what HSETEX does, in slices, with the key locked."""
    return with_keys_locked(session, [key], lambda effects: _setex_steps(session, effects, key, options))


def _setex_steps(session: Session, effects: EffectLog, key: bytes, options: _SetEx) -> Work:
    condition, deadline_ms, items = options
    parts = [items[start : start + PART_WORDS // 2] for start in range(0, len(items), PART_WORDS // 2)]
    for part in parts:
        if not _may_set(session, key, condition, part):
            return 0
        yield
    for part in parts:
        with session.store.collecting(effects):
            _setex(session, key, part, deadline_ms)
        yield
    return 1


# ---- words


def _peek(session: Session, key: bytes) -> Hash:
    """Return the hash at a key, to read it before it may be changed. Raises WRONGTYPE."""
    value = session.db.get(key)
    if value is None:
        return EMPTY
    if type(value) is not Hash:
        raise CommandError(WRONG_TYPE)
    return value


def _parse_deadline(text: bytes, unit_ms: int, base_ms: int, command: bytes) -> int:
    """Return `base_ms` plus an amount of units, in Unix ms. Raises CommandError if it is negative or too late."""
    amount = parse_integer(text)
    if amount < 0:
        raise CommandError(EXPIRE_NEGATIVE)
    if base_ms + amount * unit_ms > LATEST_MS:
        raise CommandError(INVALID_EXPIRE % command.lower())
    return base_ms + amount * unit_ms


def _parse_fields(argv: list[bytes], at: int, error: bytes) -> list[bytes]:
    """Return the fields behind FIELDS, which must stand at `at`, and their number. Raises CommandError."""
    if len(argv) <= at + 1 or fold(argv[at]) != b"FIELDS":
        raise CommandError(NO_FIELDS_WORD)
    if parse_bounded(argv[at + 1], 1, MAX_INTEGER, error) != len(argv) - at - 2:
        raise CommandError(NUMFIELDS_DIFFERS)
    return argv[at + 2 :]


def _for_fields(session: Session, argv: list[bytes], names: list[bytes], operate: Operate) -> Reply:
    """Return what `operate` returns for these fields, done in slices if they are many."""
    if len(names) <= AT_ONCE_FIELDS:
        return operate(names)
    return _joined(session, [*argv[:2], *names], operate)


def _joined(session: Session, argv: list[bytes], operate: Operate) -> Work:
    parts: list[Any] = yield from in_parts_of_key(session, argv, lambda _, words: operate(words[2:]))
    return LongArray([tuple(part) for part in parts])
