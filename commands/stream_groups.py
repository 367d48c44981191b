"""Commands of consumer groups. Those that claim are in `stream_claims.py`; `group_changes.py` says what is logged.

A command that may touch thousands of entries runs in slices with its key locked, each slice as a command of its own.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter

from commands import (
    DENYOOM,
    FAST,
    FIRST,
    LOADING,
    READONLY,
    STALE,
    WRITE,
    command,
    container,
    fold,
)
from commands.arguments import check_option_words, parse_integer
from commands.group_changes import STEP_ENTRIES, log_effects, position_of, present_group
from commands.introspection import describe_subcommands
from commands.key_positions import Keys
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, is_long
from commands.stream_arguments import (
    AT_ONCE_ENTRIES,
    group_of,
    ids_in_parts,
    locked,
    named_group,
    parse_end,
    parse_id,
    parse_start,
)
from errors import (
    ENTRIES_READ_INVALID,
    GROUP_EXISTS,
    NO_STREAM_FOR_GROUP,
    SYNTAX,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    CommandError,
)
from replies import NULL_ARRAY, OK, LongArray, Reply, Work
from session import Session
from values.consumer_groups import UNKNOWN, Group, IdMap
from values.stream_chunks import MOST_ID, format_id
from values.stream_type import STREAM
from values.streams import Stream

KEY_SECOND = Keys(2, 2, 1)


# ---- XGROUP

container("XGROUP", since="5.0.0")


def _stream_for_group(session: Session, key: bytes) -> Stream:
    stream: Stream | None = session.db.change(key, STREAM)
    if stream is None:
        raise CommandError(NO_STREAM_FOR_GROUP)
    return stream


def _group_options(argv: list[bytes], takes_mkstream: bool) -> tuple[bool, int]:
    """Return MKSTREAM and ENTRIESREAD of XGROUP CREATE or XGROUP SETID."""
    check_option_words(argv)
    makes_stream, entries_read, place = False, UNKNOWN, 5
    while place < len(argv):
        option = fold(argv[place])
        if option == b"MKSTREAM" and takes_mkstream:
            makes_stream = True
        elif option == b"ENTRIESREAD" and place + 1 < len(argv):
            place += 1
            entries_read = parse_integer(argv[place])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise CommandError(ENTRIES_READ_INVALID)
        else:
            raise _wrong_subcommand(argv)
        place += 1
    return makes_stream, entries_read


def _wrong_subcommand(argv: list[bytes]) -> CommandError:
    return CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"XGROUP"))


@command(
    "XGROUP|CREATE",
    "key groupname < id | $ > [MKSTREAM] [ENTRIESREAD entries_read]",
    arity=-5,
    flags=WRITE | DENYOOM,
    keys=KEY_SECOND,
    since="5.0.0",
)
def xgroup_create(session: Session, argv: list[bytes]) -> Reply:
    """Create a consumer group of a stream."""
    key, name, word = argv[2:5]
    makes_stream, entries_read = _group_options(argv, takes_mkstream=True)
    db = session.db
    stream: Stream = db.create(key, STREAM) if makes_stream else _stream_for_group(session, key)
    if len(argv) > 8:
        raise _wrong_subcommand(argv)
    last_id = stream.last_id if word == b"$" else parse_id(word)
    if name in stream.groups:
        raise CommandError(GROUP_EXISTS)
    stream.add_group(name, last_id, entries_read)
    option = [b"MKSTREAM"] if makes_stream else []
    if entries_read != UNKNOWN:
        option += [b"ENTRIESREAD", b"%d" % entries_read]
    db.done(key, stream, b"XGROUP", b"CREATE", key, name, format_id(last_id), *option)
    return OK


@command(
    "XGROUP|SETID",
    "key groupname < id | $ > [ENTRIESREAD entries_read]",
    arity=-5,
    flags=WRITE,
    keys=KEY_SECOND,
    since="5.0.0",
)
def xgroup_setid(session: Session, argv: list[bytes]) -> Reply:
    """Set the ID that a consumer group has delivered last."""
    key, name, word = argv[2:5]
    _, entries_read = _group_options(argv, takes_mkstream=False)
    stream = _stream_for_group(session, key)
    group = named_group(stream, key, name)
    if len(argv) not in (5, 7):
        raise _wrong_subcommand(argv)
    last_id = stream.last_id if word == b"$" else _parse_any_id(word)
    if (group.last_id, group.entries_read) != (last_id, entries_read):
        group.last_id, group.entries_read = last_id, entries_read
        session.db.done(key, stream, *position_of(key, name, group))
    session.db.event(key, b"xgroup-setid")
    return OK


def _parse_any_id(word: bytes) -> int:
    """Parse an ID, `-` for the smallest one or `+` for the greatest."""
    return {b"-": 0, b"+": MOST_ID}[word] if word in (b"-", b"+") else parse_id(word)


@command("XGROUP|DESTROY", "key groupname", arity=4, flags=WRITE, keys=KEY_SECOND, since="5.0.0")
def xgroup_destroy(session: Session, argv: list[bytes]) -> Reply:
    """Delete a consumer group; returns 1 if there was one."""
    key, name = argv[2:]
    stream = _stream_for_group(session, key)
    if name not in stream.groups:
        return 0
    session.store.garbage.append(stream.remove_group(name))
    session.db.done(key, stream, b"XGROUP", b"DESTROY", key, name)
    return 1


@command(
    "XGROUP|CREATECONSUMER",
    "key groupname consumername",
    arity=5,
    flags=WRITE | DENYOOM,
    keys=KEY_SECOND,
    since="6.2.0",
)
def xgroup_createconsumer(session: Session, argv: list[bytes]) -> Reply:
    """Create a consumer of a group; returns 1 if it is new."""
    key, name, consumer = argv[2:]
    stream = _stream_for_group(session, key)
    group = named_group(stream, key, name)
    if consumer in group.consumers:
        return 0
    group.consumer(consumer, session.store.now_ms)
    session.db.done(key, stream, b"XGROUP", b"CREATECONSUMER", key, name, consumer)
    return 1


@command("XGROUP|DELCONSUMER", "key groupname consumername", arity=5, flags=WRITE, keys=KEY_SECOND, since="5.0.0")
def xgroup_delconsumer(session: Session, argv: list[bytes]) -> Reply:
    """Delete a consumer of a group; returns the number of its pending entries, which are dropped."""
    key, name, consumer = argv[2:]
    stream = _stream_for_group(session, key)
    group = named_group(stream, key, name)
    if consumer not in group.consumers:
        return 0
    work = _delete_consumer(session, key, name, consumer)
    if len(group.consumers[consumer].pending) > AT_ONCE_ENTRIES:
        return locked(session, key, work)
    return at_once(work)


def _delete_consumer(session: Session, key: bytes, name: bytes, consumer: bytes) -> Work:
    dropped = 0
    while (group := present_group(session, key, name)) is not None and consumer in group.consumers:
        pending = group.consumers[consumer].pending
        ids = [entry_id for entry_id, _ in islice(pending.items(), PART_WORDS)]
        for entry_id in ids:
            group.acknowledge(entry_id)
        dropped += len(ids)
        if pending:
            log_effects(session, key, [])
            yield
            continue
        group.remove_consumer(consumer)
        log_effects(session, key, [[b"XGROUP", b"DELCONSUMER", key, name, consumer]])
    return dropped


@command("XGROUP|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def xgroup_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands."""
    return describe_subcommands(b"XGROUP")


