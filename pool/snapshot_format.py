"""The stream of a snapshot: all databases as of one entry of the pool's log, from which an equal store is made.

It owns the format, how a snapshot is taken while entries are applied, and how one is loaded. It knows neither etcd nor
the event loop: the caller asks for the next piece. The stream consists of RESP arrays, and may be divided anywhere:

    @DB index read write      selects a database; the positions of the compaction of its key order
    @HOLES n                  n places that compaction has emptied
    @GHOST key                a tombstone: the place of a key that was deleted
    SET key value ...         the place of a key, as the commands that make it (`values.rebuild`)
    FUNCTION LOAD ...         a library of functions
    @PART instance bytes      a part of an entry whose last part is not there yet

**Places are preserved**, because SCAN's cursor is a place, and a client may continue a SCAN at another instance. The
key order is copied first, in slices between which no entry may be applied (`begin`: 8 ms for a million keys). Then the
copy is walked while entries change the keys. A view keeps the old entry of a key that changes
(`keyspace/point_in_time.py`), and the walk writes it. A large value is shared until the walk has written it, in steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import hiredis

from engine import Engine
from errors import CommandError, PoolError
from keyspace.point_in_time import PointInTimeView
from protocol import encode_command
from store import Keyspace, Store
from values import is_large, rebuild
from values.entry import deadline_of, value_of

COPY_PLACES = 1 << 16  # of the key order, in one step
WALK_PLACES = 64
SMALL_RUN = 4  # commands; fewer are applied faster one by one
DB, HOLES, TOMBSTONE, PART = b"@DB", b"@HOLES", b"@GHOST", b"@PART"
_UNFINISHED = object()


class DatabaseSnapshot(PointInTimeView):
    """A view of one database and its places, as of the creation of this object."""

    def __init__(self, db: Keyspace) -> None:
        super().__init__(db)
        self.places: list[bytes | None] = []
        self._db = db
        self._head = (DB, b"%d" % db.index, b"%d" % db.key_order.read, b"%d" % db.key_order.write)

    def copy_places(self) -> Iterator[None]:
        """Copy the places in steps of COPY_PLACES. The caller must let no key change meanwhile."""
        places = self._db.key_order.places
        for start in range(0, len(places), COPY_PLACES):
            self.places += places[start : start + COPY_PLACES]
            yield

    def walk(self) -> Iterator[bytes]:
        """Yield the pieces of this database's stream; keys may change between them."""
        yield encode_command(self._head)
        holes = 0
        for start in range(0, len(self.places), WALK_PLACES):
            pieces: list[bytes] = []
            for key in self.places[start : start + WALK_PLACES]:
                if key is None:
                    holes += 1
                    continue
                if holes:
                    pieces.append(encode_command((HOLES, b"%d" % holes)))
                    holes = 0
                entry = self.entry(key)
                if entry is None:
                    pieces.append(encode_command((TOMBSTONE, key)))
                    continue
                value = value_of(entry)
                commands = map(encode_command, rebuild(key, value, deadline_of(entry)))
                if is_large(value):
                    yield b"".join(pieces)
                    pieces.clear()
                    yield from self.sharing(key, value, commands)
                else:
                    pieces += commands
            yield b"".join(pieces)
        if holes:
            yield encode_command((HOLES, b"%d" % holes))

    def detach(self) -> None:
        """End the view, and hand its memory to the store, which frees it in slices."""
        super().detach()
        self._store.garbage.append(self.places)


class Snapshot:
    """All databases as of the end of `begin`, and the parts of unfinished entries."""

    def __init__(self, store: Store, parts: dict[int, list[bytes]]) -> None:
        self._store = store
        self._databases: list[DatabaseSnapshot] = []
        self._parts = [(instance, part) for instance, known in parts.items() for part in known]
        self._libraries = store.library_commands()

    def begin(self) -> Iterator[None]:
        """Copy the places of all keys, in steps between which no entry may be applied."""
        try:
            for db in self._store.databases:
                if db.key_order.places:
                    self._databases.append(DatabaseSnapshot(db))
                    yield from self._databases[-1].copy_places()
        except BaseException:
            self.end()
            raise

    def walk(self) -> Iterator[bytes]:
        """Yield the pieces of the stream; entries may be applied between them."""
        for instance, part in self._parts:
            yield encode_command((PART, b"%d" % instance, part))
        yield from map(encode_command, self._libraries)
        for database in self._databases:
            yield from database.walk()

    def end(self) -> None:
        """End all views, whether or not they were walked to the end."""
        for database in self._databases:
            database.detach()
        self._databases.clear()


class Loader:
    """Fills an empty store from a stream; `parts` are the parts of unfinished entries in it."""

    def __init__(self, store: Store, engine: Engine, clock_ms: int) -> None:
        self.parts: dict[int, list[bytes]] = {}
        self.keys = 0
        self._store = store
        self._engine = engine
        self._reader = hiredis.Reader(notEnoughData=_UNFINISHED)
        self._db = store.databases[0]
        self._compaction: list[tuple[Keyspace, int, int]] = []
        store.begin_replay(clock_ms)
        for db in store.databases:
            db.expiry.begin_at(clock_ms // 1000)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes, and create the keys that are complete. Raises PoolError."""
        try:
            self._reader.feed(data)
            for name, run in groupby(iter(self._reader.gets, _UNFINISHED), lambda argv: (argv[0], argv[3:])):
                self._take(name[0], list(run))
        except (hiredis.HiredisError, CommandError, ValueError, TypeError, IndexError) as error:
            raise PoolError(f"a snapshot that cannot be read: {error}") from None

    def _take(self, name: bytes, run: list[list[bytes]]) -> None:
        db = self._db
        if name == DB:
            for _, index, read, write in run:
                self._db = self._store.databases[int(index)]
                self._compaction.append((self._db, int(read), int(write)))
        elif name == HOLES:
            db.key_order.add_holes(sum(int(count) for _, count in run))
        elif name == TOMBSTONE:
            db.key_order.add_tombstones([key for _, key in run])
        elif name == PART:
            for _, instance, part in run:
                self.parts.setdefault(int(instance), []).append(part)
        elif len(run) < SMALL_RUN or not self._engine.apply_many(db.index, run):
            for argv in run:
                self._engine.apply(db.index, argv)

    def finish(self) -> None:
        """Restore the positions of compaction. Raises PoolError if the stream is incomplete."""
        if self._reader.has_data():
            raise PoolError("a snapshot that ends in the middle of a key")
        for db, read, write in self._compaction:
            db.key_order.resume_compaction(read, write)


def dump(store: Store, parts: dict[int, list[bytes]]) -> bytes:
    """Return a snapshot of a store as one bytes object, in one step."""
    snapshot = Snapshot(store, parts)
    _exhaust(snapshot.begin())
    data = b"".join(snapshot.walk())
    snapshot.end()
    return data


def _exhaust(steps: Iterable[None]) -> None:
    for _ in steps:
        pass
