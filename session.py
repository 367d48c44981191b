"""The state of one client (`Session`), and of the process that all clients share (`Instance`).

1. A `Session` holds what a command may know about its client. An `Instance` holds what a command may know about the
   process: the store, the settings, the other clients, the counters of INFO.
2. The module does not know sockets, greenlets or wire bytes. A command requests an action on a connection or on the
   process here, and the modules of the network carry it out:

    session.closing      close the connection once its replies are sent
    session.muted        replies may have to be dropped (CLIENT REPLY): see `Session.suppress`
    session.push         send a message to the client; the connection provides the function
    session.unblock      end the waiting for a key (CLIENT UNBLOCK); the connection provides the function
    instance.kill        close another client's connection; the server provides the function
    instance.shutdown    end the process
    instance.rewrite     rewrite the log
    instance.save        sync the log
    instance.set_pause   defer commands for some time (CLIENT PAUSE)

The module has more than 500 lines because a command finds here all that it may know and ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from config import Config
from errors import POOL_CLOCK, POOL_DOWN, POOL_STALE, CommandError
from keyspace.blocked_clients import BlockedClients
from keyspace.eviction import Eviction
from keyspace.key_listeners import KeyListeners, Watch
from keyspace.key_locks import KeyLock
from keyspace.notifications import Notifications, Running
from keyspace.subscriptions import KINDS, Leaving, Subscriptions
from keyspace.tracking import Mode, Tracking
from measuring.measures import Measures
from replies import Push, Reply
from store import EffectLog, Keyspace, Store
from users.registry import Users
from users.user import User

# The gates that may defer or refuse a request, in the order in which a request passes them: see `Engine.admit`.
GATES = ("script", "blocked clients", "key locks", "read only", "log", "pause", "pool", "memory")


PAUSED = object()  # the outcome of a script that has paused


class Stack(Protocol):
    """Runs a script apart from the stack of its caller, so that it can pause amid a call."""

    def run(self, job: Callable[[], Any] | None) -> Any: ...  # what the job returns, or PAUSED; None: the job goes on

    def pause(self) -> None: ...  # called by the job; returns when it goes on


class Apart(Protocol):
    """What the network provides for scripts that take long."""

    def stack(self) -> Stack: ...  # one that no script has

    def drive(self, go_on: Callable[[], bool]) -> None: ...  # calls it in each round of the loop, until it returns True

    def now(self) -> float: ...  # seconds of a clock that never goes back


class Clock(Protocol):
    """The clock of a server for tests."""

    def advance(self, milliseconds: int) -> None: ...

    def freeze(self) -> None: ...

    def reset(self) -> None: ...

    def now_ms(self) -> int: ...

    def seconds(self) -> float: ...


class LogState(EffectLog, Protocol):
    """The log's state, as INFO and the engine's gates read it."""

    failure: bytes | None
    pieces: list[bytes]
    is_busy: bool
    written_bytes: int
    synced_bytes: int

    @property
    def size_bytes(self) -> int: ...


class ReadObserver(Protocol):
    """Is called before each request runs, because its reply may show writes that are not on the disk yet."""

    def observe(self, session: Session, row: Any, argv: list[bytes]) -> None: ...

    def observe_keys(self, session: Session, keys: Sequence[bytes]) -> None: ...

    def observe_any_key(self, session: Session) -> None: ...

    def hide_everything(self) -> None: ...


class RequestObserver(Protocol):
    """Runs a request of a row while others want to know what requests change: see `commands/observing.py`."""

    def run(self, session: Session, row: Any, argv: list[bytes]) -> Reply: ...


@dataclass(eq=False, repr=False)
class RewriteState:
    """The request for a rewrite of the log (`requested`), and the state of the rewrite for INFO."""

    requested: bool = False  # to begin at the end of this turn
    running: bool = False
    started_ms: int = 0
    keys_total: int = 0
    keys_written: int = 0
    base_bytes: int = 0  # the log's size at the start of the process or after the last rewrite
    kept_bytes: int = 0  # size of the logs that rewrites replaced
    last_seconds: int = -1
    last_failure: str = ""

    @property
    def in_progress(self) -> bool:
        """Return True if a rewrite runs or is requested."""
        return self.requested or self.running


@dataclass(eq=False, repr=False)
class PoolMember:
    """What an instance of the pool last published about itself; `index` is that of the last entry it has applied."""

    id: str
    name: str
    address: str
    index: int
    entries: int  # how many entries it has applied
    started_ms: int
    room_bytes: int  # memory that its keys may take; 0: no limit


@dataclass(eq=False, repr=False)
class PoolState:
    """The state of the pool that this instance is a member of, for commands, INFO and POOL STATUS.

    `confirmed` means that etcd answered lately and reported the head of the log.
    """

    id: str
    prefix: str
    endpoints: list[str]
    stale_reads: bool  # reads are served while `confirmed` is False
    confirmed: bool = True
    clock_wrong: bool = False  # this clock is so far ahead that keys expire here before they expire elsewhere
    clock_ahead_ms: int = 0  # how far this clock is ahead of etcd's
    limit_bytes: int = 0  # limit on memory of all instances, besides --maxmemory; 0: none
    trouble: str = ""  # the last error of etcd or of the connection to it
    index: int = 0  # etcd's revision of the last entry applied
    entries: int = 0  # number of the last entry applied; the same number on every instance
    head_entries: int = 0  # number of the last entry of the log
    clock_ms: int = 0  # the log's clock
    appended: int = 0  # entries that this instance has appended
    appended_commands: int = 0
    appended_bytes: int = 0
    append_ms: float = 0.0  # from sending an entry until it is applied; moving average
    append_max_ms: float = 0.0
    duplicates: int = 0
    rewatched: int = 0
    snapshot_index: int = 0
    snapshot_entries: int = 0
    snapshot_bytes: int = 0
    snapshot_running: bool = False
    members: list[PoolMember] = field(default_factory=list)

    def check(self, name: bytes, writes: int, reads: int) -> None:
        """Raise CommandError if a command cannot be executed correctly now. `writes`, `reads`: flags of its row."""
        if self.clock_wrong and (writes or reads or name == b"PING"):
            raise CommandError(POOL_CLOCK)
        if self.confirmed:
            return
        if writes or name == b"PING":
            raise CommandError(POOL_DOWN)
        if reads and not self.stale_reads:
            raise CommandError(POOL_STALE)


@dataclass(eq=False, repr=False)
class Statistics:
    """Counters since the start or CONFIG RESETSTAT. Some are updated once a turn, not once a command."""

    connections_received: int = 0
    connections_rejected: int = 0
    commands_processed: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    error_replies: int = 0
    output_limit_disconnections: int = 0
    saves: int = 0  # SAVE and BGSAVE
    delayed_fsyncs: int = 0  # how often replies had to wait for an fsync under everysec
    query_limit_disconnections: int = 0
    errors: dict[bytes, int] = field(default_factory=dict)  # code of an error reply -> how often

    def count_error(self, text: bytes) -> None:
        """Count an error reply by its code, the first word of its text."""
        code = text.partition(b" ")[0]
        self.errors[code] = self.errors.get(code, 0) + 1
        self.error_replies += 1

    def reset(self) -> None:
        """Set all counters to zero. In place, because other objects keep a reference to this one."""
        vars(self).update(vars(Statistics()))


class Transaction:
    """The requests that a client has queued since MULTI."""

    __slots__ = ("failed", "flags", "has_keyless", "keys", "requests", "size_bytes", "words")

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.words = 0
        self.size_bytes = 0
        self.failed = False  # a request was refused, so EXEC will be
        self.flags = 0  # of the rows of all requests
        self.keys: list[bytes] = []
        self.has_keyless = False  # a request reads or writes keys that it does not name

    def all_words(self) -> list[bytes]:
        """Return the words of all requests."""
        return [word for argv in self.requests for word in argv]


class Session:
    """One client's state: its database, protocol, name and modes."""

    __slots__ = (
        "_authenticated",
        "active_ms",
        "address",
        "closing",
        "commands",
        "db",
        "descriptor",
        "id",
        "instance",
        "is_executing",
        "is_gone",
        "is_limited",
        "last_command",
        "library_name",
        "library_version",
        "linearizable",
        "lines_in_resp",
        "local_address",
        "logged_elsewhere",
        "muted",
        "name",
        "no_evict",
        "output_bytes",
        "push",
        "query_bytes",
        "replies_off",
        "resp3",
        "restricted",
        "runs_script",
        "since_ms",
        "skip_replies",
        "store",
        "subscribed",
        "tracking",
        "transaction",
        "unblock",
        "user",
        "waiting",
        "watch",
    )

    def __init__(self, instance: Instance, client_id: int, address: str = "", local_address: str = "") -> None:
        # for the life of the connection
        self.instance = instance
        self.store: Store = instance.store
        self.id = client_id
        self.address = address
        self.local_address = local_address
        self.descriptor = -1  # of the socket; set by the server
        self.since_ms = instance.store.now_ms
        # until RESET
        self.db: Keyspace = instance.store.databases[0]
        self.subscribed: dict[str, dict[bytes, None]] = {kind: {} for kind in KINDS}  # names, by the kind
        self.transaction: Transaction | None = None  # changed by `begin_transaction` and `end_transaction`
        self.resp3 = False
        self.is_limited = False  # it may not run each command
        self.restricted = False  # its requests are not simply run: `Engine.admit` decides
        self.user: User = instance.users.default
        self.authenticated = self.user.lets_everybody_in
        self.watch: Watch | None = None
        self.tracking: Mode | None = None  # changed by `Tracking.begin` and `end`
        self.is_gone = False
        self.runs_script = False  # its requests are those of a script
        self.is_executing = False  # a request of a transaction runs: it must not wait
        self.push: Callable[[Push], None] = lambda message: None  # sends a message; the connection's
        self.unblock: Callable[[bool], None] | None = None  # ends its waiting for a key; True: with an error
        self.lines_in_resp = False  # after HELLO an inline command is answered in RESP, too
        self.name = b""
        self.logged_elsewhere = False  # its reply depends on effects that another turn has logged
        self.muted = False  # `suppress` must be called for each reply
        self.replies_off = False  # CLIENT REPLY OFF
        self.skip_replies = 0  # CLIENT REPLY SKIP: how many replies are still to be dropped, its own included
        self.no_evict = False
        self.linearizable = instance.config.pool_reads == "linearizable"
        # until the client changes it
        self.library_name = b""
        self.library_version = b""
        # kept by the network
        self.active_ms = self.since_ms
        self.last_command = b""
        self.commands = 0
        self.closing = False
        self.waiting = False  # for a key, or in `Scheduler.wait_for_resume`
        self.query_bytes: Callable[[], int] = int  # returns the size of an unfinished request
        self.output_bytes: Callable[[], int] = int  # returns the size of replies that the client has not read

    @property
    def authenticated(self) -> bool:
        """Return True if the client has authenticated, or need not."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, authenticated: bool) -> None:
        self._authenticated = authenticated
        self.update_restricted()

    def update_restricted(self) -> None:
        """Decide again whether `Engine.admit` must look at each request of the client."""
        self.is_limited = (
            not self._authenticated or self.user.is_restricted or self.must_only_subscribe or self.is_monitor
        )
        self.restricted = self.is_limited or self.transaction is not None

    @property
    def is_subscribed(self) -> bool:
        """Return True if the client has subscribed to something."""
        return any(self.subscribed.values())

    @property
    def must_only_subscribe(self) -> bool:
        """Return True if the client's protocol cannot tell a reply from a message, so that it may ask little."""
        return not self.resp3 and self.is_subscribed

    @property
    def is_monitor(self) -> bool:
        """Return True if the client sees every request that runs. It may not ask for keys."""
        return self.id in self.instance.measures.monitors

    @is_monitor.setter
    def is_monitor(self, wanted: bool) -> None:
        monitors = self.instance.measures.monitors
        if wanted:
            monitors.add(self.id, lambda: self.push)
        else:
            monitors.remove(self.id)
        self.instance.measures.update()
        self.instance.update_observed()
        self.update_restricted()

    def begin_transaction(self) -> None:
        """Queue the requests that follow."""
        self.transaction = Transaction()
        self.restricted = True

    def end_transaction(self) -> Transaction | None:
        """End the transaction, forget the watched keys, and return what was queued."""
        transaction, self.transaction = self.transaction, None
        self.unwatch()
        self.restricted = self.is_limited
        return transaction

    def drop_transaction(self) -> None:
        """End the transaction, and forget the watched keys and what was queued, which is freed in slices."""
        transaction = self.end_transaction()
        if transaction is not None and transaction.requests:
            self.store.garbage.append(transaction.requests)

    def end(self) -> None:
        """Take back all that others keep of a client that is gone. A transaction may go on, and calls it at its end."""
        self.is_gone = True
        self.no_touch = False
        self.is_monitor = False
        self.drop_transaction()
        self.instance.tracking.end(self)
        self._free(Leaving(self.instance.subscriptions, self))

    def unwatch(self) -> None:
        """Forget the watched keys."""
        if self.watch is not None:
            self._free(self.watch)
            self.watch = None

    def _free(self, registered: Watch | Leaving) -> None:
        registered.free_some()
        if registered:
            self.store.garbage.append(registered)

    @property
    def on_unix_socket(self) -> bool:
        """Return True if the client connected to the Unix socket."""
        path = self.instance.config.unixsocket
        return bool(path) and self.address == f"{path}:0"

    @property
    def is_local(self) -> bool:
        """Return True if the client connected from a loopback address or by the Unix socket."""
        return self.address.startswith(("127.", "[::1]:")) or self.on_unix_socket

    @property
    def no_touch(self) -> bool:
        """Return True if the client's commands, except TOUCH, do not count as an access to their keys."""
        return self.id in self.instance.no_touch_clients

    @no_touch.setter
    def no_touch(self, wanted: bool) -> None:
        (self.instance.no_touch_clients.add if wanted else self.instance.no_touch_clients.discard)(self.id)
        self.instance.update_observed()
        self.store.tracks_access = not wanted

    def reset(self) -> None:
        """Set everything to its default that RESET resets."""
        self.drop_transaction()
        self.instance.subscriptions.remove_all(self)
        self.instance.tracking.end(self)
        self.is_monitor = False
        self.db = self.store.databases[0]
        self.user = self.instance.users.default
        self.authenticated = self.user.lets_everybody_in
        self.resp3 = self.lines_in_resp = False
        self.name = b""
        if not self.skip_replies:  # as in Redis, RESET is not answered behind CLIENT REPLY SKIP
            self.unmute()
        self.no_evict = False
        self.no_touch = False
        self.linearizable = self.instance.config.pool_reads == "linearizable"

    def mute(self, replies: int = 0) -> None:
        """Drop the next `replies` replies, that of the current command included; 0: all replies until `unmute`."""
        if replies and self.replies_off:
            return
        self.muted = True
        self.skip_replies = replies
        self.replies_off = not replies

    def unmute(self) -> None:
        """Send replies again, that of the current command included."""
        self.muted = self.replies_off = False
        self.skip_replies = 0

    def suppress(self) -> bool:
        """Return True if the reply of the command that just ran is dropped. It counts that reply.

        The connection calls it once for each command that ran, errors and NoReply included, if `muted` is True after
        the command. It does not call it for a `Deferred`, because that command has yet to run, and not for pushes.
        """
        if self.replies_off:
            return True
        self.skip_replies -= 1
        self.muted = self.skip_replies > 0
        return True


