"""What a step of a command changes of a consumer group, and the effects that say so.

1. A delivery is logged as XCLAIM … FORCE JUSTID, with the time and the number of deliveries that came out, and the
   group's position as XGROUP SETID. Entries with the same record share one XCLAIM.
2. A pending entry whose message is deleted is logged, when a claim drops it, as XACK.
3. When a consumer was there is not logged; Redis does not log it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from session import Session
from values.consumer_groups import UNKNOWN, Group, Pending
from values.stream_chunks import format_id
from values.stream_type import STREAM, claim
from values.streams import Stream

STEP_ENTRIES = 64  # of one step of a command that runs in slices


def present_group(session: Session, key: bytes, name: bytes) -> Group | None:
    """Return a group for a change, or None: the key may have ended between two steps."""
    stream: Stream | None = session.db.change(key, STREAM)
    return None if stream is None else stream.groups.get(name)


def log_effects(session: Session, key: bytes, effects: Iterable[Sequence[bytes]]) -> None:
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
            found.append(position_of(self.key, self.name, self.group))
        return found

    def log(self, session: Session) -> None:
        """Store and log the changes, if there are any."""
        effects = self.effects()
        if effects:
            log_effects(session, self.key, effects)
        if self.created is not None:
            session.db.event(self.key, b"xgroup-createconsumer")


def position_of(key: bytes, name: bytes, group: Group) -> list[bytes]:
    """Return the command that sets what a group has delivered last."""
    option = [] if group.entries_read == UNKNOWN else [b"ENTRIESREAD", b"%d" % group.entries_read]
    return [b"XGROUP", b"SETID", key, name, format_id(group.last_id), *option]
