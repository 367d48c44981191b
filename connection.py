"""One client's connection: receive, parse, execute, and send what the turn hands back.

It owns a socket, its watchers and the bytes that its client has not taken yet. It must not know listeners or other
connections. What a request means is the engine's business, what bytes mean is protocol's, when replies leave is the
turn's.

- A connection has one read watcher for as long as it lives. Its greenlet parks in the hub and is switched to when bytes
  are there. (gevent's `socket.recv` instead costs a failed recv, an exception and two watcher calls a request.)
- All connections share one receive buffer: its bytes are parsed before the next switch.
- What a client does not take stays in its outbox, and no more is read from it until that is empty.

Whoever parks a greenlet for anything but bytes stops the read watcher first: it would wake it in the wrong place.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from operator import length_hint
from time import monotonic
from typing import Any

import gevent
from gevent import getcurrent
from gevent.event import Event

from columns import CRLF, TABLED, Columns
from engine import Engine
from protocol import HEADERS, RequestParser, TextRequest, encode, encode_head, encode_text
from replies import OK, WAIT, Farewell, LongArray, Reply
from session import Session
from turn import SLICE_SECONDS, Turn

TURN_OUTPUT_BYTES = 1 << 20  # a connection that made so many bytes of replies has to send them before it goes on
PIPELINE = 4  # requests; fewer are faster executed one by one
READ, WRITE = 1, 2  # the loop's events
OK_PIECE = b"+OK\r\n"

logger = logging.getLogger("godis")


class Connection:
    """One client: its socket, its watcher, and the bytes it has not taken yet."""

    __slots__ = (
        "closing",
        "done",
        "emptied",
        "engine",
        "execute",
        "execute_many",
        "greenlet",
        "logged",
        "outbox",
        "outbox_bytes",
        "parked",
        "parser",
        "readable",
        "session",
        "sock",
        "soft_limit_since",
        "statistics",
        "turn",
        "writable",
    )

    def __init__(self, turn: Turn, engine: Engine, sock: socket.socket, session: Session) -> None:
        loop = gevent.get_hub().loop
        self.turn = turn
        self.engine = engine
        self.session = session
        self.sock = sock  # a plain non-blocking one, or TLS over it; gevent's are for callers who wait in them
        self.parser = RequestParser(turn.config.max_bulk_bytes, turn.config.query_buffer_bytes)
        self.parser.authenticated = session.authenticated
        # not a partial of the bound method, which takes 10 ns more a request
        self.execute: Callable[[list[bytes]], Reply] = partial(Engine.execute, engine, session)
        self.execute_many = engine.execute_many
        self.statistics = turn.instance.statistics
        self.greenlet = getcurrent()
        self.readable = loop.io(sock.fileno(), READ)
        self.writable: Any = None
        self.parked = False  # waiting for bytes, so that its read watcher may run
        self.logged = 0  # how many pieces this turn's log had when this connection's part of the turn began
        self.outbox: deque[memoryview] = deque()
        self.outbox_bytes = 0
        self.soft_limit_since = 0.0
        self.closing = False  # to be closed when the outbox is empty
        self.done: Event | None = None  # set when all is sent or the client is gone
        self.emptied: Event | None = None
        session.query_bytes = lambda: self.parser.pending_bytes
        session.output_bytes = lambda: self.outbox_bytes

    # ---- reading: in the connection's greenlet

    def serve(self, shake_hands: Callable[[], bool] | None = None) -> None:
        """Receive, execute, again, until either side is done. Runs in the connection's own greenlet.

        `shake_hands`: what comes before; False if nothing comes after it.
        """
        try:
            if shake_hands is None or shake_hands():
                self._serve()
                self._finish()
        except gevent.GreenletExit:
            pass
        finally:
            self.readable.stop()
            self.readable.close()
            if self.writable is not None:
                self.writable.stop()
                self.writable.close()
            # The session must not hold this object, which holds it: such a cycle waits for the collector.
            self.session.query_bytes = self.session.output_bytes = int

    def _serve(self) -> None:
        turn, session, parser = self.turn, self.session, self.parser
        log, store, statistics = turn.log, turn.store, self.statistics
        buffer, replies = turn.receive_buffer, turn.replies
        receive_into, park, feed = self.sock.recv_into, gevent.get_hub().switch, parser.feed
        self._start_reading()
        while True:
            park()
            try:
                size = receive_into(buffer)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not size:
                return
            session.active_ms = store.now_ms
            statistics.input_bytes += size
            self.logged = len(log.pieces)
            pieces = self._run(feed(buffer, size))
            parser.authenticated = session.authenticated
            if parser.error is not None and not session.closing:
                pieces.append(b"-%b\r\n" % parser.error)
                session.closing = True
            if pieces:
                replies.append((self, pieces, len(log.pieces) != self.logged))
            if session.closing:
                return

    def _run(self, requests: Iterable[list[bytes]]) -> list[bytes]:
        """Execute requests; return the pieces of their replies that are still to be sent.

        The loop of the fast path: what is neither a string nor OK leaves it for `encode`, and whatever needs looking at
        (text, muted replies, waiting, closing) leaves it for `_run_with_care`.
        """
        session = self.session
        pieces: list[bytes] = []
        if (type(requests) is not list and type(requests) is not Columns) or not requests:
            return self._run_with_care(self._counted(requests), pieces)
        self.statistics.commands_processed += len(requests)
        if self.parser.text_seen or session.muted:
            return self._run_with_care(requests, pieces)
        replies = self.execute_many(session, requests) if len(requests) >= PIPELINE else None
        if replies is not None and replies[0] is OK and replies.count(OK) == len(replies):
            session.last_command = requests[-1][0]  # one by one, the replies of SETs take 3 % of all at P=100
            return [OK_PIECE * len(replies)]
        requests = list(requests)
        rest = iter(requests if replies is None else ())
        bulky = 0
        for reply in replies or map(self.execute, rest):
            if reply is OK:
                pieces.append(OK_PIECE)
            elif type(reply) is bytes:
                size = len(reply)
                # The head from a table and three pieces: 15 % more GETs at P=100 than `b"$%d\r\n%b\r\n" % …`.
                if size < TABLED:
                    pieces += (HEADERS[size], reply, CRLF)
                else:
                    pieces += (b"$%d\r\n" % size, reply, CRLF)
                    bulky += size
                    if bulky > TURN_OUTPUT_BYTES:
                        pieces, bulky = self._drain(pieces), 0
            elif reply is WAIT:
                return self._run_with_care(requests[-1 - length_hint(rest) :], pieces)
            else:
                encode(reply, pieces.append, session.resp3)
                if session.closing:
                    break
                if session.muted:
                    session.suppress()  # its own reply counts, though CLIENT REPLY SKIP has none
                    return self._run_with_care(rest, pieces)
        session.last_command = requests[-1 - length_hint(rest)][0]
        return pieces

    def _counted(self, requests: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
        for argv in requests:
            self.statistics.commands_processed += 1
            yield argv

    def _run_with_care(self, requests: Iterable[list[bytes]], pieces: list[bytes]) -> list[bytes]:
        """Execute requests one by one, with everything that can happen between them."""
        made = sum(map(len, pieces))
        for argv in requests:
            if self._is_attack(argv):
                break
            reply = self.execute(argv)
            while reply is WAIT:
                if self.session.work is not None:
                    pieces, reply = self._work(pieces, argv)
                else:
                    pieces = self._wait(pieces)
                    reply = self.execute(argv)
            before = len(pieces)
            pieces = self._answer(argv, reply, pieces)
            if self.session.closing or self.turn.instance.shutdown:
                break
            made += sum(map(len, pieces[before:]))
            if made > TURN_OUTPUT_BYTES:
                pieces, made = self._drain(pieces), 0
        return pieces

    def _is_attack(self, argv: list[bytes]) -> bool:
        """Say whether a browser was made to send this: nothing of it may run."""
        if type(argv) is TextRequest and argv[0].upper() in (b"POST", b"HOST:"):
            logger.warning("closed %s: an HTTP request, perhaps a cross-protocol attack", self.session.address)
            self.session.closing = True
            return True
        return False

    def _answer(self, argv: list[bytes], reply: Reply, pieces: list[bytes]) -> list[bytes]:
        """Put the reply of a request that ran behind `pieces`, as its dialect spells it; return what is to be sent."""
        session = self.session
        session.last_command = argv[0]
        self.parser.authenticated = session.authenticated
        is_text = type(argv) is TextRequest
        if session.muted and session.suppress():
            return pieces
        if type(reply) is LongArray:
            return self._send_long(reply, pieces, is_text)
        if is_text:
            row = self.engine.table.get(argv[0].upper())
            if type(reply) is not Farewell:
                encode_text(reply, pieces.append, row.text_null if row else b"(nil)")
        else:
            encode(reply, pieces.append, session.resp3)
        return pieces

    def _finish(self) -> None:
        """Wait until all replies are sent, then let the socket be closed."""
        self.stop_reading()
        self.done = Event()
        self.turn.replies.append((self, [], False))  # behind all that is still on its way: see `_end`
        self.done.wait()

    def _wait(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, wait for the end of the pause, and return a new list for what follows."""
        if pieces:
            self.turn.replies.append((self, pieces, self._has_logged()))
        self.stop_reading()
        self.session.waiting = True
        self.turn.wait_for_resume()
        self.session.waiting = False
        return self._go_on()

    def _work(self, pieces: list[bytes], argv: list[bytes]) -> tuple[list[bytes], Reply]:
        """Send what there is, make the reply that is made in slices, and return it with a new list for what follows."""
        self.session.last_command = argv[0]
        work, self.session.work = self.session.work, None
        assert work is not None
        if pieces:
            self.turn.replies.append((self, pieces, self._has_logged()))
        self.stop_reading()
        try:
            reply = self.turn.do(work)
        except Exception:
            reply = self.engine.internal_error(argv[0])
        witness = self.turn.instance.witness
        if witness is not None:  # once more: it has seen what came since it began
            witness.note(self.session, self.engine.lookup(argv), argv)
        return self._go_on(), reply

    def _send_long(self, reply: LongArray, pieces: list[bytes], is_text: bool) -> list[bytes]:
        """Encode an array in slices, each when the client has taken what was before; return what is still to be sent.

        So the reply takes no more memory than a slice of it, however slow its reader is.
        """
        turn = self.turn
        turn.working += 1
        try:
            encode_head(reply, pieces.append, is_text)
            while reply.chunks:
                self._drain(pieces)
                self.stop_reading()
                turn.wait_for_slice()
                pieces = self._go_on()
                end, made = monotonic() + SLICE_SECONDS, 0
                while reply.chunks and made < TURN_OUTPUT_BYTES and monotonic() < end:
                    chunk = reply.chunks.pop()
                    made += sum(map(len, chunk))
                    for member in chunk:
                        encode_text(member, pieces.append) if is_text else encode(member, pieces.append, False)
            return pieces
        finally:
            turn.store.garbage.append(reply.chunks)
            turn.working -= 1

    def _drain(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, wait until the client has taken it, and return a new list for what follows."""
        self.stop_reading()
        self.emptied = Event()
        self.turn.replies.append((self, pieces, self._has_logged()))
        self.emptied.wait()
        self.emptied = None
        return self._go_on()

    def _has_logged(self) -> bool:
        """Say whether this turn's log holds effects of this connection's requests."""
        return len(self.turn.log.pieces) != self.logged

    def _go_on(self) -> list[bytes]:
        self.logged = len(self.turn.log.pieces)
        self._start_reading()
        return []

    def _start_reading(self) -> None:
        self.parked = not self.turn.ending
        if self.parked and not self.outbox:
            self.readable.start(self.greenlet.switch)

    def stop_reading(self) -> None:
        """Let what the client sends lie in the socket."""
        self.parked = False
        self.readable.stop()

    # ---- writing: in the hub, at the end of a turn

    def send(self, pieces: list[bytes]) -> None:
        """Send replies, or keep what the client does not take now. Never waits."""
        try:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except MemoryError:
            logger.warning("dropped %s: no memory for its replies", self.session.address)
            self.abort()
            return
        if not data:
            self._end()
            return
        self.statistics.output_bytes += len(data)
        if self.outbox:
            self._keep(memoryview(data))
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])
        else:
            self._sent_all()

    def _end(self) -> None:
        """Note that nothing comes behind what is sent by now: what waited for an fsync is sent, too."""
        self.closing = True
        if not self.outbox:
            self._sent_all()

    def _sent_all(self) -> None:
        if self.emptied is not None:
            self.emptied.set()
            self.turn.wake()
        if self.closing and self.done is not None:
            self.done.set()
            self.turn.wake()

    def _keep(self, data: memoryview) -> None:
        """Keep bytes that the client does not take, and do not read from it until it has them: the back-pressure."""
        if data:
            self.outbox.append(data)
            self.outbox_bytes += len(data)
        if self.writable is None:
            self.writable = gevent.get_hub().loop.io(self.readable.fd, WRITE)
        if not self.writable.active:
            self.readable.stop()
            self.writable.start(self._send_outbox)
            self.turn.slow_readers.add(self)
        limit = self.turn.config.output_limit
        if limit.hard_bytes and self.outbox_bytes >= limit.hard_bytes:
            self._drop_slow_reader()

    def _send_outbox(self) -> None:
        try:
            while self.outbox:
                data = self.outbox[0]
                sent = self.sock.send(data)
                self.outbox_bytes -= sent
                if sent < len(data):
                    self.outbox[0] = data[sent:]
                    return
                self.outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        self.writable.stop()
        self.turn.slow_readers.discard(self)
        self.soft_limit_since = 0.0
        if self.parked:
            self.readable.start(self.greenlet.switch)
        self._sent_all()

    def follow_soft_limit(self, now: float) -> None:
        """Drop the client if its replies were beyond the soft limit for too long. To be called each second."""
        limit = self.turn.config.output_limit
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

    def abort(self) -> None:
        """Close without sending anything more, whatever the turn or an fsync still holds for it."""
        with suppress(
            OSError
        ):  # the client may have closed; and of TLS only the socket below, which fails from then on
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        self.parked = False
        self.readable.stop()
        if self.writable is not None:
            self.writable.stop()
        self.outbox.clear()
        self.outbox_bytes = 0
        self.turn.slow_readers.discard(self)
        if self.done is not None:
            self.done.set()
        else:
            gevent.kill(self.greenlet)  # at the next turn, not here
        self.turn.wake()
