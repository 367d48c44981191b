"""Pauses in the work of a pool's greenlets: after a millisecond of work, clients are served.

1. A greenlet works for SLICE_SECONDS at most between two pauses.
2. A pause is a timer of zero seconds. The loop fires it after it has polled the clients' sockets. `net/scheduler.py`
   says why `gevent.sleep(0)` is no such pause.

Refused: one mechanism with `net/scheduler.py`. That scheduler queues the slices of all clients and runs one work at a
time. An entry of the log must not queue there: each of its slices would wait for a slice of every client that asked
before. So this instance would fall behind the log under load, its clients' writes would wait longer, because they wait
for their entry, and keys that a long command of an entry locks would stay locked longer. The pool's steps also run
before there is a server: while an instance catches up with the log.
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import TypeVar

import gevent

SLICE_SECONDS = 0.001

T = TypeVar("T")


class Pace:
    """The time since the last pause, shared by all greenlets of an instance that may work for long."""

    def __init__(self) -> None:
        self._resumed_at = monotonic()

    def is_pause_due(self) -> bool:
        """Return True if the last pause ended more than SLICE_SECONDS ago."""
        return monotonic() - self._resumed_at > SLICE_SECONDS

    def pause_if_due(self) -> None:
        """Park the calling greenlet until the loop has polled the sockets, if a pause is due."""
        if self.is_pause_due():
            hub = gevent.get_hub()
            hub.wait(hub.loop.timer(0))
            self._resumed_at = monotonic()

    def run(self, steps: Generator[None, None, T]) -> T:
        """Run a generator to its end with pauses between its steps, and return its value."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                value: T = end.value
                return value
            self.pause_if_due()
