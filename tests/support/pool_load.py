"""Clients of a pool that note all that they ask and see, and the verdict on it.

    load = Load(connect, clients=50)      each a greenlet, in a thread beside the test
    load.start() … load.stop()            what happens to the pool meanwhile is the test's business
    judge(load, dumps)                    lost, doubled, not linearizable, differing, the longest gap

Each client has keys of its own and shares others, and asks for one thing after the other:

    INCR own, INCR shared      a counter says how often it was counted
    APPEND own                 a token more in a journal: which tokens are there, how often, in which order
    SET shared                 a value that nobody else writes
    MSET of three              the same such value under three keys, read by one MGET: one register of three
    GET, MGET                  of all these

Beside them a queue has its producers and workers, and accounts have transfers: see `pool_together`.

A write whose reply is -POOLUNKNOWN, or whose connection broke or stayed silent, may have been done at any later moment
or never. One that was refused by -POOLDOWN was not done. Any other error is held against the pool.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from random import Random
from time import monotonic
from typing import Any

import gevent
import gevent.socket
import hiredis
import pool_together
from linearizability import Operation, Reply, find_violation
from servers import encode

SILENT_SECONDS = 20
REFUSED_PAUSE_SECONDS = 0.01
BROKEN_PAUSE_SECONDS = 0.05  # a balancer without instances accepts and closes at once
REGISTERS = 8
COUNTERS = 4
GROUPS = 2
PARTS = 3
RECEIVE_BYTES = 16384

Address = tuple[str, int]
Connect = Callable[[int], tuple[Any, Address]]  # client -> an unconnected socket in its namespace, and where to
Dump = Mapping[bytes, tuple[bytes, float]]  # key -> value, deadline


class Broken(Exception):
    """The connection broke, or nothing came for long."""


class _Connection:
    def __init__(self, sock: Any, address: Address) -> None:
        self.sock = gevent.socket.socket(sock.family, sock.type, fileno=sock.detach())
        self.reader = hiredis.Reader()
        self.wrote: set[bytes] = set()  # keys with an acknowledged write on this connection
        self.sock.settimeout(SILENT_SECONDS)
        self._address = address

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def open(self) -> None:
        self.sock.connect(self._address)

    def ask(self, *words: bytes) -> Any:
        try:
            self.sock.sendall(encode(*words))
            while (reply := self.reader.gets()) is False:
                received = self.sock.recv(RECEIVE_BYTES)
                if not received:
                    raise Broken
                self.reader.feed(received)
        except OSError as error:
            raise Broken from error
        return reply


@dataclass
class Record:
    """What all clients saw."""

    operations: dict[bytes, list[Operation]] = field(default_factory=lambda: defaultdict(list))  # by key
    acknowledged_at: list[float] = field(default_factory=list)  # writes only
    reads: int = 0
    unknown: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    faults: list[str] = field(default_factory=list)  # what must never be seen


class Load:
    """Clients that write and read until they are stopped. `linearizable`: reads see all writes, so they count.

    `together`: those of `pool_together` are among them. `pause_seconds` is how long a client waits before it asks for
    the next thing.
    """

    def __init__(
        self,
        connect: Connect,
        clients: int = 50,
        *,
        linearizable: bool = True,
        seed: str = "",
        pause_seconds: float = 0,
        together: bool = False,
    ) -> None:
        self.record = record = Record()
        self.notes = pool_together.Notes(
            lambda: record.acknowledged_at.append(monotonic()), lambda code: record.refused.update([code])
        )
        self._together = together
        self.started = self.stopped = 0.0
        self._connect = connect
        self._clients = clients
        self._linearizable = linearizable
        self._seed = seed
        self._pause_seconds = pause_seconds
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.started = monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Let each client see its last reply, and end."""
        self.stopped = monotonic()
        self._stopping = True
        self._thread.join()

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self.record.acknowledged_at)

    def _run(self) -> None:
        clients: list[Any] = [
            _Client(number, self.record, self._linearizable, Random(f"{self._seed}{number}"))
            for number in range(self._clients)
        ]
        if self._together:
            clients += pool_together.clients(self.notes, self._seed)
        greenlets = [gevent.spawn(self._be, client, number) for number, client in enumerate(clients)]
        gevent.joinall(greenlets)
        self.record.faults += [f"a client died of {g.exception!r}" for g in greenlets if g.exception]

    def _be(self, client: Any, number: int) -> None:
        while not self._stopping:
            with _Connection(*self._connect(number)) as connection:
                try:
                    connection.open()
                    while not self._stopping:
                        client.do_one(connection)
                        if self._pause_seconds:
                            gevent.sleep(self._pause_seconds)
                except Broken:
                    self.record.broken += 1
                    gevent.sleep(BROKEN_PAUSE_SECONDS)
                except OSError:
                    gevent.sleep(REFUSED_PAUSE_SECONDS)


