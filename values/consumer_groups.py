"""Consumer groups of a stream: what each group has delivered, to whom, and what is not acknowledged yet.

1. A group's pending entries are in one map by ID, and each consumer has the IDs of its own in another. Every method
   keeps the two alike.
2. A map by ID consists of chunks: dicts of at most CHUNK entries, ordered among each other. To find, add or remove an
   ID takes O(log chunks). A walk in order sorts one chunk at a time.
3. Copies share chunks. A chunk is copied before its first change, so the copy of a million entries takes 0.1 ms.
4. All groups of a stream count their memory in one `Totals`, because a stream must know its size in O(1).

Refused: one dict for all pending entries, whose copy takes 40 ms a million; `sortedcontainers`, which has no copy that
shares anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

CHUNK = 512
FREED_CONSUMERS = 64  # in one step
UNKNOWN = -1  # `entries_read` of a group that cannot know how many entries it has read

# Bytes, measured: an entry in two maps, with its ID and its record; an empty group; an empty consumer.
PENDING_BYTES = 205
GROUP_BYTES = 620
CONSUMER_BYTES = 360


class Pending(NamedTuple):
    """An entry that was delivered and not acknowledged. It never changes: a change replaces it."""

    consumer: bytes
    delivered_ms: int
    deliveries: int


class Totals:
    """What all groups of a stream have together."""

    __slots__ = ("held_bytes", "pending")

    def __init__(self) -> None:
        self.held_bytes = 0
        self.pending = 0


class IdMap:
    """A map from IDs to values, ordered by ID."""

    __slots__ = ("_chunks", "_lowest", "_shared", "count")

    def __init__(self) -> None:
        self._chunks: list[dict[int, Any]] = []
        self._lowest: list[int] = []  # no ID of a chunk is smaller, and none of the chunk before is as great
        self._shared = bytearray()  # of each chunk: 1 if a copy may hold it, too
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def get(self, entry_id: int) -> Any:
        """Return the value of an ID, or None."""
        place = bisect_right(self._lowest, entry_id) - 1
        return self._chunks[place].get(entry_id) if place >= 0 else None

    def put(self, entry_id: int, value: Any) -> None:
        """Set the value of an ID, new or not."""
        if not self._chunks:
            self._insert(0, entry_id, {})
        place = bisect_right(self._lowest, entry_id) - 1
        if place < 0:
            self._lowest[0] = entry_id
            place = 0
        chunk = self._own(place)
        size = len(chunk)
        chunk[entry_id] = value
        if len(chunk) != size:
            self.count += 1
            if size >= CHUNK:
                self._split(place)

    def _insert(self, place: int, lowest: int, chunk: dict[int, Any]) -> None:
        self._lowest.insert(place, lowest)
        self._chunks.insert(place, chunk)
        self._shared.insert(place, 0)

    def _own(self, place: int) -> dict[int, Any]:
        """Return a chunk for a change: a copy of it if it is shared."""
        if self._shared[place]:
            self._chunks[place] = self._chunks[place].copy()
            self._shared[place] = 0
        return self._chunks[place]

    def _split(self, place: int) -> None:
        """Divide a chunk that is too long. Most IDs come in order, so the last chunk keeps most of its entries."""
        items = sorted(self._chunks[place].items())
        middle = len(items) // 2 if place < len(self._chunks) - 1 else len(items) * 9 // 10
        self._chunks[place] = dict(items[:middle])
        self._insert(place + 1, items[middle][0], dict(items[middle:]))

    def pop(self, entry_id: int) -> Any:
        """Remove an ID and return its value, or None."""
        place = bisect_right(self._lowest, entry_id) - 1
        if place < 0 or entry_id not in self._chunks[place]:
            return None
        chunk = self._own(place)
        value = chunk.pop(entry_id)
        self.count -= 1
        if not chunk:
            del self._chunks[place], self._lowest[place], self._shared[place]
        return value

    def free_some(self) -> int:
        """Remove the last chunk. Return how many entries it had."""
        removed = len(self._chunks.pop())
        self.count -= removed
        return removed

    def items(self, start: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield IDs from `start` on, in order, with their values. The map must not change meanwhile."""
        place = max(bisect_right(self._lowest, start) - 1, 0)
        for chunk in self._chunks[place:]:
            for entry_id in sorted(chunk):
                if entry_id >= start:
                    yield entry_id, chunk[entry_id]

    def first(self) -> int:
        """Return the smallest ID. The map must not be empty."""
        return min(self._chunks[0])

    def last(self) -> int:
        """Return the greatest ID. The map must not be empty."""
        return max(self._chunks[-1])

    def copy(self) -> IdMap:
        """Return an independent copy. O(chunks)."""
        copied = IdMap()
        self._shared = bytearray(b"\1") * len(self._chunks)
        copied._shared = self._shared[:]
        copied._chunks = self._chunks[:]
        copied._lowest = self._lowest[:]
        copied.count = self.count
        return copied

    def check(self) -> None:
        """Assert that the map is consistent."""
        assert len(self._chunks) == len(self._lowest) == len(self._shared)
        assert self.count == sum(map(len, self._chunks))
        for place, chunk in enumerate(self._chunks):
            assert 0 < len(chunk) <= CHUNK
            assert min(chunk) >= self._lowest[place]
            assert place + 1 == len(self._chunks) or max(chunk) < self._lowest[place + 1]


