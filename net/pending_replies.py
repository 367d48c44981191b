"""Replies that wait until the log is on the disk: who waits, in which order they leave, and when it is too many.

It owns those replies; it must not know fsyncs or policies, nor when a reply has to wait: the turn says so.

    turn -> add() -> [group] [group] [group still open] -> pop_due() -> turn
                         |
                         `-- the replies of all turns between two writes of the log, and where in the log that ends

While a connection has replies here, all its later ones come here, too: so its replies stay in order. When too much has
come while replies waited, those who wait are not read from until there is less.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aof import AppendOnlyLog, NullLog
from session import Session, Statistics

UNWRITTEN = sys.maxsize  # a position of the log
MOST_INPUT_BYTES = 1 << 25  # received since the oldest of the replies that wait; who waits then is not read from
MOST_TURNS = 1000  # the same: replies can be long where requests are short


class Receiver(Protocol):
    """A connection, as the turn knows it."""

    @property
    def session(self) -> Session: ...

    def send(self, pieces: list[bytes]) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def follow_soft_limit(self, now: float) -> None: ...


# A connection, the pieces of its replies, and whether the turn's log holds effects of its requests.
ConnectionReplies = tuple[Receiver, list[bytes], bool]


@dataclass
class Group:
    """Replies that wait until the log is synced up to `end_bytes`; `failure`: why it could not be written."""

    end_bytes: int
    input_bytes: int  # received from all clients when its first replies came
    failure: bytes | None = None
    turns: int = 0
    replies: list[ConnectionReplies] = field(default_factory=list)
    connections: set[Receiver] = field(default_factory=set)


class PendingReplies:
    """The replies that wait, oldest first."""

    def __init__(self, log: AppendOnlyLog | NullLog, statistics: Statistics) -> None:
        self._log = log
        self._statistics = statistics
        self._groups: deque[Group] = deque()
        self._paused: list[Receiver] = []  # not read from until less waits

    def __bool__(self) -> bool:
        return bool(self._groups)

    def holds(self, connection: Receiver) -> bool:
        """Return True if a connection waits."""
        return any(connection in group.connections for group in self._groups)

    def connections(self) -> set[Receiver]:
        """Return who waits."""
        return set().union(*[group.connections for group in self._groups])

    def count(self) -> int:
        """Return how many connections wait; one that has replies in two groups counts twice."""
        return sum([len(group.connections) for group in self._groups])

    def add(self, replies: Iterable[ConnectionReplies], connections: set[Receiver]) -> None:
        """Hold replies of this turn until what is in the log now, written or not, is on the disk."""
        group = self._open()
        group.turns += 1
        group.replies += replies
        group.connections |= connections
        if self._is_much():
            for connection, _, _ in replies:  # the back-pressure: a pipeline goes on though nothing is answered
                connection.pause_reading()
                self._paused.append(connection)

    def _open(self) -> Group:
        end_bytes = UNWRITTEN if self._log.pieces else self._log.written_bytes
        if self._groups:
            last = self._groups[-1]
            if last.failure is None and last.end_bytes in (UNWRITTEN, end_bytes):
                return last
        group = Group(end_bytes, self._statistics.input_bytes)
        self._groups.append(group)
        return group

    def _is_much(self) -> bool:
        """Return True if so much has come while replies waited that the memory for it has to end somewhere."""
        groups = self._groups
        return bool(groups) and (
            groups[-1].turns > MOST_TURNS or self._statistics.input_bytes - groups[0].input_bytes > MOST_INPUT_BYTES
        )

    def note_write(self) -> None:
        """Note where those end whose effects have just been written, or could not be."""
        if self._groups and self._groups[-1].end_bytes == UNWRITTEN:
            self._groups[-1].end_bytes, self._groups[-1].failure = self._log.written_bytes, self._log.failure

    def want_fsync(self) -> bool:
        """Return True if an fsync now would let replies go."""
        last = self._groups[-1] if self._groups else None
        return (
            last is not None
            and last.end_bytes > self._log.synced_bytes
            and not (last.failure or self._log.fsync_failure)
        )

    def pop_due(self, *, all_are: bool) -> Group | None:
        """Take out the oldest group if it need not wait any longer, or cannot: then its `failure` says why.

        `all_are`: nobody has to wait any more.
        """
        if not self._groups:
            return None
        group = self._groups[0]
        log = self._log
        synced = group.end_bytes <= log.synced_bytes and log.damage_failure is None
        if not synced:
            group.failure = group.failure or log.fsync_failure or log.damage_failure
        return self._groups.popleft() if synced or group.failure or all_are else None

    def resume(self) -> None:
        """Read from those again who were not read from, unless it is still much."""
        if self._paused and not self._is_much():
            for connection in self._paused:
                connection.resume_reading()
            self._paused.clear()