# ---- XACK


@command("XACK", "key group id [id ...]", arity=-4, flags=WRITE | FAST, keys=FIRST, since="5.0.0")
def xack(session: Session, argv: list[bytes]) -> Reply:
    """Acknowledge pending entries of a group; returns how many there were."""
    key, name = argv[1:3]
    if is_long(argv):
        return locked(session, key, _acknowledge_in_parts(session, key, name, argv[3:]))
    if session.db.look(key) is None or present_group(session, key, name) is None:
        return 0
    return _acknowledge(session, key, name, list(map(parse_id, argv[3:])))


def _acknowledge(session: Session, key: bytes, name: bytes, ids: list[int]) -> int:
    group = present_group(session, key, name)
    done = [] if group is None else [entry_id for entry_id in ids if group.acknowledge(entry_id)]
    if done:
        log_effects(session, key, [[b"XACK", key, name, *map(format_id, done)]])
    return len(done)


def _acknowledge_in_parts(session: Session, key: bytes, name: bytes, words: list[bytes]) -> Work:
    ids, error = yield from ids_in_parts(words)
    if present_group(session, key, name) is None:
        return 0
    if error is not None:
        raise error
    count = 0
    for start in range(0, len(ids), PART_WORDS):
        count += _acknowledge(session, key, name, ids[start : start + PART_WORDS])
        yield
    return count


