"""How long requests take at a rate well below saturation: p50, p99, p99.9 and the maximum, Godis beside redis-server.

The loop is open: requests have due times at even distances, and one is sent when it is due, whether or not the last
was answered, on the next of some connections. Its latency counts from when it was due. So a stall counts for each
request that came due meanwhile (no coordinated omission), and so does what the client itself is late.

The client, in Python, must not be what is measured. It has a core to itself, never sleeps and collects no garbage; how
late it sent is measured as well, and shown. A run in which its 99th percentile was later than LATE_US is thrown away
and repeated, at most as often as there are rounds; if that does not help, the line says so.

The rate is half of what the slower server can do with as many connections: measured before, by a closed loop. The
servers take turns in many short runs, and are started anew a few times: what a neighbour on the host, or an unlucky
place in memory, does to one of them is then in some of the runs, and the median is shown; the maximum is that of all.

Each run begins after a pause of a random length. A thread of the kernel that came once a second for some milliseconds
met the runs of one server only, or those of the other, when two runs took a second: a p99 of 2 ms beside 0.1 ms, and in
the next call the other way round (`perf record -e sched:sched_switch -C 0` showed it).

    python -m bench.latency [--rate 20000] [--seconds 0.25] [--rounds 20] [--pairs 3] [--clients 50]
"""

from __future__ import annotations

import contextlib
import gc
import random
import select
import socket
import statistics
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

from bench.load import Batch, Load, batches
from bench.rig import NAMES, Floor, Report, Server, both, parser, quantile, require_two_cores

VALUE = "x" * 64
LATE_US = 100
DRAIN_SECONDS = 10
MOST_PAUSE_SECONDS = 0.5
RECEIVE_BYTES = 1 << 16
FLOOR = Floor(1.5, at_most=True)


@dataclass(frozen=True)
class Waits:
    """What one run found, in microseconds."""

    p50: float
    p99: float
    p999: float
    maximum: float
    late_p99: float

    @property
    def valid(self) -> bool:
        """Return True if the client was in time."""
        return self.late_p99 <= LATE_US


def run(sockets: list[socket.socket], pipelines: list[Batch], rate: float, seconds: float) -> Waits:
    """Send at the rate for so long; all requests must have replies of one size."""
    reply_bytes = len(pipelines[0].reply)
    count = int(rate * seconds)
    step_ns = 1e9 / rate
    by_fd = {sock.fileno(): (sock, deque[float]()) for sock in sockets}
    poll = select.epoll()
    for fd, (sock, _) in by_fd.items():
        sock.setblocking(False)
        poll.register(fd, select.EPOLLIN)
    waits, late = array("d"), array("d")
    turns, requests = cycle(by_fd.values()), cycle(pipelines)
    buffer, partial, now_ns = bytearray(RECEIVE_BYTES), dict.fromkeys(by_fd, 0), time.perf_counter_ns
    start = now_ns() + 1_000_000
    sent = 0
    due = float(start)
    while len(waits) < count:
        now = now_ns()
        while sent < count and due <= now:
            sock, pending = next(turns)
            sock.send(next(requests).request)
            pending.append(due)
            late.append(now - due)
            sent += 1
            due = start + sent * step_ns
            now = now_ns()
        if now - due > DRAIN_SECONDS * 1e9:
            raise SystemExit(f"{count - len(waits)} requests were not answered")
        for fd, _ in poll.poll(0):
            sock, pending = by_fd[fd]
            whole, partial[fd] = divmod(partial[fd] + sock.recv_into(buffer), reply_bytes)
            now = now_ns()
            for _ in range(whole):
                waits.append(now - pending.popleft())
    poll.close()
    return summary(waits, late)


def summary(waits: array[float], late: array[float]) -> Waits:
    """Make microseconds of nanoseconds, and percentiles of all."""
    ordered = sorted(wait / 1000 for wait in waits)
    late_p99 = quantile(sorted(late), 0.99) / 1000
    return Waits(quantile(ordered, 0.5), quantile(ordered, 0.99), quantile(ordered, 0.999), ordered[-1], late_p99)


def highest_rate(server: Server, pipelines: list[Batch], clients: int, seconds: float) -> float:
    """Measure how many requests a second the server does at most with so many connections and none in a pipeline."""
    with server.connections(clients) as sockets:
        load = Load(sockets, pipelines)
        return load.run(int(load.run(2_000) * seconds))


