"""Applies the entries of a pool's log to the store, with the same result on every instance.

1. It owns all state that is a function of the log alone: the log's clock, the last entry of each instance, the parts of
   unfinished entries, and the keys.
2. It knows neither etcd nor the event loop. The caller passes entries in order.

    entry -> next? -> the log's clock advances -> repeated? -> all parts there? -> its commands, one after another
             (version)  greatest now_ms so far    (instance, seq)                  -> replies; then expiry

**The context of an entry's commands.** Their time, for reads of the clock and for expiry, is the log's clock. The
default deadline is made from the TTL that the entry carries. The random generator is seeded with the entry's index. So
their result is the same wherever and whenever the entry is applied.

**Between entries no key is deleted.** A client's read hides a key whose deadline is before the log's clock or before
the instance's clock. The key is deleted when a command of an entry finds it expired, or in `expire`. The caller runs
`expire` after each entry; it deletes all keys of the seconds that the log's clock has passed.

**Exactly once.** An instance has one entry under way at a time, so the `seq` of its entries ascends. An entry whose
`seq` is not greater than the last one is a repetition. The last `seq` of an instance is forgotten after FORGET_MS of
the log's clock and FORGET_ENTRIES without an entry of it: by then no repetition can be under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple, TypeVar

from engine import Engine
from errors import CommandError, PoolError
from pool.entry import Entry, NotAnEntry, commands_of, digest_of, unpack
from pool.snapshot_format import Loader, Snapshot, dump
from replies import Reply
from store import Store
from values.entry import NO_DEADLINE

FORGET_MS = 600_000
FORGET_ENTRIES = 10_000
SWEEP_ENTRIES = 1024
NO_INSTANCE = 0  # no instance has this number

logger = logging.getLogger("godis")

T = TypeVar("T")


class Gap(Exception):
    """An entry is missing before the one that was passed."""


class Seen(NamedTuple):
    """The last entry of an instance."""

    seq: int
    clock_ms: int
    version: int


class Applied(NamedTuple):
    """The result of an entry: the replies to its commands, or None if it was repeated or not the last part."""

    instance: int
    seq: int
    replies: list[Reply] | None
    repeated: bool


class Replica:
    """The state made by the log. `engine` has the table of an instance that runs alone."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.index = 0  # etcd's revision of the last entry
        self.version = 0  # the number of entries so far, that one included
        self.digest = ""  # of the last entry; empty: not known
        self.clock_ms = 0
        self._store = store
        self._engine = engine
        self._seen: dict[int, Seen] = {}
        self._parts: dict[int, list[bytes]] = {}
        self._random = Random()
        self._expired_second = -1
        store.may_delete = False

    def tick(self, now_ms: int) -> None:
        """Set the time of clients' reads: the later one of `now_ms` and the log's clock."""
        self._store.tick(max(now_ms, self.clock_ms))

    # ---- entries

    def apply(
        self, index: int, version: int, data: bytes, is_pause_due: Callable[[], bool] = lambda: False
    ) -> Generator[None, None, Applied | None]:
        """Apply the next entry, and yield where `is_pause_due`; return None if it was applied before.

        Raises Gap, PoolError, and the exception of a bug in a command.
        """
        if version != self.version + 1:
            if 0 < version <= self.version:
                return None
            raise Gap
        try:
            entry = unpack(data)
        except NotAnEntry as reason:
            logger.error("entry %d of the pool's log is not Godis's, all instances pass over it: %s", version, reason)
            self.index, self.version, self.digest = index, version, digest_of(data)
            return Applied(NO_INSTANCE, 0, None, repeated=False)
        self.clock_ms = max(self.clock_ms, entry.now_ms)
        seen = self._seen.get(entry.instance)
        repeated = seen is not None and entry.seq <= seen.seq
        replies = None
        if not repeated:
            self._seen[entry.instance] = Seen(entry.seq, self.clock_ms, version)
            parts = self._whole_body(entry.instance, entry.part, entry.parts, entry.body)
            if parts is not None:
                replies = yield from self._run(index, entry, parts, is_pause_due)
        if version % SWEEP_ENTRIES == 0:
            self._forget(version)
        self.index, self.version, self.digest = index, version, digest_of(data)
        return Applied(entry.instance, entry.seq, replies, repeated)

    def _whole_body(self, instance: int, part: int, parts: int, body: bytes) -> list[bytes] | None:
        """Return the parts of the body that this one completes, or None."""
        if parts == 1:
            self._parts.pop(instance, None)  # of an entry that its instance gave up
            return [body]
        known = [] if part == 0 else self._parts.get(instance, [])
        if len(known) != part or part >= parts:
            raise PoolError(f"part {part + 1} of {parts} of an entry came after {len(known)}")
        known.append(body)
        if part + 1 < parts:
            self._parts[instance] = known
            return None
        return self._parts.pop(instance, known)

    def _run(
        self, index: int, entry: Entry, parts: list[bytes], is_pause_due: Callable[[], bool]
    ) -> Generator[None, None, list[Reply]]:
        """Run the commands of a body. In a pause the store has the time and random generator of clients."""
        steps = self._answers(parts, entry.commands, is_pause_due)
        self._random.seed(index)
        while True:
            with self._time_of_log(entry.default_ttl_ms):
                try:
                    next(steps)
                except StopIteration as end:
                    replies: list[Reply] = end.value
                    return replies
            yield

    def _answers(
        self, parts: list[bytes], count: int, is_pause_due: Callable[[], bool]
    ) -> Generator[None, None, list[Reply]]:
        commands = yield from _pausing(is_pause_due, commands_of(parts, count))
        parts.clear()
        replies: list[Reply] = []
        for db, argv in commands:
            try:
                reply = self._engine.run_logged(db, argv)
                while isinstance(reply, Generator):
                    reply = yield from _pausing(is_pause_due, reply)
            except CommandError as error:
                reply = error
            replies.append(reply)
            if is_pause_due():
                yield
        return replies

    @contextmanager
    def _time_of_log(self, default_ttl_ms: int) -> Iterator[None]:
        """Give commands the time and random generator of the log, and let them delete expired keys."""
        store = self._store
        self.tick(store.now_ms)
        saved = store.now_ms, store.expired_until_ms, store.default_deadline_ms, store.random
        store.now_ms = store.expired_until_ms = self.clock_ms
        store.default_deadline_ms = self.clock_ms + default_ttl_ms if default_ttl_ms else NO_DEADLINE
        store.random = self._random
        store.may_delete = True
        try:
            yield
        finally:
            store.now_ms, store.expired_until_ms, store.default_deadline_ms, store.random = saved
            store.may_delete = False

    def expire(self) -> Generator[None, None, None]:
        """Delete the keys of the seconds that the log's clock has passed, in steps; run it before the next entry."""
        last = self.clock_ms // 1000 - 1
        if last <= self._expired_second:
            return
        for db in self._store.databases:
            yield from db.expire_alike(last)
        self._expired_second = last

    def has_due_keys(self, now_ms: int) -> bool:
        """Return True if a tick at this time is likely to delete a key."""
        last = now_ms // 1000 - 1
        return any(db.expiry.has_due(last) or (db.fields and db.fields.has_due(last)) for db in self._store.databases)

    def _forget(self, version: int) -> None:
        oldest_ms, oldest = self.clock_ms - FORGET_MS, version - FORGET_ENTRIES
        for instance, seen in list(self._seen.items()):
            if seen.clock_ms < oldest_ms and seen.version < oldest:
                del self._seen[instance]
                self._parts.pop(instance, None)

    # ---- snapshots

    def describe(self) -> dict[str, Any]:
        """Return the state beside the keys that a snapshot needs, as a value for JSON."""
        return {
            "index": self.index,
            "version": self.version,
            "digest": self.digest,
            "clock_ms": self.clock_ms,
            "seen": [[instance, *seen] for instance, seen in self._seen.items()],
        }

    def snapshot(self) -> Snapshot:
        """Return a snapshot as of the last entry; it is to be begun before the next entry."""
        return Snapshot(self._store, self._parts)

    def loader(self, clock_ms: int) -> Loader:
        """Return a loader that fills the empty store from a snapshot's stream."""
        return Loader(self._store, self._engine, clock_ms)

    def restore(self, described: dict[str, Any], loader: Loader) -> None:
        """Set the state of a snapshot whose stream was fed to `loader`. Raises PoolError."""
        loader.finish()
        self.index, self.version = described["index"], described["version"]
        self.digest = described.get("digest", "")  # missing: written by Godis 1.1.0
        self.clock_ms = described["clock_ms"]
        self._seen = {instance: Seen(*seen) for instance, *seen in described["seen"]}
        self._parts = loader.parts
        self._expired_second = self.clock_ms // 1000 - 1

    def dump(self) -> bytes:
        """Return the keys as bytes that are equal on two instances if their keys are. O(all keys), in one step."""
        return dump(self._store, self._parts)


def _pausing(is_pause_due: Callable[[], bool], steps: Generator[None, None, T]) -> Generator[None, None, T]:
    """Run a generator to its end, yield after each step where a pause is due, and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        if is_pause_due():
            yield
