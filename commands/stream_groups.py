"""Commands of consumer groups.

1. A delivery is logged as XCLAIM … FORCE JUSTID, with the time and the number of deliveries that came out, and the
   group's position as XGROUP SETID. Entries with the same record share one XCLAIM.
2. A pending entry whose message is deleted is logged, when a claim drops it, as XACK.
3. When a consumer was there is not logged; Redis does not log it either.
4. A command that may touch thousands of entries runs in slices with its key locked, each slice as a command of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from commands import (
    BLOCKING,
    DENYOOM,
    FAST,
    FIRST,
    LOADING,
    READONLY,
    STALE,
    WRITE,
    AfterWord,
    command,
    container,
    fold,
)
from commands.arguments import MAX_INTEGER, MIN_INTEGER, check_option_words, parse_bounded, parse_integer
from commands.introspection import describe_subcommands
from commands.key_positions import Keys
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, is_long
from commands.stream_arguments import (
    AT_ONCE_ENTRIES,
    Reading,
    entry_reply,
    group_of,
    ids_in_parts,
    locked,
    named_group,
    nothing_to_read,
    parse_end,
    parse_id,
    parse_read,
    parse_start,
)
from errors import (
    DOLLAR_IN_XREADGROUP,
    ENTRIES_READ_INVALID,
    GROUP_EXISTS,
    INVALID_CLAIM_ARGUMENT,
    NO_GROUP_TO_READ,
    NO_STREAM_FOR_GROUP,
    QUOTED_BYTES,
    STREAM_COUNT_NOT_POSITIVE,
    SYNTAX,
    UNKNOWN_CLAIM_OPTION,
    UNKNOWN_OR_WRONG_SUBCOMMAND,
    CommandError,
)
from replies import NULL_ARRAY, OK, LongArray, PairMap, Reply, Work
from session import Session
from values.consumer_groups import UNKNOWN, Group, IdMap, Pending
from values.streams import MOST_ID, STREAM, Stream, claim, format_id

KEY_SECOND = Keys(2, 2, 1)
STEP_ENTRIES = 64  # of one step of a command that runs in slices
MOST_CLAIMED = MAX_INTEGER // 16
ATTEMPTS = 10  # XAUTOCLAIM examines so many pending entries for each that it may return


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
    last_id = stream.last_id if word == b"$" else parse_id(word)
    if (group.last_id, group.entries_read) != (last_id, entries_read):
        group.last_id, group.entries_read = last_id, entries_read
        session.db.done(key, stream, *_position(key, name, group))
    return OK


def _position(key: bytes, name: bytes, group: Group) -> list[bytes]:
    """Return the command that sets what a group has delivered last."""
    option = [] if group.entries_read == UNKNOWN else [b"ENTRIESREAD", b"%d" % group.entries_read]
    return [b"XGROUP", b"SETID", key, name, format_id(group.last_id), *option]


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
        return locked(session, [key], work)
    return at_once(work)


def _delete_consumer(session: Session, key: bytes, name: bytes, consumer: bytes) -> Work:
    dropped = 0
    while (group := _present_group(session, key, name)) is not None and consumer in group.consumers:
        pending = group.consumers[consumer].pending
        ids = [entry_id for entry_id, _ in islice(pending.items(), PART_WORDS)]
        for entry_id in ids:
            group.acknowledge(entry_id)
        dropped += len(ids)
        if pending:
            _log(session, key, [])
            yield
            continue
        group.remove_consumer(consumer)
        _log(session, key, [[b"XGROUP", b"DELCONSUMER", key, name, consumer]])
    return dropped


@command("XGROUP|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def xgroup_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands."""
    return describe_subcommands(b"XGROUP")


# ---- a step of a command


def _present_group(session: Session, key: bytes, name: bytes) -> Group | None:
    """Return a group for a change, or None: the key may have ended between two steps."""
    stream: Stream | None = session.db.change(key, STREAM)
    return None if stream is None else stream.groups.get(name)