class _Client:
    def __init__(self, number: int, record: Record, linearizable: bool, random: Random) -> None:
        self.name = f"client{number}"
        self.record = record
        self.linearizable = linearizable
        self.random = random
        self.counter = b"counter:own:%d" % number
        self.journal = b"journal:%d" % number
        self.number = number
        self.written = 0

    def do_one(self, connection: _Connection) -> None:
        """Ask for one thing, and note it."""
        self.written += 1
        unique = b"%d.%d" % (self.number, self.written)
        shared = b"counter:shared:%d" % self.random.randrange(COUNTERS)
        register = b"register:%d" % self.random.randrange(REGISTERS)
        group = b"group:%d" % self.random.randrange(GROUPS)
        chance = self.random.random()
        if chance < 0.20:
            self._write(connection, self.counter, b"INCR")
        elif chance < 0.30:
            self._write(connection, shared, b"INCR")
        elif chance < 0.45:
            self._write(connection, register, b"SET", unique)
        elif chance < 0.50:
            self._write(connection, group, b"SET", unique)
        elif chance < 0.65:
            self._write(connection, self.journal, b"APPEND", unique + b",")
        else:
            self._read(connection, self.random.choice([self.counter, shared, register, register, group]))

    def _write(self, connection: _Connection, key: bytes, *request: bytes) -> None:
        words = (request[0], key, *request[1:])
        if key.startswith(b"group:"):
            words = (b"MSET", *(word for part in parts(key) for word in (part, request[1])))
        invoked = monotonic()
        try:
            reply = connection.ask(*words)
        except Broken:
            self._note_unknown(key, request, invoked)
            raise
        if isinstance(reply, hiredis.ReplyError):
            self._note_error(key, request, invoked, str(reply))
            return
        returned = monotonic()
        self.record.acknowledged_at.append(returned)
        connection.wrote.add(key)
        self._note(key, request, invoked, returned, reply)

    def _read(self, connection: _Connection, key: bytes) -> None:
        if not self.linearizable and (key not in connection.wrote or key not in (self.counter, self.journal)):
            return self._write(connection, self.counter, b"INCR")
        words = (b"MGET", *parts(key)) if key.startswith(b"group:") else (b"GET", key)
        invoked = monotonic()
        reply = connection.ask(*words)
        returned = monotonic()
        if isinstance(reply, hiredis.ReplyError):
            return self._note_error(key, (b"GET",), invoked, str(reply))
        if isinstance(reply, list):
            if len(set(reply)) > 1:
                self.record.faults.append(f"{self.name} saw half of an MSET: {reply}")
            reply = reply[0]
        self.record.reads += 1
        self._note(key, (b"GET",), invoked, returned, reply)
        return None

    def _note(self, key: bytes, request: tuple[bytes, ...], invoked: float, returned: float, reply: Reply) -> None:
        self.record.operations[key].append(Operation(request, invoked, returned, reply, self.name))

    def _note_unknown(self, key: bytes, request: tuple[bytes, ...], invoked: float) -> None:
        self.record.unknown += 1
        self._note(key, request, invoked, inf, None)

    def _note_error(self, key: bytes, request: tuple[bytes, ...], invoked: float, text: str) -> None:
        code = text.partition(" ")[0]
        if code == "POOLUNKNOWN" and request != (b"GET",):
            self._note_unknown(key, request, invoked)
        elif code in ("POOLDOWN", "POOLSTALE", "LOADING"):
            self.record.refused[code] += 1
            gevent.sleep(REFUSED_PAUSE_SECONDS)
        else:
            self.record.faults.append(f"{self.name} asked for {request} of {key!r} and got {text}")
            gevent.sleep(REFUSED_PAUSE_SECONDS)


def parts(group: bytes) -> list[bytes]:
    """Name the keys that hold the value of a group."""
    return [b"%b:%d" % (group, part) for part in range(PARTS)]


