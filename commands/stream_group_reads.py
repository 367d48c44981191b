"""XREADGROUP: new entries of streams, and pending ones. With CLAIM it takes over what others have left pending.

A read of thousands of entries runs in slices with its keys locked, each slice as a command of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from heapq import nsmallest
from itertools import islice
from typing import Any

from commands import BLOCKING, WRITE, AfterWord, command
from commands.arguments import MAX_INTEGER
from commands.group_changes import STEP_ENTRIES, Changes, present_group
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS
from commands.stream_arguments import (
    AT_ONCE_ENTRIES,
    NO_CLAIM,
    Reading,
    all_locked,
    entry_reply,
    group_of,
    nothing_to_read,
    parse_id,
    parse_read,
)
from errors import DOLLAR_IN_XREADGROUP, NO_GROUP_TO_READ, CommandError
from replies import NULL_ARRAY, LongArray, PairMap, Reply, Work
from session import Session
from values.consumer_groups import Group, Pending
from values.stream_chunks import MOST_ID, format_id
from values.stream_type import STREAM
from values.streams import Stream


@command(
    "XREADGROUP",
    "GROUP group consumer [COUNT count] [BLOCK milliseconds] [CLAIM min-idle-time] [NOACK]"
    " STREAMS key [key ...] id [id ...]",
    arity=-7,
    flags=WRITE | BLOCKING,
    keys=AfterWord(b"STREAMS", 4),
    since="5.0.0",
)
def xreadgroup(session: Session, argv: list[bytes]) -> Reply:
    """Deliver the entries of streams behind the last delivered one, or list what is pending at a consumer.

    With CLAIM, as in Redis 8.4, it delivers first what has been pending for so long, wherever it was.
    """
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
    works = [(key, _read_group(session, reading, key, start)) for key, start in zip(reading.keys, starts, strict=True)]
    if entries > AT_ONCE_ENTRIES:
        return _read_in_slices(session, reading, works)
    return _read_reply(session, reading, [at_once(work) for _, work in works])


def _read_in_slices(session: Session, reading: Reading, works: list[tuple[bytes, Work]]) -> Work:
    found = yield from all_locked(session, works)
    return _read_reply(session, reading, found)


def _read_reply(session: Session, reading: Reading, found: list[Reply]) -> Reply:
    """Return the entries of all streams that have any; null where nothing was read."""
    pairs = PairMap((key, entries) for key, entries in zip(reading.keys, found, strict=True) if entries is not None)
    return pairs if pairs else nothing_to_read(session, reading, reading.ids)


def _count(stream: Stream | None, group: Group, reading: Reading, after: int) -> int:
    """Return how many entries will be read of a stream, or a number that is too great to read them at once."""
    owner = group.consumers.get(reading.consumer)
    if after != MOST_ID:
        pending = len(owner.pending) if owner else 0
        return min(reading.most or pending, pending)
    if reading.least_idle_ms != NO_CLAIM and len(group.pending) > AT_ONCE_ENTRIES:  # to find the idle ones takes long
        return len(group.pending)
    if stream is None or 0 < reading.most <= AT_ONCE_ENTRIES:
        return reading.most
    return stream.count_from(group.last_id + 1, AT_ONCE_ENTRIES)


def _read_group(session: Session, reading: Reading, key: bytes, start: int | None) -> Work:
    """Read the entries of one stream; None if there is no new one."""
    chunks: list[tuple[Reply, ...]] = []
    is_served, left = start is not None, reading.most or MAX_INTEGER
    if start is None and reading.least_idle_ms != NO_CLAIM:
        idle = yield from _idle_entries(session, reading, key)
        for at in range(0, len(idle), STEP_ENTRIES):
            chunks.append(tuple(_claim_part(session, reading, key, idle[at : at + STEP_ENTRIES])))
            yield
        left -= sum(map(len, chunks))
    while left:
        part, start = _read_part(session, reading, key, start, min(left, STEP_ENTRIES))
        chunks.append(tuple(part))
        left -= len(part)
        if len(part) < STEP_ENTRIES:
            break
        yield
    entries = LongArray(chunks)
    if not is_served and not entries.size:
        return None
    return entries if entries.size > AT_ONCE_ENTRIES else entries.members()


def _idle_entries(session: Session, reading: Reading, key: bytes) -> Generator[None, None, list[int]]:
    """Return what CLAIM asks for: the entries that have been pending for so long, the longest first, and exist."""
    group = present_group(session, key, reading.group)
    if group is None:
        return []
    latest_ms = session.store.now_ms - reading.least_idle_ms
    idle: list[tuple[int, int]] = []  # when it was delivered, ID
    pending = iter(group.pending.copy().items())
    while part := list(islice(pending, PART_WORDS)):
        due = [(record.delivered_ms, entry_id) for entry_id, record in part if record.delivered_ms <= latest_ms]
        stream: Stream | None = session.db.peek(key)
        found = {} if stream is None else stream.find([entry_id for _, entry_id in due])
        idle += [each for each in due if each[1] in found]
        if len(part) == PART_WORDS:
            yield
    return [entry_id for _, entry_id in (nsmallest(reading.most, idle) if reading.most else sorted(idle))]


def _claim_part(session: Session, reading: Reading, key: bytes, ids: list[int]) -> list[Reply]:
    """Make pending entries those of the consumer; return each with the time since its delivery, and the deliveries."""
    group = present_group(session, key, reading.group)
    if group is None:
        return []
    found = session.db.peek(key).find(ids)
    now_ms = session.store.now_ms
    changes = Changes(key, reading.group, group)
    changes.consumer(reading.consumer, now_ms, is_active=True)
    claimed: list[Any] = []
    for entry_id in ids:
        record = group.pending.get(entry_id)
        if record is not None and entry_id in found:
            changes.deliver(entry_id, Pending(reading.consumer, now_ms, record.deliveries + 1))
            idle_ms = max(now_ms - record.delivered_ms, 0)
            claimed.append((*entry_reply(entry_id, found[entry_id]), idle_ms, record.deliveries))
    changes.log(session)
    return claimed


def _read_part(
    session: Session, reading: Reading, key: bytes, start: int | None, most: int
) -> tuple[list[Reply], int | None]:
    """Read at most `most` entries: new ones, or pending ones from `start` on. Return them, and the next start."""
    group = present_group(session, key, reading.group)
    if group is None:
        return [], start
    stream: Stream = session.db.peek(key)
    now_ms = session.store.now_ms
    changes = Changes(key, reading.group, group)
    part: list[Any] = []
    if start is None:
        entries = list(islice(stream.entries(group.last_id + 1), most)) if group.last_id < stream.last_id else []
        if entries:
            changes.consumer(reading.consumer, now_ms, is_active=True)
        never = () if reading.least_idle_ms == NO_CLAIM else (0, 0)  # idle, deliveries
        for entry_id, fields in entries:
            part.append((*entry_reply(entry_id, fields), *never))
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
