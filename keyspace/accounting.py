"""Access and memory accounting: the last use or the number of uses of each key, and the bytes that the keys take.

1. It knows no policies, commands or log.
2. A keyspace has a `Usage` only under a limit on memory, under an LFU policy, or after a client has called OBJECT
   IDLETIME. Otherwise reads and writes pay nothing.
3. The account of memory is updated with each write. It is exact for keys and values: `sys.getsizeof` of the key, and
   the row of the value's type. It charges each key an equal share of the tables that hold it.

    Recency     key -> ms of its last use
    Frequency   key -> minute of its last use and a counter from 0 to 255, as Redis's LFU
    Memory      the bytes of all databases, and of the process before it held any key

Under eviction a dict runs out of places of deleted keys and is rebuilt for three to six times its keys, and the old
table exists beside the new one. So a key's share is more than in a keyspace that only grew, and the process stays below
the limit until it has evicted for a while. The shares were measured against the resident set: `python -m bench.eviction
memory`.

(Refused: the resident set. It lags behind deletions and depends on other activity; evicting until it falls would empty
the keyspace. `getsizeof` of the dicts: it doubles from one write to the next, and half of the keys would be evicted at
once.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from sys import getsizeof
from typing import Protocol

from values import size_of
from values.entry import NO_DEADLINE, TAIL_BYTES, Entry, deadline_of

TABLE_BYTES = 128  # a key's share of a dict that loses keys as fast as it gets new ones
ENTRY_BYTES = TABLE_BYTES + 36  # in `entries`, in the key order, and malloc's rounding of two objects
DEADLINE_BYTES = 20  # in `due`, where a few entries are stale
USE_BYTES = TABLE_BYTES + 24  # in `Uses.table`, and its ints
# The bytes of a new key beside its name and its value.
NEW_KEY_BYTES = ENTRY_BYTES + DEADLINE_BYTES + USE_BYTES + TAIL_BYTES + 2 * getsizeof(b"")

MINUTE_MS = 60_000
NEW_COUNT = 5  # above 0, so that a new key is not evicted first
MOST_COUNT = 255
MOST_CHANGING = 64  # more values than one command changes at a time


class Surroundings(Protocol):
    """The attributes of the store that accounting reads."""

    now_ms: int
    random: Random
    tracks_access: bool  # the running command counts as a use of the keys that it reads


class Uses:
    """The last use or the number of uses of each key. A key not in `table` was last used when recording began."""

    __slots__ = ("since_ms", "store", "table")

    def __init__(self, store: Surroundings) -> None:
        self.store = store
        self.since_ms = store.now_ms
        self.table: dict[bytes, int] = {}

    def record_use(self, key: bytes) -> None:
        """Record a use of a key."""
        raise NotImplementedError

    def record_uses(self, keys: Iterable[bytes]) -> None:
        """Record a use of each key."""
        for key in keys:
            self.record_use(key)

    def admit(self, key: bytes) -> None:
        """Record a new key."""
        raise NotImplementedError

    def rank(self, key: bytes) -> int:
        """Return the rank of a key. Keys with the smallest rank are evicted first."""
        raise NotImplementedError


class Recency(Uses):
    """The time of each key's last use, in Unix ms, with the precision of a turn."""

    __slots__ = ()

    def record_use(self, key: bytes) -> None:
        """Record a use of a key."""
        self.table[key] = self.store.now_ms  # an int that all keys of the turn share

    admit = record_use

    def record_uses(self, keys: Iterable[bytes]) -> None:
        """Record a use of each key. 0.1 us less a key than one by one."""
        self.table.update(dict.fromkeys(keys, self.store.now_ms))

    def rank(self, key: bytes) -> int:
        """Return the time of a key's last use, in Unix ms."""
        return self.table.get(key, self.since_ms)