# ---- XPENDING


@command(
    "XPENDING",
    "key group [ < [IDLE min-idle-time] start end count [consumer] > ]",
    arity=-3,
    flags=READONLY,
    keys=FIRST,
    since="5.0.0",
)
def xpending(session: Session, argv: list[bytes]) -> Reply:
    """Count the pending entries of a group, or list them."""
    if len(argv) != 3 and not 6 <= len(argv) <= 9:
        raise CommandError(SYNTAX)
    key, name = argv[1:3]
    if len(argv) == 3:
        return _summary(group_of(session.db.value(key, STREAM), key, name))
    place, least_idle_ms = 3, 0
    if fold(argv[3]) == b"IDLE":
        least_idle_ms, place = parse_integer(argv[4]), 5
        if len(argv) < 8:
            raise CommandError(SYNTAX)
    count = max(parse_integer(argv[place + 2]), 0)
    start, end = parse_start(argv[place]), parse_end(argv[place + 1])
    group = group_of(session.db.value(key, STREAM), key, name)
    consumer = argv[place + 3] if place + 3 < len(argv) else None
    if consumer is not None and consumer not in group.consumers:
        return []
    pending = (group.pending if consumer is None else group.consumers[consumer].pending).copy()
    records = group.pending.copy()
    work = _list_pending(pending, records, (start, end), count, least_idle_ms, session.store.now_ms)
    is_short = min(count if not least_idle_ms else len(pending), len(pending)) <= AT_ONCE_ENTRIES
    return at_once(work) if is_short else work


def _summary(group: Group) -> Reply:
    if not group.pending:
        return [0, None, None, NULL_ARRAY]
    consumers = [
        [name, b"%d" % len(consumer.pending)]
        for name, consumer in sorted(group.consumers.items(), key=itemgetter(0))
        if consumer.pending
    ]
    return [len(group.pending), format_id(group.pending.first()), format_id(group.pending.last()), consumers]


def _list_pending(
    pending: IdMap, records: IdMap, ids: tuple[int, int], count: int, least_idle_ms: int, now_ms: int
) -> Work:
    start, end = ids
    found: list[Reply] = []
    for number, (entry_id, _) in enumerate(pending.items(start)):
        if entry_id > end or len(found) >= count:
            break
        if number % STEP_ENTRIES == STEP_ENTRIES - 1:
            yield
        record = records.get(entry_id)
        idle_ms = now_ms - record.delivered_ms
        if not least_idle_ms or idle_ms >= least_idle_ms:
            found.append([format_id(entry_id), record.consumer, max(idle_ms, 0), record.deliveries])
    chunks = [tuple(found[at : at + STEP_ENTRIES]) for at in range(0, len(found), STEP_ENTRIES)]
    return LongArray(chunks) if len(found) > AT_ONCE_ENTRIES else found
