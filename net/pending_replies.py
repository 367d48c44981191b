"""Replies that wait for an fsync of the log, in order, and the back-pressure while too many wait.

1. Once one reply of a connection is queued, all later ones queue behind it. This preserves their order.
2. A reply leaves when the log is synced up to the end of its effects, or when that can no longer happen.
3. When too much was received while replies waited, the connections that wait are not read from until less waits.
4. The turn decides which replies wait. The module does not know policies and begins no fsync.

    turn -> add() -> [group] [group] [open group] -> pop_due() -> turn
                         |
                         `-- the replies of all turns between two writes of the log, and the log position of their end
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
MOST_INPUT_BYTES = 1 << 25  # received since the oldest pending reply; beyond it the back-pressure begins
MOST_TURNS = 1000  # in one group; the same, because short requests can have long replies


class Receiver(Protocol):
    """The calls of a connection that the turn needs."""

    @property
    def session(self) -> Session: ...

    def send(self, pieces: list[bytes]) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def follow_soft_limit(self, now: float) -> None: ...


# A connection, the pieces of its replies, and whether the log's batch holds effects of its requests.
ConnectionReplies = tuple[Receiver, list[bytes], bool]


@dataclass(eq=False, repr=False)
class Group:
    """Replies that wait until the log is synced up to `end_bytes`; `failure` is why it could not be written."""

    end_bytes: int
    input_bytes: int  # received from all clients before its first reply
    failure: bytes | None = None
    turns: int = 0
    replies: list[ConnectionReplies] = field(default_factory=list)
    connections: set[Receiver] = field(default_factory=set)


class PendingReplies:
    """The queue of replies that wait for an fsync, oldest first."""

    def __init__(self, log: AppendOnlyLog | NullLog, statistics: Statistics) -> None:
        self._log = log
        self._statistics = statistics
        self._groups: deque[Group] = deque()
        self._paused: list[Receiver] = []  # not read from until less waits

    def __bool__(self) -> bool:
        return bool(self._groups)

    def holds(self, connection: Receiver) -> bool:
        """Return True if a connection has pending replies. O(number of groups)."""
        return any(connection in group.connections for group in self._groups)

    def connections(self) -> set[Receiver]:
        """Return the connections that have pending replies."""
        return set().union(*[group.connections for group in self._groups])

    def count(self) -> int:
        """Return how many connections have pending replies; one with replies in two groups counts twice."""
        return sum([len(group.connections) for group in self._groups])

    def add(self, replies: Iterable[ConnectionReplies], connections: set[Receiver]) -> None:
        """Queue replies of this turn until all that is in the log now, written or not, is on the disk."""
        group = self._open()
        group.turns += 1
        group.replies += replies
        group.connections |= connections
        if self._is_much():
            for connection, _, _ in replies:  # a pipelining client sends more although nothing is answered
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
        """Return True if so much was received while replies waited that reading has to stop, to bound memory."""
        groups = self._groups
        return bool(groups) and (
            groups[-1].turns > MOST_TURNS or self._statistics.input_bytes - groups[0].input_bytes > MOST_INPUT_BYTES
        )

    def record_write(self) -> None:
        """Record the log position, or the failure, of the open group after a write of the log."""
        if self._groups and self._groups[-1].end_bytes == UNWRITTEN:
            self._groups[-1].end_bytes, self._groups[-1].failure = self._log.written_bytes, self._log.failure

    def want_fsync(self) -> bool:
        """Return True if an fsync that begins now would release replies."""
        last = self._groups[-1] if self._groups else None
        return (
            last is not None
            and last.end_bytes > self._log.synced_bytes
            and not (last.failure or self._log.fsync_failure)
        )

    def pop_due(self, *, all_are: bool) -> Group | None:
        """Remove and return the oldest group if it need not wait any longer; None if it has to.

        A group whose effects cannot be synced has a `failure`. `all_are`: no reply has to wait any more.
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
        """End the back-pressure if little enough waits now."""
        if self._paused and not self._is_much():
            for connection in self._paused:
                connection.resume_reading()
            self._paused.clear()