def _log(session: Session, key: bytes, effects: Iterable[Sequence[bytes]]) -> None:
    """Store the stream that has changed, and log the effects."""
    db = session.db
    db.done(key, db.peek(key))
    for effect in effects:
        db.effect(*effect)


class Changes:
    """What one step of a command changed of a group's pending entries."""

    def __init__(self, key: bytes, name: bytes, group: Group) -> None:
        self.key = key
        self.name = name
        self.group = group
        self.before = group.last_id, group.entries_read
        self.records: dict[int, Pending] = {}
        self.dropped: list[int] = []
        self.created: bytes | None = None  # a consumer

    def consumer(self, name: bytes, now_ms: int, is_active: bool = False) -> None:
        """Note that a consumer is there; create it if it is new."""
        if name not in self.group.consumers:
            self.created = name
        consumer = self.group.consumer(name, now_ms)
        if is_active:
            consumer.active_ms = now_ms

    def deliver(self, entry_id: int, record: Pending) -> None:
        """Make an entry pending, or replace its record."""
        if self.group.pending.get(entry_id) != record:
            self.group.deliver(entry_id, record)
            self.records[entry_id] = record

    def drop(self, entry_id: int) -> None:
        """Drop a pending entry whose message does not exist any more."""
        self.group.acknowledge(entry_id)
        self.dropped.append(entry_id)

    def effects(self) -> list[Sequence[bytes]]:
        """Return the commands that change the same."""
        found: list[Sequence[bytes]] = []
        if self.dropped:
            found.append([b"XACK", self.key, self.name, *map(format_id, self.dropped)])
        if self.created is not None and not self.records:
            found.append([b"XGROUP", b"CREATECONSUMER", self.key, self.name, self.created])
        by_record: dict[Pending, list[bytes]] = {}
        for entry_id, record in self.records.items():
            by_record.setdefault(record, []).append(format_id(entry_id))
        found += [claim(self.key, self.name, record, ids) for record, ids in by_record.items()]
        if self.before != (self.group.last_id, self.group.entries_read):
            found.append(_position(self.key, self.name, self.group))
        return found

    def log(self, session: Session) -> None:
        """Store and log the changes, if there are any."""
        effects = self.effects()
        if effects:
            _log(session, self.key, effects)


# ---- XREADGROUP


@command(
    "XREADGROUP",
    "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
    arity=-7,
    flags=WRITE | BLOCKING,
    keys=AfterWord(b"STREAMS", 4),
    since="5.0.0",
)
def xreadgroup(session: Session, argv: list[bytes]) -> Reply:
    """Deliver the entries of streams behind the last delivered one, or list what is pending at a consumer."""
    reading = parse_read(argv, is_group=True)
    entries = 0
    starts: list[int | None] = []  # None: new entries
    for key, word in zip(reading.keys, reading.ids, strict=True):
        stream: Stream | None = session.db.value(key, STREAM)
        group = group_of(stream, key, reading.group, NO_GROUP_TO_READ)
        if word == b"$":
            raise CommandError(DOLLAR_IN_XREADGROUP)
        after = MOST_ID if word == b">" else parse_id(word)
        starts.append(None if after == MOST_ID else after + 1)
        entries += _count(stream, group, reading, after)
    work = _read_groups(session, reading, starts)
    return locked(session, reading.keys, work) if entries > AT_ONCE_ENTRIES else at_once(work)


def _count(stream: Stream | None, group: Group, reading: Reading, after: int) -> int:
    """Return how many entries will be read of a stream, or a number that is too great to read them at once."""
    owner = group.consumers.get(reading.consumer)
    if after != MOST_ID:
        pending = len(owner.pending) if owner else 0
        return min(reading.most or pending, pending)
    if stream is None or 0 < reading.most <= AT_ONCE_ENTRIES:
        return reading.most
    return stream.count_from(group.last_id + 1, AT_ONCE_ENTRIES)


