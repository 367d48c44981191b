"""Godis beside redis-server: throughput and CPU time an operation, with the same settings, on one core each.

The runs of a case alternate, Godis, Redis, Godis, Redis, so that whatever the machine does besides hits both. What is
shown is the median of the rounds, with the spread from the lowest to the highest as a share of it; a ratio is one
median over the other. `busy` is the share of its core that the server used: where it is well below 1, the client was
the limit, and only the CPU time says anything.

The log is written in both (appendfsync everysec unless said otherwise) and never rewritten. Godis keeps its default
TTL of 6 hours, Redis has none: each has its defaults. redis-benchmark is the client, but for the tests of `load.py`.

    python -m bench.compare                      the six lines of the README
    python -m bench.compare --all                all that there is to compare, fakeredis besides: half an hour
    python -m bench.compare --types              the commands of lists, hashes, sets and the other types
    python -m bench.compare --together           PUBLISH, MULTI, and BLPOP between two clients
    python -m bench.compare --scripts            EVALSHA of short scripts, and a long one
    python -m bench.compare --rounds 1 --seconds 0.5 --tests set,mix --depths 16 --clients 1000        a first look

A test is a row of TESTS, one of `typed.py`, `together.py` or `scripted.py`, or a name that `load.py` knows; a set of
cases is a function of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from bench import scripted, together, typed
from bench.load import REQUESTS, Load, batches
from bench.rig import (
    NAMES,
    Floor,
    Report,
    Server,
    Settings,
    both,
    on_client_core,
    parser,
    ratio,
    require_two_cores,
    spread,
)

WARM_UP_REQUESTS = 2_000
WARM_UP_SECONDS = 0.25

# What redis-benchmark is told to send.
TESTS = {
    "ping": ["-t", "ping_mbulk"],
    "set": ["-t", "set"],
    "get": ["-t", "get"],
    "incr": ["-t", "incr"],
    "mset": ["-t", "mset"],
    "miss": ["GET", "missing:__rand_int__"],
    **{name: test.words for name, test in typed.TESTS.items() if test.words},
    **dict.fromkeys(together.SUBSCRIBERS, together.PUBLISH),
    **scripted.TESTS,
}
OWN_CLIENTS = {**together.CLIENTS, "count": scripted.counting}
LOADS = ("mix", "text-ping", "text-set", "text-get", "own-set", "own-get")  # what our own client sends


LOG_FLOOR = Floor(1.35, at_most=True)
CONNECTIONS_FLOOR = Floor(0.8)

Client = Callable[[int], float]  # sends so many requests, and returns how many a second were answered


@dataclass(frozen=True)
class Case:
    """A line of the table: what is asked, how, and of servers with which settings."""

    test: str
    depth: int
    clients: int = 50
    size_bytes: int = 64
    keyspace: int = 100_000
    log: str = "everysec"  # or always, no, off
    against: str = "redis"

    @property
    def title(self) -> str:
        """Name the case, as far as it is not the usual one."""
        usual = Case(self.test, self.depth)
        extra = [
            f"{self.clients} clients" if self.clients != usual.clients else "",
            f"{self.size_bytes} B" if self.size_bytes != usual.size_bytes else "",
            f"{self.keyspace:,} keys" if self.keyspace != usual.keyspace and self.test not in typed.TESTS else "",
            f"log {self.log}" if self.log != usual.log else "",
            f"against {self.against}" if self.against != usual.against else "",
        ]
        return ", ".join([f"{self.test.upper()} P={self.depth}", *filter(None, extra)])

    @property
    def floors(self) -> tuple[Floor | None, Floor | None]:
        """Say what throughput and CPU time must be, beside redis-server's, where that is laid down."""
        return FLOORS.get(self, (None, None))