@dataclass(eq=False, repr=False)
class Pause:
    """CLIENT PAUSE: its end, whether it defers only writes, and the time at which it was set."""

    until_ms: int = 0
    writes_only: bool = False
    set_ms: int = 0


@dataclass(eq=False, repr=False)
class Instance:
    """The state that all sessions of a process share."""

    store: Store
    log: LogState
    config: Config
    id: str
    run_id: str
    started_ms: int
    kill: Callable[[Session], None] = lambda session: None
    sleep: Callable[[float], None] = lambda seconds: None  # blocks the whole process; the server provides it
    secret_bytes: Callable[[int], bytes] = bytes  # bytes that cannot be guessed; the server provides the function
    clients: dict[int, Session] = field(default_factory=dict)
    no_touch_clients: set[int] = field(default_factory=set)  # ids of the clients in the mode of CLIENT NO-TOUCH
    statistics: Statistics = field(default_factory=Statistics)
    measures: Measures = field(default_factory=Measures)
    is_observed: bool = False  # some client must be looked at, or each request is measured: see `update_observed`
    pause: Pause = field(default_factory=Pause)
    rewrite: RewriteState = field(default_factory=RewriteState)
    closed_gates: tuple[str, ...] = ()  # a subset of GATES, in their order: see `Engine.admit`
    read_observer: ReadObserver | None = None  # is called before each request runs
    observer: RequestObserver | None = None  # runs each request, because others want to know what it changes
    clock: Clock | None = None  # the network's, for tests; None: the system's
    saved_states: dict[bytes, Any] = field(default_factory=dict)  # of DEBUG STATE
    apart: Apart | None = None  # the network's; None: scripts run to their end
    functions: Any = None  # `commands.function_libraries.Functions`, made when it is asked for
    scripts: Any = None  # `commands.script_runs.Scripts`, made for the first script
    script_has_room: bool = True  # the limit on memory leaves room for a script that begins now
    needs_checks: bool = False  # a gate is closed, a read observer is set, or requests are observed
    resumed: Callable[[], None] = lambda: None  # the scheduler's: deferred requests may run now
    shutdown: bool = False
    turn_ends: float = inf  # Unix seconds; after that a connection with more requests continues in a later turn
    save_requested: bool = False  # SAVE or BGSAVE waits for the end of an fsync that begins after it
    save: Callable[[], None] = lambda: None  # writes the log and begins that fsync; the turn provides it
    last_save_second: int = 0  # time of the last fsync that succeeded: the reply of LASTSAVE
    last_client_id: int = 0
    pool: PoolState | None = None  # None: not in a pool
    settings_changed: list[Callable[[], None]] = field(default_factory=list)  # called after CONFIG SET

    def __post_init__(self) -> None:
        self.users = Users()
        self.last_save_second = self.started_ms // 1000  # a log that was read is on the disk
        self.eviction = Eviction(self.store)
        self.key_listeners = KeyListeners(self.store)
        self.subscriptions = Subscriptions()
        self.running = Running()
        self.notifications = Notifications(self.subscriptions, self.running)
        self.tracking = Tracking(self.clients, self.running, self.store.garbage)
        self.blocked = BlockedClients(self.store, self.key_listeners, self._follow_blocked)

    def apply_settings(self) -> None:
        """Propagate the settings to all objects that keep a copy of one. Called at the start and after CONFIG SET."""
        self.store.default_ttl_ms = self.config.default_ttl_seconds * 1000
        self.store.tick(self.store.now_ms)  # for the commands that follow in this turn
        self.follow_memory_limit()
        config = self.config
        self.measures.follow(config.slowlog_slower_than_us, config.slowlog_max_len, config.latency_threshold_ms)
        self.update_observed()
        self.notifications.classes = self.config.event_classes
        self.tracking.most_keys = self.config.tracking_most_keys
        self.users.follow_password(self.config.password)
        if self.users.default.lets_everybody_in:
            for client in self.clients.values():
                client.authenticated = True
        for follow in self.settings_changed:
            follow()

    def _follow_blocked(self, ready: bool) -> None:
        """Close the gate while clients are to be served that waited for a key."""
        self.gate("blocked clients", closed=ready)
        if not ready:
            self.resumed()

    def update_observed(self) -> None:
        """Decide again whether `Engine.admit` must look at each request, and whether each is measured, alone."""
        self.measures.counts.measure_each(self.measures.one_by_one or self.observer is not None)
        self.is_observed = bool(self.no_touch_clients) or self.measures.counts.measures_each
        self._update_needs_checks()

    def follow_memory_limit(self) -> None:
        """Propagate the settings of eviction. In a pool the smallest limit of all instances applies."""
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
        """Return an id that no client of this process had before."""
        self.last_client_id += 1
        return self.last_client_id

    def set_pause(self, pause: Pause) -> None:
        """Begin a pause, or end it with `Pause()`."""
        self.pause = pause
        self.gate("pause", closed=self.paused)
        self.resumed()

    def follow_clock(self, jump_ms: int, checked_ms: int) -> None:
        """Shift the start and the end of each period by `jump_ms`, because the system's clock was set by that much.

        A time that was taken since `checked_ms` is right already: `checked_ms` is the last check for a jump, by the
        clock as it is now. Deadlines of keys are not shifted: they are absolute, as in Redis. O(number of clients).
        """

        def shift(taken_ms: int) -> int:
            return 0 if checked_ms <= taken_ms <= self.store.now_ms else jump_ms

        for client in self.clients.values():
            client.since_ms += shift(client.since_ms)
            client.active_ms += shift(client.active_ms)
        self.started_ms += jump_ms
        self.pause.until_ms += shift(self.pause.set_ms)
        self.gate("pause", closed=self.paused)
        self.resumed()  # a deferred request may have compared the new time with the old end

    @contextmanager
    def locking_keys(self, lock: KeyLock) -> Iterator[None]:
        """Lock the keys of a long command: other requests for them are deferred until it is done."""
        outer, self.store.key_lock = self.store.key_lock, lock  # in a transaction that has locked keys, too
        self.gate("key locks", closed=True)
        try:
            yield
        finally:
            self.store.key_lock = outer
            self.gate("key locks", closed=outer is not None)
            self.resumed()

    def gate(self, name: str, *, closed: bool) -> None:
        """Close or open one of GATES. The owner of the state behind a gate calls this when that state changes."""
        if (name in self.closed_gates) == closed:
            return
        self.closed_gates = tuple([each for each in GATES if (closed if each == name else each in self.closed_gates)])
        self._update_needs_checks()

    def observe_reads(self, observer: ReadObserver | None) -> None:
        """Set the read observer, which is called before each request runs; None: no observer."""
        self.read_observer = observer
        self._update_needs_checks()

    def _update_needs_checks(self) -> None:
        self.needs_checks = bool(self.closed_gates) or self.read_observer is not None or self.is_observed

    @property
    def paused(self) -> bool:
        """Return True if CLIENT PAUSE is in force at the time of this turn."""
        return self.pause.until_ms > self.store.now_ms
