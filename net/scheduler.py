"""Runs long work in slices, and parks greenlets whose requests are deferred.

1. Work is a generator whose steps take some microseconds. The greenlet that calls `run` parks. Each turn one slice of a
   millisecond runs after the poll for input, so all other clients are served between two slices.
2. Slices are granted in the order in which greenlets asked for them, one a turn. A connection that was late in its turn
   queues here as well.
3. One work runs at a time, because only one at a time may lock keys.
4. Work that holds key locks runs to its end even if its client is gone, because no client may observe half of it.
5. When deferred requests may run again, WOKEN_A_TURN of their greenlets wake a turn: there may be thousands.

Refused: `gevent.sleep(0)` between slices. The loop then runs some dozen callbacks, each of which may take its
millisecond, before it polls for input (50 to 90 ms, measured). A timer fires after that poll.

Refused: to run the steps of a pool's log here. They must not queue behind the slices of clients (`pool/pace.py`).
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
WOKEN_A_TURN = 64  # greenlets

logger = logging.getLogger("godis")


class Scheduler:
    """The long work and the deferred requests of an instance. `after(seconds, job)` calls `job` that much later."""

    def __init__(self, instance: Instance, after: Callable[[float, Callable[[], None]], Any]) -> None:
        loop = gevent.get_hub().loop
        self._instance = instance
        self._store = instance.store
        self._after = after
        self.working = 0  # clients whose work runs or waits to run
        self._one_work = BoundedSemaphore()
        self._slice_queue: deque[Any] = deque()  # greenlets
        self._slice_timer = loop.timer(0, ref=False)  # fires after the next poll; alone it does not keep the loop alive
        self._waiting: deque[Any] = deque()  # greenlets that wait for the end of a pause or of key locks
        self._to_wake = 0  # how many of these are still to be woken
        self._wake_timer = loop.timer(0, ref=False)
        self._pause_timer: Any = None
        self.work_seconds = 0.0  # what the slices of the last work took that has ended
        instance.resumed = self._resume_waiting

    # ---- slices

    def run(self, work: Work, begin_slice: Callable[[], None]) -> Reply:
        """Run work to its end in slices, and return its reply. Parks the calling greenlet. Raises what the work raises.

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
        """Run work while no other work runs: the second half of `run`."""
        seconds = 0.0
        try:
            while True:
                self.wait_for_slice()
                if "script" in self._instance.closed_gates:  # no work runs before it ends
                    continue
                begin_slice()
                began = monotonic()
                try:
                    while monotonic() < began + SLICE_SECONDS:
                        next(work)
                finally:
                    seconds += monotonic() - began
                gc_policy.collect_young()
        except StopIteration as done:
            self._end(work)
            self.work_seconds = seconds
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
            self.work_seconds = seconds
            raise

    def _run_rest(self, work: Work, begin_slice: Callable[[], None]) -> None:
        """Run the rest of a work whose client is gone."""
        try:
            self._run(work, begin_slice)
        except Exception:
            logger.exception("internal error in the command of a client that is gone")

    def _end(self, work: Work) -> None:
        work.close()
        self.working -= 1
        self._one_work.release()

    def wait_for_slice(self) -> None:
        """Park the calling greenlet until a slice is granted to it."""
        self._slice_timer.start(self._grant_slice)
        self._park_in(self._slice_queue)

    def _grant_slice(self) -> None:
        if self._slice_queue:
            greenlet = self._slice_queue.popleft()
            if self._slice_queue:
                self._slice_timer.start(self._grant_slice)
            greenlet.switch()

    @staticmethod
    def _park_in(parked: deque[Any]) -> None:
        """Park the calling greenlet, listed in `parked`, until it is switched to."""
        greenlet = gevent.getcurrent()
        parked.append(greenlet)
        try:
            gevent.get_hub().switch()
        except BaseException:
            if greenlet in parked:
                parked.remove(greenlet)
            raise

    # ---- deferred requests

    def wait_for_resume(self) -> None:
        """Park the calling greenlet while a pause, the present key lock, or keys that are ready now hold it back."""
        instance, lock, blocked = self._instance, self._store.key_lock, self._instance.blocked
        rounds = blocked.rounds
        while (
            instance.paused
            or (lock is not None and self._store.key_lock is lock)
            or (blocked.is_ready and blocked.rounds == rounds)
        ):
            if instance.paused and self._pause_timer is None:
                left_ms = instance.pause.until_ms - self._store.now_ms
                self._pause_timer = self._after(max(0.001, left_ms / 1000), self._end_pause)
            self._park_in(self._waiting)

    def _end_pause(self) -> None:
        self._pause_timer.close()
        self._pause_timer = None
        self._resume_waiting()

    def _resume_waiting(self) -> None:
        """Wake all greenlets that wait, so that they check their condition again."""
        if not self._waiting:
            return
        self._to_wake = len(self._waiting)
        self._wake_timer.start(self._wake_some)

    def _wake_some(self) -> None:
        self._to_wake = min(self._to_wake, len(self._waiting))  # the clients of some may be gone
        some = min(WOKEN_A_TURN, self._to_wake)
        self._to_wake -= some
        if self._to_wake:
            self._wake_timer.start(self._wake_some)
        for _ in range(some):
            if self._waiting:
                self._waiting.popleft().switch()