@dataclass
class Verdict:
    """What became of all that was acknowledged."""

    acknowledged: int
    reads: int
    unknown: int
    refused: int
    lost: int
    doubled: int
    jobs: int  # done
    transfers: int
    conflicts: int
    longest_gap_seconds: float
    faults: list[str]  # each a sentence: not linearizable, instances that differ, errors that nobody should see

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.faults)

    def __str__(self) -> str:
        figures = (
            f"{self.acknowledged} acknowledged, {self.reads} read, {self.unknown} unknown, {self.refused} refused, "
            f"{self.lost} lost, {self.doubled} doubled, {self.jobs} jobs, {self.transfers} transfers, "
            f"{self.conflicts} conflicts, longest gap {self.longest_gap_seconds:.2f} s"
        )
        return "\n".join([figures, *self.faults[:10]])


def judge(load: Load, dumps: Mapping[str, Dump]) -> Verdict:
    """Judge a load that is over by what it saw and by what each instance holds now."""
    record = load.record
    faults = list(record.faults)
    faults += _differences(dumps)
    found = next(iter(dumps.values()))
    lost, doubled, more_faults = pool_together.judge(load.notes, found)
    faults += more_faults
    lost_tokens, doubled_tokens = _count_tokens(record, found)
    lost, doubled = lost + lost_tokens, doubled + doubled_tokens
    end = max([load.stopped, *(o.returned for each in record.operations.values() for o in each if o.is_known)])
    for key, operations in sorted(record.operations.items()):
        at_the_end = [
            Operation((b"GET",), end + 1, end + 1, value, f"{name} at the end")
            for name, dump in dumps.items()
            for value in _values(dump, key)
        ]
        lost_here, doubled_here = _count_counts(key, operations, found)
        lost += lost_here
        doubled += doubled_here
        if violation := find_violation([*operations, *at_the_end]):
            faults.append(f"{key.decode()} is not linearizable: {violation}")
    return Verdict(
        load.acknowledged,
        record.reads,
        record.unknown,
        record.refused.total(),
        lost,
        doubled,
        len(load.notes.done),
        len(load.notes.transfers),
        load.notes.conflicts,
        longest_gap(load.started, load.stopped, record.acknowledged_at),
        faults,
    )


def _values(dump: Dump, key: bytes) -> list[bytes | None]:
    """Return what a key holds, of a group each of its parts."""
    keys = parts(key) if key.startswith(b"group:") else [key]
    return [dump[each][0] if each in dump else None for each in keys]


def _differences(dumps: Mapping[str, Dump]) -> list[str]:
    (first, expected), *others = dumps.items()
    differing = []
    for name, dump in others:
        keys = [key for key in expected.keys() | dump.keys() if expected.get(key) != dump.get(key)]
        if keys:
            key = min(keys)
            seen = f"{expected.get(key)} and {dump.get(key)}"
            differing.append(f"{first} and {name} differ in {len(keys)} keys, as {key!r}: {seen}")
    return differing


def _count_tokens(record: Record, found: Dump) -> tuple[int, int]:
    """Count the tokens of all journals that were acknowledged and are not there, and those that are there twice."""
    lost = doubled = 0
    for key, operations in record.operations.items():
        if not key.startswith(b"journal:"):
            continue
        value = found[key][0] if key in found else b""
        times = Counter(token + b"," for token in value.split(b",")[:-1])
        appended = [operation for operation in operations if operation.request[0] == b"APPEND"]
        lost += sum(operation.is_known and not times[operation.request[1]] for operation in appended)
        doubled += sum(count - 1 for count in times.values())
    return lost, doubled


def _count_counts(key: bytes, operations: Sequence[Operation], found: Dump) -> tuple[int, int]:
    """Count how much less than acknowledged a counter says, or how much more than it was asked to."""
    if not key.startswith(b"counter:"):
        return 0, 0
    asked = [operation for operation in operations if operation.request == (b"INCR",)]
    known = sum(operation.is_known for operation in asked)
    counted = int(found[key][0]) if key in found else 0
    return max(0, known - counted), max(0, counted - len(asked))


def longest_gap(started: float, stopped: float, acknowledged_at: Sequence[float]) -> float:
    """Return the longest time without an acknowledgement, from start to stop."""
    moments = [started, *sorted(moment for moment in acknowledged_at if moment < stopped), stopped]
    return max(later - earlier for earlier, later in pairwise(moments))
