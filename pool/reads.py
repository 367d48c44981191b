"""Linearizable reads: each waits until this instance has applied all that was acknowledged before it began.

It owns the readers, and must not know how etcd is asked. One query of the log's last index serves all readers that were
there when the query began:

    waiting --ask--> asking --the log ends at `index`--> behind --`index` is applied here--> done
"""

from __future__ import annotations

from time import monotonic

from gevent.event import Event


class Reader:
    """A read that waits until the entry `index` is applied here; -1 before etcd has answered."""

    def __init__(self) -> None:
        self.since = monotonic()
        self.index = -1
        self.failed = False
        self.done = Event()


class Readers:
    """All readers of an instance; `wanted` is set while a reader waits for a query."""

    def __init__(self) -> None:
        self.wanted = Event()
        self._waiting: list[Reader] = []
        self._asking: list[Reader] = []
        self._behind: list[Reader] = []

    def wait_until_confirmed(self) -> bool:
        """Wait until all that the log holds now is applied; return False if etcd did not answer in time."""
        reader = Reader()
        self._waiting.append(reader)
        self.wanted.set()
        reader.done.wait()
        return not reader.failed

    def ask(self) -> None:
        """Assign all waiting readers to the query that begins now."""
        self.wanted.clear()
        self._asking, self._waiting = self._waiting, []

    def ask_again(self) -> None:
        """Put the readers of a query that failed back, before those that came later."""
        self._waiting, self._asking = self._asking + self._waiting, []

    def answer(self, index: int, applied: int) -> None:
        """Take the answer to a query: the log ends at `index`. Release the readers if `applied` is as far."""
        for reader in self._asking:
            reader.index = index
        self._behind += self._asking
        self._asking = []
        self.follow(applied)

    def follow(self, applied: int) -> None:
        """Release the readers that waited for entries up to the index `applied`. O(readers that wait)."""
        if self._behind:
            for reader in self._behind:
                if reader.index <= applied:
                    reader.done.set()
            self._behind = [reader for reader in self._behind if reader.index > applied]

    def fail_overdue(self, now: float, seconds: float) -> None:
        """Fail the readers that have waited for more than `seconds`."""
        for readers in (self._waiting, self._asking, self._behind):
            for reader in readers:
                if now - reader.since > seconds:
                    reader.failed = True
                    reader.done.set()
            readers[:] = [reader for reader in readers if not reader.done.is_set()]