@dataclass(frozen=True)
class Plan:
    """What is to be run; a rate of 0: half of the maximum."""

    rounds: int = 20
    seconds: float = 0.25
    pairs: int = 3
    clients: int = 50
    keys: int = 100_000
    rate: float = 0


def measure(test: str, plan: Plan) -> tuple[float, dict[str, list[Waits]]]:
    """Run a test on some pairs of servers; return the rate, too."""
    found: dict[str, list[Waits]] = {}
    for _ in range(plan.pairs):
        plan, runs = measure_pair(test, plan)
        for name, waits in runs.items():
            found.setdefault(name, []).extend(waits)
    return plan.rate, found


@contextlib.contextmanager
def collecting_nothing() -> Iterator[None]:
    """Keep Python's collector of cycles away from this process: with all requests made, it would take milliseconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure_pair(test: str, plan: Plan) -> tuple[Plan, dict[str, list[Waits]]]:
    """Run a test on both servers in turn; return the plan with its rate, too."""
    with both() as servers, collecting_nothing():
        requests = {}
        for name, server in servers.items():
            server.fill(plan.keys, VALUE.encode())
            requests[name] = batches(test, 1, VALUE, keys=plan.keys, text_reply=False, requests=plan.keys)
        rate = plan.rate or 0.5 * min(
            highest_rate(server, requests[name], plan.clients, min(1, plan.seconds)) for name, server in servers.items()
        )
        found: dict[str, list[Waits]] = {name: [] for name in servers}
        for _ in range(2 * plan.rounds):
            for name, server in servers.items():
                if sum(waits.valid for waits in found[name]) < plan.rounds:
                    time.sleep(random.random() * MOST_PAUSE_SECONDS)
                    with server.connections(plan.clients) as sockets:
                        found[name].append(run(sockets, requests[name], rate, plan.seconds))
    valid = {name: [waits for waits in runs if waits.valid] or runs for name, runs in found.items()}
    return replace(plan, rate=rate), valid


def latency(report: Report, plan: Plan) -> None:
    """Add a table: a line a server and test."""
    report.say(f"\nOpen loop, {plan.clients} connections, values of 64 bytes; {plan.pairs} pairs of servers, in each")
    report.say(
        f"{plan.rounds} alternated runs of {plan.seconds:g} s; µs from when a request was due, median of the runs"
    )
    report.say("but max is that of all")
    report.table("", "p50", "p99", "p99.9", "max", "client late, p99", "runs", "p99 / redis-server's")
    for test in ("set", "get"):
        chosen, found = measure(test, plan)
        p99 = {name: statistics.median(waits.p99 for waits in runs) for name, runs in found.items()}
        title = f"{test.upper()} at {chosen / 1000:.1f}k/s"
        for name, runs in found.items():
            middle = [statistics.median(figures) for figures in zip(*(row(waits) for waits in runs), strict=True)]
            ratio = report.judge(f"{title}, p99", p99["godis"] / p99["redis"], FLOOR) if name == "godis" else ""
            valid = f"{len(runs)}" if runs[0].valid else f"{len(runs)}, CLIENT LATE"
            cells = [f"{figure:.0f}" for figure in middle[:3]]
            longest = f"{max(waits.maximum for waits in runs):.0f}"
            report.row(f"{title}, {NAMES[name]}", *cells, longest, f"{middle[3]:.0f}", valid, ratio)


def row(waits: Waits) -> tuple[float, float, float, float]:
    """Pick what a median is shown of."""
    return waits.p50, waits.p99, waits.p999, waits.late_p99


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=Plan.rounds, help="how often the servers of a pair take turns")
    made.add_argument("--seconds", type=float, default=Plan.seconds, help="how long a run takes")
    made.add_argument("--pairs", type=int, default=3, help="how often the servers are started anew")
    made.add_argument("--clients", type=int, default=50)
    made.add_argument("--keys", type=int, default=100_000)
    made.add_argument("--rate", type=float, default=0, help="requests a second; 0: half of the maximum")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("latency", arguments.output)
    plan = Plan(arguments.rounds, arguments.seconds, arguments.pairs, arguments.clients, arguments.keys, arguments.rate)
    latency(report, plan)
    report.close()


if __name__ == "__main__":
    main()
