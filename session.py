"""One client's state, and the instance that all clients share; no socket.

It owns what a command may know about who asks (`Session`) and about the process it runs in (`Instance`): the store, the
settings, the other clients, the counters of INFO. It must not know sockets, greenlets or wire bytes. What a command
wants done to a connection or to the process it notes here, and the modules of the network do it:

    session.closing      the connection is to close once its replies are sent
    session.muted        replies may have to be dropped (CLIENT REPLY): see `Session.suppress`
    instance.kill        close another client's connection (the server hands in how)
    instance.shutdown    the process is to end
    instance.rewrite     the log is to be rewritten
    instance.set_pause   until when commands wait (CLIENT PAUSE)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from config import Config
from errors import POOL_CLOCK, POOL_DOWN, POOL_STALE, CommandError
from keyspace.eviction import Eviction
from keyspace.key_locks import KeyLock
from store import EffectLog, Keyspace, Store

# What may hold a request back or refuse it, in the order in which a request passes: see `Engine.admit`.
GATES = ("key locks", "log", "pause", "pool", "memory")


class LogState(EffectLog, Protocol):
    """What INFO and the write check want to know of the log."""

    failure: bytes | None
    is_busy: bool
    written_bytes: int
    synced_bytes: int

    @property
    def size_bytes(self) -> int: ...


class ReadObserver(Protocol):
    """Who has to hear of each request, since it may see what is not on the disk yet."""

    def note(self, session: Session, row: Any, argv: list[bytes]) -> None: ...

    def note_keys(self, session: Session, keys: Sequence[bytes]) -> None: ...

    def note_long(self, session: Session) -> None: ...


@dataclass
class RewriteState:
    """What a command may ask of the log's rewrite (`requested`), and what INFO tells of it."""

    requested: bool = False  # to begin at the end of this turn
    running: bool = False
    started_ms: int = 0
    keys_total: int = 0
    keys_written: int = 0
    base_bytes: int = 0  # the log's size at the start or after the last rewrite
    kept_bytes: int = 0  # of the logs that rewrites replaced
    last_seconds: int = -1
    last_failure: str = ""

    @property
    def in_progress(self) -> bool:
        """Return True if there is one, for a client that asked for it and waits for its end."""
        return self.requested or self.running


@dataclass
class PoolMember:
    """What an instance of the pool last told of itself; `index` is of the last entry that it has applied."""

    id: str
    name: str
    address: str
    index: int
    entries: int  # how many entries that is
    started_ms: int
    room_bytes: int  # that its keys may take; 0: it has no limit


@dataclass
class PoolState:
    """What a command may know of the pool that the instance is a member of; what INFO and POOL STATUS tell.

    `confirmed` means: the log said lately that it is there, and how far it goes.
    """

    id: str
    prefix: str
    endpoints: list[str]
    stale_reads: bool  # reads go on where nothing is confirmed
    confirmed: bool = True
    clock_wrong: bool = False  # by it keys have ended that live on elsewhere
    clock_ahead_ms: int = 0  # of etcd's
    limit_bytes: int = 0  # of memory, by which all instances are bounded besides --maxmemory; 0: none
    trouble: str = ""  # what the log last answered when it did not confirm
    index: int = 0  # of the last entry applied, as etcd counts
    entries: int = 0  # how many were ever applied, by all instances alike
    head_entries: int = 0  # how many there are
    clock_ms: int = 0
    appended: int = 0  # entries of this instance
    appended_commands: int = 0
    appended_bytes: int = 0
    append_ms: float = 0.0  # from the sending of an entry to its being applied; moving average
    append_max_ms: float = 0.0
    duplicates: int = 0
    rewatched: int = 0
    snapshot_index: int = 0
    snapshot_entries: int = 0
    snapshot_bytes: int = 0
    snapshot_running: bool = False
    members: list[PoolMember] = field(default_factory=list)

    def check(self, name: bytes, writes: int, reads: int) -> None:
        """Refuse a command that cannot be done or answered truly now."""
        if self.clock_wrong and (writes or reads or name == b"PING"):
            raise CommandError(POOL_CLOCK)
        if self.confirmed:
            return
        if writes or name == b"PING":
            raise CommandError(POOL_DOWN)
        if reads and not self.stale_reads:
            raise CommandError(POOL_STALE)


