"""Scripts on a stack of their own: a greenlet, so that a script that takes long can pause amid a call.

1. There is one greenlet, because one script runs at a time. It lives on, because to make one costs more than most
   scripts take.
2. Whoever runs a script, the hub or a connection's greenlet, is its parent until it ends or pauses. Nothing in it waits
   for gevent.
3. A script that has paused goes on once in each round of the loop, from a timer in the hub. While it has not ended, the
   scheduler grants no slice to other work (`net/scheduler.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from session import PAUSED

Job = Callable[[], Any]


def _run_jobs(job: Job) -> None:
    """Run one job after another: the life of the greenlet. An error in a job ends it, and is raised in its parent."""
    while True:
        job = greenlet.switch(getcurrent().parent, job())  # gevent's own takes no value


class Apart:
    """The greenlet of scripts."""

    def __init__(self) -> None:
        self._greenlet: Any = None
        self._hub = gevent.get_hub()
        self._timer = self._hub.loop.timer(0, ref=False)

    def run(self, job: Job) -> Any:
        """Run a script; return what it returns, or PAUSED. Raises what it raises."""
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = greenlet(_run_jobs)
        return self._switch(job)

    def resume(self) -> Any:
        """Go on with the script that has paused, as `run` does."""
        return self._switch(None)

    def _switch(self, value: Any) -> Any:
        own = self._greenlet
        own.parent = getcurrent()
        try:
            return own.switch(value)
        finally:
            if not own.dead:
                own.parent = self._hub  # it must not keep the greenlet of a client that is gone

    def pause(self) -> None:
        """Pause the script that runs; return when it goes on."""
        greenlet.switch(self._greenlet.parent, PAUSED)

    def drive(self, go_on: Callable[[], bool]) -> None:
        """Call `go_on` in each round of the loop until it returns True."""

        def step() -> None:
            if not go_on():
                self._timer.start(step)

        self._timer.start(step)

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return monotonic()
