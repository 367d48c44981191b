"""XINFO: what a stream, its groups and their consumers are like.

The numbers of nodes and keys of a radix tree are computed from the length, because Godis has no such tree.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar

from commands import LOADING, READONLY, STALE, command, container, fold
from commands.arguments import parse_integer
from commands.introspection import describe_subcommands
from commands.key_positions import Keys
from commands.stream_arguments import entry_reply, named_group, range_reply
from errors import NO_SUCH_KEY, UNKNOWN_OR_WRONG_SUBCOMMAND, CommandError
from replies import Reply
from session import Session
from values.consumer_groups import UNKNOWN, Consumer, Group
from values.stream_chunks import MOST_ID, format_id
from values.stream_type import STREAM
from values.streams import Stream

KEY_SECOND = Keys(2, 2, 1)
SHOWN = 10  # entries and pending entries of XINFO STREAM FULL without COUNT
NODE_ENTRIES = 100  # of a full node in Redis

T = TypeVar("T")

container("XINFO", since="5.0.0")


def _stream(session: Session, key: bytes) -> Stream:
    stream: Stream | None = session.db.value(key, STREAM)
    if stream is None:
        raise CommandError(NO_SUCH_KEY)
    return stream


@command("XINFO|STREAM", "key [FULL [COUNT count]]", arity=-3, flags=READONLY, keys=KEY_SECOND, since="5.0.0")
def xinfo_stream(session: Session, argv: list[bytes]) -> Reply:
    """Describe a stream; with FULL also its entries, groups and pending entries."""
    stream = _stream(session, argv[2])
    options = argv[3:]
    if not options:
        first, last = (next(stream.entries(is_reverse=is_reverse), None) for is_reverse in (False, True))
        ends = {
            b"groups": len(stream.groups),
            b"first-entry": None if first is None else entry_reply(*first),
            b"last-entry": None if last is None else entry_reply(*last),
        }
        return {**_numbers(stream), **ends}
    if len(options) not in (1, 3) or fold(options[0]) != b"FULL" or (options[1:] and fold(options[1]) != b"COUNT"):
        raise CommandError(UNKNOWN_OR_WRONG_SUBCOMMAND % (argv[1], b"XINFO"))
    count = parse_integer(options[2]) if options[1:] else SHOWN
    if count < 0:
        count = SHOWN
    entries = range_reply(stream, 0, MOST_ID, count)
    groups = [_full(stream, name, group, count or None) for name, group in _sorted(stream.groups)]
    return {**_numbers(stream), b"entries": entries, b"groups": groups}


def _numbers(stream: Stream) -> dict[Any, Any]:
    nodes = -(-stream.length // NODE_ENTRIES)
    return {
        b"length": stream.length,
        b"radix-tree-keys": nodes,
        b"radix-tree-nodes": nodes + 1,
        b"last-generated-id": format_id(stream.last_id),
        b"max-deleted-entry-id": format_id(stream.max_deleted_id),
        b"entries-added": stream.entries_added,
        b"recorded-first-entry-id": format_id(stream.first_id()),
    }


def _sorted(named: dict[bytes, T]) -> list[tuple[bytes, T]]:
    """Return groups or consumers in the order of their names, as Redis lists them."""
    return sorted(named.items(), key=itemgetter(0))


def _entries_read(group: Group) -> int | None:
    return None if group.entries_read == UNKNOWN else group.entries_read


def _full(stream: Stream, name: bytes, group: Group, count: int | None) -> Reply:
    records = islice(group.pending.items(), count)
    return {
        b"name": name,
        b"last-delivered-id": format_id(group.last_id),
        b"entries-read": _entries_read(group),
        b"lag": stream.lag(group),
        b"pel-count": len(group.pending),
        b"pending": [
            [format_id(entry_id), record.consumer, record.delivered_ms, record.deliveries]
            for entry_id, record in records
        ],
        b"consumers": [
            _full_consumer(group, consumer_name, consumer, count)
            for consumer_name, consumer in _sorted(group.consumers)
        ],
    }


def _full_consumer(group: Group, name: bytes, consumer: Consumer, count: int | None) -> Reply:
    ids = [entry_id for entry_id, _ in islice(consumer.pending.items(), count)]
    records = [(entry_id, group.pending.get(entry_id)) for entry_id in ids]
    return {
        b"name": name,
        b"seen-time": consumer.seen_ms,
        b"active-time": consumer.active_ms,
        b"pel-count": len(consumer.pending),
        b"pending": [[format_id(entry_id), record.delivered_ms, record.deliveries] for entry_id, record in records],
    }


@command("XINFO|GROUPS", "key", arity=3, flags=READONLY, keys=KEY_SECOND, since="5.0.0")
def xinfo_groups(session: Session, argv: list[bytes]) -> Reply:
    """Describe the consumer groups of a stream."""
    stream = _stream(session, argv[2])
    return [
        {
            b"name": name,
            b"consumers": len(group.consumers),
            b"pending": len(group.pending),
            b"last-delivered-id": format_id(group.last_id),
            b"entries-read": _entries_read(group),
            b"lag": stream.lag(group),
        }
        for name, group in _sorted(stream.groups)
    ]


@command("XINFO|CONSUMERS", "key groupname", arity=4, flags=READONLY, keys=KEY_SECOND, since="5.0.0")
def xinfo_consumers(session: Session, argv: list[bytes]) -> Reply:
    """Describe the consumers of a group."""
    key, name = argv[2:]
    group = named_group(_stream(session, key), key, name)
    now_ms = session.store.now_ms
    return [
        {
            b"name": consumer_name,
            b"pending": len(consumer.pending),
            b"idle": max(now_ms - consumer.seen_ms, 0),
            b"inactive": -1 if consumer.active_ms < 0 else max(now_ms - consumer.active_ms, 0),
        }
        for consumer_name, consumer in _sorted(group.consumers)
    ]


@command("XINFO|HELP", arity=2, flags=LOADING | STALE, since="5.0.0")
def xinfo_help(session: Session, argv: list[bytes]) -> Reply:
    """List the subcommands."""
    return describe_subcommands(b"XINFO")
