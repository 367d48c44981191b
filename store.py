"""The keyspace: the value and the deadline of each key, and who is told of each change.

It owns what is true of a key whatever its type: that it is there, until when, and who hears of its end. It must not
know commands, clients, dialects or files; it reads no clock: `Store.tick` is told the time, once a turn.

A database is a `Keyspace`:

    entries    key -> entry        a value and its deadline together, as `entries` lays them out: bytes for a string;
                                   other types bring their own Python type
    expiry     ExpiryIndex         how many keys have a deadline, and which of them end when
    key_order  KeyOrder            every key once, for SCAN, RANDOMKEY and whatever else walks the keyspace in slices

Expired is absent. A key is expired when its deadline is not after `expired_until_ms`, which is the time of the turn,
and 0 during replay, since replay never expires by the clock. Whoever meets an expired key deletes it and logs a DEL
(lazy expiry); `expire_cycle` finds the others by their second, never by looking at keys that live on.

It is longer than most modules because whatever changes a key has to keep all of these tables true at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol

from errors import WRONG_TYPE, CommandError
from keyspace import gc_policy
from keyspace.accounting import Recency, Usage
from keyspace.expiry import SLICE, ExpiryIndex
from keyspace.key_locks import KeyLock
from keyspace.key_order import KeyOrder
from keyspace.point_in_time import PointInTimeView, SharedValues
from values import STRING, ValueType, is_large, type_of
from values.entry import LONG_BYTES, NO_DEADLINE, TAIL_BYTES, Entry, deadline_of, entry_of, tail, value_of

MOST_LOOKS = 2048  # at keys that may have expired, to count those that have not
EARLIEST_MS = 1000  # a deadline before 1970 would be none, and a log would not hold it


Steps = Iterator[None]
Now = Callable[[], int]  # in Unix ms


class EffectLog(Protocol):
    """Where effects go: the append-only log, or what stands in for it."""

    def append(self, db: int, argv: Sequence[bytes]) -> None: ...

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None: ...

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None: ...

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None: ...

    def begin(self) -> Any: ...  # an EffectLog whose effects come into this one by `commit`, if they do

    def commit_in_slices(self, effects: Any, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps: ...

    def commit(self, effects: Any, keys: list[set[bytes]], garbage: list[Any]) -> None: ...


class ChangeListener(Protocol):
    """Whoever must know which keys change; it is told behind each change, inside of the command that makes it."""

    def changed(self, db: Keyspace, key: bytes) -> None:
        """Hear of a key whose value or deadline has changed, that is new, or that is gone."""

    def all_changed(self, db: Keyspace) -> None:
        """Hear that any key may have changed: after a flush, and after a swap of two databases."""


class Store:
    """All databases of an instance, and the time and chance that commands are handed."""

    def __init__(self, databases: int, log: EffectLog, random: Random | None = None) -> None:
        self.log = log
        self.random = random or Random()
        self.now_ms = 0
        self.second_began_ms = 0  # when a second last began: not `now_ms` while an entry of a pool is applied
        self.expired_until_ms = 0  # see the module's text: 0 while replaying
        self.may_delete = True  # expired keys, where they are met; in a pool only while an entry is applied
        self.default_ttl_ms = 0
        self.default_deadline_ms = NO_DEADLINE  # now + default TTL, made once a turn
        self.tracks_access = True  # reads count as uses of their keys; see `usage`
        self.expired_keys = 0
        self.evicted_keys = 0
        self.hits = 0
        self.misses = 0
        self.garbage: list[Any] = []  # dicts, lists, sets, large values: freed in slices
        self.shared = SharedValues(self.garbage)
        self.has_containers = False  # some value is, or was, no string
        self.key_lock: KeyLock | None = None  # what a long command works on
        self.databases = [Keyspace(self, index) for index in range(databases)]

    def tick(self, now_ms: int) -> None:
        """Set the time that every command of this turn sees. A clock before 1970 counts as its first second."""
        now_ms = max(now_ms, EARLIEST_MS)
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
        self.second_began_ms = now_ms
        for keyspace in self.databases:
            keyspace.expiry.begin_second(now_ms // 1000)

    def expire_cycle(self, out_of_time: Callable[[], bool]) -> bool:
        """Expire what is due and free what was flushed, until done or `out_of_time`; return whether it is done."""
        if self.may_delete:
            for keyspace in self.databases:
                if not keyspace.expire_due(out_of_time):
                    return False
        while self.garbage:
            doomed = self.garbage[-1]
            drop = doomed.popitem if isinstance(doomed, dict) else doomed.pop
            at_once = 1 if self.has_containers and isinstance(doomed, dict) else SLICE  # each may be a large value
            for _ in range(min(at_once, len(doomed))):
                drop()
            if not doomed:
                self.garbage.pop()
            if out_of_time():
                return not self.garbage
        return True

    @contextmanager
    def collecting(self, effects: EffectLog) -> Iterator[None]:
        """Let what is logged meanwhile go to `effects`, made by `log.begin()`; `log.commit` brings it into the log."""
        log, self.log = self.log, effects
        try:
            yield
        finally:
            self.log = log

    def flush_all(self) -> None:
        """Delete every key of every database."""
        for keyspace in self.databases:
            keyspace.flush()

    def listen(self, listener: ChangeListener | None) -> None:
        """Let somebody know of each change from now on, or nobody."""
        for keyspace in self.databases:
            keyspace.listener = listener


class Keyspace:
    """One database. Keys and values are handed out and taken in without a copy; nobody may change them.

    A value changes in place only when it comes from `change` or `create`, and until it is handed to `done`.
    """

    __slots__ = (
        "_tail",
        "_tail_ms",
        "entries",
        "expiry",
        "index",
        "key_order",
        "listener",
        "store",
        "usage",
        "views",
    )

    def __init__(self, store: Store, index: int) -> None:
        self.store = store
        self.index = index
        self.usage: Usage | None = None  # None: nobody asks when keys are used, and memory has no limit
        self.listener: ChangeListener | None = None
        self._tail_ms, self._tail = NO_DEADLINE, tail(NO_DEADLINE)  # the last that was made: it serves for a turn
        self._clear()

    def _clear(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.expiry = ExpiryIndex(self.entries, self.store.second_began_ms)
        self.key_order = KeyOrder()
        self.views: tuple[PointInTimeView, ...] = ()
        if self.usage is not None:
            self.usage.cleared()

    def __len__(self) -> int:
        """Count the keys, expired ones that still stand here included; see `live_count`."""
        return len(self.entries)

    # ---- reading

    def get(self, key: bytes) -> Any:
        """Return the value of a live key, or None; an expired key is deleted on the way."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if self.expiry.is_due and self._has_expired(entry):
            self._expire(key)
            return None
        if self.usage is not None:
            self.usage.note(key)
        return value_of(entry)

    def _has_expired(self, entry: Entry | None) -> bool:
        """Return True if the deadline of an entry has passed."""
        return NO_DEADLINE < deadline_of(entry) <= self.store.expired_until_ms

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
        entry = self.entries.get(key)
        if entry is None:
            return None
        if self.expiry.is_due and self._has_expired(entry):
            self._expire(key)
            return None
        return value_of(entry)

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

    def value(self, key: bytes, kind: ValueType) -> Any:
        """Return the value at a key to be read, or None, counted as a hit or a miss. Raises WRONGTYPE."""
        value = self.read(key)
        if value is not None and type(value) is not kind.python_type:
            raise CommandError(WRONG_TYPE)
        return value

    def string(self, key: bytes) -> bytes | None:
        """Return the string at a key or None, counted as a hit or a miss. Raises WRONGTYPE."""
        # The first lines are `read` for the usual case, inline, since this is GET: 45 ns less.
        entry = self.entries.get(key)
        if type(entry) is bytes and self.usage is None and not (self.expiry.is_due and self._has_expired(entry)):
            self.store.hits += 1
            return entry[:-TAIL_BYTES]
        string: bytes | None = self.value(key, STRING)
        return string

    def deadline_ms(self, key: bytes) -> int:
        """Return the deadline of a live key, or NO_DEADLINE."""
        return deadline_of(self.entries.get(key))

    def live_count(self) -> int:
        """Count the keys that have not expired. O(keys that are due and not yet deleted)."""
        return len(self.entries) - self.expiry.dead_count(self.store.expired_until_ms)

    def count(self) -> int:
        """Count the keys; expired ones count as well where there may be more of them than a look finds."""
        until_ms = self.store.expired_until_ms
        return len(self.entries) if self.expiry.due_count(until_ms) > MOST_LOOKS else self.live_count()

    def random_key(self) -> bytes | None:
        """Return a live key, each as likely as any other; None if there is none, or nearly all have just expired."""
        return self.key_order.random_key(self.store.random, self.is_live) if self.entries else None

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Visit `count` places from `cursor` (0: start); return the next cursor (0: done) and the live keys met."""
        return self.key_order.scan(cursor, count, self.is_live)

    def walk(self) -> Generator[tuple[bytes, ...], None, None]:
        """Visit all places in small steps and yield the live keys of each step; see `KeyOrder.walk`.

        A flush or a swap of the database ends it.
        """
        order = self.key_order
        for keys in order.walk():
            if self.key_order is not order:
                return
            if self.expiry.is_due:
                yield tuple(filter(self.is_live, keys))
            elif order.tombstones:
                yield tuple(filter(self.entries.__contains__, keys))
            else:
                yield tuple(keys)

    def is_live(self, key: bytes) -> bool:
        """Return True if a key is there and not expired, and change nothing."""
        entry = self.entries.get(key)
        return entry is not None and not (self.expiry.is_due and self._has_expired(entry))

    # ---- writing: the one path for every change

    def change(self, key: bytes, kind: ValueType) -> Any:
        """Return the value at a key, to be changed and handed to `done`; None where there is none. Raises WRONGTYPE.

        The change and `done` belong into one step of a command. A command that then changes nothing owes nothing. It
        is neither a hit nor a miss, as in Redis.
        """
        value = self.get(key)
        if value is None or (type(value) is bytes and kind is STRING):  # `bytes` never change in place
            return value
        if type(value) is not kind.python_type:
            raise CommandError(WRONG_TYPE)
        return self._change_in_place(key, value)

    def create(self, key: bytes, kind: ValueType) -> Any:
        """Do what `change` does; where there is no such key, return an empty value. Raises WRONGTYPE."""
        value = self.change(key, kind)
        return kind.python_type() if value is None else value

    def _tell_views(self, key: bytes) -> None:
        for view in self.views:
            view.before_change(key)

    def _change_in_place(self, key: bytes, value: Any) -> Any:
        """Tell the views and the account of a value that is about to change, and return it, or a copy of it."""
        if self.views:
            self._tell_views(key)
        entry = self.entries[key]
        if value in self.store.shared:
            copied = (self.copy(value), deadline_of(entry))
            if self.usage is not None:
                self.usage.written(key, entry, copied)
            self.entries[key] = entry = copied
            self.store.shared.drop(value)
        if self.usage is not None:
            self.usage.begin_change(key, entry)
        return entry[0]

    @staticmethod
    def copy(value: Any) -> Any:
        """Return a copy of a value, which has nothing to do with the first one."""
        copied = type_of(value).copy(value)
        if is_large(copied):
            gc_policy.hide()
        return copied

    def done(self, key: bytes, value: Any, *effect: bytes) -> None:
        """Take over a value that `change` or `create` returned, or another in its place, and log the effect.

        The deadline stays as it is. An empty value goes, with its key, unless its type may be empty.
        """
        if type(value) is bytes:
            self.replace(key, value)
        else:
            self._take_over(key, value)
        if effect:
            self.store.log.append(self.index, effect)

    def _take_over(self, key: bytes, value: Any) -> None:
        """Do what `done` does for a value that is no string."""
        kind, entry = type_of(value), self.entries.get(key)
        is_there = type(entry) is tuple and entry[0] is value
        if is_there and self.usage is not None:
            self.usage.end_change(key, entry)  # type: ignore[arg-type]
        if not value and not kind.may_be_empty:
            if entry is not None:
                self._discard(key)
        elif not is_there:
            self.replace(key, value)
        elif self.listener is not None:
            self.listener.changed(self, key)
        self.store.has_containers = True

    def put(self, key: bytes, value: Any, deadline_ms: int) -> None:
        """Set value and deadline (or NO_DEADLINE) of a key, whatever was there."""
        if self.views:
            self._tell_views(key)
        if self.usage is not None:
            self.usage.put(key, self.entries.get(key), entry_of(value, deadline_ms))
        if deadline_ms != self._tail_ms:
            self._tail_ms, self._tail = deadline_ms, tail(deadline_ms)
        # entry_of, inline, since this is SET: the tail is made once a turn
        if type(value) is bytes and len(value) < LONG_BYTES:
            self._place(key, value + self._tail, deadline_ms)
        else:
            self._place(key, (value, deadline_ms), deadline_ms)
        if self.listener is not None:
            self.listener.changed(self, key)

    def _place(self, key: bytes, entry: Entry, deadline_ms: int) -> None:
        """Put an entry in the place of whatever was there, and tell expiry and the key order of it."""
        # A look at the size is cheaper than a look for the key, which costs a second search: 0.08 µs of a SET.
        entries, expiry = self.entries, self.expiry
        size = len(entries)
        if expiry.volatile_count == size and deadline_ms >= expiry.latest_ms:
            # All keys have deadlines, none a later one: so what was there stands where expiry will find it.
            entries[key] = entry
            if len(entries) != size:
                expiry.volatile_count += 1
                self.key_order.add(key)
                expiry.add(key, deadline_ms)
            return
        known_ms = deadline_of(entries.get(key)) if expiry.volatile_count else NO_DEADLINE
        entries[key] = entry
        if len(entries) != size:
            self.key_order.add(key)
        expiry.volatile_count += (deadline_ms != NO_DEADLINE) - (known_ms != NO_DEADLINE)
        if deadline_ms != NO_DEADLINE and (known_ms == NO_DEADLINE or deadline_ms < known_ms):
            expiry.add(key, deadline_ms)

    def replace(self, key: bytes, value: Any) -> None:
        """Set the value of a key and leave its deadline as it is."""
        if self.views:
            self._tell_views(key)
        known = self.entries.get(key)
        # Between two short strings only the entry changes, and nobody has to be told: 0.4 µs less of an INCR.
        if type(known) is bytes and type(value) is bytes and len(value) < LONG_BYTES and self.usage is None:
            self.entries[key] = value + known[-TAIL_BYTES:]
        else:
            deadline_ms = deadline_of(known)
            entry = entry_of(value, deadline_ms)
            if self.usage is not None:
                self.usage.written(key, known, entry)
            self._place(key, entry, deadline_ms)
        if self.listener is not None:
            self.listener.changed(self, key)

    def set_deadline(self, key: bytes, deadline_ms: int) -> None:
        """Set the deadline of a key that is there."""
        if self.views:
            self._tell_views(key)
        known = self.entries[key]
        entry = known[:-TAIL_BYTES] + tail(deadline_ms) if type(known) is bytes else (known[0], deadline_ms)
        if self.usage is not None:
            self.usage.written(key, known, entry)
        self._place(key, entry, deadline_ms)
        if self.listener is not None:
            self.listener.changed(self, key)

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
        if self.deadline_ms(key) == NO_DEADLINE:
            return False
        self.set_deadline(key, NO_DEADLINE)
        return True

    def remove(self, key: bytes) -> Any:
        """Delete a live key and return its value, or None where there is none."""
        value = self.get(key)
        if value is not None:
            self._discard(key)
        return value

    def take(self, key: bytes) -> Any:
        """Take a live key's value away, to be put under another key; None where there is none."""
        value = self.get(key)
        if value is not None:
            self._take_out(key)
        return value

    def evict(self, key: bytes) -> None:
        """Delete a key that is there, expired or not, since memory runs short, and log it."""
        self._discard(key)
        self.store.evicted_keys += 1
        self._log_end(key)

    def flush(self) -> None:
        """Delete every key. The memory is freed in slices by `Store.expire_cycle`; what a view reads, when it ends."""
        if self.entries:
            for table in (self.entries, self.key_order.places):
                for view in self.views:
                    view.share(table)
                self.store.shared.drop(table)
            self.store.garbage += [self.key_order.tombstones, *self.expiry.due.values()]
            if self.usage is not None and self.usage.uses is not None:
                self.store.garbage.append(self.usage.uses.table)
        self._clear()
        if self.listener is not None:
            self.listener.all_changed(self)

    def swap(self, other: Keyspace) -> None:
        """Exchange all keys with another database."""
        for name in self.__slots__:
            if name not in ("store", "index"):
                mine, theirs = getattr(self, name), getattr(other, name)
                setattr(self, name, theirs)
                setattr(other, name, mine)
        for db in (self, other):
            if db.listener is not None:
                db.listener.all_changed(db)

    def effect(self, *argv: bytes) -> None:
        """Log what a command did to this database, as the command that does just that again."""
        self.store.log.append(self.index, argv)

    # ---- expiry

    def _expire(self, key: bytes) -> None:
        if not self.store.may_delete:
            return
        self._discard(key)
        self.store.expired_keys += 1
        self._log_end(key)

    def _log_end(self, key: bytes) -> None:
        """Log that a key went without being told so; once more behind what a long command has yet to log of it."""
        self.store.log.append(self.index, (b"DEL", key))
        lock = self.store.key_lock
        if lock is not None and lock.holds_any((key,)):
            lock.effects.append(self.index, (b"DEL", key))

    def expire_due(self, out_of_time: Callable[[], bool]) -> bool:
        """Delete keys whose deadline has passed, oldest second first; return whether all of them are gone."""
        return self.expiry.expire(self.store.expired_until_ms, self._expire, out_of_time)

    def expire_alike(self, last_second: int) -> Iterator[None]:
        """Delete the keys that ended in a second or before, in an order that they alone decide, in many steps.

        For a pool: whatever was done before in which order, the same keys leave the same places behind.
        """

        def delete(key: bytes) -> None:
            self._discard(key)
            self.store.expired_keys += 1

        return self.expiry.expire_alike(last_second, delete)

    # ---- deleting

    def _discard(self, key: bytes) -> None:
        """Delete a key that is there."""
        entry = self._take_out(key)
        if type(entry) is tuple:
            self.drop(entry)

    def drop(self, entry: tuple[Any, int]) -> None:
        """Free what a key held, if that takes long, in slices."""
        if is_large(entry[0]):
            self.store.shared.drop(entry[0])

    def _take_out(self, key: bytes) -> Entry:
        """Delete a key that is there, and return what it held."""
        if self.views:
            self._tell_views(key)
        if self.usage is not None:
            self.usage.removed(key, self.entries[key])
        entry = self.entries.pop(key)
        if deadline_of(entry) != NO_DEADLINE:
            self.expiry.volatile_count -= 1
        self.key_order.remove(key)
        if self.listener is not None:
            self.listener.changed(self, key)
        return entry

    # ---- for tests

    def check(self) -> None:
        """Assert what must hold between any two commands. O(keys)."""
        self.key_order.check(self.entries.keys())
        self.expiry.check(self.store.expired_until_ms)
        assert self.expiry.volatile_count == len(set(self.expiry.keys())), "the count of deadlines is off"
        if self.usage is not None and self.usage.memory is not None and self.usage.tally is None:
            assert self.usage.held_bytes == self.usage.count(self.entries), "the account is off"
        if self.usage is not None and self.usage.uses is not None:
            assert self.usage.uses.table.keys() <= self.entries.keys(), "a use without a key"
