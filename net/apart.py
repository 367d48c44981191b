"""Scripts on stacks of their own: greenlets, so that a script that takes long can pause amid a call.

1. A stack lives on when its script has ended, because to make one costs more than most scripts take. A second one is
   made only while the script of the first has paused: in a pool entries are applied meanwhile.
2. Whoever runs a script, the hub or a connection's greenlet, is its parent until it ends or pauses. Nothing in it waits
   for gevent.
3. A script that has paused goes on once in each round of the loop, from a timer in the hub. While it has not ended, no
   other work goes on (`net/scheduler.py`), but a connection that was late in its turn does: it gets BUSY.
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
    """Run one job after another: the life of a greenlet. An error in a job ends it, and is raised in its parent."""
    while True:
        outcome = job()  # meanwhile the parent may become another one
        job = greenlet.switch(getcurrent().parent, outcome)  # gevent's own takes no value


class Stack:
    """A greenlet that runs one script at a time."""

    def __init__(self, idle: list[Stack]) -> None:
        self._hub = gevent.get_hub()
        self._greenlet = greenlet(_run_jobs, self._hub)
        self._idle = idle

    def run(self, job: Job | None) -> Any:
        """Run a script, or go on with the one that has paused; return what it returns, or PAUSED. Raises its errors."""
        own, parent = self._greenlet, getcurrent()
        if parent is self._hub:
            outcome = own.switch(job)
        else:
            own.parent = parent
            outcome = own.switch(job)
            own.parent = self._hub  # it must not keep the greenlet of a client that is gone
        if outcome is not PAUSED:
            self._idle.append(self)
        return outcome

    def pause(self) -> None:
        """Pause the script that runs; return when it goes on."""
        greenlet.switch(self._greenlet.parent, PAUSED)


class Apart:
    """The stacks of an instance, and the time."""

    def __init__(self) -> None:
        self._idle: list[Stack] = []
        self._timer = gevent.get_hub().loop.timer(0, ref=False)

    def stack(self) -> Stack:
        """Return a stack that no script has."""
        return self._idle.pop() if self._idle else Stack(self._idle)

    def drive(self, go_on: Callable[[], bool]) -> None:
        """Call `go_on` in each round of the loop until it returns True."""

        def step() -> None:
            if not go_on():
                self._timer.start(step)

        self._timer.start(step)

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return monotonic()
