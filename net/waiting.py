"""A client that waits for a key to hold something (BLPOP and its kin), for an fsync (WAITAOF), or for its timeout.

It parks no greenlet: what ends the waiting calls it, amid the request of another client, at the end of a turn, or from
a timer. A greenlet and an `Event` take two switches and one more turn.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from time import time
from typing import Any

from errors import LOG_FAILED, UNBLOCKED, CommandError
from keyspace.blocked_clients import Waiter
from net.outbox import Outbox
from replies import Blocked, Reply, UntilSynced

CLOCK_POLL_SECONDS = 0.02  # how often a client that waits looks at the clock of a server for tests


class Wait:
    """The waiting of one client, until `answer` is called with the reply, or until `cancel`.

    `retry` runs a request again. The waiting ends when the request finds something, after `seconds` (0: never), by
    CLIENT UNBLOCK, or with the client.
    """

    __slots__ = ("_again", "_answer", "_blocked", "_connection", "_is_over", "_retry", "_timeout", "_waiter")

    def __init__(
        self,
        connection: Outbox,
        blocked: Blocked,
        seconds: float,
        retry: Callable[[list[bytes]], Reply],
        answer: Callable[[Reply], None],
    ) -> None:
        turn, session = connection.turn, connection.session
        self._connection, self._blocked, self._retry, self._answer = connection, blocked, retry, answer
        self._is_over = False
        connection.stop_reading()
        connection.readable.start(self._receive_nothing)
        session.unblock = self._unblock
        session.waiting = True
        self._timeout = self._timer(seconds) if seconds else None
        self._again: Any = None
        if blocked.again_seconds is not None:
            self._again = turn.after(blocked.again_seconds, self._try_again, blocked.again_seconds)
        if isinstance(blocked, UntilSynced):
            turn.when_synced(self._synced)
        self._waiter = Waiter(session.db, blocked.keys, blocked.python_type, self._serve)
        turn.instance.blocked.add(self._waiter)

    def _timer(self, seconds: float) -> Any:
        turn, clock = self._connection.turn, self._connection.turn.instance.clock
        if clock is None:
            return turn.after(seconds, self._time_out)
        end = clock.seconds() + seconds
        return turn.after(
            CLOCK_POLL_SECONDS, lambda: self._time_out() if clock.seconds() >= end else None, CLOCK_POLL_SECONDS
        )

    def cancel(self) -> None:
        """Wait no more; no effect if the waiting is over."""
        if self._is_over:
            return
        self._is_over = True
        connection = self._connection
        connection.readable.stop()
        connection.session.unblock = None
        connection.session.waiting = False
        for timer in (self._timeout, self._again):
            if timer is not None:
                timer.close()
        connection.turn.instance.blocked.remove(self._waiter)

    def follow(self) -> None:
        """Drop the client if it is gone and what it has sent before hides that. Called each second."""
        if not self._is_over and not self._connection.readable.active and self._has_hung_up():
            self._connection.abort()

    def _end(self, reply: Reply) -> None:
        self.cancel()
        if not self._connection.session.closing:
            self._answer(reply)

    def _serve(self, key: bytes) -> bool:
        """Run the request again for a key that is ready; return True if the client waits no more."""
        connection = self._connection
        if connection.session.closing or self._has_hung_up():  # it was dropped, or is gone
            self.cancel()
            connection.abort()
            return True
        reply = self._retry(self._blocked.request(key))
        if isinstance(reply, Blocked):
            return False
        self._end(reply)
        return True

    def _synced(self, failure: bytes | None) -> None:
        if not self._is_over:
            self._end([1, 0] if failure is None else CommandError(LOG_FAILED % failure))

    def _unblock(self, with_error: bool) -> None:
        self._end(CommandError(UNBLOCKED) if with_error else self._blocked.null)

    def _time_out(self) -> None:
        self._end(self._blocked.null)

    def _try_again(self) -> None:
        """Let the request run again at the end of this turn, because time alone may bring what it waits for."""
        connection = self._connection
        connection.turn.instance.blocked.try_again(connection.session.db, self._blocked.keys)

    def _receive_nothing(self) -> None:
        """Notice that the client is gone. What else it sends stays in the socket until it is served.

        Behind bytes that stay there its end cannot be seen: `follow` looks for it.
        """
        connection = self._connection
        try:
            is_gone = not socket.socket.recv(connection.sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            is_gone = True
        if not is_gone:
            connection.readable.stop()
        elif time() < connection.turn.instance.turn_ends:  # as in `Connection._receive`
            connection.abort()

    def _has_hung_up(self) -> bool:
        """Return True if the client has closed its side, also if requests that it sent before are still unread."""
        if not hasattr(select, "POLLRDHUP"):
            return False
        poll = select.poll()
        poll.register(self._connection.sock.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))
