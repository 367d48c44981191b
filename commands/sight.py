"""The keys of a database as they are at one moment, for a command that reads thousands of them bit by bit.

It owns what such a reader must remember: of each key that changes while it reads, the entry before the first change.
So its reply is of one moment and nobody waits for it, whatever is written meanwhile; in a pool that would be the log.
Of a value that is no string only its presence is of that moment: nobody asks for more.

    Sight(db) ... look(keys) ... look(keys) ... end     each `look` shows what was there when it was made

Refused: to let writers of these keys wait (in a pool they wait in the log's order, so all other writers behind them
would, too); a copy of the entries, which takes 20 ms a million keys at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from entries import NO_DEADLINE, TAIL_BYTES, Entry, deadline_of, value_of
from store import Keyspace, Moment

SHARDS = 64  # small dicts grow in small steps


class Sight(Moment):
    """A database as it was when this was made."""

    def __init__(self, db: Keyspace) -> None:
        super().__init__()
        self._db = db
        self._entries, self._expiry = db.entries, db.expiry
        self._expired_until_ms = db.store.expired_until_ms
        self._changed: list[dict[bytes, Entry | None]] = [{} for _ in range(SHARDS)]
        self._has_changed = False
        self.attach(db)

    def __enter__(self) -> Sight:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach(self._db.store)
        self._db.store.garbage += filter(None, self._changed)

    def note(self, key: bytes) -> None:
        """Remember a key as it is."""
        changed = self._changed[hash(key) % SHARDS]
        if key not in changed:
            changed[key] = self._entries.get(key)
            self._has_changed = True

    def look(self, keys: Sequence[bytes], is_use: bool) -> list[Entry | None]:
        """Return the entries of keys, None where there was none; counted as hits and misses, and perhaps as uses."""
        found: list[Entry | None] = list(map(self._entries.get, keys))
        if self._has_changed or self._expiry.is_due:
            found = list(map(self._then, keys, found))
        misses = found.count(None)
        db = self._db
        db.store.misses += misses
        db.store.hits += len(found) - misses
        if is_use and db.usage is not None and db.usage.uses is not None:
            db.usage.uses.note_many(filter(db.entries.__contains__, keys))
        return found

    def _then(self, key: bytes, entry: Entry | None) -> Entry | None:
        entry = self._changed[hash(key) % SHARDS].get(key, entry)
        return None if NO_DEADLINE < deadline_of(entry) <= self._expired_until_ms else entry

    def strings(self, keys: Sequence[bytes], is_use: bool) -> list[bytes | None]:
        """Return the strings at keys, None where there was none."""
        found = self.look(keys, is_use)
        return [entry[:-TAIL_BYTES] if type(entry) is bytes else _string_of(entry) for entry in found]


def _string_of(entry: Any) -> bytes | None:
    value = None if entry is None else value_of(entry)
    return value if type(value) is bytes else None
