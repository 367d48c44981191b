"""How fast a log is loaded: a start of Godis, and of redis-server from the same file.

    python -m bench.replay [--commands 1000000] [--batch 50] [--value-bytes 64] [--keys 100000] [--rounds 3]

The log holds SETs with deadlines, `--batch` of them a turn. Time is from a server's start until it answers a PING, less
what it needs to start with no log; the servers take turns, and the median counts. Both read a file that the system has
in its cache.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from aof import AppendOnlyLog
from bench.rig import NAMES, PEERS, Floor, Report, Settings, parser, require_two_cores

NOW_MS = 1_800_000_000_000
DEADLINE_MS = NOW_MS + 3_600_000_000
FLOOR = Floor(1.0)
WHERE = {"godis": "log.txt", "redis": "appendonly.aof"}


def write_log(path: Path, commands: int, batch: int, value: bytes, keys: int) -> None:
    """Write a log of SETs with deadlines, `batch` of them a turn."""
    log = AppendOnlyLog(str(path))
    log.open()
    for number in range(commands):
        log.append_set(0, b"key:%012d" % (number * 7919 % keys), value, DEADLINE_MS)
        if number % batch == batch - 1:
            log.write(NOW_MS)
    log.write(NOW_MS)
    log.close()


def start_seconds(peer: str, log: Path | None, keys: int) -> float:
    """Start a server on a copy of a log, until it answers; it must then have all keys."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{peer}-") as directory:
        if log is not None:
            shutil.copy(log, Path(directory) / WHERE[peer])
        start = time.monotonic()
        with PEERS[peer](Path(directory), Settings()) as server:
            taken = time.monotonic() - start
            with server.raw() as raw:
                if raw.ask("DBSIZE") != b":%d\r\n" % (keys if log is not None else 0):
                    raise SystemExit(f"{server.name} did not load the log: {server.stderr()}")
    return taken


def replay(
    report: Report,
    commands: int = 1_000_000,
    *,
    batch: int = 50,
    value_bytes: int = 64,
    keys: int = 100_000,
    rounds: int = 3,
) -> None:
    """Add a table with a line a server."""
    keys = min(keys, commands)
    with tempfile.TemporaryDirectory(prefix="bench-log-") as directory:
        path = Path(directory) / "log.txt"
        write_log(path, commands, batch, b"x" * value_bytes, keys)
        megabytes = path.stat().st_size / 1e6
        runs: dict[str, list[float]] = {peer: [] for peer in WHERE}
        for _ in range(rounds):
            for peer, found in runs.items():
                found.append(start_seconds(peer, path, keys) - start_seconds(peer, None, keys))
    seconds = {peer: statistics.median(found) for peer, found in runs.items()}
    report.table(f"a log of {commands:,} SETs, {batch} a batch, {megabytes:.0f} MB", "s", "commands/s", "MB/s", "ratio")
    for peer, taken in seconds.items():
        title = f"replay of {commands:,} SETs"
        ratio = report.judge(title, seconds["redis"] / taken, FLOOR) if peer == "godis" else ""
        report.row(NAMES[peer], f"{taken:.2f}", f"{commands / taken:,.0f}", f"{megabytes / taken:.0f}", ratio)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--commands", type=int, default=1_000_000)
    made.add_argument("--batch", type=int, default=50)
    made.add_argument("--value-bytes", type=int, default=64)
    made.add_argument("--keys", type=int, default=100_000)
    made.add_argument("--rounds", type=int, default=3)
    arguments = made.parse_args()
    require_two_cores()
    report = Report("replay", arguments.output)
    options = {name: value for name, value in vars(arguments).items() if name != "output"}
    replay(report, **options)
    report.close()


if __name__ == "__main__":
    main()
