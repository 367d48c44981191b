"""The network server of an instance: accepts clients, does the housekeeping, and stops in order.

1. A client is accepted unless `maxclients`, protected mode or its TLS handshake forbids it.
2. Housekeeping does all that no request causes: expiry, eviction, steps of a rewrite, limits on time. A chore that
   fails is tried again and delays no other chore. If housekeeping itself ends, the process ends with an error.
3. At the end no request is read any more, and replies are sent for `shutdown-timeout` at most.

`Connection` serves one client; `Turn` is one round of the event loop.

The module has more than 400 lines because accepting, housekeeping and the stop share the connections.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
from gevent.event import Event
from gevent.lock import Semaphore

from aof import AppendOnlyLog, NullLog
from config import LOG_LEVELS, Config
from engine import Engine
from errors import DENIED, MAX_CLIENTS
from keyspace import gc_policy
from log.rewrite import reason_of
from net import signals
from net.addresses import Bound, Listener, listen_unix, plain_address, remove_unix, show_place
from net.apart import Apart
from net.connection import Connection
from net.embedded import follow_parent
from net.outbox import READ
from net.rate_limit import LogRateLimit
from net.scheduler import SLICE_SECONDS
from net.turn import Turn
from session import Instance, Session

if TYPE_CHECKING:
    from net.tls import ServerTls, TlsSocket

HOUSEKEEPING_SECONDS = 0.1
CLOCK_JUMP_MS = 1000
HANDSHAKE_SECONDS = 10  # limit on the time that a TLS handshake waits for its client
ABORTED_A_TURN = 25  # clients; the greenlets of as many end in the next turn
MAX_KEEPALIVE_SECONDS = 32767  # the limit of Linux
LIMIT_TOO_LOW = (
    "maxmemory is %d bytes, and the process takes %d bytes without any key: each write that needs memory is refused "
    "(OOM); set --maxmemory well above that"
)
IGNORED_SIGNAL = "%s is ignored; send SIGTERM to stop this server"
GEVENT_VERSION: str = gevent.__version__  # importlib.metadata would make a start 40 ms longer

logger = logging.getLogger("godis")


class Server:
    """The network server of an instance; the pool's server is a subclass."""

    def __init__(
        self, instance: Instance, engine: Engine, log: AppendOnlyLog | NullLog, tls: ServerTls | None = None
    ) -> None:
        self.instance = instance
        self.engine = engine
        self.log = log
        self.tls = tls
        self.store = instance.store
        self.config: Config = instance.config
        self.turn = self._make_turn()
        self.rewriter = self.turn.rewriter
        self.connections: dict[int, Connection] = {}
        self.handshakes = Semaphore()  # one step a turn, because a signature takes a millisecond
        self.next_turn = gevent.get_hub().loop.timer(0)
        self._to_abort: list[Connection] = []  # to be aborted, ABORTED_A_TURN a turn
        self._abort_timer = gevent.get_hub().loop.timer(0)
        self.lines = LogRateLimit(logger)
        self.stopping = Event()
        self._stop_at_once = False
        self.failure = ""  # the failure that stopped the server; "": none
        self._failing: set[str] = set()  # names of the chores whose last attempt failed
        self.listeners: list[Listener] = []
        self.parent: Any = None  # watches the parent process of an embedded server
        self._unix_status: os.stat_result | None = None  # of the Unix socket that this server bound
        self._checked_ms = self.store.now_ms
        self._clock_ahead_ms = clock_ahead_ms()
        instance.kill = self._kill
        instance.sleep = sleep
        instance.apart = Apart()
        instance.settings_changed.append(self._follow_settings)
        self._warned_limit_bytes = 0
        self._warn_of_limit()

    # ---- what the pool's server overrides

    def _make_turn(self) -> Turn:
        return Turn(self.instance, self.log)

    def _connect(self, sock: Any, session: Session) -> Connection:
        return Connection(self.turn, self.engine, sock, session)

    def _is_busy(self) -> bool:
        """Return True if replies are still to be made or sent."""
        turn = self.turn
        return bool(turn.replies or turn.slow_readers or turn.pending or turn.scheduler.working)

    # ---- life

    def listen(self, bound: list[Bound]) -> list[str]:
        """Listen on every address; return the addresses as text. Raises StartError."""
        places = []
        for address in bound:
            address.listen()
            handle = partial(self._handle_tls, self.tls) if self.tls and address.is_tls else self._handle
            self.listeners.append(Listener(address.socket, handle))
            places.append(address.place + " (TLS)" * address.is_tls)
        if self.config.unixsocket:
            listener, self._unix_status = listen_unix(self.config.unixsocket, self.config.unixsocketperm)
            self.listeners.append(Listener(listener, self._handle))
            places.append(self.config.unixsocket)
        return places

    def serve_until_stopped(self) -> None:
        """Accept and serve until a stopping signal or SHUTDOWN; then answer the requests that were read, and end."""
        self.turn.start()
        for number in signals.stopping_signals():
            gevent.signal_handler(number, self._on_stop_signal, signals.name_of(number))
        for number in signals.ignored_signals():
            gevent.signal_handler(number, logger.warning, IGNORED_SIGNAL % signals.name_of(number))
        for listener in self.listeners:
            listener.start()
        if self.config.embedded:
            self.parent = follow_parent(self.config, partial(self._on_stop_signal, "the end of its parent process"))
        keeper = gevent.spawn(self._housekeeping)
        keeper.link_exception(self._end_without_housekeeping)
        self.stopping.wait()
        keeper.kill()
        self.rewriter.abandon()
        self._stop()

    def _end_without_housekeeping(self, keeper: Any) -> None:
        """Stop the server with an error, because without housekeeping nothing is synced, expires or is evicted."""
        self.failure = f"housekeeping ended: {reason_of(keeper.exception)}"
        self.stopping.set()

    def _on_stop_signal(self, signal_name: str) -> None:
        """Stop the server; at a second signal stop without waiting for clients."""
        logger.info("told to stop by %s", signal_name)
        self._stop_at_once = self.stopping.is_set()
        self.stopping.set()

    def _stop(self) -> None:
        if self._unix_status is not None:
            remove_unix(self.config.unixsocket, self._unix_status)
        for listener in self.listeners:
            listener.close()
        self.turn.ending = True
        if self.instance.scripts is not None:
            self.instance.scripts.abandon()
        for connection in list(self.connections.values()):
            connection.stop_reading()
        deadline = monotonic() + self.config.shutdown_timeout_seconds
        turn = self.turn
        turn.end()
        # A running fsync is always waited for: only one may run at a time, and closing the log needs its own.
        while turn.syncing or (self._is_busy() and monotonic() < deadline and not self._stop_at_once):
            gevent.sleep(0.01)
        turn.stop()
        self.lines.close()
        for connection in list(self.connections.values()):
            connection.sock.close()

    # ---- connections

    def _handle(self, sock: Any, peer: Any) -> None:
        """Serve one client, in its own greenlet. StreamServer makes the greenlet, and closes the socket afterwards."""
        refusal = MAX_CLIENTS if self._is_full() else DENIED if self._is_denied(peer) else None
        if refusal is None:
            self._serve(sock._sock, peer)
        else:
            self._refuse(sock._sock, refusal)

    def _handle_tls(self, tls: ServerTls, sock: Any, peer: Any) -> None:
        """Serve one client by TLS. As in Redis, one above `maxclients` gets no error: that would need a handshake."""
        if self._is_full():
            self.instance.statistics.connections_rejected += 1
            return
        try:
            tls_sock = tls.accept(sock._sock)
        except OSError:
            return  # the client is gone
        with contextlib.closing(tls_sock):
            self._serve(tls_sock, peer, partial(self._shake_hands, tls, tls_sock, peer))

    def _serve(self, sock: socket.socket, peer: Any, shake_hands: Callable[[], bool] | None = None) -> None:
        self.instance.statistics.connections_received += 1
        session = Session(self.instance, self.instance.next_client_id(), *self._addresses(sock, peer))
        session.descriptor = sock.fileno()
        self._tune(sock)
        connection = self._connect(sock, session)
        self.connections[session.id] = connection
        self.instance.clients[session.id] = session
        try:
            connection.serve(shake_hands)
        finally:
            del self.connections[session.id]
            self.instance.clients.pop(session.id, None)
            session.end()

    def _is_full(self) -> bool:
        return len(self.connections) >= self.config.maxclients

    def _is_denied(self, peer: Any) -> bool:
        host = plain_address(peer[0]) if isinstance(peer, tuple) and peer else ""
        local = host.startswith("127.") or host in ("::1", "")
        return self.config.protected_mode and self.instance.users.default.lets_everybody_in and not local

    def _refuse(self, sock: socket.socket, refusal: bytes) -> None:
        self.instance.statistics.connections_rejected += 1
        with contextlib.suppress(OSError):
            sock.send(b"-%b\r\n" % refusal)

    def _shake_hands(self, tls: ServerTls, sock: TlsSocket, peer: Any) -> bool:
        """Do a TLS handshake; return True if the client is to be served. Parks the calling greenlet."""
        left_seconds = float(HANDSHAKE_SECONDS)
        wait = gevent.socket.wait_read  # the client speaks first
        try:
            while True:
                began = monotonic()
                wait(sock.fileno(), left_seconds, TimeoutError("took too long"))
                left_seconds = max(0, left_seconds - (monotonic() - began))
                self.handshakes.acquire()
                self.next_turn.start(self.handshakes.release)
                wanted = sock.shake_hands()
                if not wanted:
                    break
                wait = gevent.socket.wait_read if wanted == READ else gevent.socket.wait_write
        except OSError as error:
            tls.report(self._addresses(sock, peer)[0], error)
            return False
        if self._is_denied(peer):
            self._refuse(sock, DENIED)
            return False
        return not self.stopping.is_set()

    def _addresses(self, sock: Any, peer: Any) -> tuple[str, str]:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return f"{self.config.unixsocket}:0", f"{self.config.unixsocket}:0"
        here, there = (show_place(plain_address(host), port) for host, port, *_ in (sock.getsockname(), peer))
        return there, here

    def _tune(self, sock: Any) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds = min(self.config.tcp_keepalive_seconds, MAX_KEEPALIVE_SECONDS)
        if seconds:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", max(1, seconds // 3)), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _kill(self, session: Session) -> None:
        """Close a client's connection: some a turn where many are closed. None of its requests runs any more."""
        self.instance.clients.pop(session.id, None)  # at once, although its greenlet ends later
        connection = self.connections.get(session.id)
        if connection is not None:
            self._abort(connection)

    def _abort(self, connection: Connection) -> None:
        if not connection.parked:
            connection.abort()
            return
        connection.stop_reading()
        connection.session.closing = True
        self._to_abort.append(connection)
        if len(self._to_abort) == 1:
            self._abort_timer.start(self._abort_some)

    def _abort_some(self) -> None:
        for connection in self._to_abort[:ABORTED_A_TURN]:
            connection.abort()
        del self._to_abort[:ABORTED_A_TURN]
        if self._to_abort:
            self._abort_timer.start(self._abort_some)

    def _follow_settings(self) -> None:
        logger.setLevel(LOG_LEVELS[self.config.loglevel])
        self._warn_of_limit()
        for connection in self.connections.values():
            connection.follow_settings()

    def _warn_of_limit(self) -> None:
        """Warn if the limit on memory leaves no room for a key; once for each limit."""
        eviction = self.instance.eviction
        limit_bytes, self._warned_limit_bytes = self._warned_limit_bytes, eviction.limit_bytes
        if limit_bytes != eviction.limit_bytes and 0 < eviction.limit_bytes <= eviction.base_bytes:
            logger.warning(LIMIT_TOO_LOW, eviction.limit_bytes, eviction.base_bytes)

    # ---- housekeeping

    def _housekeeping(self) -> None:
        """Do the chores ten times a second, or sooner while one has slices left; others once a second."""
        always = (self._expire, self._evict, self._write_again, self._rewrite, self._keep_collector_off, self._accept)
        each_second = (
            self.lines.report,
            self._follow_clock,
            self.rewriter.consider,
            self.turn.each_second,
            self._follow_slow_readers,
            self._follow_waiting,
            self._drop_idle,
            self._follow_rates,
        )
        next_second = monotonic() + 1
        while not self.instance.shutdown:
            pause = min(map(self._attempt, always))
            if monotonic() >= next_second:
                next_second = max(next_second + 1, monotonic())
                for chore in each_second:
                    self._attempt(chore)
            gevent.sleep(max(0, min(pause, next_second - monotonic())))
        self.stopping.set()

    def _attempt(self, chore: Callable[[], float | None]) -> float:
        """Do a chore; return in how many seconds it is due again. An error is logged once, until the chore succeeds."""
        name = chore.__qualname__
        try:
            pause = chore()
        except Exception as error:
            if name not in self._failing:
                self._failing.add(name)
                bug = not isinstance(error, MemoryError)
                logger.error("housekeeping: %s failed (%s) and is tried again", name, reason_of(error), exc_info=bug)
            return HOUSEKEEPING_SECONDS
        self._failing.discard(name)
        return pause or HOUSEKEEPING_SECONDS

    def _expire(self) -> float | None:
        with self.instance.measures.latency.timing(b"expire-cycle"):
            done = self.log.failure is not None or self.store.expire_cycle(_end_of_slice())
        return None if done else 3 * SLICE_SECONDS

    def _evict(self) -> float | None:
        with self.instance.measures.latency.timing(b"eviction-cycle"):
            done = self.log.failure is not None or self.instance.eviction.step(_end_of_slice())
        return None if done else SLICE_SECONDS

    def _write_again(self) -> float | None:
        done = not self.turn.writes_again or self.turn.write_again(_end_of_slice())
        return None if done else SLICE_SECONDS

    def _rewrite(self) -> float | None:
        """Do a slice of a rewrite. Its pause is short, because changes by clients cost memory until it ends."""
        return None if self.rewriter.step(_end_of_slice()) else SLICE_SECONDS

    def _keep_collector_off(self) -> None:
        gc_policy.keep_off(sum(map(len, self.store.databases)), self.store.has_containers)

    def _accept(self) -> None:
        for listener in self.listeners:
            listener.resume_accepting()

    def _follow_clock(self) -> None:
        """Detect that the system's clock was set, and keep idle times and pauses of the same length."""
        jump_ms = clock_ahead_ms() - self._clock_ahead_ms
        if abs(jump_ms) >= CLOCK_JUMP_MS:
            logger.warning("the system's clock was set by %+.1f s", jump_ms / 1000)
            self.instance.follow_clock(jump_ms, self._checked_ms + jump_ms)
        self._clock_ahead_ms += jump_ms
        self._checked_ms = self.store.now_ms

    def _follow_slow_readers(self) -> None:
        now = monotonic()
        for connection in list(self.turn.slow_readers):
            connection.follow_soft_limit(now)

    def _follow_rates(self) -> None:
        counted = self.instance.statistics
        rates = self.instance.measures.rates
        rates.follow(monotonic(), counted.commands_processed, counted.input_bytes, counted.output_bytes)

    def _follow_waiting(self) -> None:
        for connection in list(self.connections.values()):
            connection.follow_waiting()

    def _drop_idle(self) -> None:
        """Drop clients that have neither sent nor read anything for `timeout`, unless they wait for the server."""
        if not self.config.timeout_seconds:
            return
        oldest_ms = self.store.now_ms - self.config.timeout_seconds * 1000
        for connection in list(self.connections.values()):
            if connection.waits_for_server:
                connection.session.active_ms = self.store.now_ms
            elif connection.session.active_ms < oldest_ms and not connection.session.is_subscribed:
                self._abort(connection)


def _end_of_slice() -> Callable[[], bool]:
    """Return a function that returns True once the slice that begins now is over."""
    end = monotonic() + SLICE_SECONDS
    return lambda: monotonic() > end


def clock_ahead_ms() -> int:
    """Return how far the system's clock, which may be set, is ahead of the monotonic clock."""
    return int((time() - monotonic()) * 1000)
