"""The keys of one database as they were at one moment, while clients go on changing them.

The rewrite of the log, a command that reads thousands of keys in slices, and a pool's snapshot read such a view.

1. A view is told of each key before it changes (`before_change`), from its start until `detach`. There may be several
   views of a database, each of another moment. While there is none, a write pays for one look at an empty tuple.
2. What a view keeps of a key that changes for the first time is up to `keep`. Here that is the entry: a string as it
   is, a small value as a copy. So the memory is that of the keys that change while the view exists.
3. A large value is shared instead of copied: the view keeps a reference, and `Keyspace.change` hands out a copy of a
   value that is shared. So a large value is copied at most once a view, and only if it changes.
4. FLUSHDB and SWAPDB change no key. A flush gives the database new tables and leaves the old ones to the views. A swap
   moves the views with the tables.
5. What the keyspace lets go of is freed in slices by `Store.expire_cycle`. What is shared is freed when the last view
   is done with it.

(Refused: to let writers wait for a reader; in a pool all writers behind them would wait, too. A copy of the entries,
which takes 20 ms a million keys at once.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from keyspace.expiry import ExpiryIndex
from values import is_large, type_of
from values.entry import NO_DEADLINE, Entry, deadline_of

SHARDS = 256  # small dicts grow in small steps: one of millions of keys would stall the loop when it doubles
T = TypeVar("T")


class SharedValues:
    """Which values and tables are read by views, so that they must not change in place."""

    def __init__(self, garbage: list[Any]) -> None:
        self._garbage = garbage
        self._readers: dict[int, int] = {}  # id of a value -> how many views read it; they hold the value itself
        self._dropped: set[int] = set()  # ids of values that only views need

    def __contains__(self, value: object) -> bool:
        return id(value) in self._readers

    def share(self, value: Any) -> None:
        """Count one more view that reads a value, and holds it until `end_sharing`."""
        self._readers[id(value)] = self._readers.get(id(value), 0) + 1

    def end_sharing(self, value: Any) -> None:
        """Count one view less that reads a value."""
        self._readers[id(value)] -= 1
        if not self._readers[id(value)]:
            del self._readers[id(value)]
            if id(value) in self._dropped:
                self._dropped.discard(id(value))
                self._garbage.append(value)

    def drop(self, value: Any) -> None:
        """Free a large value or a table that the keyspace does not hold any more, in slices."""
        if value in self:
            self._dropped.add(id(value))
        else:
            self._garbage.append(value)


class ViewedStore(Protocol):
    """What a view needs of the store."""

    expired_until_ms: int
    garbage: list[Any]
    shared: SharedValues

    @property
    def databases(self) -> Sequence[ViewedDatabase]: ...


class ViewedDatabase(Protocol):
    """What a view needs of a database, which is `store.Keyspace`."""

    entries: dict[bytes, Entry]
    expiry: ExpiryIndex
    views: tuple[PointInTimeView, ...]

    @property
    def store(self) -> ViewedStore: ...


class PointInTimeView:
    """A database as it was when the view was made. As a context, it is detached at the end."""

    def __init__(self, db: ViewedDatabase) -> None:
        self._store = db.store
        self._entries = db.entries
        self._expired_until_ms = db.store.expired_until_ms if db.expiry.is_due else 0
        self._changed: list[dict[bytes, Entry | None]] = [{} for _ in range(SHARDS)]
        self._shared: dict[int, Any] = {}  # id -> value
        db.views += (self,)

    def __enter__(self) -> PointInTimeView:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """End the view, and let its memory go, in slices."""
        for db in self._store.databases:  # the database may have been swapped or flushed
            db.views = tuple(view for view in db.views if view is not self)
        for value in list(self._shared.values()):
            self.end_sharing(value)
        self._store.garbage += filter(None, self._changed)

    # ---- keeping what changes

    def before_change(self, key: bytes) -> None:
        """Keep a key as it is, if it has not changed since the start."""
        changed = self._changed[hash(key) % SHARDS]
        if key not in changed:
            # Should memory end in `keep`, the command fails and the key counts as unchanged.
            changed[key] = self.keep(key, self._entries.get(key))

    def keep(self, key: bytes, entry: Entry | None) -> Entry | None:
        """Return what to keep of a key that is about to change; None where the key is new."""
        if type(entry) is not tuple:
            return entry
        value, deadline_ms = entry
        if is_large(value):
            self.share(value)
            return entry
        return type_of(value).copy(value), deadline_ms

    def share(self, value: Any) -> None:
        """Keep a value or a table as it is until `end_sharing`."""
        if id(value) not in self._shared:
            self._shared[id(value)] = value
            self._store.shared.share(value)

    def end_sharing(self, value: Any) -> None:
        """Let a value change again, or go."""
        del self._shared[id(value)]
        self._store.shared.end_sharing(value)

    def sharing(self, key: bytes, value: Any, steps: Iterator[T]) -> Iterator[T]:
        """Take steps that read a large value, the last of its key, which may change meanwhile."""
        self.share(value)
        self._changed[hash(key) % SHARDS][key] = None
        yield from steps
        self.end_sharing(value)

    # ---- reading

    def entry(self, key: bytes) -> Entry | None:
        """Return the entry of a key, expired or not; None where there was none."""
        changed = self._changed[hash(key) % SHARDS]
        return changed[key] if key in changed else self._entries.get(key)

    def live_entries(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Return the entries of keys, None where there was none or it had expired."""
        if not self._expired_until_ms and not any(self._changed):
            return list(map(self._entries.get, keys))
        found = map(self.entry, keys)
        return [None if NO_DEADLINE < deadline_of(entry) <= self._expired_until_ms else entry for entry in found]
