"""Streams: the serialized form, read as the commands that make the stream.

Entries are stored in nodes. A node is a listpack whose first elements are the `master`: how many entries it has, how
many of them are deleted, and the fields of the first entry. An entry with the same fields holds only their values.

    XADD         each entry, and an entry for each deleted one that is still pending
    XSETID       the last ID, how many were ever added, the greatest deleted one
    XGROUP       each group and its consumers
    XCLAIM       each pending entry, with its time and its count of deliveries
    XDEL         the deleted entries that are pending; XSETID repairs what this changed

No command makes an entry pending that is not there. Therefore such entries are added, and deleted at the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import NamedTuple, Union

from rdb.packed import listpack
from rdb.source import BadFormat, Source

Command = list[bytes]
Steps = Iterator[Union[Command, None]]
ID = tuple[int, int]  # Unix ms and a number within it

DELETED, SAME_FIELDS = 1, 2  # flags of an entry
MOST = 2**64 - 1
UNKNOWN_READ = -1
PART_IDS = 64
NO_ID: ID = (0, 0)


class Pending(NamedTuple):
    """A delivery that was not acknowledged."""

    consumer: bytes
    time_ms: int
    deliveries: int


class Group(NamedTuple):
    """A consumer group."""

    name: bytes
    last_id: ID
    entries_read: int
    consumers: list[bytes]
    pending: dict[ID, Pending]


def commands(source: Source, key: bytes, version: int) -> Steps:
    """Yield the commands that make a stream, and None after each step without one. `version` is 1 to 3."""
    entries = yield from _read_entries(source)
    length = source.length()
    if length != len(entries):
        raise BadFormat(f"a stream has {len(entries)} entries and says that it has {length}")
    last_id = _read_id(source)
    entries_added, deleted_id = length, NO_ID
    if version >= 2:
        _read_id(source)  # the first one
        deleted_id = _read_id(source)
        entries_added = source.length()
    groups = yield from _read_groups(source, version)
    if version == 1:
        groups = [group._replace(entries_read=_estimate(group.last_id, entries, last_id)) for group in groups]
    gone = yield from _find_gone(entries, groups)
    if last_id < max((entries[-1:] or [(NO_ID, [])])[0][0], deleted_id, *gone[-1:]) or NO_ID in gone:
        raise BadFormat("an ID of a stream is after its last one")
    if not len(entries) <= entries_added <= MOST >> 1:
        raise BadFormat("a stream has more entries than were ever added")
    yield from _make(key, entries, gone, groups, (last_id, entries_added, deleted_id))


def _find_gone(entries: list[tuple[ID, list[bytes]]], groups: list[Group]) -> Generator[None, None, list[ID]]:
    """Return the IDs of the deleted entries that are pending, in order."""
    gone: set[ID] = set()
    for group in groups:
        for number, entry_id in enumerate(group.pending):
            place = bisect_left(entries, (entry_id, []))
            if place == len(entries) or entries[place][0] != entry_id:
                gone.add(entry_id)
            if not number % PART_IDS:
                yield
    return sorted(gone)


def _make(
    key: bytes, entries: list[tuple[ID, list[bytes]]], gone: list[ID], groups: list[Group], ids: tuple[ID, int, ID]
) -> Steps:
    for entry_id, words in merge(entries, [(entry_id, [b"x", b"y"]) for entry_id in gone]):
        yield [b"XADD", key, show(entry_id), *words]
    last_id, entries_added, deleted_id = ids
    count = len(entries) + len(gone)
    if not count:
        yield [b"XADD", key, b"MAXLEN", b"0", show(max(last_id, (0, 1))), b"x", b"y"]
    yield _set_id(key, last_id, max(entries_added, count), deleted_id)
    for group in groups:
        yield from _make_group(key, group)
    if gone:
        yield from ([b"XDEL", key, *map(show, part)] for part in _parts(gone))
        yield _set_id(key, last_id, entries_added, deleted_id)


def _set_id(key: bytes, last_id: ID, entries_added: int, deleted_id: ID) -> Command:
    return [
        b"XSETID", key, show(last_id), b"ENTRIESADDED", b"%d" % entries_added, b"MAXDELETEDID", show(deleted_id)
    ]  # fmt: skip


def _make_group(key: bytes, group: Group) -> Steps:
    read = [] if group.entries_read == UNKNOWN_READ else [b"ENTRIESREAD", b"%d" % group.entries_read]
    yield [b"XGROUP", b"CREATE", key, group.name, show(group.last_id), *read]
    for consumer in group.consumers:
        yield [b"XGROUP", b"CREATECONSUMER", key, group.name, consumer]
    alike: list[ID] = []
    known: Pending | None = None
    for entry_id, pending in sorted(group.pending.items()):
        if alike and (pending != known or len(alike) == PART_IDS):
            yield _claim(key, group.name, alike, known)
            alike = []
        known = pending
        alike.append(entry_id)
    if alike:
        yield _claim(key, group.name, alike, known)


def _claim(key: bytes, group: bytes, ids: list[ID], pending: Pending | None) -> Command:
    assert pending is not None
    options = [b"TIME", b"%d" % pending.time_ms, b"RETRYCOUNT", b"%d" % pending.deliveries, b"FORCE", b"JUSTID"]
    return [b"XCLAIM", key, group, pending.consumer, b"0", *map(show, ids), *options]


def show(entry_id: ID) -> bytes:
    """Return an ID as text."""
    return b"%d-%d" % entry_id


def _parts(ids: Iterable[ID]) -> Iterator[list[ID]]:
    rest = iter(ids)
    while part := list(islice(rest, PART_IDS)):
        yield part


def _estimate(group_id: ID, entries: list[tuple[ID, list[bytes]]], last_id: ID) -> int:
    """Return how many entries a group has read, as Redis 7 estimates it for a stream that an older one has written."""
    if not entries or group_id == last_id:
        return len(entries)
    first_id = entries[0][0]
    return 0 if group_id < first_id else 1 if group_id == first_id else UNKNOWN_READ


# ---- reading


def _read_id(source: Source) -> ID:
    return source.length(), source.length()


def _raw_id(data: bytes) -> ID:
    if len(data) != 16:
        raise BadFormat("an ID of a stream has 16 bytes")
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")


def _read_entries(source: Source) -> Generator[None, None, list[tuple[ID, list[bytes]]]]:
    entries: list[tuple[ID, list[bytes]]] = []
    last_id = NO_ID
    for _ in range(source.length()):
        master_id = _raw_id(source.whole_string())
        node = source.string()
        if node is None:
            node = yield from source.expand()
        for entry in _read_node(node, master_id):
            if entry is not None:
                if entry[0] <= last_id:
                    raise BadFormat("the entries of a stream are not in order")
                last_id = entry[0]
                entries.append(entry)
            if not len(entries) % PART_IDS:
                yield
    return entries


def _read_node(node: bytes, master_id: ID) -> Iterator[tuple[ID, list[bytes]] | None]:
    """Yield the entries of a node; None for a deleted one."""
    words = listpack(node)
    try:
        count, deleted, fields_count = _integer(next(words)), _integer(next(words)), _integer(next(words))
        fields = [next(words) for _ in range(_count(fields_count, node))]
        _integer(next(words))  # the end of the master
        for _ in range(_count(count, node) + _count(deleted, node)):
            flags = _integer(next(words))
            # Differences are signed 64-bit integers, and so may wrap.
            entry_id = (master_id[0] + _integer(next(words)) & MOST, master_id[1] + _integer(next(words)) & MOST)
            if flags & SAME_FIELDS:
                pairs = [word for field in fields for word in (field, next(words))]
            else:
                pairs = [next(words) for _ in range(2 * _count(_integer(next(words)), node))]
            _integer(next(words))  # how many elements the entry has
            if not pairs:
                raise BadFormat("an entry of a stream has no fields")
            yield None if flags & DELETED else (entry_id, pairs)
    except StopIteration:
        raise BadFormat("a node of a stream is damaged") from None
    if next(words, None) is not None:
        raise BadFormat("a node of a stream has more than its entries")


def _integer(word: bytes) -> int:
    if len(word) > 20:
        raise BadFormat("a node of a stream is damaged")
    try:
        return int(word)
    except ValueError:
        raise BadFormat("a node of a stream is damaged") from None


def _count(number: int, node: bytes) -> int:
    if not 0 <= number <= len(node):
        raise BadFormat("a node of a stream is damaged")
    return number


def _read_groups(source: Source, version: int) -> Generator[None, None, list[Group]]:
    groups: list[Group] = []
    for _ in range(source.length()):
        name, last_id = source.whole_string(), _read_id(source)
        entries_read = UNKNOWN_READ
        if version >= 2:
            entries_read = source.length()
            entries_read = UNKNOWN_READ if entries_read > MOST >> 1 else entries_read
        deliveries: dict[ID, tuple[int, int]] = {}
        for number in range(source.length()):
            entry_id = _raw_id(source.take(16))
            deliveries[entry_id] = source.milliseconds(), source.length()
            if not number % PART_IDS:
                yield
        consumers: list[bytes] = []
        pending: dict[ID, Pending] = {}
        for _ in range(source.length()):
            consumers.append(source.whole_string())
            source.take(8 if version < 3 else 16)  # when it was last seen, and active
            for number in range(source.length()):
                entry_id = _raw_id(source.take(16))
                if entry_id not in deliveries or entry_id in pending:
                    raise BadFormat("a consumer has an entry that its group does not have")
                time_ms, count = deliveries[entry_id]
                pending[entry_id] = Pending(consumers[-1], max(0, time_ms), min(count, MOST >> 1))
                if not number % PART_IDS:
                    yield
        if len(pending) != len(deliveries):
            raise BadFormat("a pending entry has no consumer")
        groups.append(Group(name, last_id, entries_read, consumers, pending))
    if len({group.name for group in groups}) != len(groups):
        raise BadFormat("a stream has two groups of one name")
    return groups
