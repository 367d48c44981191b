"""The queue of clients' writes in a pool: it makes entries of them, and hands out the replies when they are applied.

It must not know what an entry does, how it gets into the log (`appender`), nor how it is read from there (`pool`).

    submit -> queue -> gather -> one entry -> appender -> log -> take_own -> replies

One entry is under way at a time, for two reasons. The numbers of an instance's entries ascend in the log, so a repeated
entry is recognised by its number. And writes form batches: those that arrive meanwhile become the next entry.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from math import inf
from time import monotonic

from gevent.event import Event

from errors import POOL_DOWN, POOL_ENTRY_REFUSED, POOL_FULL, POOL_UNKNOWN, CommandError
from pool.appender import APPEND_SECONDS, Appender
from pool.clock import PoolClock
from pool.entry import Body, pack
from pool.etcd import Refused, text64
from replies import Reply
from session import PoolState
from store import Store

BATCH_COMMANDS = 1000
BATCH_BYTES = 512 << 10
GATHER_SECONDS = 0.003
UNKNOWN_SECONDS = 10.0

logger = logging.getLogger("godis")


class Submission:
    """Writes of one client, which waits for `done`; then `replies` are there."""

    __slots__ = ("commands", "db", "done", "pieces", "replies", "since", "size")

    def __init__(self, db: int, commands: int, pieces: Sequence[bytes]) -> None:
        self.db = db
        self.commands = commands
        self.pieces = pieces  # RESP
        self.size = sum(map(len, pieces))
        self.since = monotonic()
        self.replies: list[Reply] = []
        self.done = Event()

    def fail(self, text: bytes) -> None:
        """Answer all its writes with an error, unless they were answered."""
        if not self.done.is_set():
            self.replies = [CommandError(text)] * self.commands
            self.done.set()


class Flight:
    """An entry of this instance that was sent and is not applied yet."""

    def __init__(self, submissions: list[Submission], commands: int, size: int) -> None:
        self.submissions = submissions
        self.commands = commands
        self.size = size
        self.since = monotonic()
        self.progress_at = self.since  # when etcd acknowledged its last part
        self.is_in_log = False  # etcd has acknowledged it
        self.over = Event()

    def answer(self, replies: list[Reply]) -> None:
        """Hand out the replies to all writes of the entry, in order."""
        self.over.set()
        start = 0
        for submission in self.submissions:
            end = start + submission.commands
            if not submission.done.is_set():
                submission.replies = replies[start:end]
                submission.done.set()
            start = end

    def fail(self, text: bytes) -> None:
        """Answer all writes of the entry with an error."""
        self.over.set()
        for submission in self.submissions:
            submission.fail(text)


class Writer:
    """The writes of this instance's clients."""

    def __init__(
        self,
        appender: Appender,
        log_key: bytes,
        instance: int,
        state: PoolState,
        store: Store,
        clock: PoolClock,
    ) -> None:
        self._appender = appender
        self._clock = clock
        self._head = b'{"key":"%b","value":"' % text64(log_key).encode()
        self._instance = instance
        self._state = state
        self._store = store
        self._seq = 0
        self._queue: deque[Submission] = deque()
        self._queued = Event()  # set when `_enough` submissions are in the queue
        self._enough = 1
        self._expected = 1  # as many submissions as the last entry had
        self._flights: dict[int, Flight] = {}  # by the seq of their last part

    def submit(self, db: int, commands: int, pieces: Sequence[bytes]) -> list[Reply]:
        """Append writes, as RESP, to the log, wait until they are applied here, and return their replies.

        A write that fails, or whose outcome is not known in time, has a CommandError as its reply.
        """
        submission = Submission(db, commands, pieces)
        self._enqueue(submission)
        submission.done.wait()
        return submission.replies

    def _enqueue(self, submission: Submission) -> None:
        self._queue.append(submission)
        if len(self._queue) >= self._enough:
            self._queued.set()

    def is_busy(self) -> bool:
        """Return True if writes wait for their replies."""
        return bool(self._queue or self._flights)

    @property
    def missing_since(self) -> float:
        """The earliest time at which an entry was acknowledged that is not applied here yet; else infinity."""
        return min((flight.progress_at for flight in self._flights.values() if flight.is_in_log), default=inf)

    def run(self) -> None:
        """Append what is submitted to the log, for ever."""
        while True:
            self._gather()
            submissions, body = self._next_batch()
            if submissions:
                flight = Flight(submissions, body.commands, body.size)
                self._append(flight, body)
                # Without this wait, half of the clients would wait for this entry and half for the next one.
                flight.over.wait(APPEND_SECONDS)
                self._expected = len(submissions)

    def _gather(self) -> None:
        """Wait for a write; up to GATHER_SECONDS for as many submissions as the last entry had.

        A client that was just answered is likely to send its next write. With 50 clients that send one write after
        another, this wait puts two thirds more commands into an entry. With a third of GATHER_SECONDS, where clients
        and etcd share two cores, entries were a quarter smaller, and a quarter fewer SETs were done.
        """
        for enough, seconds in ((self._expected, GATHER_SECONDS), (1, None)):
            self._enough = enough
            if len(self._queue) < enough:
                self._queued.clear()
                self._queued.wait(seconds)
            if self._queue:
                break
        self._enough = 1

    def _next_batch(self) -> tuple[list[Submission], Body]:
        body = Body()
        taken: list[Submission] = []
        queue = self._queue
        while queue and body.commands < BATCH_COMMANDS:
            if taken and body.size + queue[0].size > BATCH_BYTES:
                break
            submission = queue.popleft()
            if not submission.done.is_set():
                taken.append(submission)
                body.add(submission.db, submission.commands, submission.pieces)
                submission.pieces = ()  # free them while the client waits
        return taken, body

    def _append(self, flight: Flight, body: Body) -> None:
        """Append one entry to the log, part by part; return when etcd has all parts, or has refused one."""
        first = self._seq + 1
        entries = pack(self._instance, first, self._clock.entry_ms(), self._store.default_ttl_ms, body)
        self._seq += body.parts
        self._flights[self._seq] = flight
        state = self._state
        for seq, entry in enumerate(entries, first):
            refusal = self._appender.put(b'%b%b"}' % (self._head, text64(entry).encode()), seq)
            if refusal is not None:
                self._flights.pop(self._seq, None)
                flight.fail(self._refusal(refusal))
                return
            state.appended += 1
            state.appended_bytes += len(entry)
            flight.progress_at = monotonic()
        state.appended_commands += flight.commands
        flight.is_in_log = True

    @staticmethod
    def _refusal(error: Refused) -> bytes:
        logger.error("etcd refused an entry: %s", error)
        if error.is_full:
            return POOL_FULL
        return POOL_ENTRY_REFUSED % str(error).encode().replace(b"\r\n", b" ")[:200]

    def take_own(self, seq: int, replies: list[Reply] | None, repeated: bool) -> None:
        """Hand out the replies of an entry of this instance that was read from the log."""
        if repeated:
            self._state.duplicates += 1
            return
        self._appender.came_back(seq)
        flight = self._flights.pop(seq, None)
        if flight is None or replies is None:
            return
        flight.answer(replies)
        took_ms = (monotonic() - flight.since) * 1000
        state = self._state
        state.append_ms += (took_ms - state.append_ms) / 16
        state.append_max_ms = max(state.append_max_ms, took_ms)

    def add_tick(self) -> None:
        """Queue an entry without commands, which only moves the log's clock."""
        self._enqueue(Submission(0, 0, ()))

    def fail_overdue(self, now: float) -> None:
        """Fail the writes of entries that were sent too long ago, and writes in the queue that cannot be sent soon."""
        for flight in self._flights.values():
            if now - flight.progress_at > UNKNOWN_SECONDS:
                flight.fail(POOL_UNKNOWN)
        for submission in self._queue:
            if not self._state.confirmed or now - submission.since > UNKNOWN_SECONDS:
                submission.fail(POOL_DOWN)
        while self._queue and self._queue[0].done.is_set():
            self._queue.popleft()
