"""The clients that wait for a key to hold something: BLPOP and its kin.

1. Who waits is in the order in which the clients came, for each key.
2. A change of a key that somebody waits for makes it ready. `serve` tries the clients of the ready keys again, in the
   order in which the keys became ready. It runs before the next request runs and at the end of the turn. So a client
   is served within the turn in which the element came, and no later request can take that element first.
   While a long command has locked its keys, nobody is served: half of what it does must not be seen.
3. SERVED_A_TURN clients are tried a turn, because thousands may wait for what one request brings. Until all are tried,
   requests for the ready keys wait (`holds_any`).
4. In a pool a client that tries again submits an entry, and takes something only when that is applied (`is_pool`). So
   no more clients try at once than a list or a sorted set has elements, and whoever has tried calls `try_again`.
5. It knows neither requests nor connections: `Waiter.serve` tries a client's request again.

A key that nobody waits for costs nothing, and one that somebody waits for a look-up a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from keyspace.key_listeners import KeyListeners
from store import Keyspace, Store

SERVED_A_TURN = 128  # 10 to 30 µs each, until the client has its reply


class Waiter:
    """A client that waits for one of some keys to hold a value of a type. `keys`: what `state_of` a key was."""

    __slots__ = ("db", "keys", "python_type", "serve")

    def __init__(
        self, db: Keyspace, keys: Mapping[bytes, object], python_type: type, serve: Callable[[bytes], bool]
    ) -> None:
        self.db = db
        self.keys = keys
        self.python_type = python_type
        self.serve = serve  # tries again, for the key that is ready; returns True if the client waits no more


def state_of(db: Keyspace, key: bytes, python_type: type) -> object:
    """Return what differs if a key has got something since: the last ID of a stream; None without such a value."""
    value: Any = db.peek(key)
    return getattr(value, "last_id", True) if type(value) is python_type else None


class BlockedClients:
    """All clients that wait for keys. `set_ready(True)` is called when a client may be served, then `serve` must be."""

    def __init__(self, store: Store, listeners: KeyListeners, set_ready: Callable[[bool], None]) -> None:
        self._store = store
        self._listeners = listeners
        self._set_ready = set_ready
        self._waiters: dict[tuple[int, bytes], dict[Waiter, None]] = {}  # in the order in which they came
        self.is_pool = False
        self._ready: dict[tuple[int, bytes], Keyspace] = {}
        self._trying: tuple[int, bytes] | None = None  # the key whose clients are being tried
        self._steps: Iterator[None] = iter(())
        self._left = SERVED_A_TURN
        self.rounds = 0  # how often all ready keys have been served
        self.count = 0

    def add(self, waiter: Waiter) -> None:
        """Let a client wait; no effect if it waits for no key. O(keys)."""
        self.count += bool(waiter.keys)
        for key, state in waiter.keys.items():
            place = (waiter.db.index, key)
            if place not in self._waiters:
                self._waiters[place] = {}
                self._listeners.add(waiter.db, key, self)
            self._waiters[place][waiter] = None
            if state_of(waiter.db, key, waiter.python_type) != state:  # it came after the request had run
                self.key_changed(waiter.db, key)

    def remove(self, waiter: Waiter) -> None:
        """Let a client wait no more; no effect if it does not wait. O(keys)."""
        for key in waiter.keys:
            place = (waiter.db.index, key)
            waiters = self._waiters.get(place, {})
            if waiter not in waiters:
                return
            del waiters[waiter]
            if not waiters:
                del self._waiters[place]
                self._listeners.remove(waiter.db, key, self)
        self.count -= bool(waiter.keys)

    def try_again(self, db: Keyspace, keys: Iterable[bytes]) -> None:
        """Make keys ready that still hold something, because a client that tried may have left it. O(keys)."""
        for key in keys:
            if (db.index, key) in self._waiters:
                self.key_changed(db, key)

    @property
    def is_ready(self) -> bool:
        """Return True if a key has changed that somebody waits for, and not all of them are tried again."""
        return bool(self._ready) or self._trying is not None

    def holds_any(self, db: Keyspace, keys: Iterable[bytes]) -> bool:
        """Return True if one of these keys is ready, and so belongs to who waits for it."""
        return any((db.index, key) in self._ready or (db.index, key) == self._trying for key in keys)

    def begin_turn(self) -> None:
        """Serve as many clients again as a turn allows."""
        self._left = SERVED_A_TURN

    def serve(self) -> None:
        """Try clients that wait for ready keys again, as many as this turn allows."""
        if self._store.key_lock is not None:
            return
        if self._trying is None:
            self._steps = self._try_all()
        for _ in islice(self._steps, self._left):
            self._left -= 1
        if not self.is_ready:
            self._left = SERVED_A_TURN
            self.rounds += 1
            self._set_ready(False)

    def _try_all(self) -> Iterator[None]:
        """Try the clients of all ready keys; each step tries one, which may make another key ready."""
        try:
            while self._ready:
                self._trying = next(iter(self._ready))
                yield from self._try_key(self._ready.pop(self._trying), self._trying)
        finally:
            self._trying = None

    def _try_key(self, db: Keyspace, place: tuple[int, bytes]) -> Iterator[None]:
        tried = 0
        for waiter in list(self._waiters.get(place, ())):
            value: Any = db.peek(place[1])
            if value is None or (self.is_pool and not hasattr(value, "last_id") and tried >= len(value)):
                return
            if type(value) is waiter.python_type and waiter in self._waiters.get(place, ()) and waiter.serve(place[1]):
                self.remove(waiter)
                tried += 1
            yield

    # ---- as a KeyListener

    def key_changed(self, db: Keyspace, key: bytes) -> None:
        """Make a key ready if it exists."""
        if key in db.entries:
            self._ready[db.index, key] = db
            self._set_ready(True)
