"""The turn: one round of the event loop, in which requests are executed, logged once, and then answered.

    poll -> [clock] -> connection greenlets: receive, parse, execute -> [write log] -> [send replies] -> poll
            check                 io watchers                               prepare

It owns what happens at a turn's two ends, the fsync thread, and the replies that wait for either. It must not know how
a connection reads or sends; it tells it when.

- The clock is read once a turn, before any connection's greenlet runs.
- Replies are not sent where they are made. At the end of the turn the log is written once, then each connection's
  replies are sent: so a reply never leaves before its effect is in the log, and group commit costs nothing.
- Under `appendfsync always` the replies wait in `held` for the fsync that covers them; the loop goes on meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import time
from typing import NamedTuple, Protocol

import gevent
from gevent.event import Event

from aof import AppendOnlyLog, NullLog
from config import Config
from errors import LOG_FAILED
from rewrite import Rewriter
from session import Instance

RECEIVE_BYTES = 16384

logger = logging.getLogger("godis")


class Receiver(Protocol):
    """A connection, as the turn knows it."""

    def send(self, pieces: list[bytes]) -> None: ...

    def abort(self) -> None: ...

    def follow_soft_limit(self, now: float) -> None: ...


# A connection, the pieces of its replies, and whether the turn's log holds effects of its requests.
ConnectionReplies = tuple[Receiver, list[bytes], bool]


class Held(NamedTuple):
    """The replies of a turn that wait until the log is synced up to `end_bytes`; `failure`: why it was not written."""

    replies: list[ConnectionReplies]
    end_bytes: int
    failure: bytes | None


class Turn:
    """What the connections of an instance share of the event loop: its turns, and their log."""

    def __init__(self, instance: Instance, log: AppendOnlyLog | NullLog) -> None:
        self.instance = instance
        self.log = log
        self.store = instance.store
        self.config: Config = instance.config
        self.replies: list[ConnectionReplies] = []  # of this turn
        self.receive_buffer = bytearray(RECEIVE_BYTES)  # of all connections: parsed before the next one's greenlet runs
        self.slow_readers: set[Receiver] = set()
        self.held: deque[Held] = deque()
        self.syncing = False
        self.rewriter = Rewriter(log, instance, self._in_thread, self.start_fsync)
        self._known_failure: bytes | None = None  # what the operator and the engine were told of the log
        self._resumed = Event()
        instance.resumed = self._resumed.set
        loop = gevent.get_hub().loop
        self._after_poll = loop.check(ref=False, priority=loop.MAXPRI)  # before any connection's greenlet
        self._before_poll = loop.prepare(ref=False, priority=loop.MINPRI)  # after gevent's own callbacks
        self._no_wait = loop.timer(0, ref=False)

    def start(self) -> None:
        """Begin and end each round of the loop from now on."""
        self._after_poll.start(self._begin)
        self._before_poll.start(self.end)

    def stop(self) -> None:
        """Leave the loop alone again."""
        self._before_poll.stop()
        self._after_poll.stop()

    def wake(self) -> None:
        """Let the next poll not wait: who wakes a greenlet at the end of a turn does so behind gevent's own look."""
        self._no_wait.start(lambda: None)

    def wait_for_resume(self) -> None:
        """Park the calling connection until CLIENT PAUSE is over."""
        while self.instance.paused:
            self._resumed.clear()
            self._resumed.wait(timeout=max(0.001, (self.instance.pause.until_ms - self.store.now_ms) / 1000))
            self._begin()
        self.instance.update_gate()

    def _begin(self) -> None:
        self.store.tick(int(time() * 1000))

    def end(self) -> None:
        """Write the log, then send the replies: the second promise."""
        log = self.log
        if log.pieces:
            self.write_log()
        if self.instance.rewrite.requested:
            self.rewriter.begin()
        if not self.replies:
            return
        turn = Held(self.replies.copy(), log.written_bytes, log.failure)
        self.replies.clear()
        if self.config.appendfsync == "always" and (self.held or log.written_bytes > log.synced_bytes):
            self.held.append(turn)
            self.start_fsync()
        else:
            self._deliver(turn.replies, turn.failure)

    def write_log(self) -> None:
        """Write what the log holds back, and follow how that went."""
        self.log.write(self.store.now_ms)
        self._follow_log()

    def _deliver(self, replies: list[ConnectionReplies], failure: bytes | None) -> None:
        for connection, pieces, wrote in replies:
            if wrote and failure is not None:
                # In memory but not in the log: an OK would promise too much, so the client is told and cut off.
                connection.send([b"-%b\r\n" % (LOG_FAILED % failure)])
                connection.abort()
            else:
                connection.send(pieces)

    def _follow_log(self) -> None:
        """Tell the operator and the engine that the log failed, or that it is well again."""
        if self.log.failure is self._known_failure:
            return
        if self.log.failure is None:
            logger.warning("the log can be written again")
        elif self._known_failure is None:
            reason = self.log.failure.decode(errors="replace")
            logger.error("the log cannot be written (%s): writes are refused until it can", reason)
        self._known_failure = self.log.failure
        self.instance.update_gate()

    # ---- the fsync thread

    def start_fsync(self) -> None:
        """Sync what is written, in a thread; what is written meanwhile waits for the next."""
        if not self.syncing:
            self.syncing = True
            self._in_thread(self.rewriter.fsync, self._fsynced)

    def _in_thread(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run a job beside the loop, and call `done` in the loop when it is over."""
        gevent.get_hub().threadpool.spawn(job).rawlink(lambda _result: done())

    def _fsynced(self) -> None:
        """Send what waited for this fsync. Runs in the loop, though the fsync ran in a thread."""
        self.syncing = False
        self.rewriter.follow_fsync()
        log = self.log
        self._follow_log()
        if log.failure is None:
            self.instance.last_save_second = self.store.now_ms // 1000
        while self.held and (self.held[0].end_bytes <= log.synced_bytes or log.failure is not None):
            turn = self.held.popleft()
            synced = turn.end_bytes <= log.synced_bytes
            self._deliver(turn.replies, turn.failure if synced else log.failure)
        if self.held or self.rewriter.needs_fsync:
            self.start_fsync()
