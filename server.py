"""The network: listeners, one greenlet a connection, the turn, the fsync thread, the end.

It alone knows gevent and sockets. What a request means is the engine's business, what bytes mean is protocol's.

A turn is one round of the event loop:

    poll -> [clock] -> connection greenlets: receive, parse, execute -> [write log] -> [send replies] -> poll
            check                 io watchers                               prepare

- The clock is read once a turn, before any connection's greenlet runs.
- A connection has one read watcher for as long as it lives. Its greenlet parks in the hub and is switched to when bytes
  are there. (gevent's `socket.recv` instead costs a failed recv, an exception and two watcher calls a request.)
- All connections share one receive buffer: its bytes are parsed before the next switch.
- Replies are not sent where they are made. At the end of the turn the log is written once, then each connection's
  replies are sent: so a reply never leaves before its effect is in the log, and group commit costs nothing.
- Under `appendfsync always` the replies wait in `held` for the fsync that covers them; the loop goes on meanwhile.

Whoever parks a greenlet for anything but bytes stops the read watcher first: it would wake it in the wrong place.

It is longer than the others because it is the only one that may know gevent: a connection and the server that owns it
share the turn, and a module between them would have to know both.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import length_hint
from time import monotonic, sleep, time
from typing import Any, NamedTuple

import gevent
import gevent.socket
from gevent import getcurrent
from gevent.event import Event
from gevent.server import StreamServer

from aof import AppendOnlyLog, NullLog
from config import LOG_LEVELS, Config
from engine import Engine
from errors import DENIED, LOG_FAILED, MAX_CLIENTS, StartError
from protocol import CRLF, HEADERS, TABLED, RequestParser, TextRequest, encode, encode_text
from replies import OK, WAIT, Farewell, Reply
from rewrite import Rewriter
from session import Instance, Session

RECEIVE_BYTES = 16384
TURN_OUTPUT_BYTES = 1 << 20  # a connection that made so many bytes of replies has to send them before it goes on
PIPELINE = 4  # requests; fewer are faster executed one by one
SLICE_SECONDS = 0.001
HOUSEKEEPING_SECONDS = 0.1
BACKLOG = 511
READ, WRITE = 1, 2  # the loop's events
OK_PIECE = b"+OK\r\n"

logger = logging.getLogger("godis")


class Connection:
    """One client: its socket, its watcher, and the bytes it has not taken yet."""

    __slots__ = (
        "closing",
        "done",
        "emptied",
        "execute",
        "execute_many",
        "greenlet",
        "logged",
        "outbox",
        "outbox_bytes",
        "parked",
        "parser",
        "readable",
        "server",
        "session",
        "sock",
        "soft_limit_since",
        "statistics",
        "writable",
    )

    def __init__(self, server: Server, sock: Any, session: Session) -> None:
        loop = gevent.get_hub().loop
        self.server = server
        self.session = session
        self.sock = sock._sock  # the plain non-blocking socket: gevent's is for callers who wait in it
        self.parser = RequestParser(server.config.max_bulk_bytes, server.config.query_buffer_bytes)
        self.parser.authenticated = session.authenticated
        # not a partial of the bound method, which takes 10 ns more a request
        self.execute: Callable[[list[bytes]], Reply] = partial(Engine.execute, server.engine, session)
        self.execute_many = server.engine.execute_many
        self.statistics = server.instance.statistics
        self.greenlet = getcurrent()
        self.readable = loop.io(sock.fileno(), READ)
        self.writable: Any = None
        self.parked = False  # waiting for bytes, so that its read watcher may run
        self.logged = 0  # how many pieces this turn's log had when this connection's part of the turn began
        self.outbox: deque[memoryview] = deque()
        self.outbox_bytes = 0
        self.soft_limit_since = 0.0
        self.closing = False  # no more is read; to be closed when all is sent
        self.done: Event | None = None  # set when all is sent or the client is gone
        self.emptied: Event | None = None
        session.query_bytes = lambda: self.parser.pending_bytes
        session.output_bytes = lambda: self.outbox_bytes

    # ---- reading: in the connection's greenlet

    def serve(self) -> None:
        """Receive, execute, again, until either side is done. Runs in the connection's own greenlet."""
        try:
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
        server, session, parser = self.server, self.session, self.parser
        log, store, statistics = server.log, server.store, self.statistics
        buffer, replies = server.receive_buffer, server.replies
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
        if type(requests) is not list or not requests:
            return self._run_with_care(self._counted(requests), pieces)
        self.statistics.commands_processed += len(requests)
        if self.parser.text_seen or session.muted:
            return self._run_with_care(requests, pieces)
        rest = iter(requests)
        replies: Iterable[Reply] | None = None
        if len(requests) >= PIPELINE and (replies := self.execute_many(session, requests)) is not None:
            rest = iter(())
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
        session, server = self.session, self.server
        made = sum(map(len, pieces))
        for argv in requests:
            is_text = type(argv) is TextRequest
            if is_text and argv[0].upper() in (b"POST", b"HOST:"):
                logger.warning("closed %s: an HTTP request, perhaps a cross-protocol attack", session.address)
                session.closing = True
                break
            reply = self.execute(argv)
            while reply is WAIT:
                pieces = self._wait(pieces)
                reply = self.execute(argv)
            session.last_command = argv[0]
            self.parser.authenticated = session.authenticated
            before = len(pieces)
            if not (session.muted and session.suppress()):
                if is_text:
                    row = server.engine.table.get(argv[0].upper())
                    if type(reply) is not Farewell:
                        encode_text(reply, pieces.append, row.text_null if row else b"(nil)")
                else:
                    encode(reply, pieces.append, session.resp3)
            if session.closing or server.instance.shutdown:
                break
            made += sum(map(len, pieces[before:]))
            if made > TURN_OUTPUT_BYTES:
                pieces, made = self._drain(pieces), 0
        return pieces

    def _finish(self) -> None:
        """Wait until all replies are sent, then let the socket be closed."""
        self._stop_reading()
        self.closing = True
        self.done = Event()
        self.server.replies.append((self, [], False))  # behind all that is still on its way
        self.done.wait()

    def _wait(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, wait for the end of the pause, and return a new list for what follows."""
        self.server.replies.append((self, pieces, True))
        self._stop_reading()
        self.session.waiting = True
        self.server.wait_for_resume()
        self.session.waiting = False
        return self._go_on()

    def _drain(self, pieces: list[bytes]) -> list[bytes]:
        """Send what there is, wait until the client has taken it, and return a new list for what follows."""
        self._stop_reading()
        self.emptied = Event()
        self.server.replies.append((self, pieces, True))
        self.emptied.wait()
        self.emptied = None
        return self._go_on()

    def _go_on(self) -> list[bytes]:
        self.logged = len(self.server.log.pieces)
        self._start_reading()
        return []

    def _start_reading(self) -> None:
        self.parked = True
        if not self.outbox:
            self.readable.start(self.greenlet.switch)

    def _stop_reading(self) -> None:
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
        self.statistics.output_bytes += len(data)
        if self.outbox:
            self._keep(memoryview(data))
            return
        try:
            sent = self.sock.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])
        else:
            self._sent_all()

    def _sent_all(self) -> None:
        if self.emptied is not None:
            self.emptied.set()
            self.server.wake()
        if self.closing and self.done is not None:
            self.done.set()
            self.server.wake()

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
            self.server.slow_readers.add(self)
        limit = self.server.config.output_limit
        if limit.hard_bytes and self.outbox_bytes >= limit.hard_bytes:
            self.server.drop_slow_reader(self)

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
        self.server.slow_readers.discard(self)
        self.soft_limit_since = 0.0
        if self.parked:
            self.readable.start(self.greenlet.switch)
        self._sent_all()

    def abort(self) -> None:
        """Close without sending anything more."""
        self.parked = False
        self.readable.stop()
        if self.writable is not None:
            self.writable.stop()
        self.outbox.clear()
        self.outbox_bytes = 0
        self.server.slow_readers.discard(self)
        if self.done is not None:
            self.done.set()
        else:
            gevent.kill(self.greenlet)  # at the next turn, not here
        self.server.wake()


# A connection, the pieces of its replies, and whether the turn's log holds effects of its requests.
ConnectionReplies = tuple[Connection, list[bytes], bool]


class Turn(NamedTuple):
    """The replies of a turn that wait until the log is synced up to `end_bytes`; `failure`: why it was not written."""

    replies: list[ConnectionReplies]
    end_bytes: int
    failure: bytes | None


class Server:
    """The event loop's side of an instance."""

    def __init__(self, instance: Instance, engine: Engine, log: AppendOnlyLog | NullLog) -> None:
        self.instance = instance
        self.engine = engine
        self.log = log
        self.store = instance.store
        self.config: Config = instance.config
        self.receive_buffer = bytearray(RECEIVE_BYTES)
        self.replies: list[ConnectionReplies] = []  # of this turn
        self.held: deque[Turn] = deque()
        self.known_failure: bytes | None = None  # what the operator and the engine were told of the log
        self.connections: dict[int, Connection] = {}
        self.slow_readers: set[Connection] = set()
        self.syncing = False
        self.rewriter = Rewriter(log, self.instance, self._in_thread, self._start_fsync)
        self.resumed = Event()
        self.stopping = Event()
        self.listeners: list[StreamServer] = []
        instance.kill = self._kill
        instance.resumed = self.resumed.set
        instance.sleep = sleep
        instance.settings_changed.append(self._follow_settings)
        loop = gevent.get_hub().loop
        self.before_poll = loop.prepare(ref=False, priority=loop.MINPRI)  # after gevent's own callbacks
        self.no_wait = loop.timer(0, ref=False)
        self.after_poll = loop.check(ref=False, priority=loop.MAXPRI)  # before any connection's greenlet

    # ---- life

    def listen(self) -> list[str]:
        """Bind every address; return them for people. Raises StartError."""
        places: list[str] = []
        for host in self.config.host.split():
            places.append(f"{host}:{self._bind(host)}")
        if self.config.unixsocket:
            self._bind_unix(self.config.unixsocket)
            places.append(self.config.unixsocket)
        return places

    def _bind(self, host: str) -> int:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address = ("" if host == "*" else host, self.config.port)
        try:
            listener = StreamServer.get_listener(address, BACKLOG, family)
        except OSError as error:
            raise StartError(self._bind_trouble(f"{host}:{self.config.port}", error)) from None
        self.listeners.append(StreamServer(listener, self._handle))
        self.config.port = listener.getsockname()[1]
        return self.config.port

    @staticmethod
    def _bind_trouble(place: str, error: OSError) -> str:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = {
            errno.EADDRINUSE: "stop what listens there, or choose another with --port",
            errno.EACCES: "choose a port above 1023 with --port",
            errno.EADDRNOTAVAIL: "choose an address of this machine with --host",
        }
        return f"cannot listen on {place}: {reason}; {advice.get(error.errno or 0, 'check --host and --port')}"

    def _bind_unix(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
        except OSError as error:
            raise StartError(self._bind_trouble(path, error)) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self.listeners.append(StreamServer(listener, self._handle))

    def serve_until_stopped(self) -> None:
        """Accept and serve until SIGINT, SIGTERM or SHUTDOWN, then answer what was read and end."""
        self.after_poll.start(self._begin_turn)
        self.before_poll.start(self._end_turn)
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, self.stopping.set)
        for listener in self.listeners:
            listener.start()
        keeper = gevent.spawn(self._keep_house)
        self.stopping.wait()
        keeper.kill()
        self.rewriter.abandon()
        self._stop()

    def _stop(self) -> None:
        for listener in self.listeners:
            listener.close()
        for connection in list(self.connections.values()):
            connection._stop_reading()
        deadline = monotonic() + self.config.shutdown_timeout_seconds
        self._end_turn()
        while (self.slow_readers or self.held or self.syncing) and monotonic() < deadline:
            gevent.sleep(0.01)
        self.before_poll.stop()
        self.after_poll.stop()
        for connection in list(self.connections.values()):
            connection.sock.close()
        if self.config.unixsocket:
            with contextlib.suppress(OSError):
                os.unlink(self.config.unixsocket)

    # ---- connections

    def _handle(self, sock: Any, peer: Any) -> None:
        """Serve one client, in its own greenlet, which StreamServer made; it closes the socket afterwards."""
        statistics = self.instance.statistics
        refusal = self._refusal(peer)
        if refusal is not None:
            statistics.connections_rejected += 1
            with contextlib.suppress(OSError):
                sock._sock.send(b"-%b\r\n" % refusal)
            return
        statistics.connections_received += 1
        session = Session(self.instance, self.instance.next_client_id(), *self._addresses(sock, peer))
        session.descriptor = sock.fileno()
        self._tune(sock)
        connection = Connection(self, sock, session)
        self.connections[session.id] = connection
        self.instance.clients[session.id] = session
        try:
            connection.serve()
        finally:
            del self.connections[session.id]
            self.instance.clients.pop(session.id, None)

    def _refusal(self, peer: Any) -> bytes | None:
        if len(self.connections) >= self.config.maxclients:
            return MAX_CLIENTS
        local = not isinstance(peer, tuple) or not peer or peer[0].startswith("127.") or peer[0] in ("::1", "")
        if self.config.protected_mode and not self.config.requirepass and not local:
            return DENIED
        return None

    def _addresses(self, sock: Any, peer: Any) -> tuple[str, str]:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return f"{self.config.unixsocket}:0", f"{self.config.unixsocket}:0"
        local = sock.getsockname()
        shapes = "[{}]:{}" if sock.family == socket.AF_INET6 else "{}:{}"
        return shapes.format(*peer[:2]), shapes.format(*local[:2])

    def _tune(self, sock: Any) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds = self.config.tcp_keepalive_seconds
        if seconds:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", max(1, seconds // 3)), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _kill(self, session: Session) -> None:
        connection = self.connections.get(session.id)
        if connection is not None:
            connection.abort()
        self.instance.clients.pop(session.id, None)  # at once, though its greenlet has yet to end

    def _follow_settings(self) -> None:
        logger.setLevel(LOG_LEVELS[self.config.loglevel])

    def drop_slow_reader(self, connection: Connection) -> None:
        """Close a client whose replies pile up beyond the limit."""
        logger.warning("dropped %s: %d bytes of replies not read", connection.session.address, connection.outbox_bytes)
        self.instance.statistics.output_limit_disconnections += 1
        connection.abort()

    def wait_for_resume(self) -> None:
        """Park the calling connection until CLIENT PAUSE is over."""
        while self.instance.paused:
            self.resumed.clear()
            self.resumed.wait(timeout=max(0.001, (self.instance.pause.until_ms - self.store.now_ms) / 1000))
            self.store.tick(int(time() * 1000))
        self.instance.update_gate()

    # ---- the turn

    def _begin_turn(self) -> None:
        self.store.tick(int(time() * 1000))

    def _end_turn(self) -> None:
        """Write the log, then send the replies: the second promise."""
        log = self.log
        if log.pieces:
            log.write(self.store.now_ms)
            if log.failure is not self.known_failure:
                self._follow_log()
        if self.instance.rewrite.requested:
            self.rewriter.begin()
        if not self.replies:
            return
        turn = Turn(self.replies.copy(), log.written_bytes, log.failure)
        self.replies.clear()
        if self.config.appendfsync == "always" and (self.held or log.written_bytes > log.synced_bytes):
            self.held.append(turn)
            self._start_fsync()
        else:
            self._deliver(turn.replies, turn.failure)

    def wake(self) -> None:
        """Let the next poll not wait: who wakes a greenlet at the end of a turn does so behind gevent's own look."""
        self.no_wait.start(lambda: None)

    def _deliver(self, replies: list[ConnectionReplies], failure: bytes | None) -> None:
        for connection, pieces, wrote in replies:
            if wrote and failure is not None:
                # In memory but not in the log: an OK would promise too much, so the client is told and cut off.
                connection.send([b"-%b\r\n" % (LOG_FAILED % failure)])
                connection.abort()
            else:
                connection.send(pieces)

    def _follow_log(self) -> None:
        """Tell the operator and the engine that the log failed, or that it is well again."""
        if self.log.failure is None:
            logger.warning("the log can be written again")
        elif self.known_failure is None:
            reason = self.log.failure.decode(errors="replace")
            logger.error("the log cannot be written (%s): writes are refused until it can", reason)
        self.known_failure = self.log.failure
        self.instance.update_gate()

    def _start_fsync(self) -> None:
        if not self.syncing:
            self.syncing = True
            self._in_thread(self.rewriter.fsync, self._fsynced)

    def _in_thread(self, job: Callable[[], None], done: Callable[[], None]) -> None:
        """Run a job beside the loop, and call `done` in the loop when it is over."""
        gevent.get_hub().threadpool.spawn(job).rawlink(lambda _result: done())

    def _fsynced(self) -> None:
        """Send what waited for this fsync. Runs in the loop, though the fsync ran in a thread."""
        self.syncing = False
        self.rewriter.follow_fsync()
        log = self.log
        if log.failure is not self.known_failure:
            self._follow_log()
        if log.failure is None:
            self.instance.last_save_second = self.store.now_ms // 1000
        while self.held and (self.held[0].end_bytes <= log.synced_bytes or log.failure is not None):
            turn = self.held.popleft()
            synced = turn.end_bytes <= log.synced_bytes
            self._deliver(turn.replies, turn.failure if synced else log.failure)
        if self.held or self.rewriter.needs_fsync:
            self._start_fsync()

    # ---- housekeeping

    def _keep_house(self) -> None:
        """Expire, sync each second, retry a failed log, drop who must be dropped."""
        next_second = monotonic() + 1
        while not self.instance.shutdown:
            pause = HOUSEKEEPING_SECONDS
            if self.log.failure is None:
                end = monotonic() + SLICE_SECONDS
                if not self.store.expire_cycle(lambda end=end: monotonic() > end):  # type: ignore[misc]
                    pause = 3 * SLICE_SECONDS
                end = monotonic() + SLICE_SECONDS
                if not self.instance.eviction.step(lambda end=end: monotonic() > end):  # type: ignore[misc]
                    pause = SLICE_SECONDS
            end = monotonic() + SLICE_SECONDS
            if not self.rewriter.step(lambda end=end: monotonic() > end):  # type: ignore[misc]
                pause = SLICE_SECONDS  # shorter, since what clients change meanwhile costs memory
            if monotonic() >= next_second:
                next_second = monotonic() + 1
                self._each_second()
            gevent.sleep(pause)
        self.stopping.set()

    def _each_second(self) -> None:
        log = self.log
        if log.failure is not None:
            log.write(self.store.now_ms)
            if log.failure is not self.known_failure:
                self._follow_log()
        if log.written_bytes > log.synced_bytes and self.config.appendfsync != "no":
            self._start_fsync()
        self.rewriter.consider()
        now = monotonic()
        limit = self.config.output_limit
        for connection in list(self.slow_readers):
            if limit.soft_bytes and connection.outbox_bytes >= limit.soft_bytes:
                connection.soft_limit_since = connection.soft_limit_since or now
                if now - connection.soft_limit_since >= limit.soft_seconds:
                    self.drop_slow_reader(connection)
            else:
                connection.soft_limit_since = 0.0
        if self.config.timeout_seconds:
            oldest_ms = self.store.now_ms - self.config.timeout_seconds * 1000
            for connection in list(self.connections.values()):
                if connection.session.active_ms < oldest_ms:
                    connection.abort()
