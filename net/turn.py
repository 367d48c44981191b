"""The turn: one round of the event loop, in which requests are executed, logged once, and then answered.

    poll -> [clock] -> connection greenlets: receive, parse, execute -> [write log] -> [send replies] -> poll
            check                 io watchers                               prepare

It owns what happens at a turn's two ends, and the policy of fsyncs: when one begins, and which replies wait for it. It
must not know how a connection reads or sends; it tells it when.

- The clock is read once a turn, before any connection's greenlet runs.
- Replies are not sent where they are made. At the end of the turn the log is written once, then each connection's
  replies are sent: so a reply never leaves before its effect is in the log, and group commit costs nothing.
- Under `appendfsync always` the replies of a connection that wrote, or saw what another wrote (`unsynced` says which
  requests do), wait in `held` for the fsync that covers them. The others are sent; the loop goes on meanwhile, and what
  it has to log until that fsync is done is one batch, and shares the next fsync. It is not written before: the system
  may let a write wait for an fsync of the same file, and with it the whole loop.
- Clients that were just answered write again at once, and would miss an fsync that began with the end of the last one:
  two groups would take turns, each fsync half full. So an fsync waits for them. After one that took
    less than a ms    it waits for all whom the last two answered, but begins when a poll brings nobody new;
    longer            it waits for as many as waited before, but for no longer than half of what that one took.
- When the fsync fails, the connections that wait are told and cut off: neither OK nor an error for one request would be
  true. So is, from then on, who asks for a key that is not synced.
- Under `everysec` there is a hold-up only when the oldest write that was acknowledged and is not synced becomes two
  seconds old: from then on it is as under `always`, until an fsync comes to its end in time. What was acknowledged and
  is not on the disk is thus never more than what two seconds brought.
- When the policy changes, or the hold-up ends, `held` is sent before anything else: no later reply overtakes it.

It is a little long since the policies of fsync are told apart in nothing but who waits when, which is the turn's end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, time
from typing import Any

import gevent

from aof import AppendOnlyLog, NullLog
from config import Config
from errors import LOG_FAILED, StartError
from log.effects import Steps
from log.rewrite import reason_of
from net.pending_replies import ConnectionReplies, PendingReplies, Receiver
from net.rewriter import Rewriter
from net.scheduler import Scheduler
from net.unsynced import UnsyncedKeys
from session import Instance

RECEIVE_BYTES = 16384
THREADS = 3  # for an fsync, for a rewrite, and for a file to be closed
LONG_FSYNC_SECONDS = 0.001  # after it the next one waits for the clients that were answered
GATHER_SHARE = 0.5  # ... so long, in what it took
MOST_GATHER_SECONDS = 0.01  # ... at most; after a shorter one it waits for what the next poll brings
MOST_UNSYNCED_SECONDS = 2.0  # everysec: so long an acknowledged write may wait for its fsync before others wait, too
IN_TIME_SECONDS = 1.0  # an fsync that ends so soon ends the hold-up
TURN_SECONDS = 0.005  # after so long a turn is late: who has more to do goes on in the next

logger = logging.getLogger("godis")


def start_threads(count: int) -> None:
    """Start all threads that will ever be needed: later there may be no descriptor or process left for one.

    Raises StartError.
    """
    pool = gevent.get_hub().threadpool
    try:
        pool.maxsize = pool.size = count
    except (RuntimeError, MemoryError) as error:
        raise StartError(
            f"cannot start {count} threads ({reason_of(error)}): raise the limit on processes (ulimit -u)"
        ) from None


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
        self.pending = PendingReplies(log, instance.statistics)
        self.syncing = False
        self._paused: list[Receiver] = []  # not read from until less waits
        # who must wait: under always, and under everysec while it is held up
        self._unsynced: UnsyncedKeys | None = None
        self._again = False  # a second began while an fsync ran
        self._began = 0.0  # the running fsync, in seconds of the monotonic clock
        self._took = 0.0  # the last one
        self._gathering = 0  # so many connections are waited for, before the next fsync begins
        self._gathered_by_poll = 0  # so many waited before the last poll
        self._last_waited: set[Receiver] = set()  # when the last fsync ended
        self._gather_until = 0.0
        self._gathered: Any = None  # a timer
        self._safe_until = 0.0  # all that was acknowledged before then is synced
        self._policy = ""
        self._stops_waiting = False  # when this turn ends
        self.ending = False  # no connection reads any more
        self.rewriter = Rewriter(log, instance, self._in_thread, self.start_fsync)
        self._writing_again: Steps | None = None  # what failed
        self._known_failure: bytes | None = None  # what the operator and the engine were told of the log
        loop = gevent.get_hub().loop
        self._after_poll = loop.check(ref=False, priority=loop.MAXPRI)  # before any connection's greenlet
        self._before_poll = loop.prepare(ref=False, priority=loop.MINPRI)  # after gevent's own callbacks
        self._no_wait = loop.timer(0, ref=False)
        self._overdue: Any = None  # a timer
        instance.settings_changed.append(self._follow_policy)
        self._follow_policy()
        self.scheduler = Scheduler(instance, self._after)

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

    def _begin(self) -> None:
        now = time()
        self.instance.turn_ends = now + TURN_SECONDS
        self.store.tick(int(now * 1000))

    def end(self) -> None:
        """Write the log, then send the replies: the second promise."""
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

    def write_log(self) -> None:
        """Write what the log holds back, unless it failed, and follow how that went."""
        log = self.log
        if log.failure is log.damage_failure:  # the disk takes it, even if only a rewrite makes the file whole
            log.write(self.store.now_ms)
        if not log.pieces or log.failure is not None:  # else a long batch is on its way before them
            self.pending.note_write()
        self._follow_log()

    def _deliver(self, replies: list[ConnectionReplies], failure: bytes | None) -> None:
        for connection, pieces, wrote in replies:
            if wrote and failure is not None:
                # In memory but not in the log: an OK would promise too much, so the client is told and cut off.
                self._tell_and_cut(connection, failure)
            else:
                connection.send(pieces)

    @staticmethod
    def _tell_and_cut(connection: Receiver, failure: bytes) -> None:
        connection.send([b"-%b\r\n" % (LOG_FAILED % failure)])
        connection.abort()

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
        self.instance.gate("log", closed=self.log.failure is not None)

    # ---- replies that wait

    def _end_waiting_turn(self, unsynced: UnsyncedKeys) -> None:
        """End a turn in which some replies have to wait for an fsync: hold those, send the others."""
        replies = self.replies.copy()
        self.replies.clear()
        free = self._hold(replies, unsynced)
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
        finally:  # whatever fails above, no reply is forgotten
            self._deliver(free, None)
        self._release()

    def _hold(self, replies: list[ConnectionReplies], unsynced: UnsyncedKeys) -> list[ConnectionReplies]:
        """Hold the replies of a turn that have to wait, and return the others."""
        waiting, free, who = [], [], set()
        for reply in replies:
            connection, _, wrote = reply
            if wrote or unsynced.has_shown(connection.session) or connection in who or self.pending.holds(connection):
                waiting.append(reply)
                who.add(connection)
            else:
                free.append(reply)
        unsynced.end_turn()
        if waiting:
            self.pending.add(waiting, who)
        return free

    def _has_gathered(self) -> bool:
        """Return True if the next fsync need not wait for those who are about to write; else look again in time."""
        waiting = self.pending.count()
        left = self._gather_until - monotonic()
        if not waiting or waiting >= self._gathering or left <= 0:
            return True
        if self._took >= LONG_FSYNC_SECONDS:
            self._gathered = self._gathered or self._after(left, self._gather_no_more)
            return False
        if waiting == self._gathered_by_poll:
            return True
        self._gathered_by_poll = waiting
        self.wake()
        return False

    def _gather_no_more(self) -> None:
        """Let the turn in whose time this happens begin the fsync."""
        self._gathered.close()
        self._gathered = None

    def _release(self) -> None:
        """Send what need not wait any longer, oldest first; tell those whose writes failed, and cut them off."""
        while (group := self.pending.pop_due(all_are=self._unsynced is None)) is not None:
            for connection, pieces, _ in group.replies:
                if group.failure is None:
                    connection.send(pieces)
                else:
                    self._tell_and_cut(connection, group.failure)
        self.pending.resume()

    # ---- the policy

    def _follow_policy(self) -> None:
        """Let the replies wait, or send those that do, as `appendfsync` now says."""
        policy = self.config.appendfsync
        if policy == self._policy:
            return
        self._policy = policy
        self._safe_until = monotonic()  # before, another promise held
        if policy == "always":
            self._begin_waiting(everything=bool(self.log.pieces) or self.log.written_bytes > self.log.synced_bytes)
        self._stops_waiting = self._unsynced is not None and policy != "always"
        self._watch_fsync()

    def _begin_waiting(self, everything: bool) -> None:
        """Let replies wait from now on. `everything`: no key may be shown yet; else what is there already may."""
        if self._unsynced is None and isinstance(self.log, AppendOnlyLog):
            self._unsynced = self.store.log = UnsyncedKeys(self.log, everything)
            self.instance.observe_reads(self._unsynced)
        elif self._unsynced is not None and everything:  # what a hold-up of everysec let others see
            self._unsynced.hide_everything()

    def _stop_waiting(self) -> None:
        """Let nothing wait from now on; at a turn's end, where all is written."""
        self._stops_waiting = False
        self._unsynced = None
        self.store.log = self.log
        self.instance.observe_reads(None)
        self._watch_fsync()

    def _watch_fsync(self) -> None:
        """Look at the time when the running fsync becomes too old for everysec."""
        if self._overdue is not None:
            self._overdue.close()
            self._overdue = None
        if self.syncing and self._policy == "everysec" and self._unsynced is None:
            left = self._safe_until + MOST_UNSYNCED_SECONDS - monotonic()
            self._overdue = self._after(max(0.0, left), self._hold_up)

    def _after(self, seconds: float, job: Callable[[], None]) -> Any:
        """Call `job` in the loop when so much time has passed; `close()` what is returned, and it does not happen."""
        timer = gevent.get_hub().loop.timer(seconds, ref=False)
        timer.start(job)
        return timer

    def _hold_up(self) -> None:
        """Let nothing more be acknowledged, since an acknowledged write would be unsynced for too long."""
        self.instance.statistics.delayed_fsyncs += 1
        logger.warning(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Replies to writes wait until it is done,"
            " so that no more than two seconds of them can be lost"
        )
        self._begin_waiting(everything=bool(self.log.pieces))

    # ---- the fsync thread

    def each_second(self) -> None:
        """Try once more what has failed, and sync what is written, unless the policy leaves that to the system."""
        if not self.syncing or self._unsynced is None:
            self.write_again(lambda: True)
        if self.syncing:
            self._again = True
        elif self.log.fsync_failure is not None or self.rewriter.needs_fsync:  # whatever the policy
            self.start_fsync()
        elif self.log.written_bytes == self.log.synced_bytes:
            self._safe_until = monotonic()
        elif self._policy != "no":
            self.start_fsync()

    def write_again(self, out_of_time: Callable[[], bool]) -> bool:
        """Try once more to write what failed, or go on with that, until `out_of_time`; return whether it is over."""
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
        """Return True if such a try is under way."""
        return self._writing_again is not None

    def start_fsync(self) -> None:
        """Sync what is written, in a thread; what is written meanwhile waits for the next."""
        if self.syncing:
            return
        try:
            self._in_thread(self.rewriter.fsync, self._fsynced)
        except (MemoryError, RuntimeError) as error:  # nothing says yet that an fsync runs
            logger.warning("no fsync can begin (%s); the next try is within a second", reason_of(error))
            return
        self.syncing, self._again = True, False
        self._began = monotonic()
        if self._unsynced is not None:
            self._unsynced.begin_fsync()
        self._watch_fsync()

    def _in_thread(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run a job beside the loop, and call `done` in the loop when it is over. Raises MemoryError, RuntimeError.

        All threads run since before the first client (`turn.start_threads`).
        """
        gevent.get_hub().threadpool.spawn(job).rawlink(lambda _result: done())

    def _plan_gathering(self) -> None:
        """Say whom the next fsync waits for, and until when."""
        now, waited = monotonic(), self.pending.connections()
        self._took = now - self._began
        if self._took >= LONG_FSYNC_SECONDS:
            self._gathering, patience = len(waited), min(GATHER_SHARE * self._took, MOST_GATHER_SECONDS)
        else:
            self._gathering, patience = len(waited | self._last_waited), MOST_GATHER_SECONDS
        self._last_waited, self._gathered_by_poll = waited, 0
        self._gather_until = now + patience

    def _fsynced(self) -> None:
        """Send what waited for this fsync. Runs in the loop, though the fsync ran in a thread."""
        log, began = self.log, self._began
        self.syncing = False
        self.rewriter.follow_fsync()
        self._follow_log()
        self._plan_gathering()
        if log.failure is None:
            self.instance.last_save_second = self.store.now_ms // 1000
        all_synced = log.written_bytes == log.synced_bytes
        if log.fsync_failure is None:
            self._safe_until = monotonic() if all_synced else began
        if self._unsynced is not None:
            self._unsynced.end_fsync()
            if self._policy == "everysec" and monotonic() - self._safe_until < IN_TIME_SECONDS:
                self._stops_waiting = True
        self._release()
        self._watch_fsync()  # should one run already: a rewrite's
        held_up = self._unsynced is not None and self._policy == "everysec" and not self._stops_waiting
        due = (self._again or held_up) and not self.pending and not all_synced and log.fsync_failure is None
        if due or self.rewriter.needs_fsync:
            self.start_fsync()  # else the end of the turn does, with what is to be written then