@dataclass
class Statistics:
    """Counters since the start or CONFIG RESETSTAT; summed a turn, not a command, where that is cheaper."""

    connections_received: int = 0
    connections_rejected: int = 0
    commands_processed: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    error_replies: int = 0
    output_limit_disconnections: int = 0
    delayed_fsyncs: int = 0  # how often replies had to wait for an fsync under everysec
    query_limit_disconnections: int = 0
    errors: dict[bytes, int] = field(default_factory=dict)  # code of an error reply -> how often

    def count_error(self, text: bytes) -> None:
        """Count an error reply by its code, the first word of its text."""
        code = text.partition(b" ")[0]
        self.errors[code] = self.errors.get(code, 0) + 1
        self.error_replies += 1

    def reset(self) -> None:
        """Start again from zero. In place, since others hold on to this object."""
        vars(self).update(vars(Statistics()))


class Session:
    """What one client said about itself, and what was agreed with it."""

    def __init__(self, instance: Instance, client_id: int, address: str = "", local_address: str = "") -> None:
        # for good
        self.instance = instance
        self.store: Store = instance.store
        self.id = client_id
        self.address = address
        self.local_address = local_address
        self.descriptor = -1  # of the socket; set by the server
        self.since_ms = instance.store.now_ms
        # until RESET
        self.db: Keyspace = instance.store.databases[0]
        self.authenticated = not instance.config.requirepass
        self.resp3 = False
        self.lines_in_resp = False  # HELLO: a line of text is answered in RESP, too
        self.name = b""
        self.muted = False  # `suppress` must be asked about each reply
        self.replies_off = False  # CLIENT REPLY OFF
        self.skip_replies = 0  # CLIENT REPLY SKIP: for so many replies more, its own included
        self.no_evict = False
        self.linearizable = instance.config.pool_reads == "linearizable"
        # until changed
        self.library_name = b""
        self.library_version = b""
        # kept by the server, a turn
        self.active_ms = self.since_ms
        self.last_command = b""
        self.commands = 0
        self.closing = False
        self.waiting = False  # for the end of a pause
        self.query_bytes: Callable[[], int] = int  # bytes held of an unfinished request
        self.output_bytes: Callable[[], int] = int  # bytes of replies not yet taken by the client

    @property
    def on_unix_socket(self) -> bool:
        """Return True if the client came by the Unix socket."""
        path = self.instance.config.unixsocket
        return bool(path) and self.address == f"{path}:0"

    @property
    def is_local(self) -> bool:
        """Return True if the client is surely on this machine: it came by a loopback address or the Unix socket."""
        return self.address.startswith(("127.", "[::1]:")) or self.on_unix_socket

    @property
    def no_touch(self) -> bool:
        """Return True if the client's commands, but for TOUCH, are no use of their keys."""
        return self.id in self.instance.no_touch_clients

    @no_touch.setter
    def no_touch(self, wanted: bool) -> None:
        (self.instance.no_touch_clients.add if wanted else self.instance.no_touch_clients.discard)(self.id)
        self.store.tracks_access = not wanted  # for the rest of this pipeline; see `Engine.run`

    def reset(self) -> None:
        """Forget all that RESET makes a client forget."""
        self.db = self.store.databases[0]
        self.authenticated = not self.instance.config.requirepass
        self.resp3 = self.lines_in_resp = False
        self.name = b""
        self.unmute()
        self.no_evict = False
        self.no_touch = False
        self.linearizable = self.instance.config.pool_reads == "linearizable"

    def mute(self, replies: int = 0) -> None:
        """Drop the next `replies` replies, the one of the command that asks included; 0: all until `unmute`."""
        if replies and self.replies_off:
            return
        self.muted = True
        self.skip_replies = replies
        self.replies_off = not replies

    def unmute(self) -> None:
        """Answer again, from the command that asks on."""
        self.muted = self.replies_off = False
        self.skip_replies = 0

    def suppress(self) -> bool:
        """Return True if the reply of the command that just ran is dropped, and count it.

        The server calls it once for each command that ran, errors and NoReply included, while `muted` holds after
        the command; not for WAIT, since that command has yet to run, and not for pushes, which nobody asked for.
        """
        if self.replies_off:
            return True
        self.skip_replies -= 1
        self.muted = self.skip_replies > 0
        return True


@dataclass
class Pause:
    """CLIENT PAUSE: until when commands wait, and whether only those that write."""

    until_ms: int = 0
    writes_only: bool = False
    set_ms: int = 0


