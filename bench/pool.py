"""The pool beside a single instance and a Redis Cluster: throughput, latency, a leader's end, a newcomer's start.

    python -m bench.pool                                        all of it, three rounds: six minutes
    python -m bench.pool --parts throughput --systems one,cluster      one of its tables, of some systems

Everything is on one machine and on all of its cores: three nodes of etcd, the instances and redis-benchmark share them,
so three instances are not faster here than one, and what counts are the ratios. The systems take turns, each started
anew in every round; shown is the median of the rounds, and the least and the most. Several instances are loaded by a
redis-benchmark each, with the clients shared out: all of them end when the slowest does, of their medians the median is
taken, and of their p99 the worst.

Redis Cluster has three masters with `appendfsync always`, so each of its writes is on one disk when it is acknowledged;
of the pool's, on two of three. redis-benchmark speaks to it as a client that knows which node has which key.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pool_load import Load
from rig.etcd_cluster import EtcdCluster
from servers import HOST, GodisProcess, RedisProcess, encode, free_port, parse

from bench.rig import Floor, Report, key, parser, ratio

CLIENTS = 50
VALUE_BYTES = 64
FILL_DEPTH = 50
WARM_REQUESTS = 5_000
FILL_BATCH = 1000
SETTLE_SECONDS = 2.0
BUS_OFFSET = 10_000
SET_FLOOR = Floor(12, unit="k/s")
SHARE_FLOOR = Floor(0.65)  # of Redis Cluster's SETs, on a machine that is too slow for the other
GET_FLOOR = Floor(0.9)
GAP_FLOOR = Floor(2.5, at_most=True, unit=" s")
START_FLOOR = Floor(15, at_most=True, unit=" s")
PLACED = "servers and clients on all cores"


class Figures(NamedTuple):
    """What one run against one system came to."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Address:
    """What clients speak to: one redis-benchmark a port."""

    ports: Sequence[int]
    is_cluster: bool = False

    def benchmark(self, test: str, requests: int, keyspace: int, depth: int = 1) -> Figures:
        """Run SET or GET with all clients, and put the figures together."""
        share = len(self.ports)
        options = ["-n", str(requests // share), "-c", str(CLIENTS // share), "-P", str(depth)]
        options += ["-d", str(VALUE_BYTES), "-r", str(keyspace), "--csv", "-t", test]
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


# ---- systems


@contextmanager
def alone(fsync: str) -> Iterator[Address]:
    """A single instance with its log in a file."""
    with tempfile.TemporaryDirectory() as directory, GodisProcess(Path(directory), "--appendfsync", fsync) as godis:
        yield Address([godis.port])


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
def pooled(instances: int, reads: str) -> Iterator[Address]:
    """The same, as something to measure."""
    with pool(instances, "--pool-reads", reads) as (_, members):
        yield Address([instance.port for instance in members])


def port_with_a_bus() -> int:
    """Find a free port of which that of the cluster's bus, which Redis adds, is free as well."""
    while True:
        port = free_port()
        with socket.socket() as bus, suppress(OSError):
            bus.bind((HOST, port + BUS_OFFSET))
            return port


@contextmanager
def redis_cluster() -> Iterator[Address]:
    """Three masters, each of which syncs its log before it answers."""
    flags = ["--cluster-enabled", "yes", "--appendonly", "yes", "--appendfsync", "always"]
    with ExitStack() as running:
        ports = []
        for _ in range(3):
            directory = running.enter_context(tempfile.TemporaryDirectory())
            ports.append(running.enter_context(RedisProcess(Path(directory), *flags, port=port_with_a_bus())).port)
        addresses = [f"{HOST}:{port}" for port in ports]
        make = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        subprocess.run(make, check=True, capture_output=True)
        for port in ports:
            while b"cluster_state:ok" not in subprocess.check_output(["redis-cli", "-p", str(port), "CLUSTER", "INFO"]):
                time.sleep(0.1)
        yield Address(ports[:1], is_cluster=True)


class System(NamedTuple):
    """Something to measure: what the table calls it, and how it is started."""

    title: str
    start: Callable[[], AbstractContextManager[Address]]


SYSTEMS = {
    "alone": System("Godis alone, everysec", lambda: alone("everysec")),
    "always": System("Godis alone, always", lambda: alone("always")),
    "one": System("pool, 1 instance", lambda: pooled(1, "local")),
    "three": System("pool, 3 instances", lambda: pooled(3, "local")),
    "one-linearizable": System("pool, 1 instance, linearizable", lambda: pooled(1, "linearizable")),
    "three-linearizable": System("pool, 3 instances, linearizable", lambda: pooled(3, "linearizable")),
    "cluster": System("Redis Cluster, 3 nodes, always", redis_cluster),
}


# ---- throughput


def measure(system: System, seconds: float, keyspace: int) -> dict[str, Figures]:
    """Start a system, fill it, and run SET and GET for about so long each."""
    with system.start() as address:
        address.benchmark("set", keyspace, keyspace, FILL_DEPTH)
        figures = {}
        for test in ("set", "get"):
            rate = address.benchmark(test, WARM_REQUESTS, keyspace).per_second
            figures[test] = address.benchmark(test, max(1000, int(rate * seconds)), keyspace)
        return figures


def throughput(report: Report, names: Collection[str], rounds: int, seconds: float, keyspace: int) -> None:
    """Measure systems in turns, and add a line for each."""
    runs: dict[str, list[dict[str, Figures]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(measure(SYSTEMS[name], seconds, keyspace))
    speed = {
        (name, test): statistics.median(run[test].per_second for run in of_system)
        for name, of_system in runs.items()
        for test in ("set", "get")
    }
    cells = ("/s", "least to most", "p50 / p99 ms")
    head = [f"{test} {cell}".replace(" /s", "/s") for test in ("SET", "GET") for cell in cells]
    report.table(f"{CLIENTS} clients, {VALUE_BYTES} bytes, {rounds} rounds", *head, "floor")
    for name, of_system in runs.items():
        row = []
        for test in ("set", "get"):
            rates = [run[test].per_second for run in of_system]
            p50, p99 = (statistics.median(run[test][place] for run in of_system) for place in (1, 2))
            row += [f"{speed[name, test] / 1000:.1f}k", f"{min(rates) / 1000:.1f}k to {max(rates) / 1000:.1f}k"]
            row.append(f"{p50:.2f} / {p99:.2f}")
        report.row(SYSTEMS[name].title, *row, floors(report, speed) if name == "one" else "")


def floors(report: Report, speed: dict[tuple[str, str], float]) -> str:
    """Judge one instance of the pool, by what was measured beside it."""
    found = []
    sets = speed["one", "set"]
    share = ratio(sets, speed["cluster", "set"]) if ("cluster", "set") in speed else 0.0
    if sets >= 1000 * SET_FLOOR.limit or not share:
        found.append(report.judge("SET, pool", sets / 1000, SET_FLOOR, f"SET {sets / 1000:.1f}k/s"))
    else:
        found.append(report.judge("SET, pool / Redis Cluster", share, SHARE_FLOOR, f"SET {share:.2f} of Redis Cluster"))
    if ("alone", "get") in speed:
        reads = ratio(speed["one", "get"], speed["alone", "get"])
        found.append(report.judge("GET, pool / alone", reads, GET_FLOOR, f"GET {reads:.2f} of Godis alone"))
    return ", ".join(found)


# ---- a leader's end


def gaps(report: Report, rounds: int, watch_seconds: float) -> None:
    """Kill etcd's leader under load, and see for how long nothing is acknowledged."""
    found = []
    for _ in range(rounds):
        with pool(3) as (cluster, members):
            addresses = [(HOST, instance.port) for instance in members]
            with Load(lambda client: (socket.socket(), addresses[client % 3]), CLIENTS, linearizable=False) as load:  # noqa: B023
                time.sleep(min(SETTLE_SECONDS, watch_seconds))
                cluster.leader().kill9()
                time.sleep(watch_seconds)
            moments = [*sorted(load.record.acknowledged_at), load.stopped]
            found.append(max(later - earlier for earlier, later in pairwise(moments)))
    report.table(f"etcd's leader is killed, {CLIENTS} clients on 3 instances", "rounds", "median", "least", "longest")
    longest = report.judge("gap at a leader's kill", max(found), GAP_FLOOR, f"{max(found):.2f} s")
    report.row(
        "no acknowledgement for", str(rounds), f"{statistics.median(found):.2f} s", f"{min(found):.2f} s", longest
    )


# ---- a newcomer's start


def fill(instance: GodisProcess, keys: int) -> None:
    """Set keys with values that do not compress well, as real ones would not."""
    with instance.raw(timeout=120) as raw:
        for start in range(0, keys, FILL_BATCH):
            batch = range(start, min(start + FILL_BATCH, keys))
            raw.send(b"".join(encode("SET", key(number), os.urandom(VALUE_BYTES // 2).hex()) for number in batch))
            for _ in batch:
                raw.read_line()


def newcomer(report: Report, keys: int) -> None:
    """Fill a pool, and see how long one more instance takes until it serves; then once more, from its own file."""
    report.table(f"a new instance of a pool with {keys:,} keys of {VALUE_BYTES} bytes", "serves after")
    with pool(1) as (cluster, (first,)):
        fill(first, keys)
        home = str(first.directory.parent)
        began = time.monotonic()
        with member(home, cluster, "--pool-local-snapshot", f"{home}/pool.snapshot") as second:
            seconds = time.monotonic() - began
            require_keys(second, keys)
            report.row("from etcd", report.judge("a new instance", seconds, START_FLOOR, f"{seconds:.1f} s"))
            second.terminate()
            began = time.monotonic()
            second.start()
            seconds = time.monotonic() - began
            require_keys(second, keys)
            report.row("again, from its local snapshot", f"{seconds:.1f} s")


def require_keys(instance: GodisProcess, keys: int) -> None:
    with instance.raw() as raw:
        if (found := parse(raw.ask("DBSIZE"))) != keys:
            raise SystemExit(f"the new instance has {found} keys of {keys}")


def main() -> None:
    """Measure what was asked for, and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=2.0, help="how long a run takes, about")
    made.add_argument("--keyspace", type=int, default=100_000, help="how many keys SET and GET choose from")
    made.add_argument("--keys", type=int, default=1_000_000, help="that a new instance has to load")
    made.add_argument("--watch-seconds", type=float, default=6.0, help="after a leader's kill")
    made.add_argument("--parts", default="throughput,gaps,newcomer")
    made.add_argument("--systems", default=",".join(SYSTEMS), help="whose throughput is measured")
    arguments = made.parse_args()
    missing = [name for name in ("redis-server", "redis-benchmark", "redis-cli", "etcd") if not shutil.which(name)]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}")
    report = Report("pool", arguments.output, PLACED)
    report.say(f"- {subprocess.check_output(['etcd', '--version'], text=True).splitlines()[0]}")
    parts = arguments.parts.split(",")
    if "throughput" in parts:
        throughput(report, arguments.systems.split(","), arguments.rounds, arguments.seconds, arguments.keyspace)
    if "gaps" in parts:
        gaps(report, arguments.rounds, arguments.watch_seconds)
    if "newcomer" in parts:
        newcomer(report, arguments.keys)
    report.close()


if __name__ == "__main__":
    main()
