"""DUMP and RESTORE: a value as bytes, in Redis's format of snapshots (`rdb/`).

1. DUMP serializes the commands of the value's row (`rebuild`). RESTORE reads the payload as commands, and runs them by
   the table. So neither knows the class of a value.
2. RESTORE reads and verifies the whole payload before it changes anything. Its effects are those of these commands, so
   that the log holds no payload that another version cannot read.
3. Both take slices for long values, as `long_commands.py` describes it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from commands import DENYOOM, FIRST, READONLY, TABLE, WRITE, command, fold
from commands.arguments import MAX_INTEGER, check_option_words, parse_integer
from commands.keyspace_walk import at_once
from commands.long_commands import collected, with_keys_locked
from errors import (
    BAD_DATA_FORMAT,
    BUSY_KEY,
    INVALID_FREQUENCY,
    INVALID_IDLE_TIME,
    INVALID_TTL,
    SYNTAX,
    WRONG_PAYLOAD,
    CommandError,
)
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, OK, Reply, Work
from session import Session
from values import Commands, is_large, rebuild
from values.entry import NO_DEADLINE, value_of

LONG_BYTES = 1 << 16  # a longer string or payload is handled in slices
AT_ONCE_COMMANDS = 32  # of some dozen elements each; a value of more is restored in slices
AT_ONCE_STEPS = 2 * AT_ONCE_COMMANDS + 8  # read and run so many commands, and check and expand a short payload
MOST_FREQUENCY = 255


# ---- DUMP


@command("DUMP", "key", arity=2, flags=READONLY, keys=FIRST, since="2.6.0")
def dump(session: Session, argv: list[bytes]) -> Reply:
    """Get the value of a key in a form that RESTORE takes, here or in a redis-server 7."""
    _, key = argv
    value = session.db.read(key)
    if value is None:
        return None
    if is_large(value) or (type(value) is bytes and len(value) > LONG_BYTES):
        return _dump_in_slices(session, key)
    return at_once(_payload(rebuild(key, value, NO_DEADLINE), session.store.now_ms))


def _dump_in_slices(session: Session, key: bytes) -> Work:
    if session.store.key_lock is not None:  # in a pool an entry began to run after this request was admitted
        return HELD_BACK
    with PointInTimeView(session.db) as view:
        (entry,) = view.live_entries([key])
        if entry is None:
            return None
        value = value_of(entry)
        work = _payload(rebuild(key, value, NO_DEADLINE), session.store.now_ms)
        return (yield from _shared(view, key, value, work))


def _shared(view: PointInTimeView, key: bytes, value: object, work: Work) -> Work:
    """Do work that reads a value, which stays as it is meanwhile."""
    view.share(value)
    try:
        return (yield from work)
    finally:
        view.end_sharing(value)


def _payload(commands: Commands, now_ms: int) -> Work:
    from rdb.payload import seal  # noqa: PLC0415
    from rdb.writer import serialize  # noqa: PLC0415

    serialized = yield from serialize(commands, now_ms)
    return (yield from seal(serialized.pieces, serialized.version))


# ---- RESTORE


class Options(NamedTuple):
    """The options of RESTORE; -1 where none is given."""

    replace: bool
    absolute: bool
    idle_seconds: int
    frequency: int


@command(
    "RESTORE",
    "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    arity=-4,
    flags=WRITE | DENYOOM,
    keys=FIRST,
    since="2.6.0",
)
def restore(session: Session, argv: list[bytes]) -> Reply:
    """Create a key with a value that DUMP returned; a redis-server up to 7.4 may have made it, too."""
    check_option_words(argv)
    _, key, ttl, payload, *words = argv
    options = _parse_options(words)
    _require_free(session, key, options)
    deadline_ms = _parse_ttl(ttl, options, session.store.now_ms)
    work = _restore(session, key, payload, deadline_ms, options)
    if len(payload) > LONG_BYTES:
        return work
    try:
        for _ in range(AT_ONCE_STEPS):
            next(work)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return work  # a short payload may be a long value, since it may be compressed


def _parse_options(words: Sequence[bytes]) -> Options:
    replace = absolute = False
    idle_seconds = frequency = -1
    rest = iter(words)
    for word in rest:
        option = fold(word)
        if option == b"REPLACE":
            replace = True
        elif option == b"ABSTTL":
            absolute = True
        elif option == b"IDLETIME" and frequency < 0 and (amount := next(rest, None)) is not None:
            idle_seconds = parse_integer(amount)
            if idle_seconds < 0:
                raise CommandError(INVALID_IDLE_TIME)
        elif option == b"FREQ" and idle_seconds < 0 and (amount := next(rest, None)) is not None:
            frequency = parse_integer(amount)
            if not 0 <= frequency <= MOST_FREQUENCY:
                raise CommandError(INVALID_FREQUENCY)
        else:
            raise CommandError(SYNTAX)
    return Options(replace, absolute, idle_seconds, frequency)


def _require_free(session: Session, key: bytes, options: Options) -> None:
    """Raise CommandError if the key exists and is not to be replaced."""
    if not options.replace and session.db.get(key) is not None:
        raise CommandError(BUSY_KEY)


def _parse_ttl(text: bytes, options: Options, now_ms: int) -> int:
    """Return the deadline in Unix ms, or NO_DEADLINE. Raises CommandError."""
    ttl_ms = parse_integer(text)
    if ttl_ms < 0:
        raise CommandError(INVALID_TTL)
    if not ttl_ms:
        return NO_DEADLINE
    return min(ttl_ms if options.absolute else ttl_ms + now_ms, MAX_INTEGER)


def _restore(session: Session, key: bytes, payload: bytes, deadline_ms: int, options: Options) -> Work:
    """Read the payload, then replace the key, in steps. A small value is made in one step: no key need be locked."""
    commands = yield from _read(payload, key)
    steps = _replace(session, key, commands, deadline_ms, options)
    if len(commands) <= AT_ONCE_COMMANDS and len(payload) <= LONG_BYTES:
        return at_once(steps)
    return (yield from with_keys_locked(session, [key], lambda effects: collected(session, effects, steps)))


def _read(payload: bytes, key: bytes) -> Generator[None, None, list[Sequence[bytes]]]:
    """Return the commands that make the value of a payload. Raises CommandError."""
    from rdb import objects  # noqa: PLC0415
    from rdb.payload import WrongChecksum, open_payload  # noqa: PLC0415
    from rdb.source import BadFormat  # noqa: PLC0415

    commands: list[Sequence[bytes]] = []
    try:
        kind, source = yield from open_payload(payload)
        for argv in objects.commands(kind, source, key):
            if argv is not None:
                if argv[0] not in TABLE:  # it is of a newer Redis
                    raise CommandError(BAD_DATA_FORMAT)
                commands.append(argv)
            yield
    except WrongChecksum:
        raise CommandError(WRONG_PAYLOAD) from None
    except BadFormat:
        raise CommandError(BAD_DATA_FORMAT) from None
    return commands


def _replace(session: Session, key: bytes, commands: list[Sequence[bytes]], deadline_ms: int, options: Options) -> Work:
    """Delete the key, then run the commands that make it, and set its deadline. A step is one command."""
    _require_free(session, key, options)  # again: another client may have made the key while the payload was read
    db = session.db
    has_ended = NO_DEADLINE < deadline_ms <= session.store.expired_until_ms
    if commands[0][0] == b"SET" and not has_ended:  # as the command it would get the default TTL
        value = commands[0][2]
        db.put(key, value, deadline_ms)
        db.store.log.append_set(db.index, key, value, deadline_ms)
    else:
        if db.remove(key) is not None:
            db.effect(b"DEL", key)
        if has_ended:
            return OK
        for argv in commands:
            TABLE[argv[0]].run(session, list(argv))
            yield
        if deadline_ms != NO_DEADLINE and db.get(key) is not None:  # the fields of a hash may all have ended
            db.end_at(key, deadline_ms)
    db.restore_use(key, options.idle_seconds, options.frequency)
    return OK
