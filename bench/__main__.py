"""Measure Godis beside redis-server: all that has a floor, in one report.

    python -m bench                 what the README shows, and every floor: twenty minutes
    python -m bench --all           everything that can be measured besides: an hour
    python -m bench --quick         the same tables, small and short: whether it runs, not how fast

Each part is a module that can be run alone: `python -m bench.compare --help`.
"""

from __future__ import annotations

from bench import (
    always,
    compare,
    eviction,
    footprint,
    growth,
    hostile,
    large_value,
    latency,
    micro,
    replay,
    rewrite,
    stalls,
)
from bench.rig import Report, parser, require_two_cores


def floors(report: Report, rounds: int, seconds: float, keys: int, connections: int) -> None:
    """Measure what has a floor."""
    compare.compare(report, compare.README, rounds, seconds)
    compare.compare(report, compare.ALWAYS, rounds, seconds)
    compare.compare(report, compare.TYPES, rounds // 2 + 1, seconds / 4)
    compare.compare(report, compare.TOGETHER, rounds // 2 + 1, seconds / 4)
    compare.compare(report, compare.SCRIPTS, rounds // 2 + 1, seconds / 4)
    compare.log_cost(report, rounds, seconds)
    compare.connections(report, rounds, seconds, connections // 2)
    latency.latency(report, latency.Plan(2 * rounds, seconds / 4))
    footprint.footprint(report, keys, connections, 5 * seconds)
    footprint.collections(report, keys)
    growth.growth(report, [keys // 1000, keys // 30, keys], seconds / 6)
    replay.replay(report, keys)
    stalls.stalls(report, keys)


def everything_else(report: Report, rounds: int, seconds: float, keys: int) -> None:
    """Measure what has none, and what takes long."""
    for cases in compare.all_cases():
        compare.compare(report, cases, rounds, seconds)
    always.always(report, 1, rounds, seconds)
    replay.replay(report, 10 * keys, keys=keys)
    rewrite.rewrite(report, 5 * keys)
    large_value.large_value(report, keys)
    large_value.copies(report, keys)
    stalls.stalls(report, 5 * keys)
    hostile.hostile(report, rounds=rounds)
    eviction.memory(report)
    eviction.hits(report)
    micro.micro(report)


def main() -> None:
    """Measure, show each line as it comes, and write the report."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5, help="how often the servers take turns")
    made.add_argument("--seconds", type=float, default=2.0, help="how long a run takes, about")
    made.add_argument("--all", action="store_true")
    made.add_argument("--quick", action="store_true")
    arguments = made.parse_args()
    require_two_cores("redis-benchmark")
    report = Report("bench", arguments.output)
    rounds, seconds = (1, 0.2) if arguments.quick else (arguments.rounds, arguments.seconds)
    keys, connections = (20_000, 400) if arguments.quick else (1_000_000, 10_000)
    floors(report, rounds, seconds, keys, connections)
    if arguments.all:
        everything_else(report, rounds, seconds, keys)
    report.close()


if __name__ == "__main__":
    main()
