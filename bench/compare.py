"""Godis beside redis-server: throughput and CPU time an operation, with the same settings, on one core each.

Both servers are started with the same settings and pinned to one core, redis-benchmark to another. The runs of a case
alternate, Godis, Redis, Godis, Redis, so that whatever the machine does besides hits both. CPU time is read from the
server process (user and system, all its threads) before and after a run, since throughput alone would show the limit of
the client wherever the client is the slower of the two. What is shown is the median of the rounds, with the spread
from the lowest to the highest as a share of it; a ratio is one median over the other.

The log is written in both (appendfsync everysec unless said otherwise) and never rewritten: a rewriting child of Redis
would share its core. Godis keeps its default TTL of 6 hours, Redis has none: each has its defaults.

    python bench/compare.py                      the table of the README
    python bench/compare.py --rounds 1 --seconds 0.5 --tests set --depths 16       a first look

A case is a row of `cases`, a test a row of TESTS, a peer a row of PEERS: more of them are more rows.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
HOST = "127.0.0.1"
SERVER_CORE, CLIENT_CORE = "0", "1"
WARM_UP_REQUESTS = 20_000
FILL_BATCH = 1000

# What redis-benchmark is told to send.
TESTS = {
    "ping": ["-t", "ping_mbulk"],
    "set": ["-t", "set"],
    "get": ["-t", "get"],
    "incr": ["-t", "incr"],
    "mset": ["-t", "mset"],
    "miss": ["GET", "missing:__rand_int__"],
}


@dataclass(frozen=True)
class Case:
    """A line of the table: what is asked, how, and of servers with which settings."""

    test: str
    depth: int
    clients: int = 50
    size_bytes: int = 64
    keyspace: int = 100_000
    log: str = "everysec"  # or always, no, off

    @property
    def title(self) -> str:
        """Name the case, as far as it is not the usual one."""
        usual = Case(self.test, self.depth)
        extra = [
            f"{self.clients} clients" if self.clients != usual.clients else "",
            f"{self.size_bytes} B" if self.size_bytes != usual.size_bytes else "",
            f"log {self.log}" if self.log != usual.log else "",
        ]
        return ", ".join([f"{self.test.upper()} P={self.depth}", *filter(None, extra)])


@dataclass(frozen=True)
class Run:
    """What one run of redis-benchmark against one server came to."""

    per_second: float
    user_us: float  # CPU time of the server, an operation
    system_us: float

    @property
    def cpu_us(self) -> float:
        """Sum user and system time."""
        return self.user_us + self.system_us


def godis_command(port: int, case: Case) -> list[str]:
    """Say how Godis is started for a case."""
    log = ["--no-log"] if case.log == "off" else ["--log", "log.txt", "--appendfsync", case.log]
    return [sys.executable, str(ROOT / "godis.py"), "--port", str(port), *log, "--auto-rewrite-percentage", "0"]


def redis_command(port: int, case: Case) -> list[str]:
    """Say how redis-server is started with the same settings."""
    log = ["--appendonly", "no"] if case.log == "off" else ["--appendonly", "yes", "--appendfsync", case.log]
    return ["redis-server", "--port", str(port), "--save", "", *log, "--auto-aof-rewrite-percentage", "0"]


PEERS: dict[str, Callable[[int, Case], list[str]]] = {"godis": godis_command, "redis": redis_command}


class Server:
    """A server process, pinned to its core, with the keyspace of its case."""

    def __init__(self, command: Callable[[int, Case], list[str]], case: Case, directory: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            pinned(SERVER_CORE, command(self.port, case)),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._await()
        self._fill(case)

    def _await(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._ask(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"does not serve: {self.process.args!r}") from None
                time.sleep(0.02)

    def _fill(self, case: Case) -> None:
        """Set every key that redis-benchmark may ask for."""
        value = b"x" * case.size_bytes
        for start in range(0, case.keyspace, FILL_BATCH):
            keys = [b"key:%012d" % number for number in range(start, min(start + FILL_BATCH, case.keyspace))]
            request = b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$%d\r\n%b\r\n" % (k, len(value), value) for k in keys)
            self._ask(request, b"+OK\r\n" * len(keys))

    def _ask(self, request: bytes, expected: bytes) -> None:
        with socket.create_connection((HOST, self.port), 10) as connection:
            connection.sendall(request)
            reply = b""
            while len(reply) < len(expected):
                received = connection.recv(65536)
                if not received:
                    raise OSError("closed")
                reply += received
        if reply != expected:
            raise SystemExit(f"unexpected answer: {reply[:100]!r}")

    def cpu_us(self) -> tuple[float, float]:
        """Read user and system time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
        return int(fields[11]) * tick_us, int(fields[12]) * tick_us

    def run(self, case: Case, requests: int) -> Run:
        """Send so many requests of the case, and measure."""
        before = self.cpu_us()
        per_second = benchmark(self.port, case, requests)
        user, system = ((after - start) / requests for after, start in zip(self.cpu_us(), before, strict=True))
        return Run(per_second, user, system)

    def stop(self) -> None:
        """End the process and wait until its core is free."""
        self.process.terminate()
        self.process.wait(60)


