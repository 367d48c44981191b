"""The clients that see every request that runs: MONITOR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time

from measuring.shown_words import quoted_line
from replies import Push, Status


class Monitors:
    """The monitors by the id of their client. `clock` returns the Unix time in seconds."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._push: dict[int, Callable[[], Callable[[Push], None]]] = {}

    def __len__(self) -> int:
        return len(self._push)

    def __contains__(self, client_id: int) -> bool:
        return client_id in self._push

    def add(self, client_id: int, push: Callable[[], Callable[[Push], None]]) -> None:
        """Add a client; `push` returns the function that sends it a message."""
        self._push[client_id] = push

    def remove(self, client_id: int) -> None:
        """Remove a client that may be a monitor."""
        self._push.pop(client_id, None)

    def show(self, argv: Sequence[bytes], db_index: int, origin: str) -> None:
        """Show a request to all monitors. `origin` is the client's address, or `lua` for a request of a script."""
        if not self._push:
            return
        microseconds = int(self._clock() * 1e6)
        head = b"%d.%06d [%d %b] " % (*divmod(microseconds, 10**6), db_index, origin.encode("utf-8", "replace"))
        line = head + quoted_line(argv)
        message = Push([Status(line)])
        message.pieces[False] = message.pieces[True] = [b"+%b\r\n" % line]  # alone it is no array
        for push in list(self._push.values()):
            push()(message)
