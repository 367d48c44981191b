"""The row of streams: how one is made anew, as Redis's rewrite of its log does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from values.consumer_groups import Group, Pending
from values.row import Commands, ValueType, made_anew
from values.stream_chunks import format_id
from values.streams import Stream

REBUILT_IDS = 38  # of one command that makes entries pending
EXAMINED_IDS = 1024  # in one step


def rebuild(key: bytes, stream: Stream, deadline_ms: int) -> Commands:
    """Return the commands that make the stream, as Redis's rewrite of its log has them."""
    return made_anew(key, _commands(key, stream), deadline_ms)


def _commands(key: bytes, stream: Stream) -> Iterator[Sequence[bytes]]:
    """Yield the commands that make the stream where there is no key.

    XCLAIM makes an entry pending only if it exists. So a pending entry that was deleted is made first, claimed, and
    trimmed off again, because a trim leaves no trace but the last ID, which XSETID sets back.
    """
    groups = {name: stream.groups[name] for name in sorted(stream.groups)}  # the same whatever order they were made in
    gone: dict[bytes, list[int]] = {name: [] for name in groups}
    for name, group in groups.items():
        pending = (entry_id for entry_id, _ in group.pending.items())
        while ids := list(islice(pending, EXAMINED_IDS)):
            found = stream.find(ids)
            gone[name] += [entry_id for entry_id in ids if entry_id not in found]
            if len(ids) == EXAMINED_IDS:
                yield (b"DEL", key)  # once more: so that no step takes long
    lost = sorted({entry_id for ids in gone.values() for entry_id in ids})
    for entry_id in lost:
        yield (b"XADD", key, format_id(entry_id), b"", b"")
    if not stream.length and not lost:
        yield (b"XADD", key, b"MAXLEN", b"0", b"0-1", b"", b"")  # an empty stream
    for name, ids in gone.items():
        if ids:
            yield (b"XGROUP", b"CREATE", key, name, b"0-0")
            yield from _claims(key, name, groups[name], ids)
    if lost:
        yield (b"XTRIM", key, b"MAXLEN", b"0")
        yield (b"XSETID", key, b"0-0")
    for entry_id, fields in stream.entries():
        yield (b"XADD", key, format_id(entry_id), *fields)
    added, deleted = b"%d" % stream.entries_added, format_id(stream.max_deleted_id)
    top_id = format_id(max(stream.last_id, stream.max_deleted_id))
    yield (b"XSETID", key, top_id, b"ENTRIESADDED", added, b"MAXDELETEDID", deleted)
    if stream.last_id < stream.max_deleted_id:  # as an earlier XSETID has left it
        yield (b"XSETID", key, format_id(stream.last_id))
    for name, group in groups.items():
        read = b"%d" % group.entries_read
        how = b"SETID" if gone[name] else b"CREATE"
        yield (b"XGROUP", how, key, name, format_id(group.last_id), b"ENTRIESREAD", read)
        for consumer in sorted(group.consumers):
            yield (b"XGROUP", b"CREATECONSUMER", key, name, consumer)
        lost_here = set(gone[name])
        yield from _claims(key, name, group, (each for each, _ in group.pending.items() if each not in lost_here))


def _claims(key: bytes, name: bytes, group: Group, ids: Iterable[int]) -> Iterator[Sequence[bytes]]:
    """Yield the commands that make entries pending, one for several that have the same record."""
    batch: list[bytes] = []
    known: Pending | None = None
    for entry_id in ids:
        pending = group.pending.get(entry_id)
        if known is not None and (pending != known or len(batch) == REBUILT_IDS):
            yield claim(key, name, known, batch)
            batch = []
        known = pending
        batch.append(format_id(entry_id))
    if known is not None:
        yield claim(key, name, known, batch)


def claim(key: bytes, group: bytes, pending: Pending, ids: Iterable[bytes]) -> Sequence[bytes]:
    """Return the command that makes existing entries pending with this record."""
    options = (b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT", b"%d" % pending.deliveries, b"FORCE", b"JUSTID")
    return (b"XCLAIM", key, group, pending.consumer, b"0", *ids, *options)


STREAM = ValueType(
    name=b"stream",
    python_type=Stream,
    encoding=lambda _stream: b"stream",
    rebuild=rebuild,
    copy=Stream.copy,
    size_bytes=Stream.size_bytes,
    is_large=Stream.is_large,
    may_be_empty=True,
)
