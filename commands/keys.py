"""Commands on keys of any type: existence, expiry, names, databases, and walks of the keyspace.

1. A command here uses only the row of a value's type (`type_of`), never the value itself.
2. Effects are logged with absolute deadlines: EXPIRE as PEXPIREAT, or as DEL if the deadline has passed. COPY and MOVE
   log themselves, so the size of the value does not matter.

The module has more than 500 lines because the family has some thirty commands; each of them is short.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from commands import (
    ALL,
    DENYOOM,
    FAST,
    FIRST,
    FIRST_TWO,
    LOADING,
    READONLY,
    STALE,
    WRITE,
    Keys,
    command,
    container,
    fold,
    for_many,
)
from commands.arguments import (
    MAX_INTEGER,
    MIN_INTEGER,
    check_option_words,
    parse_bounded,
    parse_database,
    parse_integer,
)
from commands.keyspace_walk import (
    AT_ONCE_PLACES,
    in_slices,
    list_in_slices,
    match_in_slices,
    places_at_once,
    random_live_key,
)
from commands.long_commands import count_in_slices, in_parts, is_long
from commands.scanning import parse_cursor, parse_scan_options
from errors import (
    DB_OUT_OF_RANGE,
    GT_AND_LT,
    INVALID_EXPIRE,
    INVALID_FIRST_DB,
    INVALID_SECOND_DB,
    NO_LFU,
    NO_LRU,
    NO_SUCH_KEY,
    NX_AND_OTHERS,
    QUOTED_BYTES,
    SAME_OBJECT,
    SYNTAX,
    UNSUPPORTED_OPTION,
    CommandError,
)
from keyspace.many_keys import remove_many, short_strings
from replies import OK, Deleted, Reply, Status, Work
from session import Session
from store import Keyspace
from values import STRING, LongString, type_of
from values.entry import NO_DEADLINE
from values.glob import Pattern, is_quick
from values.strings import is_integer

SECOND = Keys(2, 2, 1)
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
MOST_TEXT_WORDS = 32768  # a line of the text dialect has at most so many
SHARED_INTEGERS = 10000  # Redis shares the objects of smaller ones
MANY_REFERENCES = 2**31 - 1  # Redis's count for a shared object

# ---- existence


@command("DEL", "key [key ...]", arity=-2, flags=WRITE, keys=ALL)
def delete(session: Session, argv: list[bytes]) -> Reply:
    """Delete keys; returns the number of keys deleted.

    Differs from Redis: in the text dialect the reply is a line for each key, its value or an error.
    """
    if is_long(argv):
        return _delete_in_parts(session, argv)
    db = session.db
    removed: list[bytes] = []
    values: list[Any] = []
    for key in argv[1:]:
        value = db.remove(key)
        if value is not None:
            removed.append(key)
            if type(value) is LongString:
                value = value.copy()  # what is removed is freed
        values.append(value)
    if removed:
        db.effect(b"DEL", *removed)
    reply = Deleted(len(removed))
    reply.values = values
    return reply


def _delete_in_parts(session: Session, argv: list[bytes]) -> Work:
    listed = len(argv) <= MOST_TEXT_WORDS  # only the text dialect shows the values
    parts: list[Any] = yield from in_parts(session, argv, delete)
    reply = Deleted(sum(parts))
    reply.values = [value for part in parts for value in part.values] if listed else []
    return reply


@for_many("DEL")
def delete_many(session: Session, keys: Sequence[bytes], *more: Sequence[bytes]) -> Sequence[Reply] | None:
    """Run DELs of one key each."""
    db = session.db
    if more or short_strings(db, keys) is None:
        return None
    removed = remove_many(db, keys)
    db.store.log.append_alike(
        db.index, b"DEL", [key for key, entry in zip(keys, removed, strict=True) if entry is not None]
    )
    return [0 if entry is None else 1 for entry in removed]


@command("UNLINK", "key [key ...]", arity=-2, flags=WRITE | FAST, keys=ALL, since="4.0.0")
def unlink(session: Session, argv: list[bytes]) -> Reply:
    """Delete keys; returns the number of keys deleted."""
    if is_long(argv):
        return _unlink_in_parts(session, argv)
    return int(delete(session, argv))  # type: ignore[arg-type]


def _unlink_in_parts(session: Session, argv: list[bytes]) -> Work:
    parts: list[Any] = yield from in_parts(session, argv, unlink)
    return int(sum(parts))


for_many("UNLINK")(delete_many)


@command("EXISTS", "key [key ...]", arity=-2, flags=READONLY | FAST, keys=ALL)
def exists(session: Session, argv: list[bytes]) -> Reply:
    """Count the keys that exist; a key named twice counts twice."""
    look = session.db.look
    if is_long(argv):
        return count_in_slices(session, argv, is_use=False)
    return sum(look(key) is not None for key in argv[1:])


@command("TOUCH", "key [key ...]", arity=-2, flags=READONLY | FAST, keys=ALL, since="3.2.1")
def touch(session: Session, argv: list[bytes]) -> Reply:
    """Update the last access of keys; returns the number of keys that exist."""
    if is_long(argv):
        return count_in_slices(session, argv, is_use=True)
    store, read = session.store, session.db.read
    tracked, store.tracks_access = store.tracks_access, True  # also under CLIENT NO-TOUCH
    try:
        return sum(read(key) is not None for key in argv[1:])
    finally:
        store.tracks_access = tracked


@command("TYPE", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def value_type(session: Session, argv: list[bytes]) -> Reply:
    """Get the type of the value at a key."""
    _, key = argv
    value = session.db.look(key)
    return Status(b"none" if value is None else type_of(value).name)


# ---- deadlines


@command("TTL", "key", arity=2, flags=READONLY | FAST, keys=FIRST)
def ttl(session: Session, argv: list[bytes]) -> Reply:
    """Get the time to live of a key in seconds; -1 if it has none, -2 if the key does not exist."""
    return _seconds(_time_left_ms(session, argv))


@command("PTTL", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="2.6.0")
def pttl(session: Session, argv: list[bytes]) -> Reply:
    """Get the time to live of a key in milliseconds; -1 if it has none, -2 if the key does not exist."""
    return _time_left_ms(session, argv)


@command("EXPIRETIME", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="7.0.0")
def expiretime(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix time in seconds at which a key expires; -1 if it does not, -2 if the key does not exist."""
    return _seconds(_deadline_ms(session, argv))


