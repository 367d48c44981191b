"""Long work in slices, and greenlets that wait for others: nobody holds up the event loop.

1. Work is a generator whose steps take some microseconds. A greenlet that calls `run` parks, and a slice of its work is
   done a turn, of a millisecond, behind the poll for what clients sent: so all others are served in between.
2. Slices are given in the order in which they were asked for, one a turn, whosever they are: whoever has sent much and
   is late asks for one, too.
3. One work is under way at a time, because one at a time may lock keys.
4. What nobody may see half of is done to its end even if its client is gone.
5. Of those who wait for the end of a pause or of locked keys, some a turn look again: there may be thousands.

Refused: `gevent.sleep(0)` between slices. The loop runs some dozen callbacks, each of which may take its millisecond,
before it looks for what clients sent (50 to 90 ms, measured). A timer comes behind that look.

Refused: to run the steps of a pool's log here, too. They must not queue behind clients' slices (`pool/pace.py`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from keyspace import gc_policy
from replies import Reply, Work
from session import Instance

SLICE_SECONDS = 0.001
WOKEN_A_TURN = 64

logger = logging.getLogger("godis")


class Scheduler:
    """The long work of an instance, and who waits until it is over. `after` calls something in so many seconds."""

    def __init__(self, instance: Instance, after: Callable[[float, Callable[[], None]], Any]) -> None:
        loop = gevent.get_hub().loop
        self._instance = instance
        self._store = instance.store
        self._after = after
        self.working = 0  # clients whose replies are being made in slices
        self._one_work = BoundedSemaphore()
        self._want_slice: deque[Any] = deque()  # greenlets
        self._next_slice = loop.timer(0, ref=False)  # behind the poll of the next round, which does not wait for it
        self._waiting: deque[Any] = deque()  # greenlets: for the end of a pause, or of locked keys
        self._to_wake = 0  # of these
        self._next_waiting = loop.timer(0, ref=False)
        self._pause_ends: Any = None  # a timer
        instance.resumed = self._resume_waiting

    # ---- slices

    def run(self, work: Work, begin_slice: Callable[[], None]) -> Reply:
        """Do work to its end, for the calling greenlet, and return its reply. Raises what the work raises.

        `begin_slice` is called before each slice.
        """
        self.working += 1
        try:
            self._one_work.acquire()
        except BaseException:
            self.working -= 1
            raise
        return self._run(work, begin_slice)

    def _run(self, work: Work, begin_slice: Callable[[], None]) -> Reply:
        """`run`, once it is this work's turn."""
        try:
            while True:
                self.wait_for_slice()
                begin_slice()
                end = monotonic() + SLICE_SECONDS
                while monotonic() < end:
                    next(work)
                gc_policy.collect_young()
        except StopIteration as done:
            self._end(work)
            reply: Reply = done.value
            return reply
        except gevent.GreenletExit:
            if self._store.key_lock is not None:
                gevent.spawn(self._run_rest, work, begin_slice)
            else:
                self._end(work)
            raise
        except BaseException:
            self._end(work)
            raise

    def _run_rest(self, work: Work, begin_slice: Callable[[], None]) -> None:
        """Do what is left of a work whose client is gone."""
        try:
            self._run(work, begin_slice)
        except Exception:
            logger.exception("internal error in what a client left behind")

    def _end(self, work: Work) -> None:
        work.close()
        self.working -= 1
        self._one_work.release()

    def wait_for_slice(self) -> None:
        """Park the calling greenlet until it may do a slice."""
        self._next_slice.start(self._give_slice)
        self._park_in(self._want_slice)

    def _give_slice(self) -> None:
        if self._want_slice:
            greenlet = self._want_slice.popleft()
            if self._want_slice:
                self._next_slice.start(self._give_slice)
            greenlet.switch()

    @staticmethod
    def _park_in(parked: deque[Any]) -> None:
        """Park the calling greenlet until somebody takes it from there."""
        greenlet = gevent.getcurrent()
        parked.append(greenlet)
        try:
            gevent.get_hub().switch()
        except BaseException:
            if greenlet in parked:
                parked.remove(greenlet)
            raise

    # ---- who waits

    def wait_for_resume(self) -> None:
        """Park the calling greenlet until CLIENT PAUSE is over, or the work is that locks keys now."""
        instance, lock = self._instance, self._store.key_lock
        while instance.paused or (lock is not None and self._store.key_lock is lock):
            if instance.paused and self._pause_ends is None:
                left_ms = instance.pause.until_ms - self._store.now_ms
                self._pause_ends = self._after(max(0.001, left_ms / 1000), self._end_pause)
            self._park_in(self._waiting)

    def _end_pause(self) -> None:
        self._pause_ends.close()
        self._pause_ends = None
        self._resume_waiting()

    def _resume_waiting(self) -> None:
        """Let those who wait look again."""
        self._to_wake = len(self._waiting)
        self._next_waiting.start(self._wake_some)

    def _wake_some(self) -> None:
        self._to_wake = min(self._to_wake, len(self._waiting))  # some may be gone
        some = min(WOKEN_A_TURN, self._to_wake)
        self._to_wake -= some
        if self._to_wake:
            self._next_waiting.start(self._wake_some)
        for _ in range(some):
            if self._waiting:
                self._waiting.popleft().switch()
