"""Which replies would show what is not on the disk yet: the keys of the log's unsynced end.

It owns those keys, and the clients that saw one of them in this turn. It must not know sockets, fsyncs or policies: the
turn puts it in front of the log while replies have to wait, and takes it away again. So it costs nothing under
`everysec` and `no`.

    command -> effect -> UnsyncedKeys -> log         the keys that the effect names are unsynced
    request ----------> UnsyncedKeys                 a request for one of them has seen what is unsynced

**Why no reply shows too much.** The keyspace is what the log makes of nothing (the third promise), and an effect
changes no key that it does not name; one that names none (FLUSHALL, FLUSHDB, SWAPDB) counts as all keys. So keys that
the unsynced end does not name are as the synced part of the log has them, and a reply made from them alone stays true
whatever is lost. Which keys a request reads is in its row of the table; one that reads the keyspace and names no key
(KEYS, SCAN, DBSIZE, RANDOMKEY) reads all. It does not matter whether it fails: WRONGTYPE, or a SET NX that is refused,
tells of its keys, too. A read that deletes an expired key logs a DEL, so it is a writer. Commands that do not read the
keyspace never wait. INFO is one of them: its counters are the process's, and tell an operator why the others wait.

Keys count whatever database they are in: so COPY, MOVE and SWAPDB need no rule, at the price of a wait too many.

The keys lie in generations, a set for each fsync and one for the next, and a set is dropped when its fsync is done.
(Refused: a position for each key, which has to be swept; an epoch for each connection, under which everybody who reads
anything waits as soon as anybody writes.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from aof import AppendOnlyLog
from commands import FIRST, READONLY, TABLE, WRITE, Command, fold
from log.effects import Now, Records, Steps
from session import Session

READS_KEYSPACE = READONLY | WRITE
MANY_WORDS = 2048  # of a request: to look at each key of a longer one takes too long, so it counts as one for all


class _Everything(frozenset[bytes]):
    """A set of all keys there can be."""

    def __contains__(self, _key: object) -> bool:
        return True

    def isdisjoint(self, other: Iterable[object]) -> bool:
        return not any(True for _ in other)

    def __bool__(self) -> bool:
        return True


EVERYTHING = _Everything()
Names = set[bytes] | frozenset[bytes]


class UnsyncedKeys:
    """An effect log before the real one, and the observer of the requests that run meanwhile."""

    def __init__(self, log: AppendOnlyLog, everything: bool) -> None:
        self.log = log
        self._append_set = log.append_set
        self._saw: set[Session] = set()  # who saw something unsynced in this turn
        self._saw_all = False
        self._recent: set[bytes] = set()
        self._recent_many: list[Names] = []  # of long commands
        self._garbage: list[Any] = []  # takes what is long, and freed in slices
        self._generations: deque[tuple[int, Names]] = deque()  # with the log's position behind
        self._look()
        if everything:
            self.hide_everything()

    def hide_everything(self) -> None:
        """Count all keys as unsynced, since some are that nobody noted."""
        self._saw_all = True  # so may have all whose requests ran in this turn before
        self._note_many([EVERYTHING])

    def _note_many(self, names: Iterable[Names]) -> None:
        self._recent_many += names
        self._look()

    def _look(self) -> None:
        """Put all sets side by side, since each request looks into them: made for each, they were half of that."""
        self._all: tuple[Names, ...] = (
            self._recent,
            *self._recent_many,
            *[names for _, names in self._generations],
        )

    # ---- what is written

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        """Note the keys of an effect, and log it."""
        keys = TABLE[argv[0]].key_arguments(list(argv))
        if keys:
            self._recent.update(keys)
        else:
            self._note_many([EVERYTHING])
        self.log.append(db, argv)

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Note the key of a SET, and log it."""
        self._recent.add(key)
        self._append_set(db, key, value, deadline_ms)

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
        """Note the keys of many SETs, and log them."""
        self._recent.update(keys)
        self.log.append_sets(db, keys, values, deadline_ms)

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None:
        """Note the keys of commands that have one each, and log them."""
        self._recent.update(keys)
        self.log.append_alike(db, name, keys, *words)

    def begin(self) -> Records:
        """Make records for effects that are not to be logged yet."""
        return self.log.begin()

    def commit(self, effects: Records, keys: list[set[bytes]], garbage: list[Any]) -> None:
        """Note the keys of effects that were set aside, and log them."""
        self._note_many(keys)
        self._garbage = garbage
        self.log.commit(effects, [], garbage)

    def commit_in_slices(self, effects: Records, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """`commit` in steps; the keys are claimed by their command until it is done."""
        yield from self.log.commit_in_slices(effects, [], garbage, now)
        self._note_many(keys)
        self._garbage = garbage

    def begin_fsync(self) -> None:
        """Close the generation that an fsync which begins now will cover."""
        if self.log.pieces:  # some of it is not even written
            return
        recent: list[Names] = [self._recent, *self._recent_many]
        self._generations.extend((self.log.written_bytes, names) for names in recent if names)
        self._recent, self._recent_many = set(), []
        self._look()

    def end_fsync(self) -> None:
        """Forget what is synced."""
        while self._generations and self._generations[0][0] <= self.log.synced_bytes:
            _, names = self._generations.popleft()
            if len(names) > MANY_WORDS:
                self._garbage.append(names)
        self._look()

    # ---- what is read

    def has_shown(self, session: Session) -> bool:
        """Return True if a client saw something unsynced in this turn."""
        return self._saw_all or session in self._saw

    def end_turn(self) -> None:
        """Forget who saw something: they wait, or have waited, from now on."""
        self._saw_all = False
        self._saw.clear()

    def note(self, session: Session, row: Command, argv: list[bytes]) -> None:
        """Note whether a request, which is about to run, reads what is unsynced."""
        if row.subcommands and len(argv) > 1:
            row = row.subcommands.get(fold(argv[1]), row)
        if row.keys is FIRST:
            self.note_keys(session, argv[1:2])
        elif row.keys.first and len(argv) <= MANY_WORDS:
            self.note_keys(session, row.key_arguments(argv))
        elif row.flags & READS_KEYSPACE:
            self.note_long(session)

    def note_long(self, session: Session) -> None:
        """Note that a request reads what may be any key."""
        if any(self._all):
            self._saw.add(session)

    def note_keys(self, session: Session, keys: Sequence[bytes]) -> None:
        """Note whether one of these keys, which are about to be read, is unsynced."""
        for names in self._all:
            if not names.isdisjoint(keys):
                self._saw.add(session)
                return
