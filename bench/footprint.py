"""What Godis and redis-server take when nothing happens: memory a key, memory a connection, CPU while idle.

Memory is the resident set after less before, by the number. Each is measured in a process of its own: what closed
connections have freed would be taken again by keys, and would hide them. Keys have 16 bytes and values of 64, set in
order, in pipelines, without a log: `with a TTL of its own` is EX 3600, the same request to both; `plain` is SET and
nothing else, which gives a key its 6 hours in Godis, beside redis-server with EX 21600, and none in either under
`--default-ttl 0`. That the keys have a TTL, or have none, is asked of the servers. CPU is the share of one core.

`--types`: of each type of collection as many as keys, of five short elements each; then one of as many elements.

    python -m bench.footprint [--keys 1000000] [--connections 10000] [--seconds 10]
    python -m bench.footprint --types [--keys 1000000] [--only list]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from bench import typed
from bench.rig import Floor, Report, Server, Settings, key, most_connections, parser, require_two_cores, serving

KEY_FLOOR = Floor(1.35, at_most=True)
TYPE_FLOOR = Floor(3.0, at_most=True)
CONNECTION_FLOOR = Floor(12, at_most=True, unit=" KiB")
IDLE_FLOOR = Floor(1, at_most=True, unit=" %")
SAMPLE = 100
NO_TTL = ("--default-ttl", "0")

# What is set: a title, Godis's flags, the options of its SET and of redis-server's, and which TTL both must then have.
KEYS: list[tuple[str, tuple[str, ...], list[str], list[str], int]] = [
    ("a key with a TTL of its own", (), ["EX", "3600"], ["EX", "3600"], 3600),
    ("a plain key, with the default TTL", (), [], ["EX", "21600"], 21600),
    ("a key without a TTL", NO_TTL, [], [], -1),
]


def bytes_a_key(server: Server, keys: int, options: list[str], ttl: int) -> float:
    """Fill a fresh server, and check that the keys have the TTL that they should."""
    before = server.resident_bytes
    server.fill(keys, b"x" * 64, *options)
    taken = server.resident_bytes - before
    with server.raw() as raw:
        for _ in range(SAMPLE):
            left = int(raw.ask("TTL", key(Random().randrange(keys)))[1:])
            if not (left == -1 if ttl == -1 else 0 < ttl - left + 1 < 600):
                raise SystemExit(f"{server.name}: a TTL of {left} s instead of {ttl}")
        if raw.ask("DBSIZE") != b":%d\r\n" % keys:
            raise SystemExit(f"{server.name} does not hold {keys} keys")
    return taken / keys


def memory_of_keys(report: Report, keys: int) -> None:
    """Add a line for each kind of key."""
    for title, flags, godis_options, redis_options, ttl in KEYS:
        with serving("godis", Settings(log="off", flags=flags)) as server:
            godis = bytes_a_key(server, keys, godis_options, ttl)
        with serving("redis", Settings(log="off")) as server:
            redis = bytes_a_key(server, keys, redis_options, ttl)
        figure = report.judge(f"memory of {title}", godis / redis, KEY_FLOOR if ttl != -1 else None)
        report.row(f"{title}, of {keys:,}", f"{godis:.0f} B", f"{redis:.0f} B", figure)


# Of each type: its command, and the words of an element, by a number that no other element has.
COLLECTIONS: dict[str, tuple[str, Callable[[int], list[object]]]] = {
    "hash": ("HSET", lambda number: [f"field{number}", f"v{number}"]),
    "set": ("SADD", lambda number: [f"m{number}"]),
    "set of integers": ("SADD", lambda number: [number]),
    "list": ("RPUSH", lambda number: [f"e{number}"]),
    "sorted set": ("ZADD", lambda number: [number, f"m{number}"]),
}
FEW = 5  # elements


def small_ones(kind: str, count: int) -> Iterator[typed.Words]:
    """Make so many collections of a few elements; the fields of hashes are the same in each, as they usually are."""
    name, element = COLLECTIONS[kind]
    for number in range(count):
        words = [word for each in range(FEW) for word in element(FEW * number + each)]
        if kind == "hash":
            words[::2] = [f"field{each}" for each in range(FEW)]
        yield [name, key(number), *words]


def large_one(kind: str, count: int) -> Iterator[typed.Words]:
    """Make one collection of so many elements."""
    name, element = COLLECTIONS[kind]
    return typed.elements(name, "large", map(element, range(count)))


def memory_of_collections(report: Report, count: int, only: str) -> None:
    """Add a line for each type and form."""
    for kind in (each for each in COLLECTIONS if only in each):
        forms = {f"a {kind} of {FEW}, of {count:,}": small_ones, f"an element of a {kind} of {count:,}": large_one}
        for title, made in forms.items():
            taken = {}
            for peer in ("godis", "redis"):
                with serving(peer, Settings(log="off", flags=NO_TTL if peer == "godis" else ())) as server:
                    before = server.resident_bytes
                    typed.pour(server, made(kind, count))
                    taken[peer] = (server.resident_bytes - before) / count
            figure = report.judge(f"memory of {title}", taken["godis"] / taken["redis"], TYPE_FLOOR)
            report.row(title, f"{taken['godis']:.0f} B", f"{taken['redis']:.0f} B", figure)


def idle(peer: str, count: int, seconds: float) -> tuple[float, float, float]:
    """Return the KiB a connection, and the percent of a core without and with so many."""
    with serving(peer, Settings(log="off", maxclients=count + 100)) as server:
        alone = server.core_share(seconds) * 100
        before = server.resident_bytes
        with server.connections(count):
            a_connection = (server.resident_bytes - before) / 1024 / count
            return a_connection, alone, server.core_share(seconds) * 100


def idle_clients(report: Report, wanted: int, seconds: float) -> None:
    """Add the lines of connections that say nothing."""
    count = most_connections(wanted)
    godis, redis = idle("godis", count, seconds), idle("redis", count, seconds)
    figure = report.judge("memory of a connection", godis[0], CONNECTION_FLOOR, f"{godis[0]:.1f} KiB")
    report.row(f"an idle connection, of {count:,}", f"{godis[0]:.1f} KiB", f"{redis[0]:.1f} KiB", figure)
    report.row("CPU, idle, without connections", f"{godis[1]:.2f} %", f"{redis[1]:.2f} %", "")
    figure = report.judge("CPU with idle connections", godis[2], IDLE_FLOOR, f"{godis[2]:.2f} %")
    report.row(f"CPU, idle, with {count:,} connections", f"{godis[2]:.2f} %", f"{redis[2]:.2f} %", figure)


def footprint(report: Report, keys: int = 1_000_000, connections: int = 10_000, seconds: float = 10) -> None:
    """Add a table."""
    report.table("", "Godis", "redis-server", "figure")
    memory_of_keys(report, keys)
    idle_clients(report, connections, seconds)


def collections(report: Report, count: int = 1_000_000, only: str = "") -> None:
    """Add a table of the types."""
    report.table("", "Godis", "redis-server", "ratio")
    memory_of_collections(report, count, only)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--keys", type=int, default=1_000_000)
    made.add_argument("--connections", type=int, default=10_000)
    made.add_argument("--seconds", type=float, default=10, help="how long an idle server is watched")
    made.add_argument("--types", action="store_true", help="collections instead")
    made.add_argument("--only", default="", help="types with this in their name")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("footprint", arguments.output)
    if arguments.types:
        collections(report, arguments.keys, arguments.only)
    else:
        footprint(report, arguments.keys, arguments.connections, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
