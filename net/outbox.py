"""The sending half of a connection: its socket, and the replies that the socket has not accepted yet.

1. `send` never waits. Data that the socket does not accept now stay in the outbox, and are sent when it accepts more.
2. Back-pressure: until the outbox is empty, nothing more is read from the client.
3. A client whose replies exceed its output-buffer limit is dropped.
4. All of this runs in the hub, at the end of a turn or when the socket accepts more.

Refused: an object of its own instead of a base class of `Connection`. It would cost one more call a reply.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from contextlib import suppress
from typing import Any

import gevent
from gevent import getcurrent
from gevent.event import Event

from config import OutputLimit
from net.turn import Turn
from protocol import blocks
from session import Session

WRITE_BYTES = 1 << 18  # sent at most from an outbox in one turn
LINGER_SECONDS = 2.0  # limit on the time for which input is discarded at the end of a connection
READ, WRITE = 1, 2  # events of an io watcher

logger = logging.getLogger("godis")


class Outbox:
    """A client's socket, its watchers, and the replies that it has not accepted yet."""

    __slots__ = (
        "closing",
        "done",
        "greenlet",
        "outbox",
        "outbox_bytes",
        "parked",
        "passed",
        "readable",
        "session",
        "sock",
        "soft_limit_since",
        "statistics",
        "turn",
        "until_empty",
        "writable",
    )

    def __init__(self, turn: Turn, sock: socket.socket, session: Session) -> None:
        self.turn = turn
        self.session = session
        self.sock = sock  # plain and non-blocking, or TLS over that; gevent's sockets would wait
        self.statistics = turn.instance.statistics
        self.greenlet = getcurrent()
        self.readable = gevent.get_hub().loop.io(sock.fileno(), READ)
        self.writable: Any = None
        self.parked = False  # its greenlet waits for bytes, so the read watcher may run
        self.outbox: deque[memoryview] = deque()
        self.outbox_bytes = 0
        self.soft_limit_since = 0.0
        self.closing = False  # close once the outbox is empty
        self.done: Event | None = None  # set when the outbox is empty or the client is gone
        self.passed: Event | None = None  # set when the greenlet, which waits for it, may continue in a new turn
        self.until_empty = False  # set `passed` only when the outbox is empty

    def _receive(self) -> None:
        raise NotImplementedError

    def _start_reading(self) -> None:
        self.parked = not self.turn.ending
        if self.parked and not self.outbox:
            self.readable.start(self._receive)

    def stop_reading(self) -> None:
        """Stop reading from the client: its data stay in the socket's buffer."""
        self.parked = False
        self.readable.stop()

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`; no effect unless the greenlet waits for bytes."""
        if self.parked:
            self.readable.stop()

    def resume_reading(self) -> None:
        """Read again after `pause_reading`."""
        if self.parked and not self.readable.active:
            self._start_reading()

    def send(self, pieces: list[bytes]) -> None:
        """Send replies; keep what the socket does not accept now. Never waits. No pieces: close when all is sent."""
        if self.passed is not None:
            self._send_large(pieces)
            return
        try:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except MemoryError:
            self._drop_for_memory()
            return
        if not data:
            self._end()
            return
        size = len(data)
        self.statistics.output_bytes += size
        if self.outbox:
            self._keep(data)
            self._watch_outbox()
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < size:
            self._keep(memoryview(data)[sent:])
            self._watch_outbox()
        elif self.closing:
            self._sent_all()

    def _end(self) -> None:
        """Mark the end of the replies. All that waited for an fsync have passed `send` before."""
        self.closing = True
        if not self.outbox:
            self._sent_all()

    def _send_large(self, pieces: list[bytes]) -> None:
        """`send` for replies of any size: no large piece is copied, and at most WRITE_BYTES are sent in a turn."""
        before = self.outbox_bytes
        try:
            for block in blocks(pieces):
                self._keep(block)
        except MemoryError:
            self._drop_for_memory()
            return
        self.statistics.output_bytes += self.outbox_bytes - before
        self._send_outbox()
        if self.outbox:
            self._watch_outbox()
        if self.passed is not None and not self.until_empty:
            self.passed.set()
            self.turn.wake()

    def _sent_all(self) -> None:
        if self.passed is not None:
            self.passed.set()
            self.turn.wake()
        if self.closing and self.done is not None:
            self.done.set()
            self.turn.wake()

    def _keep(self, data: bytes | memoryview) -> None:
        if data:
            self.outbox.append(memoryview(data))
            self.outbox_bytes += len(data)

    def _watch_outbox(self) -> None:
        """Send the outbox as the socket accepts data, and do not read from the client until it is empty."""
        if self.writable is None:
            self.writable = gevent.get_hub().loop.io(self.readable.fd, WRITE)
        if not self.writable.active:
            self.readable.stop()
            self.writable.start(self._send_outbox)
            self.turn.slow_readers.add(self)
        self._check_limit(0)

    def _limit(self) -> OutputLimit:
        return self.turn.config.output_limits["pubsub" if self.session.is_subscribed else "normal"]

    def _check_limit(self, more_bytes: int) -> None:
        """Drop the client if its outbox plus `more_bytes` reaches the hard limit."""
        limit = self._limit()
        if limit.hard_bytes and self.outbox_bytes + more_bytes >= limit.hard_bytes:
            self.outbox_bytes += more_bytes
            self._drop_slow_reader()

    def _send_outbox(self) -> None:
        allowance = WRITE_BYTES
        try:
            while self.outbox:
                data = self.outbox[0][:allowance]
                if not data:
                    return
                sent = self.sock.send(data)
                self.session.active_ms = self.turn.store.now_ms
                allowance -= sent
                self.outbox_bytes -= sent
                if sent < len(self.outbox[0]):
                    self.outbox[0] = self.outbox[0][sent:]
                    if sent < len(data):
                        return
                else:
                    self.outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if self.writable is not None:
            self.writable.stop()
        self.turn.slow_readers.discard(self)
        self.soft_limit_since = 0.0
        if self.parked:
            self.readable.start(self._receive)
        self._sent_all()

    def follow_soft_limit(self, now: float) -> None:
        """Drop the client if its outbox exceeded the soft limit for too long. Called each second; `now`: monotonic."""
        limit = self._limit()
        if limit.soft_bytes and self.outbox_bytes >= limit.soft_bytes:
            self.soft_limit_since = self.soft_limit_since or now
            if now - self.soft_limit_since >= limit.soft_seconds:
                self._drop_slow_reader()
        else:
            self.soft_limit_since = 0.0

    def _drop_slow_reader(self) -> None:
        logger.warning("dropped %s: %d bytes of replies not read", self.session.address, self.outbox_bytes)
        self.statistics.output_limit_disconnections += 1
        self.abort()

    def _drop_for_memory(self) -> None:
        self.abort()
        logger.warning("dropped %s: no memory for its replies", self.session.address)

    def discard_input(self) -> None:
        """Read and discard input until the client closes its side. Runs in the connection's greenlet.

        If a connection is closed while input is unread, the system resets it, and the client loses the replies that it
        has not read yet.
        """
        with suppress(OSError), gevent.Timeout(LINGER_SECONDS, False):
            if not socket.socket.recv_into(self.sock, self.turn.receive_buffer):  # of TLS the socket below
                return
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            wait = gevent.get_hub().wait
            wait(self.readable)
            while socket.socket.recv_into(self.sock, self.turn.receive_buffer):
                wait(self.readable)

    def abort(self) -> None:
        """Close the connection and discard all its replies, those that wait for the turn or an fsync included."""
        # The client may have closed already. Of a TLS connection only the socket below is shut down.
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        self.parked = self.closing = False
        self.session.closing = True
        self.readable.stop()
        if self.writable is not None:
            self.writable.stop()
        self.outbox.clear()
        self.outbox_bytes = 0
        self.turn.slow_readers.discard(self)
        if self.done is not None:
            self.done.set()
        else:
            gevent.kill(self.greenlet)  # takes effect in the next turn
        self.turn.wake()
