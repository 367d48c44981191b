"""The pool beside a single instance and a Redis Cluster: throughput, latency, a leader's end, a newcomer's start.

Everything is on one machine: three nodes of etcd, the instances and redis-benchmark share its cores, so three instances
are not faster here than one, and what counts are the ratios. The systems alternate, each started anew in every round;
shown is the median of the rounds. Several instances are loaded by a redis-benchmark each, with the clients shared out:
their throughput is added up, of their medians the median is taken, and of their p99 the worst.

    python bench/pool.py                            all of it, for docs/pool.md
    python bench/pool.py --rounds 1 --seconds 1 --keys 100000       a first look

Redis Cluster has three masters with `appendfsync always`, so each of its writes is on one disk when it is acknowledged;
of the pool's, on two of three. redis-benchmark speaks to it as a client that knows which node has which key.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from pool_load import Load  # noqa: E402 - the servers, the nodes of etcd and the clients are those of the tests
from rig.etcd_cluster import EtcdCluster  # noqa: E402
from servers import HOST, GodisProcess, RedisProcess, encode, parse  # noqa: E402

CLIENTS = 50
VALUE_BYTES = 64
KEYSPACE = 100_000
FILL_DEPTH = 50
KILL_AFTER_SECONDS = 3.0
WATCH_SECONDS = 9.0


@dataclass(frozen=True)
class Figures:
    """What one run against one system came to."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class System:
    """What clients speak to: one redis-benchmark a port."""

    ports: list[int]
    is_cluster: bool = False

    def benchmark(self, test: str, requests: int, depth: int = 1) -> Figures:
        """Run SET or GET with all clients, and put the figures together."""
        share = len(self.ports)
        options = ["-n", str(requests // share), "-c", str(CLIENTS // share), "-P", str(depth)]
        options += ["-d", str(VALUE_BYTES), "-r", str(KEYSPACE), "--csv", "-t", test]
        options += ["--cluster"] if self.is_cluster else []
        running = [
            subprocess.Popen(["redis-benchmark", "-p", str(port), *options], stdout=subprocess.PIPE, text=True)
            for port in self.ports
        ]
        rows = [last_row(process.communicate()[0]) for process in running]
        if any(process.returncode for process in running):
            raise SystemExit(f"redis-benchmark failed on {self}")
        return Figures(
            share / max(1 / float(row["rps"]) for row in rows),
            statistics.median(float(row["p50_latency_ms"]) for row in rows),
            max(float(row["p99_latency_ms"]) for row in rows),
        )


def last_row(printed: str) -> dict[str, str]:
    """Read the last row of what redis-benchmark printed, which begins with the nodes if there are several."""
    return list(csv.DictReader(io.StringIO(printed[printed.index('"test"') :])))[-1]


@contextmanager
def alone(*flags: str) -> Iterator[System]:
    """A single instance with its log in a file."""
    with tempfile.TemporaryDirectory() as directory, GodisProcess(Path(directory), *flags) as godis:
        yield System([godis.port])


@contextmanager
def pool(instances: int, *flags: str) -> Iterator[tuple[EtcdCluster, list[GodisProcess]]]:
    """Instances of one pool on three nodes of etcd."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as running:
        cluster = running.enter_context(EtcdCluster(Path(directory)))
        members = [running.enter_context(member(directory, cluster, *flags)) for _ in range(instances)]
        yield cluster, members


def member(directory: str, cluster: EtcdCluster, *flags: str) -> GodisProcess:
    """Start an instance of the pool."""
    home = Path(tempfile.mkdtemp(dir=directory))
    return GodisProcess(home, "--pool", f"etcd://{cluster.endpoints}", "--instance-id", home.name, *flags, log=None)


@contextmanager
def pooled(instances: int, *flags: str) -> Iterator[System]:
    """The same, as something to measure."""
    with pool(instances, *flags) as (_, members):
        yield System([instance.port for instance in members])


@contextmanager
def redis_cluster() -> Iterator[System]:
    """Three masters, each of which syncs its log before it answers."""
    flags = ["--cluster-enabled", "yes", "--appendonly", "yes", "--appendfsync", "always"]
    with ExitStack() as running:
        ports = []
        for _ in range(3):
            directory = running.enter_context(tempfile.TemporaryDirectory())
            ports.append(running.enter_context(RedisProcess(Path(directory), *flags)).port)
        addresses = [f"{HOST}:{port}" for port in ports]
        make = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        subprocess.run(make, check=True, capture_output=True)
        for port in ports:
            while b"cluster_state:ok" not in subprocess.check_output(["redis-cli", "-p", str(port), "CLUSTER", "INFO"]):
                time.sleep(0.1)
        yield System(ports[:1], is_cluster=True)


SYSTEMS: dict[str, Callable[[], object]] = {
    "Godis alone, everysec": lambda: alone("--appendfsync", "everysec"),
    "Godis alone, always": lambda: alone("--appendfsync", "always"),
    "pool, 1 instance": lambda: pooled(1, "--pool-reads", "local"),
    "pool, 3 instances": lambda: pooled(3, "--pool-reads", "local"),
    "pool, 1 instance, linearizable": lambda: pooled(1, "--pool-reads", "linearizable"),
    "pool, 3 instances, linearizable": lambda: pooled(3, "--pool-reads", "linearizable"),
    "Redis Cluster, 3 nodes, always": redis_cluster,
}


def measure(start: Callable[[], object], seconds: float) -> dict[str, Figures]:
    """Start a system, fill it, and run SET and GET for about so long each."""
    with start() as system:  # type: ignore[attr-defined]
        system.benchmark("set", 2 * KEYSPACE, FILL_DEPTH)
        figures = {}
        for test in ("set", "get"):
            rate = system.benchmark(test, 10_000).per_second
            figures[test] = system.benchmark(test, max(1000, int(rate * seconds)))
        return figures


def throughput_table(rounds: int, seconds: float) -> Iterator[str]:
    """Measure all systems in turn, and make the lines of the table."""
    runs: dict[str, list[dict[str, Figures]]] = {name: [] for name in SYSTEMS}
    for number in range(rounds):
        for name, start in SYSTEMS.items():
            runs[name].append(measure(start, seconds))
            print(f"  round {number + 1}, {name}: {runs[name][-1]}", file=sys.stderr)
    speed = {
        (name, test): statistics.median(run[test].per_second for run in of_system)
        for name, of_system in runs.items()
        for test in ("set", "get")
    }
    yield f"| {CLIENTS} clients, {VALUE_BYTES} bytes | SET/s | p50 / p99 ms | GET/s | p50 / p99 ms |"
    yield "|---|---:|---:|---:|---:|"
    for name, of_system in runs.items():
        cells = []
        for test in ("set", "get"):
            p50 = statistics.median(run[test].p50_ms for run in of_system)
            p99 = statistics.median(run[test].p99_ms for run in of_system)
            cells += [f"{speed[name, test] / 1000:.1f}k", f"{p50:.2f} / {p99:.2f}"]
        yield f"| {name} | {' | '.join(cells)} |"
    one, redis = speed["pool, 1 instance", "set"], speed["Redis Cluster, 3 nodes, always", "set"]
    yield ""
    yield f"- SET, one instance of the pool / Redis Cluster: {one / redis:.2f} (floor: 0.65, or 12k/s)"
    reads = speed["pool, 1 instance", "get"] / speed["Godis alone, everysec", "get"]
    yield f"- GET, one instance of the pool with local reads / Godis alone: {reads:.2f} (floor: 0.9)"


def gaps(rounds: int) -> Iterator[str]:
    """Kill etcd's leader under load, and see for how long nothing is acknowledged."""
    found = []
    for _ in range(rounds):
        with pool(3) as (cluster, members):
            addresses = [(HOST, instance.port) for instance in members]
            with Load(lambda client: (socket.socket(), addresses[client % 3]), CLIENTS, linearizable=False) as load:  # noqa: B023
                time.sleep(KILL_AFTER_SECONDS)
                cluster.leader().kill9()
                time.sleep(WATCH_SECONDS - KILL_AFTER_SECONDS)
            at = sorted(load.record.acknowledged_at)
            found.append(max(later - earlier for earlier, later in pairwise(at)))
            print(f"  leader killed: {found[-1]:.2f} s", file=sys.stderr)
    shown = f"median {statistics.median(found):.2f} s, longest {max(found):.2f} s of {rounds}"
    yield f"- etcd's leader is killed: nothing acknowledged for {shown} (floor: 2.5 s)"


def newcomer(keys: int) -> Iterator[str]:
    """Fill a pool, start one more instance, and see how long it takes until it serves."""
    with pool(1) as (cluster, (first,)):
        with first.raw(timeout=120) as raw:
            for start in range(0, keys, 1000):
                raw.send(
                    b"".join(encode("SET", b"key:%012d" % n, os.urandom(32).hex()) for n in range(start, start + 1000))
                )
                for _ in range(1000):
                    raw.read_line()
        began = time.monotonic()
        with member(str(first.directory.parent), cluster) as second:
            seconds = time.monotonic() - began
            with second.raw() as raw:
                found = parse(raw.ask("DBSIZE"))
        if found != keys:
            raise SystemExit(f"the new instance has {found} keys of {keys}")
    yield f"- a new instance of a pool with {keys:,} keys of {VALUE_BYTES} bytes serves within {seconds:.1f} s (15 s)"


def preamble(arguments: argparse.Namespace) -> Iterator[str]:
    """Say when, where and with what this was measured."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    etcd = subprocess.check_output(["etcd", "--version"], text=True).splitlines()[0]
    redis = subprocess.check_output(["redis-server", "--version"], text=True).split()[2].removeprefix("v=")
    described = subprocess.check_output(["git", "describe", "--always", "--dirty=, with changes"], cwd=ROOT, text=True)
    yield f"# The pool, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    yield ""
    yield f"- machine: {model.partition(': ')[2]}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    yield f"- commit {described.strip()}; Python {platform.python_version()}, {etcd}, redis-server {redis}"
    load = os.getloadavg()[0]
    yield f"- {arguments.rounds} rounds of about {arguments.seconds} s, alternated; load before: {load:.1f}"
    yield ""


def main() -> None:
    """Measure what was asked for, and write it."""
    parser = argparse.ArgumentParser(description="Measure the pool.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a run takes, about")
    parser.add_argument("--keys", type=int, default=1_000_000, help="that a new instance has to load")
    parser.add_argument("--only", choices=["throughput", "gaps", "newcomer"], help="one part of it")
    parser.add_argument("--output", type=Path, help="where it goes; a new file in bench/results if not given")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "throughput": lambda: throughput_table(arguments.rounds, arguments.seconds),
        "gaps": lambda: gaps(arguments.rounds + 2),
        "newcomer": lambda: newcomer(arguments.keys),
    }
    lines = list(preamble(arguments))
    for name, part in parts.items():
        if arguments.only in (None, name):
            lines += part()
    print("\n".join(lines))
    path = arguments.output or ROOT / "bench" / "results" / f"{datetime.now(timezone.utc):%Y-%m-%d-%H%M%S}-pool.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
