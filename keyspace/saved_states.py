"""A state of all keys that tests begin from again and again: DEBUG STATE.

1. To load it copies tables, but no value: values are shared, as those of a point-in-time view, and a command that
   changes one gets a copy. The state of 100 000 strings is loaded in some 10 ms.
2. A state lives as long as the server, because its values may be in the keyspace again after they were deleted.
3. Deadlines are absolute. Functions and scripts are no part of it.
"""

from __future__ import annotations

from store import Keyspace, Store
from values.entry import NO_DEADLINE, Entry, deadline_of, value_of
from values.hashes import Hash


class SavedState:
    """The keys of all databases as they were when it was made."""

    def __init__(self, store: Store) -> None:
        self.databases = {db.index: SavedDatabase(db) for db in store.databases if db.entries}

    def load(self, store: Store) -> None:
        """Replace all keys."""
        store.flush_all()
        for index, saved in self.databases.items():
            saved.load(store.databases[index])


class SavedDatabase:
    """The keys of one database."""

    def __init__(self, db: Keyspace) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._due: dict[int, list[bytes]] = {}  # second -> keys whose deadline is in it
        self._field_deadlines: dict[bytes, int] = {}  # of hashes
        for key in db.key_order.places:
            if key is None or not db.is_live(key):
                continue
            self.entries[key] = entry = db.entries[key]
            if (deadline_ms := deadline_of(entry)) != NO_DEADLINE:
                self._due.setdefault(deadline_ms // 1000, []).append(key)
            if type(entry) is tuple:
                db.store.shared.share(entry[0])
                if type(entry[0]) is Hash and entry[0].deadlines is not None:
                    self._field_deadlines[key] = entry[0].first_deadline_ms()

    def load(self, db: Keyspace) -> None:
        """Put the keys into an empty database."""
        if db.usage is not None:  # an account of memory or of uses has to know each key
            for key, entry in self.entries.items():
                db.put(key, value_of(entry), deadline_of(entry))
            return
        db.entries.update(self.entries)
        db.key_order.places += self.entries
        for second, keys in self._due.items():
            db.expiry.volatile_count += len(keys)
            db.expiry.add_many(keys.copy(), second * 1000 + 999)
        if self._field_deadlines:
            db.store.expect_field_deadlines()
        for key, deadline_ms in self._field_deadlines.items():
            assert db.fields is not None
            db.fields.note(key, deadline_ms)
        if any(type(entry) is tuple for entry in self.entries.values()):
            db.store.has_containers = db.has_objects = db.careful = True
        if db.listener is not None:
            db.listener.all_changed(db)