class Frequency(Uses):
    """The number of each key's uses, by Redis's counter: logarithmic, probabilistic, and decaying with time.

    One int holds counter and minute. All keys of the same minute and counter share that int.
    """

    __slots__ = ("_chances", "_decay_minutes", "_marks", "_minute")

    def __init__(self, store: Surroundings) -> None:
        super().__init__(store)
        self._minute = -1
        self._marks: list[int] = []  # counter -> it and the present minute
        self.tune(10, 1)

    def tune(self, log_factor: int, decay_minutes: int) -> None:
        """Set how slowly counters grow, and the number of minutes after which they decay by one (0: never)."""
        self._decay_minutes = decay_minutes
        self._chances = [1 / (max(0, count - NEW_COUNT) * log_factor + 1) for count in range(MOST_COUNT)] + [0.0]

    def record_use(self, key: bytes) -> None:
        """Count a use. The greater the counter, the smaller the probability that it grows."""
        count = self.rank(key)
        if self.store.random.random() < self._chances[count]:
            count += 1
        self.mark(key, count)

    def admit(self, key: bytes) -> None:
        """Give a new key its first counter."""
        self.mark(key, NEW_COUNT)

    def mark(self, key: bytes, count: int) -> None:
        """Set the counter of a key."""
        minute = self.store.now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._marks = [minute << 8 | each for each in range(MOST_COUNT + 1)]
        self.table[key] = self._marks[count]

    def rank(self, key: bytes) -> int:
        """Return the counter after its decay until now."""
        mark = self.table.get(key)
        minute, count = (self.since_ms // MINUTE_MS, NEW_COUNT) if mark is None else (mark >> 8, mark & MOST_COUNT)
        passed = self.store.now_ms // MINUTE_MS - minute
        if passed > 0 and self._decay_minutes:  # the clock may have been set back
            return max(0, count - passed // self._decay_minutes)
        return count


def _bytes_of(entry: Entry) -> int:
    return size_of(entry) + (deadline_of(entry) != NO_DEADLINE) * DEADLINE_BYTES


class Memory:
    """The bytes of all databases, and of the process before it held any key."""

    __slots__ = ("used_bytes",)

    def __init__(self, base_bytes: int) -> None:
        self.used_bytes = base_bytes


class Tally:
    """A count of the bytes of all keys, made in slices while clients go on changing them.

    From the start of the count on, the account adds each change. So the count must use the size that each key had at
    the start: `changed` has it for each key that has changed since.
    """

    __slots__ = ("changed", "entry_bytes")

    def __init__(self, entry_bytes: int) -> None:
        self.entry_bytes = entry_bytes
        self.changed: dict[bytes, int] = {}  # 0: it was not there

    def size_of(self, key: bytes, entry: Entry | None) -> int:
        """Return the bytes of a key with this entry; 0 if it has none."""
        return 0 if entry is None else self.entry_bytes + getsizeof(key) + _bytes_of(entry)

    def record_size(self, key: bytes, entry: Entry | None) -> None:
        """Record the size of a key that is about to change, unless it is recorded already."""
        if key not in self.changed:
            self.changed[key] = self.size_of(key, entry)


class Usage:
    """The account of one database. `uses` and `memory` are None while they are not needed."""

    __slots__ = ("changing", "entry_bytes", "held_bytes", "memory", "store", "tally", "uses")

    def __init__(self, store: Surroundings) -> None:
        self.store = store
        self.uses: Uses | None = None
        self.memory: Memory | None = None
        self.tally: Tally | None = None  # the running count, if any
        self.held_bytes = 0  # this database's part of `memory`
        self.entry_bytes = ENTRY_BYTES
        self.changing: dict[bytes, int] = {}  # key -> size of its value before a change in place

    # ---- uses

    def set_uses(self, uses: Uses | None, keys: int) -> None:
        """Replace the record of uses; None ends it. `keys` is the number of keys in the database."""
        change = (uses is not None) - (self.uses is not None)
        self.uses = uses
        self.entry_bytes += change * USE_BYTES
        self.add(change * USE_BYTES * keys)

    def record_use(self, key: bytes) -> None:
        """Record a use of an existing key."""
        if self.uses is not None and self.store.tracks_access:
            self.uses.record_use(key)

    def record_uses(self, keys: Iterable[bytes]) -> None:
        """Record a use of each key; all of them exist."""
        if self.uses is not None and self.store.tracks_access:
            self.uses.record_uses(keys)

    # ---- bytes

    def begin(self, memory: Memory) -> Tally:
        """Start to account for changes in `memory`. The caller counts the existing keys with `count_some`."""
        self.memory = memory
        self.tally = Tally(self.entry_bytes)
        return self.tally

    def count_some(self, keys: Iterable[bytes | None], entries: Mapping[bytes, Entry]) -> None:
        """Count some places of the key order; each key is counted once. A place may be None or of a deleted key."""
        tally = self.tally
        assert tally is not None
        changed, size = tally.changed, 0
        for key in keys:
            if key is not None:
                known = changed.get(key)
                size += tally.size_of(key, entries.get(key)) if known is None else known
        self.add(size)

    def end_tally(self) -> dict[bytes, int]:
        """End the count. Return a dict for the caller to free in slices."""
        tally, self.tally = self.tally, None
        return tally.changed if tally is not None else {}

    def about_to_change(self, key: bytes, entry: Entry | None) -> None:
        """Record the size of a key for a running count. Due before each change of its account."""
        if self.tally is not None:
            self.tally.record_size(key, entry)

    def count(self, entries: Mapping[bytes, Entry]) -> int:
        """Return the bytes of all keys. O(keys)."""
        return len(entries) * self.entry_bytes + sum(map(getsizeof, entries)) + sum(map(_bytes_of, entries.values()))

    def end(self) -> None:
        """End the account of memory."""
        self.tally = None
        self.add(-self.held_bytes)
        self.memory = None

    def add(self, size: int) -> None:
        """Add `size` bytes, possibly negative, to the account."""
        if self.memory is not None:
            self.held_bytes += size
            self.memory.used_bytes += size

    def written(self, key: bytes, old: Entry | None, entry: Entry) -> None:
        """Account for an entry that replaces another, or that is new (`old` is None)."""
        self.about_to_change(key, old)
        if old is None:
            if self.uses is not None:
                self.uses.admit(key)
            self.add(self.entry_bytes + getsizeof(key) + _bytes_of(entry))
        else:
            self.add(_bytes_of(entry) - _bytes_of(old))

    def put(self, key: bytes, old: Entry | None, entry: Entry) -> None:
        """Record a use of a key, and account for an entry that replaces another or is new."""
        if old is not None:
            self.record_use(key)
        if old is None or self.memory is not None:
            self.written(key, old, entry)

    def begin_change(self, key: bytes, entry: Entry) -> None:
        """Record the size of a value that is about to change in place. Due before each such change."""
        self.about_to_change(key, entry)
        if len(self.changing) >= MOST_CHANGING:  # left by commands that then changed nothing
            self.changing.clear()
        self.changing[key] = size_of(entry)

    def end_change(self, key: bytes, entry: Entry) -> None:
        """Account for a value that has changed in place since `begin_change`."""
        self.add(size_of(entry) - self.changing.pop(key))

    def removed(self, key: bytes, entry: Entry) -> None:
        """Account for a key that is deleted."""
        self.about_to_change(key, entry)
        if self.uses is not None:
            self.uses.table.pop(key, None)
        self.add(-self.entry_bytes - getsizeof(key) - _bytes_of(entry))

    def cleared(self) -> None:
        """Account for a flush of the database."""
        self.tally = None
        self.add(-self.held_bytes)
        if self.uses is not None:
            self.uses.table = {}