def _read_groups(session: Session, reading: Reading, starts: list[int | None]) -> Work:
    pairs = PairMap()
    for key, start in zip(reading.keys, starts, strict=True):
        chunks: list[tuple[Reply, ...]] = []
        begin, is_served = start, start is not None
        left = reading.most or MAX_INTEGER
        while left:
            part, begin = _read_part(session, reading, key, begin, min(left, STEP_ENTRIES))
            chunks.append(tuple(part))
            left -= len(part)
            if len(part) < STEP_ENTRIES:
                break
            yield
        entries = LongArray(chunks)
        if is_served or entries.size:
            pairs.append((key, entries.members() if entries.size <= AT_ONCE_ENTRIES else entries))
    return pairs if pairs else nothing_to_read(session, reading, reading.ids)


def _read_part(
    session: Session, reading: Reading, key: bytes, start: int | None, most: int
) -> tuple[list[Reply], int | None]:
    """Read at most `most` entries: new ones, or pending ones from `start` on. Return them, and the next start."""
    group = _present_group(session, key, reading.group)
    if group is None:
        return [], start
    stream: Stream = session.db.peek(key)
    now_ms = session.store.now_ms
    changes = Changes(key, reading.group, group)
    part: list[Reply] = []
    if start is None:
        entries = list(islice(stream.entries(group.last_id + 1), most)) if group.last_id < stream.last_id else []
        if entries:
            changes.consumer(reading.consumer, now_ms, is_active=True)
        for entry_id, fields in entries:
            part.append(entry_reply(entry_id, fields))
            if not reading.is_noack:
                changes.deliver(entry_id, Pending(reading.consumer, now_ms, 1))
        if entries:
            group.entries_read = stream.entries_read(group, [entry_id for entry_id, _ in entries])
            group.last_id = entries[-1][0]
    else:
        changes.consumer(reading.consumer, now_ms)
        ids = [entry_id for entry_id, _ in islice(group.consumers[reading.consumer].pending.items(start), most)]
        found = stream.find(ids)
        for entry_id in ids:
            if entry_id not in found:
                part.append([format_id(entry_id), NULL_ARRAY])
                continue
            part.append(entry_reply(entry_id, found[entry_id]))
            deliveries = group.pending.get(entry_id).deliveries + 1
            changes.deliver(entry_id, Pending(reading.consumer, now_ms, deliveries))
        start = ids[-1] + 1 if ids else start
    changes.log(session)
    return part, start


# ---- XACK


@command("XACK", "key group id [id ...]", arity=-4, flags=WRITE | FAST, keys=FIRST, since="5.0.0")
def xack(session: Session, argv: list[bytes]) -> Reply:
    """Acknowledge pending entries of a group; returns how many there were."""
    key, name = argv[1:3]
    if is_long(argv):
        return locked(session, [key], _acknowledge_in_parts(session, key, name, argv[3:]))
    if _present_group(session, key, name) is None:
        return 0
    return _acknowledge(session, key, name, list(map(parse_id, argv[3:])))


def _acknowledge(session: Session, key: bytes, name: bytes, ids: list[int]) -> int:
    group = _present_group(session, key, name)
    done = [] if group is None else [entry_id for entry_id in ids if group.acknowledge(entry_id)]
    if done:
        _log(session, key, [[b"XACK", key, name, *map(format_id, done)]])
    return len(done)


def _acknowledge_in_parts(session: Session, key: bytes, name: bytes, words: list[bytes]) -> Work:
    ids, error = yield from ids_in_parts(words)
    if _present_group(session, key, name) is None:
        return 0
    if error is not None:
        raise error
    count = 0
    for start in range(0, len(ids), PART_WORDS):
        count += _acknowledge(session, key, name, ids[start : start + PART_WORDS])
        yield
    return count


# ---- XCLAIM and XAUTOCLAIM


class Claim(NamedTuple):
    """What XCLAIM asks for."""

    key: bytes
    group: bytes
    consumer: bytes
    least_idle_ms: int
    ids: list[int]
    last_id: int
    delivered_ms: int
    deliveries: int  # -1: not given
    is_forced: bool
    is_just_id: bool


