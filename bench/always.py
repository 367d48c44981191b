"""GETs beside SETs under `appendfsync always`: how long those wait who read what nobody writes.

    python -m bench.always                          this disk as it is
    python -m bench.always --fsync-ms 5             strace makes each fsync so much longer, for all servers alike
    python -m bench.always --before ../older        another checkout of Godis, too

redis-benchmark writes with 50 clients; beside it `load.Prober` sends GETs of a key that is not among theirs. The
servers take turns. Shown are the SETs a second of the median round, and of the GETs of all rounds the median, the 99th
percentile and the longest, in milliseconds. With TMPDIR=/dev/shm and --fsync-ms the machine's disk plays no part.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
import time
from itertools import product
from pathlib import Path

from servers import GODIS, encode

from bench.load import Prober
from bench.rig import CLIENT_CORE, Godis, Redis, Report, Server, Settings, parser, quantile, require_two_cores

READ = "read-and-not-written"
SETTINGS = Settings(log="always")
CONNECTING_SECONDS = 0.3


class SlowFsync(Server):
    """A server whose fsyncs take longer."""

    fsync_ms = 0.0

    def command(self) -> list[str]:
        """Prefix the command by what delays its fsyncs; the process that is started is the server all the same."""
        if not self.fsync_ms:
            return super().command()
        injection = f"inject=fdatasync:delay_enter={int(self.fsync_ms * 1000)}"
        traced = ["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", injection]
        return ["strace", *traced, *super().command()]


class Ours(SlowFsync, Godis):
    """This checkout."""


class Before(SlowFsync, Godis):
    """Another checkout."""

    root = Path()

    def command(self) -> list[str]:
        """Run the other one's program."""
        return [str(self.root / "godis.py") if word == str(GODIS) else word for word in super().command()]


class Theirs(SlowFsync, Redis):
    """redis-server."""


class Measured:
    """What was seen of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sets_per_second: list[float] = []
        self.waits_ms: list[float] = []

    def round(self, depth: int, seconds: float) -> None:
        """Write with 50 clients for so long, and read beside them."""
        options = ["-c", "50", "-P", str(depth), "-d", "64", "-r", "100000", "-t", "set", "-n", "1000000000"]
        command = ["taskset", "-c", str(CLIENT_CORE), "redis-benchmark", "-p", str(self.server.port), *options]
        with self.server.client() as client:
            client.set(READ, "x")
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as writers:
                time.sleep(CONNECTING_SECONDS)
                before, start = client.info("stats")["total_commands_processed"], time.monotonic()
                with Prober(self.server.port, seconds / 2, encode("GET", READ)) as prober:
                    pass
                done = client.info("stats")["total_commands_processed"] - before
                self.sets_per_second.append(done / (time.monotonic() - start))
                writers.terminate()
        self.waits_ms += prober.waits_ms

    def cells(self) -> tuple[str, str]:
        """Show both."""
        waits = sorted(self.waits_ms)
        sets = f"{statistics.median(self.sets_per_second) / 1000:.1f}k"
        return sets, f"{quantile(waits, 0.5):.2f} / {quantile(waits, 0.99):.1f} / {waits[-1]:.1f}"


def always(report: Report, depth: int, rounds: int, seconds: float) -> None:
    """Add a table for SETs of one depth."""
    kinds: dict[str, type[Ours | Before | Theirs]] = {"Godis": Ours, "Godis before": Before, "redis-server": Theirs}
    report.table(f"SETs at P={depth}", "SETs a second", "GET ms, median / p99 / longest")
    with contextlib.ExitStack() as stack:
        measured = {}
        for name, kind in kinds.items():
            if kind is not Before or Before.root != Path():
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-always-"))
                measured[name] = Measured(stack.enter_context(kind(Path(directory), SETTINGS)))
        for _, each in product(range(rounds), measured.values()):
            each.round(depth, seconds)
    for name, each in measured.items():
        report.row(name, *each.cells())


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=2.0, help="of a round")
    made.add_argument("--depths", default="1,16", help="SETs in a pipeline")
    made.add_argument("--fsync-ms", type=float, default=0.0)
    made.add_argument("--before", type=Path, default=Path(), help="another checkout")
    arguments = made.parse_args()
    require_two_cores("redis-benchmark", *(["strace"] if arguments.fsync_ms else []))
    SlowFsync.fsync_ms = arguments.fsync_ms
    Before.root = arguments.before if arguments.before == Path() else arguments.before.resolve()
    report = Report("always", arguments.output)
    for depth in map(int, arguments.depths.split(",")):
        always(report, depth, arguments.rounds, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
