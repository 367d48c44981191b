"""How the time of a command grows with its collection, beside redis-server: at 1k, 32k and 1M members.

A command that is O(log n) or O(1) in Redis must not become O(n) here. One client sends pipelines of a command for about
so many seconds; the time is the CPU time of the server. The growth is that at the largest size over that at the
smallest; a figure over 1 says that ours grows faster. Positions, members and scores are random, so that the larger
collection misses the caches more often, in both.

    python -m bench.growth [--sizes 1000,32000,1000000] [--seconds 0.3] [--only ZRANK]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from servers import encode

from bench import typed
from bench.rig import NAMES, Floor, Report, Server, Settings, both, parser, require_two_cores

DEPTH = 20
FLOOR = Floor(1.5, at_most=True)
RANGE = 10  # elements of a reply
TAKE = {"SREM", "SPOP", "ZREM", "ZPOPMIN", "XDEL"}  # they are asked so often that three quarters stay

Request = Callable[[Random, int], typed.Words]  # by chance and size


class Kind(NamedTuple):
    """A type: what fills its key `k` to a size, and the commands that are timed."""

    fill: Callable[[int], Iterator[typed.Words]]
    commands: dict[str, Request]


def filler(name: str, element: Callable[[int], list[object]]) -> Callable[[int], Iterator[typed.Words]]:
    """Make what fills `k` with numbered elements."""
    return lambda size: typed.elements(name, "k", map(element, range(size)))


def entries(size: int) -> Iterator[typed.Words]:
    """Fill a stream."""
    return (["XADD", "k", f"{each}-1", "f", each] for each in range(1, size + 1))


KINDS: dict[str, Kind] = {
    "list": Kind(
        filler("RPUSH", lambda number: [f"e{number}"]),
        {
            "LINDEX": lambda random, size: ["LINDEX", "k", random.randrange(size)],
            "LSET": lambda random, size: ["LSET", "k", random.randrange(size), f"e{random.randrange(size)}"],
            "LRANGE of 10": lambda random, size: _range("LRANGE", random, size),
            "LMOVE": lambda _random, _size: ["LMOVE", "k", "k", "LEFT", "RIGHT"],
            "LINSERT near the head": lambda random, size: ["LINSERT", "k", "BEFORE", f"e{random.randrange(20)}", "x"],
        },
    ),
    "hash": Kind(
        filler("HSET", lambda number: [f"f{number}", f"v{number}"]),
        {
            "HGET": lambda random, size: ["HGET", "k", f"f{random.randrange(size)}"],
            "HSET": lambda random, size: ["HSET", "k", f"f{random.randrange(size)}", f"v{random.randrange(size)}"],
            "HINCRBY": lambda random, size: ["HINCRBY", "k", f"n{random.randrange(100)}", 1],
            "HRANDFIELD": lambda _random, _size: ["HRANDFIELD", "k"],
            "HSCAN": lambda _random, _size: ["HSCAN", "k", 0],
        },
    ),
    "set": Kind(
        filler("SADD", lambda number: [f"m{number}"]),
        {
            "SISMEMBER": lambda random, size: ["SISMEMBER", "k", f"m{random.randrange(size)}"],
            "SADD": lambda random, size: ["SADD", "k", f"m{random.randrange(size)}"],
            "SREM": lambda random, size: ["SREM", "k", f"m{random.randrange(size)}"],
            "SRANDMEMBER": lambda _random, _size: ["SRANDMEMBER", "k"],
            "SPOP": lambda _random, _size: ["SPOP", "k"],
            "SSCAN": lambda _random, _size: ["SSCAN", "k", 0],
        },
    ),
    "sorted set": Kind(
        filler("ZADD", lambda number: [number, f"m{number}"]),
        {
            "ZSCORE": lambda random, size: ["ZSCORE", "k", f"m{random.randrange(size)}"],
            "ZADD": lambda random, size: ["ZADD", "k", random.randrange(size), f"m{random.randrange(size)}"],
            "ZINCRBY": lambda random, size: ["ZINCRBY", "k", 1, f"m{random.randrange(size)}"],
            "ZRANK": lambda random, size: ["ZRANK", "k", f"m{random.randrange(size)}"],
            "ZCOUNT": lambda random, size: ["ZCOUNT", "k", random.randrange(size), "+inf"],
            "ZRANGE of 10": lambda random, size: _range("ZRANGE", random, size),
            "ZRANGEBYSCORE of 10": lambda random, size: [
                *("ZRANGEBYSCORE", "k", random.randrange(size), "+inf", "LIMIT", 0, RANGE)
            ],
            "ZRANDMEMBER": lambda _random, _size: ["ZRANDMEMBER", "k"],
            "ZREM": lambda random, size: ["ZREM", "k", f"m{random.randrange(size)}"],
            "ZPOPMIN": lambda _random, _size: ["ZPOPMIN", "k"],
        },
    ),
    "stream": Kind(
        entries,
        {
            "XADD": lambda _random, _size: ["XADD", "k", "*", "f", "v"],
            "XRANGE of 10": lambda random, size: ["XRANGE", "k", random.randrange(size), "+", "COUNT", RANGE],
            "XREVRANGE of 10": lambda random, size: ["XREVRANGE", "k", random.randrange(size), "-", "COUNT", RANGE],
            "XDEL": lambda random, size: ["XDEL", "k", f"{random.randrange(size)}-1"],
        },
    ),
    "bitmap": Kind(
        lambda size: iter([["SETBIT", "k", 8 * size, 0]]),
        {
            "GETBIT": lambda random, size: ["GETBIT", "k", random.randrange(8 * size)],
            "SETBIT": lambda random, size: ["SETBIT", "k", random.randrange(8 * size), random.randrange(2)],
        },
    ),
}


def _range(name: str, random: Random, size: int) -> typed.Words:
    start = random.randrange(size)
    return [name, "k", start, start + RANGE - 1]


def time_us(server: Server, request: Request, size: int, seconds: float, takes: bool) -> float:
    """Return the CPU time of a command, in microseconds."""
    random = Random(1)
    most = max(2, size // 4 // DEPTH) if takes else 1 << 30
    wires = [b"".join(encode(*map(str, request(random, size))) for _ in range(DEPTH)) for _ in range(min(most, 100))]
    with server.raw(timeout=60) as raw:

        def ask(wire: bytes) -> None:
            raw.send(wire)
            for _ in range(DEPTH):
                raw.read_reply()

        ask(wires[0])  # it warms up
        before, asked, end = server.cpu_ns(), 0, time.perf_counter() + seconds
        while asked < most - 1 and time.perf_counter() < end:
            asked += 1
            ask(wires[asked % len(wires)])
        return (server.cpu_ns() - before) / (asked * DEPTH) / 1000


def times(server: Server, sizes: list[int], seconds: float, only: str) -> Iterator[tuple[str, list[float]]]:
    """Yield each command and its times at all sizes."""
    for kind in KINDS.values():
        wanted = {title: request for title, request in kind.commands.items() if only in title}
        found: dict[str, list[float]] = {title: [] for title in wanted}
        for size in sizes if wanted else []:
            typed.pour(server, [["DEL", "k"]])
            typed.pour(server, kind.fill(size))
            for title, request in wanted.items():
                found[title].append(time_us(server, request, size, seconds, title in TAKE))
        yield from found.items()


def growth(report: Report, sizes: list[int], seconds: float, only: str = "") -> None:
    """Add a table with a line a command."""
    shown = [f"{size:,}" for size in sizes]
    report.say(
        f"\nCPU time of a command in µs, pipelines of {DEPTH}, by members; growth from {shown[0]} to {shown[-1]}"
    )
    report.table("", *(f"{name} {size}" for name in NAMES.values() for size in shown if name != "fakeredis"), "growth")
    with both(Settings(log="off", flags=())) as servers:
        ours, theirs = (times(server, sizes, seconds, only) for server in servers.values())
        for (title, mine), (_, other) in zip(ours, theirs, strict=True):
            grown, grown_there = mine[-1] / mine[0], other[-1] / other[0]
            figure = report.judge(f"growth of {title}", grown / grown_there, FLOOR)
            cells = [f"{each:.1f}" for each in (*mine, *other)]
            report.row(title, *cells, f"{grown:.1f} / {grown_there:.1f} = {figure}")


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--sizes", default="1000,32000,1000000")
    made.add_argument("--seconds", type=float, default=0.3, help="how long each command is asked, about")
    made.add_argument("--only", default="", help="commands with this in their name")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("growth", arguments.output)
    growth(report, [int(size) for size in arguments.sizes.split(",")], arguments.seconds, arguments.only)
    report.close()


if __name__ == "__main__":
    main()
