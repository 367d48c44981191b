"""The end of an instance whose event loop stands still: it answers nobody, and who balances must not think it lives.

A thread looks at when the loop last showed a sign of life. A process that was stopped and goes on is another matter:
its loop has yet to have a chance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from time import monotonic, sleep

LOOK_SECONDS = 1.0
STOPPED_SECONDS = 3.0  # a look that comes so late shows that the whole process stood still

logger = logging.getLogger("godis")


class Watchdog:
    """Calls `end` when there was no `beat` for so many seconds."""

    def __init__(self, seconds: float, end: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._end = end
        self._last = monotonic()

    def beat(self, now: float) -> None:
        """Show that the loop turns."""
        self._last = now

    def start(self) -> None:
        """Watch from now on."""
        self._last = monotonic()
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            before = monotonic()
            sleep(LOOK_SECONDS)
            if monotonic() - before > STOPPED_SECONDS:
                self._last = monotonic()
            elif monotonic() - self._last > self._seconds:
                logger.error("the event loop has not turned for %d s", self._seconds)
                self._end("it is frozen")