# Of throughput and of CPU time, over redis-server's.
README: dict[Case, tuple[Floor | None, Floor | None]] = {
    Case("set", 1): (Floor(0.85), Floor(1.30, at_most=True)),
    Case("set", 16): (Floor(0.85), Floor(1.5, at_most=True)),
    Case("set", 100): (Floor(1.00), Floor(1.35, at_most=True)),
    Case("get", 1): (Floor(0.88), Floor(1.30, at_most=True)),
    Case("get", 16): (Floor(0.65), Floor(1.5, at_most=True)),
    Case("get", 100): (Floor(0.70), Floor(1.35, at_most=True)),
}
ALWAYS: dict[Case, tuple[Floor | None, Floor | None]] = {
    Case("set", 1, log="always"): (Floor(1.0), None),
    Case("set", 16, log="always"): (Floor(1.0), None),
}
# The tests of the types, at the depths that have a floor.
TYPES: dict[Case, tuple[Floor | None, Floor | None]] = {
    Case(name, depth, keyspace=test.keyspace): (Floor(floor) if floor else None, None)
    for name, test in typed.TESTS.items()
    for depth, floor in ((1, typed.FLOOR_1), (16, test.floor_16))
}
TOGETHER: dict[Case, tuple[Floor | None, Floor | None]] = {
    Case(name, depth, clients=together.PLAYERS if name == "blpop" else 50): (together.FLOOR, None)
    for name, depths in together.DEPTHS.items()
    for depth in depths
}
SCRIPTS: dict[Case, tuple[Floor | None, Floor | None]] = {
    Case(name, depth, clients=1 if name == "count" else 50): (scripted.FLOORS[name], None)
    for name, depths in scripted.DEPTHS.items()
    for depth in depths
}
FLOORS = README | ALWAYS | TYPES | TOGETHER | SCRIPTS


@dataclass(frozen=True)
class Run:
    """What one run against one server came to."""

    per_second: float
    user_us: float  # CPU time of the server, an operation
    system_us: float

    @property
    def cpu_us(self) -> float:
        """Sum user and system time."""
        return self.user_us + self.system_us


