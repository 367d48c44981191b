"""The unsynced keys, those of effects that no fsync has covered yet, and the sessions that read one of them.

1. An effect passes here on its way to the log, and the keys that it names become unsynced.
2. Each request is observed before it runs. A session whose request names an unsynced key waits: see `has_shown`.
3. The turn places the object in front of the log only while replies have to wait, so it costs nothing under `everysec`
   and `no`. The module does not know sockets, fsyncs or policies.

    command -> effect -> UnsyncedKeys -> log
    request ----------> UnsyncedKeys

**Why a reply that does not wait stays true.** Replaying the log makes the keyspace, and an effect changes no key that
it does not name; an effect that names none (FLUSHALL, FLUSHDB, SWAPDB) counts as all keys. So all keys that unsynced
effects do not name are as the synced part of the log makes them, and a reply made from them alone stays true if the
unsynced part is lost. The row of a command gives the keys that a request reads. A request that reads the keyspace and
names no key (KEYS, SCAN, DBSIZE, RANDOMKEY) reads all keys. A request that fails counts as well: WRONGTYPE, or a SET NX
that is refused, shows the state of its keys. A read that deletes an expired key logs a DEL, so it is a write. Commands
that do not read the keyspace never wait. INFO is one of them: its counters are those of the process, and an operator
can see there why other clients wait.

The database of a key is ignored. So COPY, MOVE and SWAPDB need no rule, and some replies wait without need.

Keys are kept in generations: one set for each fsync, dropped when that fsync ends, and one set for the next fsync.

Refused: a log position for each key, because the positions have to be swept; an epoch for each connection, because then
every client that reads anything waits as soon as any client writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from aof import AppendOnlyLog
from commands import FIRST, READONLY, TABLE, WRITE, Command
from log.effects import Now, Records, Steps
from session import Session

READS_KEYSPACE = READONLY | WRITE
MANY_WORDS = 2048  # a request of more words counts as one for all keys, because comparing each takes too long


class _Everything(frozenset[bytes]):
    """The set of all possible keys."""

    def __contains__(self, _key: object) -> bool:
        return True

    def isdisjoint(self, other: Iterable[object]) -> bool:
        return not any(True for _ in other)

    def __bool__(self) -> bool:
        return True


EVERYTHING = _Everything()
Names = set[bytes] | frozenset[bytes]


class UnsyncedKeys:
    """An effect log in front of the real one, and the observer of the requests that run meanwhile."""

    def __init__(self, log: AppendOnlyLog, everything: bool) -> None:
        self.log = log
        self._append_set = log.append_set
        self._readers: set[Session] = set()  # sessions that read an unsynced key in this turn
        self._all_read = False  # any session may have read one
        self._recent: set[bytes] = set()  # keys for the next fsync
        self._recent_many: list[Names] = []  # the same, of long commands
        self._garbage: list[Any] = []  # the store's list of objects to be freed in slices
        self._generations: deque[tuple[int, Names]] = deque()  # the log position of the end of each set, and the set
        self._collect_sets()
        if everything:
            self.hide_everything()

    def hide_everything(self) -> None:
        """Count all keys as unsynced, because effects were logged that did not pass here."""
        self._all_read = True  # requests of this turn may have run before
        self._add_sets([EVERYTHING])

    def _add_sets(self, names: Iterable[Names]) -> None:
        self._recent_many += names
        self._collect_sets()

    def _collect_sets(self) -> None:
        """Collect all sets in one tuple. Each request searches them, and collecting them then would double its cost."""
        self._all: tuple[Names, ...] = (
            self._recent,
            *self._recent_many,
            *[names for _, names in self._generations],
        )

    # ---- effects

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        """Add the keys of an effect, and log it."""
        keys = TABLE[argv[0]].of(argv).key_arguments(list(argv))
        if keys:
            self._recent.update(keys)
        else:
            self._add_sets([EVERYTHING])
        self.log.append(db, argv)

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Add the key of a SET, and log it."""
        self._recent.add(key)
        self._append_set(db, key, value, deadline_ms)

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
        """Add the keys of many SETs, and log them."""
        self._recent.update(keys)
        self.log.append_sets(db, keys, values, deadline_ms)

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None:
        """Add the keys of commands with one key each, and log them."""
        self._recent.update(keys)
        self.log.append_alike(db, name, keys, *words)

    def begin(self) -> Records:
        """Return records for effects that are committed later."""
        return self.log.begin()

    def position(self) -> tuple[int, int]:
        """Return the place behind all effects, for `cut`."""
        return self.log.position()

    def cut(self, position: tuple[int, int]) -> Records:
        """Take out the effects behind a position, for a `commit` later; their keys count as unsynced already."""
        return self.log.cut(position)

    def commit(self, effects: Records, keys: list[set[bytes]], garbage: list[Any]) -> None:
        """Add the keys of effects that were collected since `begin`, and log the effects."""
        self._add_sets(keys)
        self._garbage = garbage
        self.log.commit(effects, [], garbage)

    def commit_in_slices(self, effects: Records, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """`commit` in steps. The command holds the locks of its keys until the last step."""
        yield from self.log.commit_in_slices(effects, [], garbage, now)
        self._add_sets(keys)
        self._garbage = garbage

    def begin_fsync(self) -> None:
        """Close the generation that the fsync which begins now will cover."""
        if self.log.pieces:  # some of its effects are not written yet
            return
        recent: list[Names] = [self._recent, *self._recent_many]
        self._generations.extend((self.log.written_bytes, names) for names in recent if names)
        self._recent, self._recent_many = set(), []
        self._collect_sets()

    def end_fsync(self) -> None:
        """Drop the generations that are synced."""
        while self._generations and self._generations[0][0] <= self.log.synced_bytes:
            _, names = self._generations.popleft()
            if len(names) > MANY_WORDS:
                self._garbage.append(names)
        self._collect_sets()

    # ---- requests

    def has_shown(self, session: Session) -> bool:
        """Return True if a session read an unsynced key in this turn, so that its reply may show an unsynced write."""
        return self._all_read or session in self._readers

    def end_turn(self) -> None:
        """Forget the sessions that read an unsynced key: their replies are queued now."""
        self._all_read = False
        self._readers.clear()

    def observe(self, session: Session, row: Command, argv: list[bytes]) -> None:
        """Record the session if its request, which is about to run, reads an unsynced key."""
        row = row.of(argv)
        if row.keys is FIRST:
            self.observe_keys(session, argv[1:2])
        elif len(argv) <= MANY_WORDS and row.names_keys(argv):
            self.observe_keys(session, row.key_arguments(argv))
        elif row.flags & READS_KEYSPACE:
            self.observe_any_key(session)

    def observe_any_key(self, session: Session) -> None:
        """Record the session if any key is unsynced, because its request may read any key."""
        if any(self._all):
            self._readers.add(session)

    def observe_keys(self, session: Session, keys: Sequence[bytes]) -> None:
        """Record the session if one of these keys, which its request is about to read, is unsynced."""
        for names in self._all:
            if not names.isdisjoint(keys):
                self._readers.add(session)
                return