@command("PEXPIRETIME", "key", arity=2, flags=READONLY | FAST, keys=FIRST, since="7.0.0")
def pexpiretime(session: Session, argv: list[bytes]) -> Reply:
    """Get the Unix time in ms at which a key expires; -1 if it does not, -2 if the key does not exist."""
    return _deadline_ms(session, argv)


def _deadline_ms(session: Session, argv: list[bytes]) -> int:
    _, key = argv
    if session.db.look(key) is None:
        return -2
    deadline_ms = session.db.deadline_ms(key)
    return -1 if deadline_ms == NO_DEADLINE else deadline_ms


def _time_left_ms(session: Session, argv: list[bytes]) -> int:
    return _until_ms(session, _deadline_ms(session, argv))


def _until_ms(session: Session, deadline_ms: int) -> int:
    return deadline_ms if deadline_ms < 0 else max(0, deadline_ms - session.store.now_ms)


def _seconds(milliseconds: int) -> int:
    return milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000


@command("PERSIST", "key", arity=2, flags=WRITE | FAST, keys=FIRST, since="2.2.0")
def persist(session: Session, argv: list[bytes]) -> Reply:
    """Remove the expiry of a key."""
    _, key = argv
    db = session.db
    if db.get(key) is None or not db.persist(key):
        return 0
    db.effect(b"PERSIST", key)
    return 1


@command("EXPIRE", "key seconds [NX | XX | GT | LT]", arity=-3, flags=WRITE | FAST, keys=FIRST)
def expire(session: Session, argv: list[bytes]) -> Reply:
    """Set the time to live of a key in seconds."""
    return _expire(session, argv, b"expire", 1000, session.store.now_ms)


