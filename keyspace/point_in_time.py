"""Point-in-time views: the keys of one database as they were when the view was made, while clients change them.

The log's rewrite, a command that reads thousands of keys in slices, and a pool's snapshot read such a view.

1. From its start until `detach`, a view's `before_change` is called with each key before it changes. A database may
   have several views. While it has none, a write pays for one check of an empty tuple.
2. At the first change of a key the view stores the result of `keep`. Here that is the entry: a string itself, a small
   value as a copy. So the memory of a view is that of the keys that change while it exists.
3. A large value is shared instead of copied: the view keeps a reference, and `Keyspace.change` returns a copy of a
   shared value. So a large value is copied at most once a view, and only if it changes.
4. FLUSHDB and SWAPDB change no key. A flush gives the database new tables and leaves the old ones to the views. A swap
   moves the views with the tables.
5. `Store.expire_cycle` frees deleted values and tables in slices. A shared one is freed when no view reads it any more.

(Refused: to block writers while a reader runs; in a pool all later writers would wait, too. A copy of the entries
at the start, which takes 20 ms a million keys.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from keyspace.expiry import ExpiryIndex
from values import is_large, type_of
from values.entry import NO_DEADLINE, Entry, deadline_of

SHARDS = 256  # small dicts grow in small steps; one dict of millions of keys would stall the loop when it doubles
FREED_ENTRIES = 64  # in one step; each may be a value of some hundred elements
T = TypeVar("T")


class SharedValues:
    """The values and tables that views read and that therefore must not change in place."""

    def __init__(self, garbage: list[Any]) -> None:
        self._garbage = garbage
        self.readers: dict[int, int] = {}  # id of a value -> number of views that read it; the views refer to it
        self._dropped: set[int] = set()  # ids of values that only views refer to

    def __contains__(self, value: object) -> bool:
        return id(value) in self.readers

    def share(self, value: Any) -> None:
        """Count one more view that reads a value. The view keeps a reference to it until `end_sharing`."""
        self.readers[id(value)] = self.readers.get(id(value), 0) + 1

    def end_sharing(self, value: Any) -> None:
        """Count one view less that reads a value. If it was the last, free a dropped value."""
        self.readers[id(value)] -= 1
        if not self.readers[id(value)]:
            del self.readers[id(value)]
            if id(value) in self._dropped:
                self._dropped.discard(id(value))
                self._free(value)

    def drop(self, value: Any) -> None:
        """Free a large value or a table that is no longer in the keyspace, in slices, after its last view."""
        if value in self:
            self._dropped.add(id(value))
        else:
            self._free(value)

    def _free(self, value: Any) -> None:
        self._garbage.append(FlushedEntries(value, self) if type(value) is dict else value)


class FlushedEntries:
    """The entries of a flushed database. Large values among them are freed in slices of their own."""

    def __init__(self, entries: dict[bytes, Entry], shared: SharedValues) -> None:
        self._entries = entries
        self._shared = shared

    def __len__(self) -> int:
        return len(self._entries)

    def free_some(self) -> None:
        """Remove some entries; hand over a large value, and stop there."""
        for _ in range(min(FREED_ENTRIES, len(self._entries))):
            _, entry = self._entries.popitem()
            if type(entry) is tuple and is_large(entry[0]):
                self._shared.drop(entry[0])
                return


class ViewedStore(Protocol):
    """The attributes of the store that a view uses."""

    expired_until_ms: int
    garbage: list[Any]
    shared: SharedValues

    @property
    def databases(self) -> Sequence[ViewedDatabase]: ...


class ViewedDatabase(Protocol):
    """The attributes of a database, a `store.Keyspace`, that a view uses."""

    entries: dict[bytes, Entry]
    expiry: ExpiryIndex
    views: tuple[PointInTimeView, ...]

    def set_views(self, views: tuple[PointInTimeView, ...]) -> None: ...

    @property
    def store(self) -> ViewedStore: ...


class PointInTimeView:
    """A database as it was when the view was made. As a context manager it detaches at the end."""

    def __init__(self, db: ViewedDatabase) -> None:
        self._store = db.store
        self._entries = db.entries
        self._expired_until_ms = db.store.expired_until_ms if db.expiry.is_due else 0
        self._changed: list[dict[bytes, Entry | None]] = [{} for _ in range(SHARDS)]
        self._shared: dict[int, Any] = {}  # id -> value
        db.set_views((*db.views, self))

    def __enter__(self) -> PointInTimeView:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """End the view. Its memory is freed in slices."""
        for db in self._store.databases:  # the database may have been swapped or flushed
            db.set_views(tuple(view for view in db.views if view is not self))
        for value in list(self._shared.values()):
            self.end_sharing(value)
        self._store.garbage += filter(None, self._changed)

    # ---- keeping what changes

    def before_change(self, key: bytes) -> None:
        """Store a key's present entry if this is its first change since the start."""
        changed = self._changed[hash(key) % SHARDS]
        if key not in changed:
            # If `keep` raises MemoryError, the command fails and the key counts as unchanged.
            changed[key] = self.keep(key, self._entries.get(key))

    def keep(self, key: bytes, entry: Entry | None) -> Entry | None:
        """Return the entry to store for a key that is about to change; None if the key is new."""
        if type(entry) is not tuple:
            return entry
        value, deadline_ms = entry
        if is_large(value):
            self.share(value)
            return entry
        return type_of(value).copy(value), deadline_ms

    def share(self, value: Any) -> None:
        """Prevent changes in place of a value or a table until `end_sharing`."""
        if id(value) not in self._shared:
            self._shared[id(value)] = value
            self._store.shared.share(value)

    def end_sharing(self, value: Any) -> None:
        """Allow a value to change in place again, or to be freed."""
        del self._shared[id(value)]
        self._store.shared.end_sharing(value)

    def sharing(self, key: bytes, value: Any, steps: Iterator[T]) -> Iterator[T]:
        """Run steps that read a large value. The key may change between them; it counts as visited."""
        self.share(value)
        self._changed[hash(key) % SHARDS][key] = None
        yield from steps
        self.end_sharing(value)

    # ---- reading

    def entry(self, key: bytes) -> Entry | None:
        """Return the entry that a key had, expired or not; None if there was no such key."""
        changed = self._changed[hash(key) % SHARDS]
        return changed[key] if key in changed else self._entries.get(key)

    def live_entries(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry that each key had; None if there was no such key or it had expired."""
        if not self._expired_until_ms and not any(self._changed):
            return list(map(self._entries.get, keys))
        found = map(self.entry, keys)
        return [None if NO_DEADLINE < deadline_of(entry) <= self._expired_until_ms else entry for entry in found]
