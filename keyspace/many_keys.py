"""What `Keyspace` does for one key, done for many: GET, SET, SETEX, INCR, INCRBY, DEL in pipelines, and MGET and MSET.

1. Each function has the same result as its method of `Keyspace` for each key, one after the other.
2. Where nobody has to be told of each key, a function changes the tables of the database itself: a key takes a third of
   the time.
3. `read_strings` and `short_strings` return None, and have done nothing, where one of the keys needs a closer look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from store import Keyspace
from values.entry import LONG_BYTES, NO_DEADLINE, TAIL_BYTES, Entry, deadline_of, tail

NoneType = type(None)  # types.NoneType, which Python 3.10 has under this name only
STRING_OR_NONE = {bytes, NoneType}
ENDLESS = tail(NO_DEADLINE)


def _is_plain(db: Keyspace) -> bool:
    """Return True if nobody has to be told of a key that changes, except for its use."""
    has_account = db.usage is not None and db.usage.memory is not None
    return not db.views and not has_account and db.listener is None


def read_strings(db: Keyspace, keys: Sequence[bytes]) -> list[bytes | None] | None:
    """Do what `Keyspace.string` does for each key, or return None."""
    entries = short_strings(db, keys)
    if entries is None:
        return None
    misses = entries.count(None) if None in entries else 0
    db.store.misses += misses
    db.store.hits += len(entries) - misses
    if db.usage is not None:
        db.usage.note_many([key for key, entry in zip(keys, entries, strict=True) if entry is not None])
    return [entry and entry[:-TAIL_BYTES] for entry in entries]


def short_strings(db: Keyspace, keys: Sequence[bytes]) -> list[bytes | None] | None:
    """Return the entries of keys, None for a key that is not there; or None, unless all are short strings that live."""
    entries: list[Any] = list(map(db.entries.get, keys))
    if not STRING_OR_NONE.issuperset(map(type, entries)):
        return None
    if db.expiry.is_due:
        # Tails compare as their deadlines do, since those are positive; NO_DEADLINE is greater than all.
        now = tail(db.store.expired_until_ms)
        if min([entry[-TAIL_BYTES:] for entry in entries if entry is not None], default=ENDLESS) <= now:
            return None
    return entries


def put_many(db: Keyspace, keys: Sequence[bytes], values: Sequence[Any], deadline_ms: int) -> None:
    """`put` for each key and its value."""
    entries, expiry = db.entries, db.expiry
    known = len(entries)
    if not _is_plain(db) or max(map(len, values)) >= LONG_BYTES:
        for key, value in zip(keys, values):  # noqa: B905 - as many as there are keys
            db.put(key, value, deadline_ms)
        return
    end = tail(deadline_ms)
    if expiry.volatile_count == known and deadline_ms >= expiry.latest_ms:  # see `Keyspace._place`
        for key, value in zip(keys, values):  # noqa: B905 - as many as there are keys
            entries[key] = value + end
    else:
        _put_over(db, keys, values, deadline_ms, end)
    if db.usage is not None:
        db.usage.note_many(keys)
    # A dict keeps the order in which keys came, so the new ones are its last.
    if len(entries) != known:
        new = list(islice(reversed(entries), len(entries) - known))
        for key in reversed(new):
            db.key_order.add(key)
            if db.usage is not None and db.usage.uses is not None:
                db.usage.uses.admit(key)
        if deadline_ms != NO_DEADLINE:
            expiry.volatile_count += len(new)
            expiry.add_many(new, deadline_ms)


def _put_over(db: Keyspace, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int, end: bytes) -> None:
    """Put short strings where some keys end later, or never; what is to be done for new keys is left to do."""
    entries = db.entries
    sooner = []
    for key, value in zip(keys, values):  # noqa: B905 - as many as there are keys
        old = entries.get(key)
        entries[key] = value + end
        if old is None:
            continue
        was = old[-TAIL_BYTES:] if type(old) is bytes else tail(old[1])
        if was != end:
            db.expiry.volatile_count += (end != ENDLESS) - (was != ENDLESS)
            if was > end:  # see `short_strings`
                sooner.append(key)
    if sooner:
        db.expiry.add_many(sooner, deadline_ms)


def replace_many(db: Keyspace, keys: Iterable[bytes], values: Iterable[bytes]) -> None:
    """`replace` for each key and its value, a short string."""
    entries = db.entries
    plain = _is_plain(db)
    if db.usage is not None:
        db.usage.note_many(filter(entries.__contains__, keys))
    for key, value in zip(keys, values):  # noqa: B905 - as many as there are keys
        known = entries.get(key)
        if plain and type(known) is bytes:
            entries[key] = value + known[-TAIL_BYTES:]
        else:
            db.replace(key, value)


def remove_many(db: Keyspace, keys: Sequence[bytes]) -> list[Entry | None]:
    """Do what `remove` does for each key; return the entries that are gone, None where there was none."""
    if not _is_plain(db) or db.usage is not None or db.expiry.is_due:
        known = [db.entries.get(key) for key in keys]
        return [entry if db.remove(key) is not None else None for key, entry in zip(keys, known, strict=True)]
    # The same inline: 0.7 µs a key instead of 2.
    entries, leave_tombstone = db.entries, db.key_order.remove
    removed: list[Entry | None] = []
    for key in keys:
        entry = entries.pop(key, None)
        removed.append(entry)
        if entry is None:
            continue
        if deadline_of(entry) != NO_DEADLINE:
            db.expiry.volatile_count -= 1
        leave_tombstone(key)
        if type(entry) is tuple:
            db.drop(entry)
    return removed
