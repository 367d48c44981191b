"""The keyspace: values, deadlines, expiry, and the order in which keys are scanned.

It owns what is true of a key whatever its type: that it is there, until when, and who hears of its end. It must not
know commands, clients, dialects or files; it reads no clock: `Store.tick` is told the time, once a turn.

A database is a `Keyspace`:

    values     key -> value        bytes for a string; other types bring their own Python type
    deadlines  key -> Unix ms      only for keys that expire; `expiry` knows which of them end when
    order      [key]               every key once, for SCAN, RANDOMKEY and whatever else walks the keyspace in slices
    ghosts     {key}               deleted keys whose place in `order` is not given back yet

Expired is absent. A key is expired when its deadline is not after `expired_until_ms`, which is the time of the turn,
and 0 during replay, since replay never expires by the clock. Whoever meets an expired key deletes it and logs a DEL
(lazy expiry); `expire_cycle` finds the others by their second, never by looking at keys that live on.

Two dicts, not one dict of tuples: an entry without a deadline costs nothing extra, one with costs less memory, and a
string that is overwritten allocates nothing but its value.

SCAN walks `order` from the end to the start, and its cursor is the number of places still to visit. Compaction moves
keys only towards the start, so what a cursor has yet to visit stays in front of it: every key that is there from the
start to the end of a scan is returned, at no cost to an open scan. A cursor needs no memory, so an abandoned one costs
nothing. (Refused: a copy of the keys a scan, which costs the keyspace at its first call; a dict iterator, which dies at
the first write.)

It is longer than most modules because whatever changes a key has to keep all of these tables true at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from random import Random
from typing import Any, Protocol

from errors import WRONG_TYPE, CommandError
from expiry import SLICE, ExpiryIndex
from usage import DEADLINE_BYTES, Recency, Usage

NO_DEADLINE = -1
NoneType = type(None)  # types.NoneType, which Python 3.10 has under this name only
STRING_OR_NONE = {bytes, NoneType}
RANDOM_TRIES = 100  # for a random key, before all are walked through


class EffectLog(Protocol):
    """Where effects go: the append-only log, or what stands in for it."""

    def append(self, db: int, argv: Sequence[bytes]) -> None: ...

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None: ...

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None: ...


class Snapshot(Protocol):
    """Who writes down a database as it was at some moment, and so must hear of each key before it changes."""

    garbage: list[dict[bytes, Any] | list[Any] | set[bytes]]  # of a flush; still needed

    def before_change(self, key: bytes) -> None: ...


class Store:
    """All databases of an instance, and the time and chance that commands are handed."""

    def __init__(self, databases: int, log: EffectLog, random: Random | None = None) -> None:
        self.log = log
        self.random = random or Random()
        self.now_ms = 0
        self.expired_until_ms = 0  # see the module's text: 0 while replaying
        self.default_ttl_ms = 0
        self.default_deadline_ms = NO_DEADLINE  # now + default TTL, made once a turn
        self.noting = True  # reads count as uses of their keys; see `usage`
        self.expired_keys = 0
        self.evicted_keys = 0
        self.hits = 0
        self.misses = 0
        self.garbage: list[dict[bytes, Any] | list[Any] | set[bytes]] = []  # what was flushed, freed in slices
        self.databases = [Keyspace(self, index) for index in range(databases)]

    def tick(self, now_ms: int) -> None:
        """Set the time that every command of this turn sees."""
        if now_ms // 1000 != self.now_ms // 1000:
            self._begin_second(now_ms)
        self.now_ms = self.expired_until_ms = now_ms
        self.default_deadline_ms = now_ms + self.default_ttl_ms if self.default_ttl_ms else NO_DEADLINE

    def begin_replay(self, now_ms: int) -> None:
        """Set the time without expiring anything: what the log says is true until the log says otherwise."""
        self._begin_second(now_ms)
        self.now_ms = now_ms
        self.expired_until_ms = 0
        self.default_deadline_ms = NO_DEADLINE

    def _begin_second(self, now_ms: int) -> None:
        for keyspace in self.databases:
            keyspace.expiry.begin_second(now_ms // 1000)

    def expire_cycle(self, out_of_time: Callable[[], bool]) -> bool:
        """Expire what is due and free what was flushed, until done or `out_of_time`; return whether it is done."""
        for keyspace in self.databases:
            if not keyspace.expire_due(out_of_time):
                return False
        while self.garbage:
            doomed = self.garbage[-1]
            drop = doomed.popitem if isinstance(doomed, dict) else doomed.pop
            for _ in range(min(SLICE, len(doomed))):
                drop()
            if not doomed:
                self.garbage.pop()
            if out_of_time():
                return not self.garbage
        return True

    def flush_all(self) -> None:
        """Delete every key of every database."""
        for keyspace in self.databases:
            keyspace.flush()


class Keyspace:
    """One database. Keys and values are handed out and taken in without copying; nobody may change them."""

    __slots__ = (
        "_read",
        "_write",
        "deadlines",
        "expiry",
        "ghosts",
        "index",
        "order",
        "snapshot",
        "store",
        "usage",
        "values",
    )

    def __init__(self, store: Store, index: int) -> None:
        self.store = store
        self.index = index
        self.usage: Usage | None = None  # None: nobody asks when keys are used, and memory has no limit
        self._clear()

    def _clear(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.deadlines: dict[bytes, int] = {}
        self.expiry = ExpiryIndex(self.deadlines, self.store.now_ms)
        self.order: list[bytes | None] = []
        self.ghosts: set[bytes] = set()
        self._read = self._write = -1  # compaction moves keys of `order` from `_read` to `_write`; -1: none goes on
        self.snapshot: Snapshot | None = None
        if self.usage is not None:
            self.usage.cleared()

    def __len__(self) -> int:
        """Count the keys, expired ones that still stand here included; see `live_count`."""
        return len(self.values)

    # ---- reading

    def get(self, key: bytes) -> Any:
        """Return the value of a live key, or None; an expired key is deleted on the way."""
        value = self.values.get(key)
        if value is not None:
            if self.expiry.suspects and self._has_expired(key):
                self._expire(key)
                return None
            if self.usage is not None:
                self.usage.note(key)
        return value

    def _has_expired(self, key: bytes) -> bool:
        """Say whether a key's deadline has passed."""
        if key not in self.expiry.suspects:
            return False
        deadline_ms = self.deadlines.get(key)
        return deadline_ms is not None and deadline_ms <= self.store.expired_until_ms

    def idle_seconds(self, key: bytes) -> int:
        """Return how long a key was not used, as far back as anybody cared.

        Uses are noted from the first call on: one more dict would cost every key memory and every read time for a
        question that hardly anybody asks. Until a key is used again, its idle time counts from that first call.
        """
        self.usage = usage = self.usage or Usage(self.store)
        uses = usage.uses
        if uses is None:
            uses = Recency(self.store)
            usage.set_uses(uses, len(self))
        return max(0, self.store.now_ms - uses.rank(key)) // 1000

    def use_count(self, key: bytes) -> int:
        """Return the counter of a key's uses; only where they are counted."""
        assert self.usage is not None
        assert self.usage.uses is not None
        return self.usage.uses.rank(key)

    def peek(self, key: bytes) -> Any:
        """`get` that is no use of the key, so that asking for its idle time does not end it."""
        if key in self.values and not self.is_live(key):
            self._expire(key)
        return self.values.get(key)

    def look(self, key: bytes) -> Any:
        """`peek`, counted as a hit or a miss."""
        return self._count(self.peek(key))

    def read(self, key: bytes) -> Any:
        """`get`, counted as a hit or a miss."""
        return self._count(self.get(key))

    def _count(self, value: Any) -> Any:
        if value is None:
            self.store.misses += 1
        else:
            self.store.hits += 1
        return value

    def string(self, key: bytes) -> bytes | None:
        """Return the string at a key or None, counted as a hit or a miss. Raises WRONGTYPE."""
        # The first lines are `read` for the usual case, inline, since this is GET: 45 ns less.
        value = self.values.get(key)
        if type(value) is bytes and not self.expiry.suspects and self.usage is None:
            self.store.hits += 1
            return value
        value = self.read(key)
        if value is not None and type(value) is not bytes:
            raise CommandError(WRONG_TYPE)
        return value

    def strings(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """Do what `string` does for each key; None, and nothing is done, where one of them needs a closer look."""
        if self.usage is not None or not self.expiry.suspects.isdisjoint(keys):
            return None
        values: list[bytes | None] = list(map(self.values.get, keys))
        kinds = set(map(type, values))
        if not kinds <= STRING_OR_NONE:
            return None
        misses = values.count(None) if NoneType in kinds else 0
        self.store.misses += misses
        self.store.hits += len(values) - misses
        return values

    def deadline_ms(self, key: bytes) -> int:
        """Return the deadline of a live key, or NO_DEADLINE."""
        return self.deadlines.get(key, NO_DEADLINE)

    def live_count(self) -> int:
        """Count the keys that have not expired. O(keys that are due and not yet deleted)."""
        return len(self.values) - self.expiry.dead_count(self.store.expired_until_ms)

    def random_key(self) -> bytes | None:
        """Return a live key, each as likely as any other, or None.

        O(1) on average, since ghosts are few; only where nearly all keys have just expired are they walked through.
        """
        order = self.order
        randrange = self.store.random.randrange
        for _ in range(RANDOM_TRIES):
            if not self.values:
                return None
            key = order[randrange(len(order))]
            if key is not None and self.is_live(key):
                return key
        if not self.live_count():
            return None
        start = randrange(len(order))
        for key in chain(islice(order, start, None), islice(order, start)):
            if key is not None and self.is_live(key):
                return key
        return None

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Visit `count` places from `cursor` (0: start); return the next cursor (0: done) and the live keys met."""
        order = self.order
        end = min(cursor, len(order)) if cursor else len(order)
        start = max(0, end - count)
        return start, [key for key in order[start:end] if key is not None and self.is_live(key)]

    def live_keys(self) -> Iterator[bytes]:
        """Iterate over all live keys, in no order that a command may rely on. No key may come or go meanwhile."""
        # the dead are few; to ask for each key whether it is live takes ten times as long
        dead = self.expiry.dead_keys(self.store.expired_until_ms)
        return (key for key in self.values if key not in dead) if dead else iter(self.values)

    def is_live(self, key: bytes) -> bool:
        """Say whether a key is there and not expired, and change nothing."""
        return key in self.values and not self._has_expired(key)

    # ---- writing

    def put(self, key: bytes, value: Any, deadline_ms: int) -> None:
        """Set value and deadline (or NO_DEADLINE) of a key, whatever was there."""
        if self.snapshot is not None:
            self.snapshot.before_change(key)
        if self.usage is not None:
            self._account(key, value, deadline_ms)
        # A look at the size is cheaper than a look for the key, which costs a second search: 0.08 µs of a SET.
        values = self.values
        size = len(values)
        values[key] = value
        if len(values) != size:
            self._admit(key)
        if deadline_ms != NO_DEADLINE:
            # set_deadline, inline, since this is SET: 430 ns instead of 490, most of which is the log's
            deadlines = self.deadlines
            known_ms = deadlines.get(key)
            deadlines[key] = deadline_ms
            if known_ms is None or deadline_ms < known_ms:
                self.expiry.add(key, deadline_ms)
        elif self.deadlines:
            self.deadlines.pop(key, None)

    def put_many(self, keys: Sequence[bytes], values: Sequence[Any], deadline_ms: int) -> None:
        """`put` for each key and its value."""
        pairs = zip(keys, values)  # noqa: B905 - as many as there are keys
        # Keys whose deadlines are not after this one already stand where expiry will find them.
        if (
            self.snapshot is not None
            or self.usage is not None
            or deadline_ms == NO_DEADLINE
            or deadline_ms < self.expiry.latest_ms
        ):
            for key, value in pairs:
                self.put(key, value, deadline_ms)
            return
        mine, deadlines = self.values, self.deadlines
        known, dated = len(mine), len(deadlines)
        for key, value in pairs:
            mine[key] = value
            deadlines[key] = deadline_ms
        # A dict keeps the order in which keys came, so the new ones are its last.
        if len(mine) != known:
            for key in reversed(list(islice(reversed(mine), len(mine) - known))):
                self._admit(key)
        if len(deadlines) != dated:
            self.expiry.add_many(list(islice(reversed(deadlines), len(deadlines) - dated)), deadline_ms)

    def replace(self, key: bytes, value: Any) -> None:
        """Set the value of a key and leave its deadline as it is."""
        if self.snapshot is not None:
            self.snapshot.before_change(key)
        if self.usage is not None:
            self.usage.written(key, self.values.get(key), value)
        if key not in self.values:
            self._admit(key)
        self.values[key] = value

    def set_deadline(self, key: bytes, deadline_ms: int) -> None:
        """Set the deadline of a key that is there."""
        if self.snapshot is not None:
            self.snapshot.before_change(key)
        known_ms = self.deadlines.get(key)
        if known_ms is None and self.usage is not None:
            self.usage.add(DEADLINE_BYTES)
        self.deadlines[key] = deadline_ms
        if known_ms is None or deadline_ms < known_ms:
            self.expiry.add(key, deadline_ms)

    def end_at(self, key: bytes, deadline_ms: int) -> None:
        """Set the deadline of a live key and log it; one that has passed deletes the key."""
        if deadline_ms <= self.store.expired_until_ms:
            self._discard(key)
            self.effect(b"DEL", key)
        else:
            self.set_deadline(key, deadline_ms)
            self.effect(b"PEXPIREAT", key, b"%d" % deadline_ms)

    def persist(self, key: bytes) -> bool:
        """Take the deadline from a live key; return whether it had one."""
        if self.snapshot is not None:
            self.snapshot.before_change(key)
        if key not in self.deadlines:
            return False
        if self.usage is not None:
            self.usage.add(-DEADLINE_BYTES)
        del self.deadlines[key]
        return True

    def remove(self, key: bytes) -> Any:
        """Delete a live key and return its value, or None where there is none."""
        value = self.get(key)
        if value is not None:
            self._discard(key)
        return value

    def evict(self, key: bytes) -> None:
        """Delete a key that is there, expired or not, since memory runs short, and log it."""
        self._discard(key)
        self.store.evicted_keys += 1
        self.store.log.append(self.index, (b"DEL", key))

    def flush(self) -> None:
        """Delete every key. The memory comes back in slices, by `Store.expire_cycle`, or when a snapshot is done."""
        if self.values:
            garbage = self.store.garbage if self.snapshot is None else self.snapshot.garbage
            garbage += [self.values, self.deadlines, self.order, self.ghosts, *self.expiry.due.values()]
            if self.usage is not None and self.usage.uses is not None:
                garbage.append(self.usage.uses.table)
        self._clear()

    def swap(self, other: Keyspace) -> None:
        """Exchange all keys with another database."""
        for name in self.__slots__:
            if name not in ("store", "index"):
                mine, theirs = getattr(self, name), getattr(other, name)
                setattr(self, name, theirs)
                setattr(other, name, mine)

    def effect(self, *argv: bytes) -> None:
        """Log what a command did to this database, as the command that does just that again."""
        self.store.log.append(self.index, argv)

    # ---- expiry

    def _expire(self, key: bytes) -> None:
        self._discard(key)
        self.store.expired_keys += 1
        self.store.log.append(self.index, (b"DEL", key))

    def expire_due(self, out_of_time: Callable[[], bool]) -> bool:
        """Delete keys whose deadline has passed, oldest second first; return whether all of them are gone."""
        return self.expiry.expire(self.store.expired_until_ms, self._expire, out_of_time)

    def _account(self, key: bytes, value: Any, deadline_ms: int) -> None:
        """Note that `put` uses a key, and the bytes that it brings and takes."""
        usage = self.usage
        assert usage is not None
        old = self.values.get(key)
        if old is not None:
            usage.note(key)
        usage.written(key, old, value)
        usage.add(DEADLINE_BYTES * ((deadline_ms != NO_DEADLINE) - (key in self.deadlines)))

    # ---- order

    def _admit(self, key: bytes) -> None:
        """Give a new key its place in `order`; one that was here before may still have it."""
        if key in self.ghosts:
            self.ghosts.discard(key)
        else:
            self.order.append(key)

    def _discard(self, key: bytes) -> None:
        if self.snapshot is not None:
            self.snapshot.before_change(key)
        if self.usage is not None:
            self.usage.removed(key, self.values[key], key in self.deadlines)
        del self.values[key]
        if self.deadlines:
            self.deadlines.pop(key, None)
        self.ghosts.add(key)
        if self._read >= 0:
            self._compact_order()
        elif len(self.ghosts) > len(self.values) // 4 + 64:
            self._read = self._write = 0

    def _compact_order(self) -> None:
        """Take the next few steps towards an `order` without ghosts. O(1): each deletion pays for a few places."""
        order, ghosts = self.order, self.ghosts
        for _ in range(8):
            if self._read >= len(order):
                del order[self._write :]
                self._read = self._write = -1
                return
            key = order[self._read]
            order[self._read] = None
            self._read += 1
            if key in ghosts:
                ghosts.discard(key)
            else:
                order[self._write] = key
                self._write += 1

    # ---- for tests

    def check(self) -> None:
        """Assert what must hold between any two commands. O(keys)."""
        places = [key for key in self.order if key is not None]
        assert len(places) == len(set(places)), "a key stands twice in order"
        assert set(places) == self.values.keys() | self.ghosts, "order is not the keys and the ghosts"
        assert not self.values.keys() & self.ghosts, "a key is its own ghost"
        assert self.deadlines.keys() <= self.values.keys(), "a deadline without a key"
        self.expiry.check(self.store.expired_until_ms)
        if self.usage is not None and self.usage.memory is not None:
            assert self.usage.held_bytes == self.usage.count(self.values, self.deadlines), "the account is off"
        if self.usage is not None and self.usage.uses is not None:
            assert self.usage.uses.table.keys() <= self.values.keys(), "a use without a key"
