"""The turn: one round of the event loop, which executes requests, writes the log once, and then sends the replies.

1. The clock is read once a turn, before any request runs.
2. A reply never leaves before its effect is written to the log. All effects of a turn are one write (group commit).
3. Under `appendfsync always` a reply that depends on an effect leaves after the fsync of that effect: the replies of
   connections that wrote, or that read an unsynced key (`unsynced`), wait in `pending`. All others are sent.
4. Under `everysec` at most two seconds of acknowledged writes are unsynced. When the oldest one reaches that age,
   replies wait as under `always`, until an fsync ends in time.
5. When an fsync fails, the connections that wait get an error and are closed, because neither OK nor an error for one
   request would be true. So are connections that read an unsynced key afterwards.
6. When the policy changes, or the waiting under `everysec` ends, the pending replies leave first: no reply overtakes
   another one of its connection.

    poll -> [read clock] -> connections: receive, parse, execute -> [write log] -> [send replies] -> poll
            check watcher        io watchers                        prepare watcher

While an fsync runs the loop serves clients, and the log's batch grows; it is written when the next fsync begins. It is
not written earlier, because the system may block a write, and so the loop, until an fsync of the same file ends.

Clients that were just answered write again at once. They would miss an fsync that began directly after the last one,
and two groups of clients would alternate, each fsync half full. So an fsync waits for them. After an fsync that took

    less than 1 ms    it waits for all clients that the last two fsyncs answered, or until a poll brings no new one;
    longer            it waits for as many clients as waited before, or for half the time that the last fsync took.

The turn does not know how a connection reads or sends.

The module has more than 400 lines because the write, the fsyncs and the replies that wait for them are one protocol.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from time import monotonic, time
from typing import Any

import gevent

from aof import AppendOnlyLog, NullLog
from config import Config
from errors import LOG_FAILED, StartError
from log.effects import Steps
from log.rewrite import reason_of
from net.pending_replies import UNWRITTEN, ConnectionReplies, PendingReplies, Receiver
from net.rewriter import Rewriter
from net.scheduler import Scheduler
from net.unsynced import UnsyncedKeys
from session import Instance

RECEIVE_BYTES = 16384
THREADS = 3  # one each for an fsync, a rewrite, and closing a file
LONG_FSYNC_SECONDS = 0.001  # after a longer fsync the next one waits for a time, not only for the next poll
GATHER_SHARE = 0.5  # that time, as a share of what the last fsync took
MOST_GATHER_SECONDS = 0.01  # the limit on that time, and on waiting after a short fsync
MOST_UNSYNCED_SECONDS = 2.0  # everysec: replies wait when an acknowledged write is unsynced for so long
IN_TIME_SECONDS = 1.0  # everysec: an fsync that ends so soon ends the waiting
SENT_A_TURN = 1000  # replies and messages, of 5 µs each: a message may have thousands of receivers
TURN_SECONDS = 0.005  # a turn is late after so long: connections with more requests continue in a later one

logger = logging.getLogger("godis")


def start_threads(count: int) -> None:
    """Start all threads that will ever be needed, because later the system may have no process left for one.

    Raises StartError.
    """
    pool = gevent.get_hub().threadpool
    try:
        pool.maxsize = pool.size = count
    except (RuntimeError, MemoryError) as error:
        raise StartError(
            f"cannot start {count} threads ({reason_of(error)}): raise the limit on processes (ulimit -u)"
        ) from None


def by_connection(replies: list[ConnectionReplies]) -> list[ConnectionReplies]:
    """Join what goes to the same connection, so that it is sent at once: 100 messages cost as much as one."""
    joined: defaultdict[Receiver, list[bytes]] = defaultdict(list)
    ends: list[ConnectionReplies] = []  # no pieces: the end of a connection, behind all else
    for connection, pieces, _ in replies:
        if pieces:
            joined[connection] += pieces
        else:
            ends.append((connection, pieces, False))
    return [(connection, pieces, False) for connection, pieces in joined.items()] + ends


class Turn:
    """The turns of an instance's event loop: the log's writes and fsyncs, and when replies leave."""

    def __init__(self, instance: Instance, log: AppendOnlyLog | NullLog) -> None:
        self.instance = instance
        self.log = log
        self.store = instance.store
        self.config: Config = instance.config
        self.replies: list[ConnectionReplies] = []  # made in this turn
        self.has_messages = False  # some of them are messages, of which a connection may get many in a turn
        self.receive_buffer = bytearray(RECEIVE_BYTES)  # shared: each connection parses its bytes before it ends
        self.slow_readers: set[Receiver] = set()
        self.pending = PendingReplies(log, instance.statistics)
        self._awaiting: list[tuple[int, Callable[[bytes | None], object]]] = []  # who waits for an fsync, up to where
        self.syncing = False
        # set while replies wait: under always, and under everysec while an fsync takes too long
        self._unsynced: UnsyncedKeys | None = None
        self._second_passed = False  # each_second was called while an fsync ran
        self._fsync_began = 0.0  # the running fsync, in seconds of the monotonic clock
        self._fsync_seconds = 0.0  # what the last fsync took
        self._gather_count = 0  # the next fsync begins when so many connections wait
        self._gathered_by_poll = 0  # how many connections waited before the last poll
        self._last_waiting: set[Receiver] = set()  # connections that waited when the last fsync ended
        self._gather_until = 0.0  # the next fsync begins at this time at the latest
        self._gather_timer: Any = None
        self._synced_until = 0.0  # all that was acknowledged before this time is synced
        self._policy = ""
        self._stops_waiting = False  # replies stop to wait at the end of this turn
        self.ending = False  # no connection may read any more
        self._saves = False  # the running fsync is one that SAVE or BGSAVE waits for
        instance.save = self.save
        self.rewriter = Rewriter(log, instance, self._in_thread, self.start_fsync)
        self._writing_again: Steps | None = None  # the retry of a batch whose write failed
        self._known_failure: bytes | None = None  # the log's failure that was logged and closed the gate
        loop = gevent.get_hub().loop
        self._after_poll = loop.check(ref=False, priority=loop.MAXPRI)  # before any request runs
        self._before_poll = loop.prepare(ref=False, priority=loop.MINPRI)  # after gevent's own callbacks
        self._no_wait = loop.timer(0, ref=False)
        self._sync_soon = loop.timer(0, ref=False)
        self._overdue_timer: Any = None
        instance.settings_changed.append(self._follow_settings)
        self._follow_settings()
        self.scheduler = Scheduler(instance, self.after)

    def start(self) -> None:
        """Begin and end a turn in each round of the loop from now on."""
        self._after_poll.start(self._begin)
        self._before_poll.start(self.end)

    def stop(self) -> None:
        """End no more turns."""
        self._before_poll.stop()
        self._after_poll.stop()

    def wake(self) -> None:
        """Make the next poll return at once, because gevent's callbacks, which wake greenlets, ran before."""
        self._no_wait.start(lambda: None)

    def _begin(self) -> None:
        now = time()
        self.instance.turn_ends = now + TURN_SECONDS
        clock = self.instance.clock
        self.store.tick(int(now * 1000) if clock is None else clock.now_ms())

    def end(self) -> None:
        """End the turn: serve who waits for what came in it, write the log, then send the replies."""
        if self.instance.blocked.is_ready:
            self._serve_blocked()
        if self._unsynced is not None:
            self._end_waiting_turn(self._unsynced)
            return
        log = self.log
        if log.pieces:
            self.write_log()
        if self.instance.rewrite.requested:
            self.rewriter.begin()
        if self.replies:
            replies = self.replies.copy()
            self.replies.clear()
            self._deliver(replies, log.failure)

    def _serve_blocked(self) -> None:
        blocked = self.instance.blocked
        blocked.begin_turn()
        blocked.serve()
        if blocked.is_ready:  # thousands wait: the next turn goes on
            self.wake()

    def write_log(self) -> None:
        """Write the log's batch, unless the log has failed, and follow the outcome."""
        log = self.log
        if log.failure is log.damage_failure:  # a damaged log is written as well; only a rewrite repairs it
            latency = self.instance.measures.latency
            if latency.threshold_ms:
                with latency.timing(b"aof-write"):
                    log.write(self.store.now_ms)
            else:
                log.write(self.store.now_ms)
        if not log.pieces or log.failure is not None:  # else a long batch is still being written
            self.pending.record_write()
            if self._awaiting:
                self._place_waiters()
        self._follow_log()

    def _deliver(self, replies: list[ConnectionReplies], failure: bytes | None) -> None:
        """Send replies; the rest of thousands in the next turn. `failure`: why the log does not hold their effects."""
        if self.has_messages and failure is None:
            self.has_messages = False
            replies = by_connection(replies)
        if len(replies) > SENT_A_TURN and failure is None:
            self.replies[:0] = [(connection, pieces, False) for connection, pieces, _ in replies[SENT_A_TURN:]]
            del replies[SENT_A_TURN:]
            self.wake()
        for connection, pieces, wrote in replies:
            if wrote and failure is not None:
                # The effect is in memory and not in the log, so an OK would be false.
                self._refuse_and_close(connection, failure)
            else:
                connection.send(pieces)

    @staticmethod
    def _refuse_and_close(connection: Receiver, failure: bytes) -> None:
        connection.send([b"-%b\r\n" % (LOG_FAILED % failure)])
        connection.abort()

    def _follow_log(self) -> None:
        """Log a change of the log's state, failed or not, and close or open the gate for writes."""
        if self.log.failure is self._known_failure:
            return
        if self.log.failure is None:
            logger.warning("the log can be written again")
        elif self._known_failure is None:
            reason = self.log.failure.decode(errors="replace")
            logger.error("the log cannot be written (%s): writes are refused until it can", reason)
        self._known_failure = self.log.failure
        self.instance.gate("log", closed=self.log.failure is not None)

    # ---- pending replies

    def _end_waiting_turn(self, unsynced: UnsyncedKeys) -> None:
        """End a turn in which some replies may have to wait for an fsync: queue those, send the others."""
        replies = self.replies.copy()
        self.replies.clear()
        free = self._queue_pending(replies, unsynced)
        begins = not self.syncing and self._has_gathered()
        try:
            if begins or self._stops_waiting or self.instance.rewrite.requested:
                if self.log.pieces:
                    self.write_log()
                if self.instance.rewrite.requested:
                    self.rewriter.begin()
            if self._stops_waiting:
                self._stop_waiting()
            elif begins and self.pending.want_fsync():
                self.start_fsync()
        finally:  # no reply may be lost if something above fails
            self._deliver(free, None)
        self._release()

    def _queue_pending(self, replies: list[ConnectionReplies], unsynced: UnsyncedKeys) -> list[ConnectionReplies]:
        """Queue the replies of a turn that have to wait, and return the others."""
        waiting, free, connections = [], [], set()
        for reply in replies:
            connection, _, wrote = reply
            waits = wrote or unsynced.has_shown(connection.session)
            if waits or connection in connections or self.pending.holds(connection):
                waiting.append(reply)
                connections.add(connection)
            else:
                free.append(reply)
        unsynced.end_turn()
        if waiting:
            self.pending.add(waiting, connections)
        return free

    def _has_gathered(self) -> bool:
        """Return True if the next fsync may begin; else make sure that a later turn asks again."""
        waiting = self.pending.count()
        left = self._gather_until - monotonic()
        if not waiting or waiting >= self._gather_count or left <= 0:
            return True
        if self._fsync_seconds >= LONG_FSYNC_SECONDS:
            self._gather_timer = self._gather_timer or self.after(left, self._gather_no_more)
            return False
        if waiting == self._gathered_by_poll:
            return True
        self._gathered_by_poll = waiting
        self.wake()
        return False

    def _gather_no_more(self) -> None:
        """Drop the timer. It made the loop run a turn, whose end begins the fsync."""
        self._gather_timer.close()
        self._gather_timer = None

    def _release(self) -> None:
        """Send the pending replies that are due, oldest first; refuse and close connections whose writes failed."""
        while (group := self.pending.pop_due(all_are=self._unsynced is None)) is not None:
            for connection, pieces, _ in group.replies:
                if group.failure is None:
                    connection.send(pieces)
                else:
                    self._refuse_and_close(connection, group.failure)
        self.pending.resume()

    def when_synced(self, done: Callable[[bytes | None], object]) -> None:
        """Call `done` in the loop when what is in the log now is on the disk, or with the reason why it cannot be."""
        log = self.log
        is_written = not (log.pieces or log.failure or log.fsync_failure)  # what could not be synced is written again
        self._awaiting.append((log.written_bytes if is_written else UNWRITTEN, done))
        self._sync_soon.start(self._sync_for_waiters)

    def _place_waiters(self) -> None:
        """Note where in the log the effects end that were not written before, or inform that they could not be."""
        waiting, failure, written_bytes = self._awaiting, self.log.failure, self.log.written_bytes
        self._awaiting = [
            (min(end_bytes, written_bytes), done)
            for end_bytes, done in waiting
            if failure is None or end_bytes != UNWRITTEN
        ]
        for end_bytes, done in waiting:
            if failure is not None and end_bytes == UNWRITTEN:
                done(failure)

    def _sync_for_waiters(self) -> None:
        """Inform those whose effects are synced, and begin an fsync for the others."""
        log, waiting = self.log, self._awaiting
        failure = log.failure or log.fsync_failure
        self._awaiting = [each for each in waiting if failure is None and each[0] > log.synced_bytes]
        for end_bytes, done in waiting:
            if failure is not None or end_bytes <= log.synced_bytes:
                done(failure)
        if self._awaiting and not self.syncing:
            if not log.pieces:
                self.start_fsync()
            if not self.syncing:  # the effects are written at the end of the turn
                self._sync_soon.start(self._sync_for_waiters)

    # ---- the policy

    def _follow_settings(self) -> None:
        """Follow `log-clients`. Make replies wait, or release them, if `appendfsync` has changed."""
        self.log.note_clients(self.config.log_clients)
        policy = self.config.appendfsync
        if policy == self._policy:
            return
        self._policy = policy
        self._synced_until = monotonic()  # the old policy's promise applies to earlier writes
        if policy == "always":
            self._begin_waiting(everything=bool(self.log.pieces) or self.log.written_bytes > self.log.synced_bytes)
        self._stops_waiting = self._unsynced is not None and policy != "always"
        self._watch_fsync()

    def _begin_waiting(self, everything: bool) -> None:
        """Make replies wait. `everything`: all keys count as unsynced; else only those that are written from now on."""
        if self._unsynced is None and isinstance(self.log, AppendOnlyLog):
            self._unsynced = self.store.log = UnsyncedKeys(self.log, everything)
            self.instance.observe_reads(self._unsynced)
        elif self._unsynced is not None and everything:  # writes of everysec that others could read
            self._unsynced.hide_everything()

    def _stop_waiting(self) -> None:
        """Make no reply wait from now on. Called at a turn's end, when the log is written."""
        self._stops_waiting = False
        self._unsynced = None
        self.store.log = self.log
        self.instance.observe_reads(None)
        self._watch_fsync()

    def _watch_fsync(self) -> None:
        """Set a timer for the time at which the running fsync takes too long for everysec."""
        if self._overdue_timer is not None:
            self._overdue_timer.close()
            self._overdue_timer = None
        if self.syncing and self._policy == "everysec" and self._unsynced is None:
            left = self._synced_until + MOST_UNSYNCED_SECONDS - monotonic()
            self._overdue_timer = self.after(max(0.0, left), self._delay_replies)

    def after(self, seconds: float, job: Callable[[], None], every_seconds: float = 0.0) -> Any:
        """Call `job` in the loop after so many seconds, then every so many; `close()` of the returned timer ends it."""
        timer = gevent.get_hub().loop.timer(seconds, every_seconds, ref=False)
        timer.start(job, update=True)
        return timer

    def _delay_replies(self) -> None:
        """Make replies wait, because an acknowledged write would be unsynced for too long."""
        self.instance.statistics.delayed_fsyncs += 1
        logger.warning(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Replies to writes wait until it is done,"
            " so that no more than two seconds of them can be lost"
        )
        self._begin_waiting(everything=bool(self.log.pieces))

    # ---- the fsync thread

    def each_second(self) -> None:
        """Retry a write that failed, and begin an fsync, unless the policy leaves that to the system."""
        if not self.syncing or self._unsynced is None:
            self.write_again(lambda: True)
        if self.syncing:
            self._second_passed = True
        elif self.log.fsync_failure is not None or self.rewriter.needs_fsync:  # under any policy
            self.start_fsync()
        elif self.log.written_bytes == self.log.synced_bytes:
            self._synced_until = monotonic()
        elif self._policy != "no":
            self.start_fsync()

    def write_again(self, out_of_time: Callable[[], bool]) -> bool:
        """Retry a write that failed, or continue the retry, until `out_of_time`; return True if it has ended."""
        if self._writing_again is None:
            self._writing_again = self.log.write_again(self.store.garbage, lambda: self.store.now_ms)
        for _ in self._writing_again:
            if out_of_time():
                return False
        self._writing_again = None
        self.write_log()
        return True

    @property
    def writes_again(self) -> bool:
        """Return True if a retry of a write is under way."""
        return self._writing_again is not None

    def save(self) -> None:
        """Write the log, and begin the fsync that SAVE and BGSAVE wait for, at once or behind the running one."""
        self.write_log()
        self.instance.save_requested = True
        if not self.syncing:
            self._saves = True
            self.start_fsync()

    def _end_save(self) -> None:
        """Follow an fsync that has ended, and begin the next one if SAVE or BGSAVE waits for that."""
        self.instance.save_requested = not self._saves
        self._saves = not self._saves
        if self._saves:
            self.start_fsync()

    def start_fsync(self) -> None:
        """Begin an fsync in a thread, unless one runs. It covers what is written now."""
        if self.syncing:
            return
        try:
            self._in_thread(self.rewriter.fsync, self._fsynced)
        except (MemoryError, RuntimeError) as error:  # `syncing` is not set yet
            logger.warning("no fsync can begin (%s); the next try is within a second", reason_of(error))
            return
        self.syncing, self._second_passed = True, False
        self._fsync_began = monotonic()
        if self._unsynced is not None:
            self._unsynced.begin_fsync()
        self._watch_fsync()

    def _in_thread(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run a job in a thread, and call `done` in the loop when it has ended. Raises MemoryError, RuntimeError.

        All threads were started before the first client came (`start_threads`).
        """
        gevent.get_hub().threadpool.spawn(job).rawlink(lambda _result: done())

    def _plan_gathering(self) -> None:
        """Decide for how many connections the next fsync waits, and until when."""
        now, waiting = monotonic(), self.pending.connections()
        self._fsync_seconds = now - self._fsync_began
        if self._fsync_seconds >= LONG_FSYNC_SECONDS:
            self._gather_count = len(waiting)
            seconds = min(GATHER_SHARE * self._fsync_seconds, MOST_GATHER_SECONDS)
        else:
            self._gather_count, seconds = len(waiting | self._last_waiting), MOST_GATHER_SECONDS
        self._last_waiting, self._gathered_by_poll = waiting, 0
        self._gather_until = now + seconds

    def _fsynced(self) -> None:
        """Follow an fsync that has ended, and send the replies that waited for it. Runs in the loop."""
        log, began = self.log, self._fsync_began
        self.syncing = False
        self.rewriter.follow_fsync()
        self._follow_log()
        if self.instance.measures.latency.threshold_ms and self._policy == "always":
            self.instance.measures.latency.note(b"aof-fsync-always", monotonic() - began)
        self._plan_gathering()
        if log.failure is None:
            self.instance.last_save_second = self.store.now_ms // 1000
        all_synced = log.written_bytes == log.synced_bytes
        if log.fsync_failure is None:
            self._synced_until = monotonic() if all_synced else began
        if self._unsynced is not None:
            self._unsynced.end_fsync()
            if self._policy == "everysec" and monotonic() - self._synced_until < IN_TIME_SECONDS:
                self._stops_waiting = True
        self._release()
        self._watch_fsync()  # an fsync may run already: a rewrite's
        delayed = self._unsynced is not None and self._policy == "everysec" and not self._stops_waiting
        due = (self._second_passed or delayed) and not self.pending and not all_synced and log.fsync_failure is None
        if self.instance.save_requested:
            self._end_save()
        if due or self.rewriter.needs_fsync:
            self.start_fsync()  # else the end of a turn begins one, after a write
        if self._awaiting:
            self._sync_for_waiters()