class Consumer:
    """A consumer: the IDs that it has not acknowledged, and when it was there."""

    __slots__ = ("active_ms", "pending", "seen_ms")

    def __init__(self, seen_ms: int) -> None:
        self.seen_ms = seen_ms  # of its last command
        self.active_ms = -1  # of the last command that gave it an entry; -1: none did
        self.pending = IdMap()

    def copy(self) -> Consumer:
        """Return an independent copy."""
        copied = Consumer(self.seen_ms)
        copied.active_ms = self.active_ms
        copied.pending = self.pending.copy()
        return copied


class Group:
    """A consumer group."""

    __slots__ = ("_totals", "consumers", "entries_read", "last_id", "pending")

    def __init__(self, totals: Totals, last_id: int, entries_read: int) -> None:
        self._totals = totals
        self.last_id = last_id  # of the last entry that was delivered
        self.entries_read = entries_read  # or UNKNOWN
        self.consumers: dict[bytes, Consumer] = {}
        self.pending = IdMap()

    def __eq__(self, other: object) -> bool:
        """Compare all but the times of the consumers, which no command can set."""
        if not isinstance(other, Group):
            return NotImplemented
        return (
            (self.last_id, self.entries_read) == (other.last_id, other.entries_read)
            and self.consumers.keys() == other.consumers.keys()
            and list(self.pending.items()) == list(other.pending.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def consumer(self, name: bytes, now_ms: int) -> Consumer:
        """Return a consumer, a new one if there is none of this name. It counts as seen now."""
        consumer = self.consumers.get(name)
        if consumer is None:
            self.consumers[name] = consumer = Consumer(now_ms)
            self._totals.held_bytes += CONSUMER_BYTES + len(name)
        consumer.seen_ms = now_ms
        return consumer

    def deliver(self, entry_id: int, pending: Pending) -> None:
        """Make an entry pending, or replace its record, whoever had it. Its consumer must exist."""
        known = self.pending.get(entry_id)
        if known is None:
            self._totals.pending += 1
            self._totals.held_bytes += PENDING_BYTES
        if known is None or known.consumer != pending.consumer:
            if known is not None:
                self.consumers[known.consumer].pending.pop(entry_id)
            self.consumers[pending.consumer].pending.put(entry_id, True)
        self.pending.put(entry_id, pending)

    def acknowledge(self, entry_id: int) -> bool:
        """Remove a pending entry. Return True if it was there."""
        pending = self.pending.pop(entry_id)
        if pending is None:
            return False
        self.consumers[pending.consumer].pending.pop(entry_id)
        self._totals.pending -= 1
        self._totals.held_bytes -= PENDING_BYTES
        return True

    def remove_consumer(self, name: bytes) -> None:
        """Remove a consumer and its pending entries. O(its pending entries)."""
        consumer = self.consumers.pop(name)
        for entry_id, _ in consumer.pending.items():
            self.pending.pop(entry_id)
        self._totals.pending -= len(consumer.pending)
        self._totals.held_bytes -= CONSUMER_BYTES + len(name) + PENDING_BYTES * len(consumer.pending)

    def leave(self) -> None:
        """Count in no stream any more."""
        self._totals = Totals()

    def __len__(self) -> int:
        """Return the number of parts to free."""
        return len(self.consumers) + len(self.pending)

    def free_some(self) -> None:
        """Remove some hundred entries, or consumers; the group is being deleted, and is not consistent any more."""
        for _ in range(min(FREED_CONSUMERS, len(self.consumers))):
            name, consumer = self.consumers.popitem()
            if consumer.pending:
                consumer.pending.free_some()
                self.consumers[name] = consumer
                return
        if not self.consumers and self.pending:
            self._totals.pending -= self.pending.free_some()

    def size_bytes(self) -> int:
        """Return the bytes of memory of the group. O(consumers)."""
        names = sum(map(len, self.consumers))
        return GROUP_BYTES + CONSUMER_BYTES * len(self.consumers) + names + PENDING_BYTES * len(self.pending)

    def copy(self, totals: Totals) -> Group:
        """Return an independent copy, which counts in `totals`, where it is counted already. O(consumers + chunks)."""
        copied = Group(totals, self.last_id, self.entries_read)
        copied.consumers = {name: consumer.copy() for name, consumer in self.consumers.items()}
        copied.pending = self.pending.copy()
        return copied

    def check(self) -> None:
        """Assert that the group is consistent."""
        self.pending.check()
        owned = []
        for name, consumer in self.consumers.items():
            consumer.pending.check()
            for entry_id, _ in consumer.pending.items():
                assert self.pending.get(entry_id).consumer == name
                owned.append(entry_id)
        assert sorted(owned) == [entry_id for entry_id, _ in self.pending.items()]