@command(
    "XCLAIM",
    "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] "
    "[JUSTID] [LASTID id]",
    arity=-6,
    flags=WRITE | FAST,
    keys=FIRST,
    since="5.0.0",
)
def xclaim(session: Session, argv: list[bytes]) -> Reply:
    """Make pending entries those of another consumer; returns those that it got."""
    work = _xclaim(session, argv)
    return work if is_long(argv) else at_once(work)


def _xclaim(session: Session, argv: list[bytes]) -> Work:
    key, name = argv[1:3]
    group_of(session.db.value(key, STREAM), key, name)
    request = yield from _parse_claim(session, argv)
    work = _claim_all(session, request)
    return (yield from (locked(session, [key], work) if is_long(argv) else work))


def _parse_claim(session: Session, argv: list[bytes]) -> Generator[None, None, Claim]:
    key, name, consumer, least_idle = argv[1:5]
    least_idle_ms = max(_parse_number(least_idle, b"min-idle-time", b"XCLAIM"), 0)
    ids: list[int] = []
    now_ms = session.store.now_ms
    place = 5
    for place in range(5, len(argv)):
        try:
            ids.append(parse_id(argv[place]))
        except CommandError:
            break
        if place % PART_WORDS == 0:
            yield
    else:
        place = len(argv)
    last_id, delivered_ms, deliveries, is_forced, is_just_id = 0, now_ms, -1, False, False
    check_option_words([argv[0], *argv[place:]])
    while place < len(argv):
        option, has_more = fold(argv[place]), place + 1 < len(argv)
        if option == b"FORCE":
            is_forced = True
        elif option == b"JUSTID":
            is_just_id = True
        elif option in (b"IDLE", b"TIME", b"RETRYCOUNT") and has_more:
            place += 1
            number = _parse_number(argv[place], option + b" option", b"XCLAIM")
            if option == b"RETRYCOUNT":
                deliveries = number
            else:
                delivered_ms = number if option == b"TIME" else now_ms - number
        elif option == b"LASTID" and has_more:
            place += 1
            last_id = parse_id(argv[place])
        else:
            raise CommandError(UNKNOWN_CLAIM_OPTION % argv[place][:QUOTED_BYTES])
        place += 1
    is_replay = not session.store.expired_until_ms
    if delivered_ms < 0 or (delivered_ms > now_ms and not is_replay):
        delivered_ms = now_ms
    return Claim(key, name, consumer, least_idle_ms, ids, last_id, delivered_ms, deliveries, is_forced, is_just_id)


def _parse_number(word: bytes, what: bytes, command_name: bytes) -> int:
    return parse_bounded(word, MIN_INTEGER, MAX_INTEGER, INVALID_CLAIM_ARGUMENT % (what, command_name))


def _claim_all(session: Session, request: Claim) -> Work:
    chunks: list[tuple[Reply, ...]] = []
    for start in range(0, len(request.ids) or 1, STEP_ENTRIES):
        if start:
            yield
        chunks.append(tuple(_claim_some(session, request, request.ids[start : start + STEP_ENTRIES])))
    claimed = LongArray(chunks)
    return claimed if claimed.size > AT_ONCE_ENTRIES else claimed.members()


def _claim_some(session: Session, request: Claim, ids: list[int]) -> list[Reply]:
    group = _present_group(session, request.key, request.group)
    if group is None:
        return []
    changes = Changes(request.key, request.group, group)
    found = session.db.peek(request.key).find(ids)
    now_ms = session.store.now_ms
    group.last_id = max(group.last_id, request.last_id)
    claimed: list[Reply] = []
    for entry_id in ids:
        pending = group.pending.get(entry_id)
        if entry_id not in found:
            if pending is not None:
                changes.drop(entry_id)
            continue
        if pending is None and not request.is_forced:
            continue
        if pending is not None and request.least_idle_ms and now_ms - pending.delivered_ms < request.least_idle_ms:
            continue
        deliveries = request.deliveries
        if deliveries < 0:
            deliveries = (1 if pending is None else pending.deliveries) + (not request.is_just_id)
        changes.consumer(request.consumer, now_ms, is_active=True)
        changes.deliver(entry_id, Pending(request.consumer, request.delivered_ms, deliveries))
        claimed.append(format_id(entry_id) if request.is_just_id else entry_reply(entry_id, found[entry_id]))
    changes.log(session)
    return claimed