@command("PEXPIRE", "key milliseconds [NX | XX | GT | LT]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="2.6.0")
def pexpire(session: Session, argv: list[bytes]) -> Reply:
    """Set the time to live of a key in milliseconds."""
    return _expire(session, argv, b"pexpire", 1, session.store.now_ms)


@command(
    "EXPIREAT", "key unix-time-seconds [NX | XX | GT | LT]", arity=-3, flags=WRITE | FAST, keys=FIRST, since="1.2.0"
)
def expireat(session: Session, argv: list[bytes]) -> Reply:
    """Set the Unix time in seconds at which a key expires."""
    return _expire(session, argv, b"expireat", 1000, 0)


@command(
    "PEXPIREAT",
    "key unix-time-milliseconds [NX | XX | GT | LT]",
    arity=-3,
    flags=WRITE | FAST,
    keys=FIRST,
    since="2.6.0",
)
def pexpireat(session: Session, argv: list[bytes]) -> Reply:
    """Set the Unix time in milliseconds at which a key expires."""
    return _expire(session, argv, b"pexpireat", 1, 0)


def _expire(session: Session, argv: list[bytes], command: bytes, unit_ms: int, base_ms: int) -> Reply:
    check_option_words(argv)
    _, key, amount, *words = argv
    conditions = _parse_conditions(words)
    deadline_ms = _parse_end(amount, command, unit_ms, base_ms)
    db = session.db
    if db.get(key) is None or (conditions and not _meets(conditions, db.deadline_ms(key), deadline_ms)):
        return 0
    db.end_at(key, deadline_ms)
    return 1


def _parse_end(amount: bytes, command: bytes, unit_ms: int, base_ms: int) -> int:
    """Return `base_ms` plus an amount of units, in Unix ms. Raises CommandError unless it fits in 64 bits."""
    after_base_ms = parse_integer(amount) * unit_ms
    deadline_ms = base_ms + after_base_ms
    if after_base_ms < MIN_INTEGER or deadline_ms > MAX_INTEGER:
        raise CommandError(INVALID_EXPIRE % command)
    return deadline_ms


def _parse_conditions(words: list[bytes]) -> set[bytes]:
    """Parse the options of EXPIRE. Raises CommandError for an unknown option and for two that contradict."""
    conditions = set()
    for word in words:
        condition = fold(word)
        if condition not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(UNSUPPORTED_OPTION % word[:QUOTED_BYTES])
        conditions.add(condition)
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError(NX_AND_OTHERS)
    if {b"GT", b"LT"} <= conditions:
        raise CommandError(GT_AND_LT)
    return conditions


def _meets(conditions: set[bytes], present_ms: int, new_ms: int) -> bool:
    """Return True if all conditions hold. A key without a deadline counts as one that never expires."""
    never_expires = present_ms == NO_DEADLINE
    holds = {
        b"NX": never_expires,
        b"XX": not never_expires,
        b"GT": not never_expires and new_ms > present_ms,
        b"LT": never_expires or new_ms < present_ms,
    }
    return all(holds[condition] for condition in conditions)


# ---- walking the keyspace


@command("KEYS", "pattern", arity=2, flags=READONLY)
def keys(session: Session, argv: list[bytes]) -> Reply:
    """List all keys that match a pattern; SCAN does the same in small steps.

    Differs from Redis: other clients are served while a large keyspace is walked. A key that exists during the whole
    walk is listed once; a key that is created or deleted meanwhile may be listed or not.
    """
    _, pattern = argv
    places = session.db.key_order.places
    quick = len(places) <= AT_ONCE_PLACES and is_quick(pattern, filter(None, places))
    return in_slices(session, list_in_slices(session.db, pattern), quick)


@command("SCAN", "cursor [MATCH pattern] [COUNT count] [TYPE type]", arity=-2, flags=READONLY, since="2.8.0")
def scan(session: Session, argv: list[bytes]) -> Reply:
    """List some keys and the next cursor; a key that exists during the whole iteration is listed at least once.

    Differs from Redis: COUNT is limited to 2048, and to less with a long pattern, so that no call delays other clients.
    """
    cursor = parse_cursor(argv[1])
    check_option_words(argv)
    words = argv[2:]
    pattern, count, type_name, _ = parse_scan_options(words, b"TYPE")
    db = session.db
    following, found = db.scan(cursor, min(count, places_at_once(pattern)))
    if type_name is not None:
        found = [key for key in found if type_of(db.peek(key)).name == type_name]
    if pattern == b"*":
        return [b"%d" % following, found]
    matches = Pattern(pattern).matches
    if is_quick(pattern, found):
        return [b"%d" % following, list(filter(matches, found))]
    return _scanned(following, match_in_slices(matches, found))


def _scanned(following: int, work: Generator[None, None, list[bytes]]) -> Work:
    found = yield from work
    return [b"%d" % following, found]


@command("RANDOMKEY", arity=1, flags=READONLY)
def randomkey(session: Session, argv: list[bytes]) -> Reply:
    """Get a random key."""
    db = session.db
    key = db.random_key()
    return in_slices(session, random_live_key(db)) if key is None and db else key


@command("DBSIZE", arity=1, flags=READONLY | FAST)
def dbsize(session: Session, argv: list[bytes]) -> Reply:
    """Count the keys of the database.

    Differs from Redis: expired keys are not counted, unless thousands of them are still to be deleted.
    """
    return session.db.count()


# ---- other names, other databases


@command("RENAME", "key newkey", arity=3, flags=WRITE, keys=FIRST_TWO)
def rename(session: Session, argv: list[bytes]) -> Reply:
    """Rename a key; a key that had the new name is replaced."""
    _, old, new = argv
    if session.db.get(old) is None:
        raise CommandError(NO_SUCH_KEY)
    _rename(session.db, old, new)
    return OK


@command("RENAMENX", "key newkey", arity=3, flags=WRITE | FAST, keys=FIRST_TWO)
def renamenx(session: Session, argv: list[bytes]) -> Reply:
    """Rename a key, unless a key has the new name."""
    _, old, new = argv
    if session.db.get(old) is None:
        raise CommandError(NO_SUCH_KEY)
    if session.db.get(new) is not None:
        return 0
    _rename(session.db, old, new)
    return 1


def _rename(db: Keyspace, old: bytes, new: bytes) -> None:
    if old == new:
        return
    deadline_ms = db.deadline_ms(old)
    db.put(new, db.take(old), deadline_ms)
    db.effect(b"RENAME", old, new)


@command(
    "COPY",
    "source destination [DB destination-db] [REPLACE]",
    arity=-3,
    flags=WRITE | DENYOOM,
    keys=FIRST_TWO,
    since="6.2.0",
)
def copy(session: Session, argv: list[bytes]) -> Reply:
    """Copy the value and the expiry of a key to another key."""
    check_option_words(argv)
    _, source, destination, *words = argv
    target, replace = _parse_copy_options(session, words)
    if target is session.db and source == destination:
        raise CommandError(SAME_OBJECT)
    db = session.db
    value = db.read(source)
    if value is None or (target.get(destination) is not None and not replace):
        return 0
    target.put(destination, db.copy(value), db.deadline_ms(source))
    db.effect(b"COPY", source, destination, *(() if target is db else (b"DB", b"%d" % target.index)), b"REPLACE")
    return 1


def _parse_copy_options(session: Session, words: list[bytes]) -> tuple[Keyspace, bool]:
    """Return the target database, and True if an existing key is replaced. Raises CommandError."""
    target, replace = session.db, False
    rest = iter(words)
    for word in rest:
        option = fold(word)
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and (index := next(rest, None)) is not None:
            target = parse_database(index, session.store)
        else:
            raise CommandError(SYNTAX)
    return target, replace


@command("MOVE", "key db", arity=3, flags=WRITE | FAST, keys=FIRST)
def move(session: Session, argv: list[bytes]) -> Reply:
    """Move a key to another database, unless the key exists there."""
    _, key, index = argv
    db = session.db
    target = parse_database(index, session.store)
    if target is db:
        raise CommandError(SAME_OBJECT)
    if db.get(key) is None or target.get(key) is not None:
        return 0
    deadline_ms = db.deadline_ms(key)
    target.put(key, db.take(key), deadline_ms)
    db.effect(b"MOVE", key, b"%d" % target.index)
    return 1


@command("SWAPDB", "index1 index2", arity=3, flags=WRITE | FAST, since="4.0.0")
def swapdb(session: Session, argv: list[bytes]) -> Reply:
    """Swap two databases."""
    _, first, second = argv
    databases = session.store.databases
    left = parse_bounded(first, INT_MIN, INT_MAX, INVALID_FIRST_DB)
    right = parse_bounded(second, INT_MIN, INT_MAX, INVALID_SECOND_DB)
    if not (0 <= left < len(databases) and 0 <= right < len(databases)):
        raise CommandError(DB_OUT_OF_RANGE)
    if left != right and (databases[left] or databases[right]):
        databases[left].swap(databases[right])
        session.db.effect(b"SWAPDB", first, second)
    return OK


@command("FLUSHDB", "[ASYNC | SYNC]", arity=-1, flags=WRITE)
def flushdb(session: Session, argv: list[bytes]) -> Reply:
    """Delete all keys of the current database; ASYNC and SYNC both free the memory in slices."""
    _check_flush_mode(argv)
    had_keys = bool(session.db)
    session.db.flush()
    if had_keys:
        session.db.effect(b"FLUSHDB")
    return OK


@command("FLUSHALL", "[ASYNC | SYNC]", arity=-1, flags=WRITE)
def flushall(session: Session, argv: list[bytes]) -> Reply:
    """Delete all keys of all databases; ASYNC and SYNC both free the memory in slices."""
    _check_flush_mode(argv)
    if any(session.store.databases):
        session.store.flush_all()
        session.db.effect(b"FLUSHALL")
    else:
        session.db.flush()  # so that clients drop what they keep of keys that are not there
    return OK


def _check_flush_mode(argv: list[bytes]) -> None:
    if len(argv) > 2 or (len(argv) == 2 and fold(argv[1]) not in (b"ASYNC", b"SYNC")):
        raise CommandError(SYNTAX)


# ---- OBJECT

container("OBJECT", since="2.2.3")
OBJECT_HELP = """\
OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
ENCODING <key>
    Return the kind of internal representation used in order to store the value
    associated with a <key>.
FREQ <key>
    Return the access frequency index of the <key>. The returned integer is
    proportional to the logarithm of the recent access frequency of the key.
IDLETIME <key>
    Return the idle time of the <key>, that is the approximated number of
    seconds elapsed since the last access to the key.
REFCOUNT <key>
    Return the number of references of the value associated with the specified
    <key>.
HELP
    Prints this help."""


@command("OBJECT|HELP", arity=2, flags=LOADING | STALE, since="6.2.0")
def object_help(session: Session, argv: list[bytes]) -> Reply:
    """Describe the subcommands."""
    return [Status(line.encode()) for line in OBJECT_HELP.splitlines()]


@command("OBJECT|ENCODING", "key", arity=3, flags=READONLY, keys=SECOND, since="2.2.3")
def object_encoding(session: Session, argv: list[bytes]) -> Reply:
    """Get the encoding that Redis uses for such a value: int, embstr or raw for a string.

    Differs from Redis, where a string that APPEND, SETRANGE or INCRBYFLOAT changed is raw even if it is short. A field
    per key that remembers this would not be worth its memory.
    """
    value = session.db.look(argv[2])
    return None if value is None else type_of(value).encoding(value)


@command("OBJECT|FREQ", "key", arity=3, flags=READONLY, keys=SECOND, since="4.0.0")
def object_freq(session: Session, argv: list[bytes]) -> Reply:
    """Get the logarithmic access frequency of a key, 0 to 255; refused unless the policy is LFU."""
    if session.db.look(argv[2]) is None:
        return None
    if not session.instance.eviction.by_frequency:
        raise CommandError(NO_LFU)
    return session.db.use_count(argv[2])


@command("OBJECT|IDLETIME", "key", arity=3, flags=READONLY, keys=SECOND, since="2.2.3")
def object_idletime(session: Session, argv: list[bytes]) -> Reply:
    """Get the seconds since the last access to a key; refused if the policy is LFU.

    Differs from Redis: accesses are tracked from the first OBJECT IDLETIME on, or while the policy is LRU.
    """
    if session.db.look(argv[2]) is None:
        return None
    if session.instance.eviction.by_frequency:
        raise CommandError(NO_LRU)
    return session.db.idle_seconds(argv[2])


@command("OBJECT|REFCOUNT", "key", arity=3, flags=READONLY, keys=SECOND, since="2.2.3")
def object_refcount(session: Session, argv: list[bytes]) -> Reply:
    """Get the reference count of a value: 1, or 2147483647 for an integer below 10000, which Redis shares."""
    value = session.db.look(argv[2])
    if value is None:
        return None
    is_shared = type_of(value) is STRING and is_integer(value) and 0 <= int(value) < SHARED_INTEGERS
    return MANY_REFERENCES if is_shared else 1
