"""A clock that can be set: by DEBUG CLOCK, in a server for tests, and of one that shows a log as it was.

The turn reads it instead of the system's clock. An advance is over when it returns: keys that have expired are deleted,
with their events, and a pause that has ended is over. A client that blocks looks at the clock now and then.
"""

from __future__ import annotations

from time import time

from session import Instance


class ManualClock:
    """A clock that is ahead of the system's clock, or stands still."""

    def __init__(self, instance: Instance, frozen_ms: int | None = None) -> None:
        self._instance = instance
        self._ahead_ms = 0
        self._frozen_ms = frozen_ms

    def now_ms(self) -> int:
        """Return the time in Unix ms."""
        return int(time() * 1000) + self._ahead_ms if self._frozen_ms is None else self._frozen_ms

    def seconds(self) -> float:
        """Return the time in Unix seconds."""
        return self.now_ms() / 1000

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        if self._frozen_ms is None:
            self._ahead_ms += milliseconds
        else:
            self._frozen_ms += milliseconds
        self._follow()

    def freeze(self) -> None:
        """Stand still until `reset`; `advance` still moves the time."""
        self._frozen_ms = self.now_ms()
        self._follow()

    def reset(self) -> None:
        """Go with the system's clock again."""
        self._ahead_ms, self._frozen_ms = 0, None
        self._follow()

    def _follow(self) -> None:
        instance, store = self._instance, self._instance.store
        store.tick(self.now_ms())
        for db in store.databases:
            for key in sorted(db.expiry.dead_keys(store.expired_until_ms)):
                db.peek(key)  # deletes it; the active cycle would leave the running second for later
            db.expire_due(lambda: False)
        instance.gate("pause", closed=instance.paused)
        instance.resumed()