class AutoClaim(NamedTuple):
    """What XAUTOCLAIM asks for."""

    key: bytes
    group: bytes
    consumer: bytes
    least_idle_ms: int
    start: int
    most: int
    is_just_id: bool


@command(
    "XAUTOCLAIM",
    "key group consumer min-idle-time start [COUNT count] [JUSTID]",
    arity=-6,
    flags=WRITE | FAST,
    keys=FIRST,
    since="6.2.0",
)
def xautoclaim(session: Session, argv: list[bytes]) -> Reply:
    """Make entries that have been pending for long those of another consumer; returns where to go on, and those."""
    check_option_words(argv)
    key, name, consumer, least_idle = argv[1:5]
    least_idle_ms = max(_parse_number(least_idle, b"min-idle-time", b"XAUTOCLAIM"), 0)
    start, count, is_just_id, place = parse_start(argv[5]), 100, False, 6
    while place < len(argv):
        option = fold(argv[place])
        if option == b"COUNT" and place + 1 < len(argv):
            place += 1
            count = parse_bounded(argv[place], 1, MOST_CLAIMED, STREAM_COUNT_NOT_POSITIVE)
        elif option == b"JUSTID":
            is_just_id = True
        else:
            raise CommandError(SYNTAX)
        place += 1
    group = group_of(session.db.value(key, STREAM), key, name)
    work = _autoclaim(session, AutoClaim(key, name, consumer, least_idle_ms, start, count, is_just_id))
    is_short = min(count * ATTEMPTS, len(group.pending)) <= AT_ONCE_ENTRIES
    return at_once(work) if is_short else locked(session, [key], work)


def _autoclaim(session: Session, request: AutoClaim) -> Work:
    claimed: list[Reply] = []
    deleted: list[Reply] = []
    start: int | None = request.start
    attempts = request.most * ATTEMPTS
    while start is not None and attempts > 0 and len(claimed) + len(deleted) < request.most:
        most = min(attempts, STEP_ENTRIES)
        start = _autoclaim_some(session, request, start, most, claimed, deleted)
        attempts -= most
        if attempts > 0:
            yield
    return [format_id(start or 0), claimed, deleted]


def _autoclaim_some(
    session: Session, request: AutoClaim, start: int, most: int, claimed: list[Reply], deleted: list[Reply]
) -> int | None:
    """Examine `most` pending entries. Return the first that was not examined, or None if there is none."""
    group = _present_group(session, request.key, request.group)
    if group is None:
        return None
    changes = Changes(request.key, request.group, group)
    now_ms = session.store.now_ms
    pending = list(islice(group.pending.items(start), most + 1))
    found = session.db.peek(request.key).find([entry_id for entry_id, _ in pending])
    next_start = None
    for number, (entry_id, known) in enumerate(pending):
        if number == most or len(claimed) + len(deleted) >= request.most:
            next_start = entry_id
            break
        if entry_id not in found:
            changes.drop(entry_id)
            deleted.append(format_id(entry_id))
        elif now_ms - known.delivered_ms >= request.least_idle_ms or not request.least_idle_ms:
            changes.consumer(request.consumer, now_ms, is_active=True)
            deliveries = known.deliveries + (not request.is_just_id)
            changes.deliver(entry_id, Pending(request.consumer, now_ms, deliveries))
            claimed.append(format_id(entry_id) if request.is_just_id else entry_reply(entry_id, found[entry_id]))
    changes.log(session)
    return next_start


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
