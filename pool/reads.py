"""Reads that must see all that was acknowledged anywhere before they were asked: who waits, and until when.

It owns the readers, and must not know how etcd is asked. One question serves all who came before it was asked:

    waiting --ask--> asking --the log goes as far as `index`--> behind --it is applied here--> done
"""

from __future__ import annotations

from time import monotonic

from gevent.event import Event


class Reader:
    """A read that waits until the instance has all that the log held when it asked."""

    def __init__(self) -> None:
        self.since = monotonic()
        self.index = -1
        self.failed = False
        self.done = Event()


class Readers:
    """All that wait; `wanted` is set when somebody waits for a question."""

    def __init__(self) -> None:
        self.wanted = Event()
        self._waiting: list[Reader] = []
        self._asking: list[Reader] = []
        self._behind: list[Reader] = []

    def wait_until_confirmed(self) -> bool:
        """Wait until all that the log holds now is applied; False if that cannot be known."""
        reader = Reader()
        self._waiting.append(reader)
        self.wanted.set()
        reader.done.wait()
        return not reader.failed

    def ask(self) -> None:
        """Note that a question begins now: it is for all who wait."""
        self.wanted.clear()
        self._asking, self._waiting = self._waiting, []

    def ask_again(self) -> None:
        """Note that there was no answer."""
        self._waiting, self._asking = self._asking + self._waiting, []

    def answer(self, index: int, applied: int) -> None:
        """Note that the log went as far as `index` when the question began, and who need not wait for that."""
        for reader in self._asking:
            reader.index = index
        self._behind += self._asking
        self._asking = []
        self.follow(applied)

    def follow(self, applied: int) -> None:
        """Let those go on who waited for what is applied now."""
        if self._behind:
            for reader in self._behind:
                if reader.index <= applied:
                    reader.done.set()
            self._behind = [reader for reader in self._behind if reader.index > applied]

    def fail_who_waits_too_long(self, now: float, seconds: float) -> None:
        """Tell those who have waited for so long that it cannot be known."""
        for readers in (self._waiting, self._asking, self._behind):
            for reader in readers:
                if now - reader.since > seconds:
                    reader.failed = True
                    reader.done.set()
            readers[:] = [reader for reader in readers if not reader.done.is_set()]
