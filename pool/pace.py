"""How long a greenlet that waits for nothing may have the loop: a millisecond, then clients have theirs.

It owns the pause. `gevent.sleep(0)` would be none: the loop runs some dozen callbacks, each of which may take its
millisecond, before it looks for what clients sent (50 to 90 ms, measured). A timer comes behind that look.
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import TypeVar

import gevent

SLICE_SECONDS = 0.001

T = TypeVar("T")


class Pace:
    """The pace of all of an instance's greenlets that may have much to do."""

    def __init__(self) -> None:
        self._began = monotonic()

    def is_late(self) -> bool:
        """Return True if a pause is due."""
        return monotonic() - self._began > SLICE_SECONDS

    def breathe(self) -> None:
        """Let clients have the loop if it is time."""
        if self.is_late():
            hub = gevent.get_hub()
            hub.wait(hub.loop.timer(0))
            self._began = monotonic()

    def go(self, steps: Generator[None, None, T]) -> T:
        """Go through steps with pauses between them; return what comes out."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: T = end.value
                return found
            self.breathe()
