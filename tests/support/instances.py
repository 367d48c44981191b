"""An instance without a server: its store, log, configuration and engine, a clock that stands still, and clients.

What is below the server is tested on a `Harness`. `Bench` has a log that is a list, `Replay` has none; the rig of a
rewrite, that of a turn, and a member of a pool are harnesses as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import Any, Generic, TypeVar

from aof import NullLog
from commands import TABLE
from config import Config
from engine import Engine
from protocol import encode
from replies import LongArray, Reply, Work
from session import Instance, LogState, Session
from store import Now, Steps, Store
from values.entry import deadline_of, value_of

START_MS = 1_700_000_000_123
WHOLE_SECOND_MS = 1_700_000_000_000

State = dict[tuple[int, bytes], tuple[Any, int]]  # (database, key) -> (value, deadline)
Log = TypeVar("Log", bound=LogState)


def state_of(store: Store) -> State:
    """Return all that is true of a store, expired keys that still stand there included."""
    return {
        (db.index, key): (value_of(entry), deadline_of(entry))
        for db in store.databases
        for key, entry in db.entries.items()
    }


def run_one(engine: Engine, session: Session, argv: list[bytes]) -> Any:
    """Run one request and return its reply."""
    return engine.run(session, [argv])[0]


def run_all(engine: Engine, session: Session, requests: Sequence[list[bytes]]) -> list[Any]:
    """Run a pipeline part by part, as a connection does, and return the replies of all."""
    replies: list[Any] = []
    while len(replies) < len(requests):
        replies += engine.run(session, requests[len(replies) :])
    return replies


def work_of(reply: Reply) -> Work:
    """Return a reply that is work to be done in slices."""
    assert isinstance(reply, Generator)
    return reply


def listed(reply: Any) -> list[Any]:
    """Return the members of an array, also of one that is made while it is sent."""
    members: list[Any] = reply.members() if isinstance(reply, LongArray) else reply
    return members


def driven(work: Work, between: Callable[[], object] = lambda: None) -> tuple[Any, int]:
    """Do a work to its end, with something else between its steps; return its reply, and how many steps it took."""
    steps = 0
    try:
        while True:
            next(work)
            steps += 1
            between()
    except StopIteration as end:
        return end.value, steps


class RecordedLog:
    """A log that keeps its records as lists of words, and can be told to fail."""

    def __init__(self) -> None:
        self.failure: bytes | None = None
        self.pieces: list[bytes] = []
        self.is_busy = False
        self.written_bytes = 0
        self.synced_bytes = 0
        self.size_bytes = 0
        self.records: list[list[bytes]] = []
        self.databases: list[int] = []  # of each record

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        self.records.append(list(argv))
        self.databases.append(db)

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        life = [] if deadline_ms < 0 else [b"PXAT", b"%d" % deadline_ms]
        self.append(db, [b"SET", key, value, *life])

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
        for key, value in zip(keys, values, strict=True):
            self.append_set(db, key, value, deadline_ms)

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None:
        for key in keys:
            self.append(db, [name, key, *words])

    def begin(self) -> RecordedLog:
        return RecordedLog()

    def position(self) -> int:
        return len(self.records)

    def cut(self, position: int) -> RecordedLog:
        effects = RecordedLog()
        effects.records, self.records[position:] = self.records[position:], []
        effects.databases, self.databases[position:] = self.databases[position:], []
        return effects

    def commit_in_slices(self, effects: RecordedLog, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        self.commit(effects, keys, garbage)
        yield

    def commit(self, effects: RecordedLog, keys: list[set[bytes]], garbage: list[Any]) -> None:
        named = {key for argv in effects.records for key in TABLE[argv[0]].key_arguments(argv)}
        assert not keys or named <= set[bytes]().union(*keys)  # the keys of a script are not known
        self.records += effects.records
        self.databases += effects.databases
        garbage += keys


class Harness(Generic[Log]):
    """An instance over any log. Settings are given as flags: `Harness(log, requirepass="secret")`."""

    def __init__(self, log: Log, start_ms: int = WHOLE_SECOND_MS, /, **settings: str) -> None:
        self.config = Config({"--" + name.replace("_", "-"): text for name, text in settings.items()}, {})
        self.log = log
        self.store = Store(self.config.databases, log, Random(1))
        self.store.tick(start_ms)
        self.instance = Instance(self.store, log, self.config, "harness", "0" * 40, start_ms)
        self.instance.apply_settings()
        self.engine = Engine(self.instance)

    def new_session(self, address: str = "127.0.0.1:50000") -> Session:
        """Add a client."""
        session = Session(self.instance, self.instance.next_client_id(), address, "127.0.0.1:6379")
        self.instance.clients[session.id] = session
        return session

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.store.tick(self.store.now_ms + int(seconds * 1000))


class Replay(Harness[NullLog]):
    """An empty instance that is about to apply a log."""

    def __init__(self, databases: int = 16) -> None:
        super().__init__(NullLog(), databases=str(databases), default_ttl="0")
        self.store.begin_replay(WHOLE_SECOND_MS)


class Bench(Harness[RecordedLog]):
    """An instance whose log is a list. What a command wants done to the process or to other clients is noted."""

    def __init__(self, **settings: str) -> None:
        super().__init__(RecordedLog(), START_MS, **settings)
        self.killed: list[Session] = []
        self.slept: list[float] = []
        self.instance.kill = self._kill
        self.instance.sleep = self.slept.append
        self.instance.secret_bytes = os.urandom
        self.instance.measures.clock = partial(next, count(1.0, 1e-6))  # else a request is slow on a busy machine

    def _kill(self, session: Session) -> None:
        self.killed.append(session)
        del self.instance.clients[session.id]

    def connect(self, address: str = "127.0.0.1:50000") -> Client:
        """Add a client."""
        return Client(self, self.new_session(address))


class Client:
    """A session and the engine that answers it."""

    def __init__(self, bench: Bench, session: Session) -> None:
        self.bench = bench
        self.session = session

    def ask(self, *words: bytes | str | int) -> Any:
        """Run a request and return the reply as the command made it."""
        argv = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return run_one(self.bench.engine, self.session, argv)

    def wire(self, *words: bytes | str | int) -> bytes:
        """Run a request and return the bytes of its reply; b"" where there is none."""
        reply = self.ask(*words)
        if self.session.muted and self.session.suppress():
            return b""
        pieces: list[bytes] = []
        encode(reply, pieces.append, self.session.resp3)
        return b"".join(pieces)