@dataclass
class Instance:
    """What all sessions of a process share."""

    store: Store
    log: LogState
    config: Config
    id: str
    run_id: str
    started_ms: int
    kill: Callable[[Session], None] = lambda session: None
    sleep: Callable[[float], None] = lambda seconds: None  # holds up the whole process; the server hands in how
    clients: dict[int, Session] = field(default_factory=dict)
    no_touch_clients: set[int] = field(default_factory=set)  # ids of those who said CLIENT NO-TOUCH
    statistics: Statistics = field(default_factory=Statistics)
    pause: Pause = field(default_factory=Pause)
    rewrite: RewriteState = field(default_factory=RewriteState)
    closed_gates: tuple[str, ...] = ()  # of GATES: why some requests may not run now, see `Engine.admit`
    read_observer: ReadObserver | None = None  # it hears of each request that runs
    needs_checks: bool = False  # one of the two is there
    resumed: Callable[[], None] = lambda: None  # the server's: look again at the connections that wait
    shutdown: bool = False
    turn_ends: float = inf  # by the system's clock: from then on, who has more to do goes on in a later turn
    last_save_second: int = 0  # when the log last was whole on disk: the answer to LASTSAVE
    last_client_id: int = 0
    pool: PoolState | None = None  # None: alone
    settings_changed: list[Callable[[], None]] = field(default_factory=list)  # by CONFIG SET: read them again

    def __post_init__(self) -> None:
        self.last_save_second = self.started_ms // 1000  # a log that could be opened is on the disk
        self.eviction = Eviction(self.store)

    def apply_settings(self) -> None:
        """Let everybody who holds a copy of a setting take over its present value; after CONFIG SET."""
        self.store.default_ttl_ms = self.config.default_ttl_seconds * 1000
        self.store.tick(self.store.now_ms)  # for the commands that follow in this turn
        self.follow_memory_limit()
        if not self.config.requirepass:
            for client in self.clients.values():
                client.authenticated = True
        for take_over in self.settings_changed:
            take_over()

    def follow_memory_limit(self) -> None:
        """Let eviction take over its settings; in a pool the smallest limit of all instances holds."""
        config = self.config
        limits = (config.maxmemory, self.pool.limit_bytes if self.pool is not None else 0)
        self.eviction.follow(
            min(filter(None, limits), default=0),
            config.maxmemory_policy,
            config.maxmemory_samples,
            config.lfu_log_factor,
            config.lfu_decay_minutes,
        )
        self.gate("memory", closed=bool(self.eviction.limit_bytes))

    def next_client_id(self) -> int:
        """Return an id that no client had before."""
        self.last_client_id += 1
        return self.last_client_id

    def set_pause(self, pause: Pause) -> None:
        """Let commands wait, or let them go on (`Pause()`)."""
        self.pause = pause
        self.gate("pause", closed=self.paused)
        self.resumed()

    def follow_clock(self, jump_ms: int, looked_ms: int) -> None:
        """Move the moments that a span of time began at, or ends at, with a clock that was set.

        What was noted since `looked_ms`, the last look at the clock in its present time, is right already.
        Deadlines of keys stay: they are moments by the clock, as in Redis.
        """

        def moved(noted_ms: int) -> int:
            return 0 if looked_ms <= noted_ms <= self.store.now_ms else jump_ms

        for client in self.clients.values():
            client.since_ms += moved(client.since_ms)
            client.active_ms += moved(client.active_ms)
        self.started_ms += jump_ms
        self.pause.until_ms += moved(self.pause.set_ms)
        self.gate("pause", closed=self.paused)
        self.resumed()  # who waits may have looked at the new time and the old end

    @contextmanager
    def locking_keys(self, lock: KeyLock) -> Iterator[None]:
        """Let others wait for these keys until a long command is done."""
        self.store.key_lock = lock
        self.gate("key locks", closed=True)
        try:
            yield
        finally:
            self.store.key_lock = None
            self.gate("key locks", closed=False)
            self.resumed()

    def gate(self, name: str, *, closed: bool) -> None:
        """Close or open one of GATES. Whoever owns the state behind a gate calls this when that state changes."""
        names = {*self.closed_gates, name} if closed else {*self.closed_gates} - {name}
        self.closed_gates = tuple([each for each in GATES if each in names])
        self._follow_checks()

    def observe_reads(self, observer: ReadObserver | None) -> None:
        """Let `observer` hear of each request that runs from now on."""
        self.read_observer = observer
        self._follow_checks()

    def _follow_checks(self) -> None:
        self.needs_checks = bool(self.closed_gates) or self.read_observer is not None

    @property
    def paused(self) -> bool:
        """Return True if CLIENT PAUSE holds at the time of this turn."""
        return self.pause.until_ms > self.store.now_ms
