"""Who is informed when a key changes: the clients that WATCH it, and those that wait for it (`blocked_clients.py`).

1. It is the `ChangeListener` of the store while somebody is registered. With nobody registered the store has no
   listener, and a change costs one test of an attribute.
2. A listener is registered for keys, each in one database, by its number: SWAPDB changes what stands there.
3. Keyspace notifications and client-side caching listen to all keys, while they are on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from store import ChangeListener, Keyspace, Store

FORGOTTEN_AT_ONCE = 256  # keys of a watch


class KeyListener(Protocol):
    """What is registered for keys."""

    def key_changed(self, db: Keyspace, key: bytes) -> None:
        """Handle a change of one of its keys, within the command that makes it."""


class KeyListeners:
    """The listeners of all keys, by database and key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_key: list[dict[bytes, list[KeyListener]]] = [{} for _ in store.databases]
        self.exchanges = [0] * len(store.databases)  # how often a flush or a swap replaced all keys of a database
        self._of_all: tuple[ChangeListener, ...] = ()

    def listen_to_all(self, listeners: Sequence[ChangeListener]) -> None:
        """Set the listeners to all changes and events, in place of those of before."""
        self._of_all = tuple(listeners)
        for db in self._store.databases:
            self._follow(db)

    def _follow(self, db: Keyspace) -> None:
        db.listener = self if self._of_all or self._by_key[db.index] else None
        db.follow_careful()

    def add(self, db: Keyspace, key: bytes, listener: KeyListener) -> None:
        """Register a listener for a key. O(1)."""
        self._by_key[db.index].setdefault(key, []).append(listener)
        self._follow(db)

    def remove(self, db: Keyspace, key: bytes, listener: KeyListener) -> None:
        """Undo `add`. O(listeners of the key)."""
        listeners = self._by_key[db.index][key]
        listeners.remove(listener)
        if not listeners:
            del self._by_key[db.index][key]
            self._follow(db)

    # ---- as the store's ChangeListener

    def changed(self, db: Keyspace, key: bytes) -> None:
        """Inform the listeners of a key."""
        for listener in self._by_key[db.index].get(key, ()):
            listener.key_changed(db, key)
        for each in self._of_all:
            each.changed(db, key)

    def all_changed(self, db: Keyspace) -> None:
        """Inform the listeners of the keys that a swap of databases has brought. A flush brings none."""
        self.exchanges[db.index] += 1
        by_key = self._by_key[db.index]
        for key in [key for key in by_key if key in db.entries] if db.entries else ():
            for listener in by_key[key]:
                listener.key_changed(db, key)
        for each in self._of_all:
            each.all_changed(db)

    def event(self, db: Keyspace, key: bytes, name: bytes) -> None:
        """Inform the listeners to all keys."""
        for each in self._of_all:
            each.event(db, key, name)


class Watch:
    """The keys that a client watches, and whether one of them has changed."""

    __slots__ = ("_changed", "_keys", "_listeners")

    def __init__(self, listeners: KeyListeners) -> None:
        self._listeners = listeners
        # database, how often its keys had been exchanged if the key existed, or -1; digest
        self._keys: dict[tuple[int, bytes], tuple[Keyspace, int, bytes]] = {}
        self._changed = False

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, db: Keyspace, key: bytes, exists: bool, digest: bytes) -> None:
        """Watch a key from now on. A key that is watched already stays as it is."""
        if (db.index, key) not in self._keys:
            self._keys[db.index, key] = (db, self._listeners.exchanges[db.index] if exists else -1, digest)
            self._listeners.add(db, key, self)

    def free_some(self) -> None:
        """Watch some keys no more. It is called until none is left: see `Store.garbage`."""
        for _ in range(min(FORGOTTEN_AT_ONCE, len(self._keys))):
            (_, key), (db, _, _) = self._keys.popitem()
            self._listeners.remove(db, key, self)

    def has_changed(self) -> bool:
        """Return True if a key has changed since it is watched, or has expired. O(keys)."""
        exchanges = self._listeners.exchanges
        return self._changed or any(
            seen >= 0 and (seen != exchanges[index] or not db.is_live(key))
            for (index, key), (db, seen, _) in self._keys.items()
        )

    def seen(self) -> list[tuple[int, bytes, bytes]]:
        """Return the database's number, the key and the digest of each key."""
        return [(index, key, digest) for (index, key), (_, _, digest) in self._keys.items()]

    # ---- as a KeyListener

    def key_changed(self, db: Keyspace, key: bytes) -> None:
        """Record a change."""
        self._changed = True