def benchmark(port: int, case: Case, requests: int) -> float:
    """Run redis-benchmark on the client's core; return the requests a second that it counted."""
    options = ["-n", str(requests), "-c", str(case.clients), "-P", str(case.depth), "-d", str(case.size_bytes)]
    command = ["redis-benchmark", "-p", str(port), *options, "-r", str(case.keyspace), "--csv", *TESTS[case.test]]
    done = subprocess.run(pinned(CLIENT_CORE, command), capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    return float(rows[-1]["rps"])


def pinned(core: str, command: list[str]) -> list[str]:
    """Prefix a command so that it runs on one core."""
    return ["taskset", "-c", core, *command]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def servers(case: Case) -> Iterator[dict[str, Server]]:
    """Start every peer in a directory of its own, and clear all away in the end."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as running:
        started = {}
        for name, command in PEERS.items():
            home = Path(directory, name)
            home.mkdir()
            started[name] = Server(command, case, str(home))
            running.callback(started[name].stop)
        yield started


def measure(case: Case, rounds: int, seconds: float) -> dict[str, list[Run]]:
    """Run a case on all peers in turn; the number of requests is the same for all, and takes about `seconds`."""
    with servers(case) as peers:
        fastest = max(benchmark(peer.port, case, WARM_UP_REQUESTS * min(case.depth, 10)) for peer in peers.values())
        requests = int(fastest * seconds)
        runs: dict[str, list[Run]] = {name: [] for name in peers}
        for _, (name, peer) in product(range(rounds), peers.items()):
            runs[name].append(peer.run(case, requests))
    return runs


# ---- the report

HEAD = """\
| | Godis/s | Redis/s | ratio | Godis CPU µs (user + system) | Redis CPU µs | ratio |
|---|---:|---:|---:|---:|---:|---:|"""


def line(case: Case, runs: dict[str, list[Run]]) -> str:
    """Make the line of a case."""
    speed = {name: [run.per_second for run in runs[name]] for name in runs}
    cpu = {name: statistics.median(run.cpu_us for run in runs[name]) for name in runs}
    median = {name: statistics.median(values) for name, values in speed.items()}
    shown = {name: f"{median[name] / 1000:.0f}k ±{spread(values):.0f}%" for name, values in speed.items()}
    parts = {
        name: f"{cpu[name]:.2f} ({statistics.median(run.user_us for run in runs[name]):.2f} + "
        f"{statistics.median(run.system_us for run in runs[name]):.2f})"
        for name in runs
    }
    return (
        f"| {case.title} | {shown['godis']} | {shown['redis']} | **{median['godis'] / median['redis']:.2f}** "
        f"| {parts['godis']} | {parts['redis']} | **{cpu['godis'] / cpu['redis']:.2f}** |"
    )


def spread(values: list[float]) -> float:
    """Half the way from the lowest to the highest, in percent of the median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)


def preamble(arguments: argparse.Namespace) -> str:
    """Say when, where and with what this was measured."""
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return "\n".join(
        [
            f"# Godis and redis-server, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
            "",
            f"- machine: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
            f"- commit {commit()}; Python {platform.python_version()}, gevent {version('gevent')}, "
            f"hiredis {version('hiredis')}; redis-server {redis[2].removeprefix('v=')}",
            f"- {arguments.clients} clients, values of {arguments.size} bytes, {arguments.keyspace} keys, "
            f"log: {arguments.log}; {arguments.rounds} alternated rounds of about {arguments.seconds} s; "
            f"server on core {SERVER_CORE}, redis-benchmark on core {CLIENT_CORE}",
            f"- load of the machine before: {os.getloadavg()[0]:.1f}",
        ]
    )


def cpu_model() -> str:
    """Name the processor."""
    for entry in Path("/proc/cpuinfo").read_text().splitlines():
        if entry.startswith("model name"):
            return entry.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """Name the commit that was measured, and say if more than that was."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=, with changes"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """List what is to be measured."""
    for test, depth in product(arguments.tests.split(","), arguments.depths.split(",")):
        yield Case(test, int(depth), arguments.clients, arguments.size, arguments.keyspace, arguments.log)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure Godis beside redis-server.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a run takes, about")
    parser.add_argument("--tests", default="set,get", help=f"of {','.join(TESTS)}")
    parser.add_argument("--depths", default="1,16,100", help="requests in a pipeline")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--size", type=int, default=64, help="bytes of a value")
    parser.add_argument("--keyspace", type=int, default=100_000, help="keys")
    parser.add_argument("--log", choices=["everysec", "always", "no", "off"], default="everysec")
    parser.add_argument("--output", type=Path, help="where the table goes; a new file in bench/results if not given")
    return parser.parse_args()


def main() -> None:
    """Measure all cases, show each line as it comes, and write the table."""
    arguments = parse_arguments()
    missing = [name for name in ("redis-server", "redis-benchmark", "taskset") if not shutil.which(name)]
    if missing or not Path("/proc/self/stat").exists() or (os.cpu_count() or 1) < 2:
        raise SystemExit(f"needs Linux, two cores, redis-server, redis-benchmark and taskset; missing: {missing}")
    lines = [*preamble(arguments).splitlines(), "", *HEAD.splitlines()]
    print("\n".join(lines), flush=True)
    for case in cases(arguments):
        lines.append(line(case, measure(case, arguments.rounds, arguments.seconds)))
        print(lines[-1], flush=True)
    path = arguments.output or RESULTS / f"{datetime.now(timezone.utc):%Y-%m-%d-%H%M%S}-compare.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