class Runs:
    """All runs of a case against one server."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    @property
    def per_second(self) -> float:
        """Take the median of the throughputs."""
        return statistics.median(run.per_second for run in self.runs)

    @property
    def cpu_us(self) -> float:
        """Take the median of the CPU times."""
        return statistics.median(run.cpu_us for run in self.runs)

    @property
    def speed(self) -> str:
        """Show the throughput, and how far the runs lie apart."""
        return f"{self.per_second / 1000:.1f}k ±{spread([run.per_second for run in self.runs]):.0f}%"

    @property
    def cpu(self) -> str:
        """Show the CPU time, its parts, and how busy the core was."""
        user = statistics.median(run.user_us for run in self.runs)
        system = statistics.median(run.system_us for run in self.runs)
        busy = statistics.median(run.cpu_us * run.per_second for run in self.runs) / 1e6
        return f"{self.cpu_us:.2f} ({user:.2f} + {system:.2f}; busy {busy:.2f})"


def redis_benchmark(port: int, case: Case, requests: int) -> float:
    """Run redis-benchmark; return the requests a second that it counted."""
    options = ["-n", str(requests), "-c", str(case.clients), "-P", str(case.depth), "-d", str(case.size_bytes)]
    command = ["redis-benchmark", "-p", str(port), *options, "-r", str(case.keyspace), "--csv", *TESTS[case.test]]
    rows = list(csv.DictReader(io.StringIO(on_client_core(command))))
    return float(rows[-1]["rps"])


@contextlib.contextmanager
def client(server: Server, case: Case) -> Iterator[Client]:
    """Make the client of a case, for one server."""
    if case.test in OWN_CLIENTS:
        with OWN_CLIENTS[case.test](server, case.depth, case.clients, case.size_bytes) as send:
            yield send
        return
    if case.test in TESTS:
        with together.subscribers(server, together.SUBSCRIBERS.get(case.test, 0)):
            yield partial(redis_benchmark, server.port, case)
        return
    text_reply = server.name == "godis"
    distinct = min(REQUESTS, case.keyspace)
    value = "x" * case.size_bytes
    if case.test in typed.TESTS:
        pipelines = typed.toggles(case.depth, distinct)
    else:
        pipelines = batches(case.test, case.depth, value, keys=case.keyspace, text_reply=text_reply, requests=distinct)
    with server.connections(case.clients) as sockets:
        load = Load(sockets, pipelines)
        yield lambda requests: load.run(max(1, requests // case.depth)) * case.depth


def measured(server: Server, case: Case, send: Client, requests: int) -> Run:
    """Send so many requests, and see what the server took for them."""
    refill(server, case, requests)
    before = server.cpu_us()
    per_second = send(requests)
    user, system = ((after - start) / requests for after, start in zip(server.cpu_us(), before, strict=True))
    return Run(per_second, user, system)


def measure(cases: Sequence[Case], rounds: int, seconds: float) -> list[dict[str, Runs]]:
    """Run cases on their servers in turn, about so long each."""
    found: list[dict[str, Runs]] = [{"godis": Runs(), case.against: Runs()} for case in cases]
    with contextlib.ExitStack() as stack:
        ready = [list(prepared(stack, case, seconds)) for case in cases]
        for _ in range(rounds):
            for case, runs, servers in zip(cases, found, ready, strict=True):
                for name, server, send, requests in servers:
                    runs[name].runs.append(measured(server, case, send, requests))
    return found


def prepared(stack: contextlib.ExitStack, case: Case, seconds: float) -> Iterator[tuple[str, Server, Client, int]]:
    """Start the servers of a case, with all its keys; make their clients, and say how many requests they shall send."""
    for name, server in stack.enter_context(both(Settings(log=case.log), case.against)).items():
        if case.test in typed.TESTS:
            typed.pour(server, typed.TESTS[case.test].before(case.keyspace))
        else:
            server.fill(case.keyspace, b"x" * case.size_bytes)
        if case.test in scripted.FLOORS:
            scripted.load(server)
        send = stack.enter_context(client(server, case))
        yield name, server, send, enough(server, case, send, seconds)


def refill(server: Server, case: Case, requests: int) -> None:
    """Add what so many requests will take out."""
    if case.test in typed.TESTS:
        typed.pour(server, typed.TESTS[case.test].each(requests))
    scripted.refill(server, case.test, case.keyspace)


def enough(server: Server, case: Case, send: Client, seconds: float) -> int:
    """Say how many requests take about so long; that warms the server up, too."""
    count = max(WARM_UP_REQUESTS, case.clients * case.depth)
    refill(server, case, count)
    count = max(WARM_UP_REQUESTS, int(send(count) * min(seconds, WARM_UP_SECONDS)))
    refill(server, case, count)
    return max(int(send(count) * seconds) // case.depth, case.clients) * case.depth


# ---- the report


def compare(report: Report, cases: Iterable[Case], rounds: int, seconds: float) -> None:
    """Add a table with a line for each case."""
    cases = list(cases)
    other = NAMES[cases[0].against]
    report.say(f"\n{rounds} alternated rounds of about {seconds:g} s, median; 50 clients, values of 64 bytes, 100,000")
    report.say("keys, log everysec, where the line does not say otherwise. CPU µs an operation: (user + system)")
    report.table("", "Godis/s", f"{other}/s", "ratio", "Godis CPU µs", f"{other} CPU µs", "ratio")
    for case in cases:
        (found,) = measure([case], rounds, seconds)
        godis, peer = found["godis"], found[case.against]
        throughput, cpu = case.floors
        faster = report.judge(f"{case.title}, throughput", godis.per_second / peer.per_second, throughput)
        dearer = report.judge(f"{case.title}, CPU", ratio(godis.cpu_us, peer.cpu_us), cpu)
        report.row(case.title, godis.speed, peer.speed, faster, godis.cpu, peer.cpu, dearer)


def log_cost(report: Report, rounds: int, seconds: float) -> None:
    """Add a table of what the log costs each server: CPU time of a SET with it, over that without."""
    with_log, without = measure([Case("set", 1), Case("set", 1, log="off")], rounds, seconds)
    report.table("CPU µs of a SET at P=1", "log everysec", "log off", "ratio")
    for name, floor in (("godis", LOG_FLOOR), ("redis", None)):
        more = ratio(with_log[name].cpu_us, without[name].cpu_us)
        figure = report.judge("log on / log off, CPU of a SET", more, floor)
        report.row(NAMES[name], with_log[name].cpu, without[name].cpu, figure)


def connections(report: Report, rounds: int, seconds: float, many: int = 5000) -> None:
    """Add a table of what many connections cost each server: throughput of all of them, over that of 50."""
    report.table("requests/s, CPU µs each", "50 clients", f"{many:,} clients", "throughput", "CPU")
    for test in ("own-set", "own-get"):
        few_clients, many_clients = measure([Case(test, 1), Case(test, 1, clients=many)], rounds, seconds)
        for name, floor in (("godis", CONNECTIONS_FLOOR), ("redis", None)):
            few, more = few_clients[name], many_clients[name]
            kept = report.judge(f"{many:,} clients / 50, {test}", more.per_second / few.per_second, floor)
            cells = [f"{runs.speed}, {runs.cpu}" for runs in (few, more)]
            report.row(f"{test.upper()} P=1, {NAMES[name]}", *cells, kept, f"{ratio(more.cpu_us, few.cpu_us):.2f}")


def all_cases() -> Iterator[list[Case]]:
    """List all else, a table at a time: commands, sizes, policies, connections, text, and fakeredis."""
    depths = (1, 16, 100)
    yield [Case(test, depth) for test, depth in product(("incr", "mset", "miss"), depths)]
    yield [Case("mix", depth, keyspace=1_000_000) for depth in depths]
    sizes = {3: 100_000, 1024: 100_000, 16384: 10_000}
    for size, keys in sizes.items():
        yield [Case(test, depth, size_bytes=size, keyspace=keys) for test, depth in product(("set", "get"), depths)]
    yield [Case("set", depth, log=log) for log, depth in product(("off", "always"), depths)]
    yield [Case(test, 1, clients=count) for test, count in product(("own-set", "own-get"), (1, 50, 1000, 5000))]
    yield [Case(test, depth) for test, depth in product(("text-ping", "text-set", "text-get"), depths)]
    yield [Case(test, 1, keyspace=1000, against="fakeredis") for test in ("set", "get")]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=2.0, help="how long a run takes, about")
    made.add_argument("--all", action="store_true", help="everything, with the README's lines")
    made.add_argument("--types", action="store_true", help="the tests of all types, at P=1 and 16")
    made.add_argument("--together", action="store_true", help="publish, transactions and waiting clients")
    made.add_argument("--scripts", action="store_true", help="short scripts, and a long one")
    made.add_argument("--tests", default="set,get", help=f"of {','.join([*TESTS, *OWN_CLIENTS, *LOADS])}")
    made.add_argument("--depths", default="1,16,100", help="requests in a pipeline")
    made.add_argument("--clients", type=int, default=50)
    made.add_argument("--size", type=int, default=64, help="bytes of a value")
    made.add_argument("--keyspace", type=int, default=100_000, help="keys")
    made.add_argument("--log", choices=["everysec", "always", "no", "off"], default="everysec")
    made.add_argument("--against", choices=["redis", "fakeredis"], default="redis")
    return made.parse_args()


def chosen_cases(arguments: argparse.Namespace) -> list[Case]:
    """Make the cases that the command line asks for."""
    if arguments.types:
        return list(TYPES)
    if arguments.together:
        return list(TOGETHER)
    if arguments.scripts:
        return list(SCRIPTS)
    tests, depths = arguments.tests.split(","), arguments.depths.split(",")
    rest = (arguments.log, arguments.against)
    keyspaces = {name: min(arguments.keyspace, test.keyspace) for name, test in typed.TESTS.items()}
    return [
        Case(test, int(depth), arguments.clients, arguments.size, keyspaces.get(test, arguments.keyspace), *rest)
        for test, depth in product(tests, depths)
    ]


def main() -> None:
    """Measure all cases, show each line as it comes, and write the table."""
    arguments = parse_arguments()
    require_two_cores("redis-benchmark")
    report = Report("compare", arguments.output)
    for cases in (
        [list(README), list(TYPES), list(TOGETHER), list(SCRIPTS), *all_cases()]
        if arguments.all
        else [chosen_cases(arguments)]
    ):
        compare(report, cases, arguments.rounds, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
