"""What is noted of a database's keys beside their values: when or how often each was used, and the bytes they take.

It owns this account and nothing else: it must not know policies, commands or the log. A keyspace has a `Usage` only
while somebody asks, for a limit on memory or for OBJECT IDLETIME; without one a read and a write cost what they cost.

    Recency     key -> ms of its last use
    Frequency   key -> minute of its last use and a counter from 0 to 255, as Redis's LFU
    Memory      the bytes of all databases, and of the process before it held any key

**The bytes are an account, kept with each write, and not what the system says.** The resident set lags behind what is
deleted and depends on what else goes on; to evict until it falls would empty the keyspace. The account is exact for
keys and values (`sys.getsizeof`, and of a value what the row of its type says), and charges each key an
equal share of the tables it stands in. A table under eviction is a dict that was rebuilt for three to six times its
keys when the places of deleted ones ran out, the old beside the new: so a share is more than in a keyspace that only
grew, and the process stays below the limit until it has evicted for a while. The shares were measured against the
resident set: `python -m bench.eviction memory`. (Refused: `getsizeof` of the dicts themselves. It doubles from one
write to the next, and half of the keys would be evicted at that moment.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from sys import getsizeof
from typing import Protocol

from values import size_of
from values.entry import NO_DEADLINE, TAIL_BYTES, Entry, deadline_of

TABLE_BYTES = 128  # a key's share of a dict from which keys go as fast as they come
ENTRY_BYTES = TABLE_BYTES + 36  # in `entries`, in the key order; and what malloc rounds up of two objects
DEADLINE_BYTES = 20  # in `due`, where a few entries are stale
USE_BYTES = TABLE_BYTES + 24  # in `Uses.table`, and the ints in it
# What a new key takes beside its bytes and those of its value.
NEW_KEY_BYTES = ENTRY_BYTES + DEADLINE_BYTES + USE_BYTES + TAIL_BYTES + 2 * getsizeof(b"")

MINUTE_MS = 60_000
NEW_COUNT = 5  # a new key must not be the next to go before it had its chance
MOST_COUNT = 255
MOST_CHANGING = 64  # more values than one command changes at a time


class Surroundings(Protocol):
    """What is asked of the store."""

    now_ms: int
    random: Random
    tracks_access: bool  # the running command counts as a use of the keys it reads


class Uses:
    """When or how often keys were used; a key that is not in `table` was last used when the noting began."""

    __slots__ = ("since_ms", "store", "table")

    def __init__(self, store: Surroundings) -> None:
        self.store = store
        self.since_ms = store.now_ms
        self.table: dict[bytes, int] = {}

    def note(self, key: bytes) -> None:
        """Note that a key is used."""
        raise NotImplementedError

    def note_many(self, keys: Iterable[bytes]) -> None:
        """Note that keys are used."""
        for key in keys:
            self.note(key)

    def admit(self, key: bytes) -> None:
        """Note that a key is new."""
        raise NotImplementedError

    def rank(self, key: bytes) -> int:
        """Return a number that is smaller for a key which is less worth keeping."""
        raise NotImplementedError


class Recency(Uses):
    """When each key was last used, to the turn."""

    __slots__ = ()

    def note(self, key: bytes) -> None:
        """Note that a key is used."""
        self.table[key] = self.store.now_ms  # an int that all keys of the turn share

    admit = note

    def note_many(self, keys: Iterable[bytes]) -> None:
        """Note that keys are used. 0.1 us less a key than one by one."""
        self.table.update(dict.fromkeys(keys, self.store.now_ms))

    def rank(self, key: bytes) -> int:
        """Return when a key was last used, in Unix ms."""
        return self.table.get(key, self.since_ms)


class Frequency(Uses):
    """How often each key is used, by Redis's counter: logarithmic, by chance, and one less each so many minutes.

    Counter and minute share an int, and all keys of one minute and counter share that int.
    """

    __slots__ = ("_chances", "_decay_minutes", "_marks", "_minute")

    def __init__(self, store: Surroundings) -> None:
        super().__init__(store)
        self._minute = -1
        self._marks: list[int] = []  # counter -> it and the present minute
        self.tune(10, 1)

    def tune(self, log_factor: int, decay_minutes: int) -> None:
        """Set how slowly counters grow, and after how many minutes they shrink by one (0: never)."""
        self._decay_minutes = decay_minutes
        self._chances = [1 / (max(0, count - NEW_COUNT) * log_factor + 1) for count in range(MOST_COUNT)] + [0.0]

    def note(self, key: bytes) -> None:
        """Count a use: the more there were, the less likely."""
        count = self.rank(key)
        if self.store.random.random() < self._chances[count]:
            count += 1
        self._mark(key, count)

    def admit(self, key: bytes) -> None:
        """Let a new key begin."""
        self._mark(key, NEW_COUNT)

    def _mark(self, key: bytes, count: int) -> None:
        minute = self.store.now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._marks = [minute << 8 | each for each in range(MOST_COUNT + 1)]
        self.table[key] = self._marks[count]

    def rank(self, key: bytes) -> int:
        """Return the counter as it has shrunk by now."""
        mark = self.table.get(key)
        minute, count = (self.since_ms // MINUTE_MS, NEW_COUNT) if mark is None else (mark >> 8, mark & MOST_COUNT)
        passed = self.store.now_ms // MINUTE_MS - minute
        if passed > 0 and self._decay_minutes:  # the clock may have been set back
            return max(0, count - passed // self._decay_minutes)
        return count


def _bytes_of(entry: Entry) -> int:
    return size_of(entry) + (deadline_of(entry) != NO_DEADLINE) * DEADLINE_BYTES


class Memory:
    """The bytes that all databases take, and those of the process before it held any key."""

    __slots__ = ("used_bytes",)

    def __init__(self, base_bytes: int) -> None:
        self.used_bytes = base_bytes


class Tally:
    """A count of what all keys take, in slices: while it goes on, of each key that changes what it took before.

    Changes are added to the account from the start of the count on; so what is counted is each key as it was then. One
    that has changed before it is reached stands in `changed`; of others it does not matter, for they are counted.
    """

    __slots__ = ("changed", "entry_bytes")

    def __init__(self, entry_bytes: int) -> None:
        self.entry_bytes = entry_bytes
        self.changed: dict[bytes, int] = {}  # 0: it was not there

    def size_of(self, key: bytes, entry: Entry | None) -> int:
        """Return what a key takes that has this entry, or none."""
        return 0 if entry is None else self.entry_bytes + getsizeof(key) + _bytes_of(entry)

    def note(self, key: bytes, entry: Entry | None) -> None:
        """Note a key that is about to change."""
        if key not in self.changed:
            self.changed[key] = self.size_of(key, entry)


class Usage:
    """The account of one database: `uses` and `memory` are there as far as somebody asks for them."""

    __slots__ = ("changing", "entry_bytes", "held_bytes", "memory", "store", "tally", "uses")

    def __init__(self, store: Surroundings) -> None:
        self.store = store
        self.uses: Uses | None = None
        self.memory: Memory | None = None
        self.tally: Tally | None = None  # of a count that goes on
        self.held_bytes = 0  # this database's part of `memory`
        self.entry_bytes = ENTRY_BYTES
        self.changing: dict[bytes, int] = {}  # size of a value that is about to change in place

    # ---- uses

    def set_uses(self, uses: Uses | None, keys: int) -> None:
        """Note uses so from now on, or no more; there are so many keys."""
        change = (uses is not None) - (self.uses is not None)
        self.uses = uses
        self.entry_bytes += change * USE_BYTES
        self.add(change * USE_BYTES * keys)

    def note(self, key: bytes) -> None:
        """Note that a key which is there is used."""
        if self.uses is not None and self.store.tracks_access:
            self.uses.note(key)

    def note_many(self, keys: Iterable[bytes]) -> None:
        """Note that keys which are there are used."""
        if self.uses is not None and self.store.tracks_access:
            self.uses.note_many(keys)

    # ---- bytes

    def begin(self, memory: Memory) -> Tally:
        """Count on from now; what is there by now is to be counted by `count_some`."""
        self.memory = memory
        self.tally = Tally(self.entry_bytes)
        return self.tally

    def count_some(self, keys: Iterable[bytes | None], entries: Mapping[bytes, Entry]) -> None:
        """Count some of the keys, each once; a place may be of one that is no more."""
        tally = self.tally
        assert tally is not None
        changed, size = tally.changed, 0
        for key in keys:
            if key is not None:
                known = changed.get(key)
                size += tally.size_of(key, entries.get(key)) if known is None else known
        self.add(size)

    def end_tally(self) -> dict[bytes, int]:
        """Note that all is counted, and return what may be forgotten."""
        tally, self.tally = self.tally, None
        return tally.changed if tally is not None else {}

    def about_to_change(self, key: bytes, entry: Entry | None) -> None:
        """Hear of a key that is about to change; due before each change of its account."""
        if self.tally is not None:
            self.tally.note(key, entry)

    def count(self, entries: Mapping[bytes, Entry]) -> int:
        """Return what all keys take. O(keys)."""
        return len(entries) * self.entry_bytes + sum(map(getsizeof, entries)) + sum(map(_bytes_of, entries.values()))

    def end(self) -> None:
        """Count no more."""
        self.tally = None
        self.add(-self.held_bytes)
        self.memory = None

    def add(self, size: int) -> None:
        """Note that the database takes so many bytes more, or less."""
        if self.memory is not None:
            self.held_bytes += size
            self.memory.used_bytes += size

    def written(self, key: bytes, old: Entry | None, entry: Entry) -> None:
        """Note that an entry takes another's place, or a new key's (`old` is None)."""
        self.about_to_change(key, old)
        if old is None:
            if self.uses is not None:
                self.uses.admit(key)
            self.add(self.entry_bytes + getsizeof(key) + _bytes_of(entry))
        else:
            self.add(_bytes_of(entry) - _bytes_of(old))

    def put(self, key: bytes, old: Entry | None, entry: Entry) -> None:
        """Note a use of a key, and that an entry takes another's place or a new key's."""
        if old is not None:
            self.note(key)
        if old is None or self.memory is not None:
            self.written(key, old, entry)

    def begin_change(self, key: bytes, entry: Entry) -> None:
        """Note that the value of an entry is about to change in place; due before each such change."""
        self.about_to_change(key, entry)
        if len(self.changing) >= MOST_CHANGING:  # of commands that then changed nothing
            self.changing.clear()
        self.changing[key] = size_of(entry)

    def end_change(self, key: bytes, entry: Entry) -> None:
        """Note that the value of an entry has changed in place."""
        self.add(size_of(entry) - self.changing.pop(key))

    def removed(self, key: bytes, entry: Entry) -> None:
        """Note that a key goes, with its deadline or without."""
        self.about_to_change(key, entry)
        if self.uses is not None:
            self.uses.table.pop(key, None)
        self.add(-self.entry_bytes - getsizeof(key) - _bytes_of(entry))

    def cleared(self) -> None:
        """Note that all keys go."""
        self.tally = None
        self.add(-self.held_bytes)
        if self.uses is not None:
            self.uses.table = {}
