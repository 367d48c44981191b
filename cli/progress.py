"""Progress of a long read, as one line on stderr that is overwritten; no output if stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic

from net.rate_limit import printable

SHOWN_EVERY_SECONDS = 0.1


class Progress:
    """The progress line of one read: `reading log.txt: 42 % of 300 MB, 57 MB/s`."""

    def __init__(self, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._what = printable(what)
        self._clock = clock
        self._started = self._shown = clock()
        self._width = 0

    def show(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are read, at most ten times a second."""
        now = self._clock()
        if now - self._shown < SHOWN_EVERY_SECONDS or not sys.stderr.isatty():
            return
        self._shown = now
        rate = done / (now - self._started) / (1 << 20)
        text = f"{self._what}: {done * 100 // total} % of {total >> 20} MB, {rate:.0f} MB/s"
        print(f"\r{text:{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Erase the line."""
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
