"""XCLAIM and XAUTOCLAIM: pending entries become those of another consumer."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from typing import NamedTuple

from commands import (
    FAST,
    FIRST,
    WRITE,
    command,
    fold,
)
from commands.arguments import MAX_INTEGER, MIN_INTEGER, check_option_words, parse_bounded
from commands.group_changes import STEP_ENTRIES, Changes, present_group
from commands.keyspace_walk import at_once
from commands.long_commands import PART_WORDS, is_long
from commands.stream_arguments import (
    AT_ONCE_ENTRIES,
    entry_reply,
    group_of,
    locked,
    parse_id,
    parse_start,
)
from errors import (
    INVALID_CLAIM_ARGUMENT,
    QUOTED_BYTES,
    STREAM_COUNT_NOT_POSITIVE,
    SYNTAX,
    UNKNOWN_CLAIM_OPTION,
    CommandError,
)
from replies import LongArray, Reply, Work
from session import Session
from values.consumer_groups import Pending
from values.stream_chunks import format_id
from values.stream_type import STREAM

MOST_CLAIMED = MAX_INTEGER // 16
ATTEMPTS = 10  # XAUTOCLAIM examines so many pending entries for each that it may return


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
    return (yield from (locked(session, key, work) if is_long(argv) else work))


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
    group = present_group(session, request.key, request.group)
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
    return at_once(work) if is_short else locked(session, key, work)


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
    group = present_group(session, request.key, request.group)
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
