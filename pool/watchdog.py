"""Ends an instance whose event loop stands still, so that load balancers send no more clients to it.

A thread compares the time of the loop's last heartbeat with a limit. If the thread itself woke late, the whole process
was stopped (SIGSTOP, a suspended machine). Then the limit counts from now, because the loop had no chance to beat.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from time import monotonic, sleep

CHECK_SECONDS = 1.0
STOPPED_SECONDS = 3.0  # a check that comes so late shows that the whole process stood still

logger = logging.getLogger("godis")


class Watchdog:
    """Calls `end`, in its own thread, with a reason when there was no `beat` for `seconds`."""

    def __init__(self, seconds: float, end: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._end = end
        self._last = monotonic()

    def beat(self, now: float) -> None:
        """Record a heartbeat of the loop at this monotonic time."""
        self._last = now

    def start(self) -> None:
        """Start the thread."""
        self._last = monotonic()
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            before = monotonic()
            sleep(CHECK_SECONDS)
            if monotonic() - before > STOPPED_SECONDS:
                self._last = monotonic()
            elif monotonic() - self._last > self._seconds:
                logger.error("the event loop has not turned for %d s", self._seconds)
                self._end("it is frozen")
