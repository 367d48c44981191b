"""What all measurements share: servers on a core of their own, their CPU time and memory, and the report.

A server runs alone on the first core that this process may use; this process, with all clients that it starts, stays on
the last one. So neither takes time from the other, and a server has one core, as Redis would.

CPU time is read from the server's process (user and system, all threads) before and after, since throughput alone
would show the limit of the client wherever the client is the slower of the two.

A report is Markdown: printed line by line as it comes, kept whole for a file. Where a floor is set it stands beside its
figure, with `ok` or `SHORT`, and the last line counts them.

Refused: pyperf and asv, which compare versions of a function, not two servers that take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from servers import HOST, ROOT, GodisProcess, RedisProcess, ServerProcess, encode

RESULTS = ROOT / "bench" / "results"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
PLACED = f"server on core {SERVER_CORE}, clients on core {CLIENT_CORE}"
FILL_BATCH = 1000
FILES_BESIDE_CONNECTIONS = 100  # what a process has open besides its sockets, at most
PING = encode("PING")


def require_two_cores(*programs: str) -> None:
    """End with what is missing; else move this process to the clients' core, with all the open files it may have."""
    missing = [name for name in ("redis-server", "taskset", *programs) if not shutil.which(name)]
    if missing or len(CORES) < 2 or not Path("/proc/self/stat").exists():
        raise SystemExit(f"needs Linux, two cores, redis-server and taskset; missing: {missing}; cores: {CORES}")
    os.sched_setaffinity(0, {CLIENT_CORE})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(wanted: int) -> int:
    """Say how many connections the limit on open files allows, if not all that are wanted."""
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_BESIDE_CONNECTIONS)


# ---- servers


@dataclass(frozen=True)
class Settings:
    """What a measurement asks of a server, whichever it is; the rest are the server's defaults."""

    log: str = "everysec"  # or always, no, off
    maxclients: int = 10_100
    flags: tuple[str, ...] = ()  # more, for this server


class Server(ServerProcess):
    """A server process on its core, as a measurement sees it."""

    def command(self) -> list[str]:
        """Prefix the command so that it runs on the servers' core."""
        return ["taskset", "-c", str(SERVER_CORE), *super().command()]

    def cpu_us(self) -> tuple[float, float]:
        """Read user and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
        return int(fields[11]) * tick_us, int(fields[12]) * tick_us

    def core_share(self, seconds: float) -> float:
        """Measure for so long which share of a core the process takes."""
        before, start = self.cpu_ns(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_ns() - before) / (time.monotonic() - start) / 1e9

    def peak_bytes(self) -> int:
        """Read the most memory that the process has had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def cpu_ns(self) -> int:
        """Sum what the scheduler counted for each thread: exact, where `cpu_us` counts ticks of 10 ms."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in threads)

    def fill(self, keys: int, value: bytes, *options: str) -> None:
        """Set every key that redis-benchmark may ask for, in order."""
        words = [option.encode() for option in options]
        with self.raw(timeout=60) as raw:
            for start in range(0, keys, FILL_BATCH):
                names = range(start, min(start + FILL_BATCH, keys))
                raw.send(b"".join(encode("SET", key(number), value, *words) for number in names))
                expected = b"+OK\r\n" * len(names)
                if raw.read_exactly(len(expected)) != expected:
                    raise SystemExit(f"{self.name} refused a SET")

    @contextlib.contextmanager
    def connections(self, count: int) -> Iterator[list[socket.socket]]:
        """Open so many connections, each of which has had an answer, and close them in the end."""
        with contextlib.ExitStack() as stack:
            sockets: list[socket.socket] = []
            for _ in range(count):
                raw = stack.enter_context(self.raw(timeout=60))
                if raw.ask("PING") != b"+PONG\r\n":
                    raise SystemExit(f"{self.name} refused connection {len(sockets) + 1} of {count}")
                sockets.append(raw.sock)
            yield sockets


class Godis(Server, GodisProcess):
    """This checkout, run by the Python that runs the measurement. Its log is never rewritten unless asked for."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        logged = ["--no-log"] if settings.log == "off" else ["--appendfsync", settings.log]
        limits = ["--maxclients", str(settings.maxclients), "--auto-rewrite-percentage", "0"]
        log = None if settings.log == "off" else "log.txt"
        super().__init__(directory, *logged, *limits, *settings.flags, log=log)


class Redis(Server, RedisProcess):
    """redis-server with the same settings: a rewriting child would share its core."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        log = (
            ["--appendonly", "no"] if settings.log == "off" else ["--appendonly", "yes", "--appendfsync", settings.log]
        )
        limits = ["--maxclients", str(settings.maxclients), "--auto-aof-rewrite-percentage", "0"]
        super().__init__(directory, *log, *limits, *settings.flags)


class Fake(Server):
    """fakeredis's server: what a Python user may have instead. It logs nothing."""

    name = "fakeredis"

    def __init__(self, directory: Path, settings: Settings) -> None:
        super().__init__(directory)

    def command(self) -> list[str]:
        """Serve until killed."""
        serve = f"from fakeredis import TcpFakeServer; TcpFakeServer(('{HOST}', {self.port})).serve_forever()"
        return ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", serve]


PEERS: dict[str, Callable[[Path, Settings], Server]] = {"godis": Godis, "redis": Redis, "fakeredis": Fake}
NAMES = {"godis": "Godis", "redis": "redis-server", "fakeredis": "fakeredis"}


@contextlib.contextmanager
def serving(peer: str, settings: Settings | None = None) -> Iterator[Server]:
    """Start a server in a directory of its own, and clear all away in the end."""
    with (
        tempfile.TemporaryDirectory(prefix=f"bench-{peer}-") as directory,
        PEERS[peer](Path(directory), settings or Settings()) as server,
    ):
        yield server


@contextlib.contextmanager
def both(settings: Settings | None = None, against: str = "redis") -> Iterator[dict[str, Server]]:
    """Start Godis and its peer, to be measured in turns."""
    with serving("godis", settings) as godis, serving(against, settings) as other:
        yield {"godis": godis, against: other}


def key(number: int) -> str:
    """Name a key as redis-benchmark does: 16 bytes."""
    return f"key:{number:012}"


def on_client_core(command: list[str]) -> str:
    """Run a client that prints what it found."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# ---- figures


def ratio(one: float, other: float) -> float:
    """Divide; a run too short to be measured is no ratio."""
    return one / other if other else math.nan


def spread(values: Sequence[float]) -> float:
    """Half the way from the lowest to the highest, in percent of the median."""
    return 50 * (max(values) - min(values)) / (statistics.median(values) or 1)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Pick the value that this share of the sorted values does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Floor:
    """What a figure must reach, or must not exceed."""

    limit: float
    at_most: bool = False
    unit: str = ""

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}{self.unit}"

    def holds(self, figure: float) -> bool:
        """Return True if the figure, as it is shown, is on the right side."""
        shown = round(figure, 2)
        return shown <= self.limit if self.at_most else shown >= self.limit


class Report:
    """Tables as they come, the floors that hold and those that do not, and a file in the end."""

    def __init__(self, title: str, path: Path | None = None, placed: str = PLACED) -> None:
        now = datetime.now(timezone.utc)
        self.path = path or RESULTS / f"{now:%Y-%m-%d-%H%M%S}-{title}.md"
        self.lines: list[str] = []
        self.pending = 0
        self.short: list[str] = []
        for line in preamble(now, placed):
            self.say(line)

    def say(self, line: str) -> None:
        """Add a line of text."""
        self.lines.append(line)
        print(line, flush=True)

    def table(self, *head: str) -> None:
        """Begin a table."""
        self.say("")
        self.say(f"| {' | '.join(head)} |")
        self.say("|---" + "|---:" * (len(head) - 1) + "|")

    def row(self, *cells: str) -> None:
        """Add a line to the table."""
        self.say(f"| {' | '.join(cells)} |")

    def judge(self, title: str, figure: float, floor: Floor | None, shown: str = "") -> str:
        """Show a figure, with its floor if it has one and whether that holds."""
        text = shown or f"{figure:.2f}"
        if floor is None:
            return text
        if floor.holds(figure):
            self.pending += 1
            return f"**{text}** ({floor} ok)"
        self.short.append(f"{title}: {text} ({floor})")
        return f"**{text}** ({floor} SHORT)"

    def close(self) -> None:
        """Count the floors and write the file."""
        if self.pending or self.short:
            self.say("")
            self.say(f"{self.pending} of {self.pending + len(self.short)} floors hold.")
        for line in self.short:
            self.say(f"- short: {line}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        print(f"\nwritten to {self.path}", file=sys.stderr)


def preamble(now: datetime, placed: str) -> list[str]:
    """Say when, where and with what this is measured."""
    redis = on_client_core(["redis-server", "--version"]).split()[2].removeprefix("v=")
    return [
        f"# Godis and redis-server, {now:%Y-%m-%d %H:%M} UTC",
        "",
        f"- `{command_line()}`",
        f"- machine: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"{placed}; load before: {os.getloadavg()[0]:.1f}",
        f"- commit {commit()}; Python {platform.python_version()}, redis-server {redis}, {', '.join(packages())}",
    ]


def packages() -> Iterator[str]:
    """Name the versions of what the servers are made of, as far as it is installed."""
    for name in ("gevent", "greenlet", "hiredis", "fakeredis"):
        with contextlib.suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


def command_line() -> str:
    """Say how to run this again."""
    return " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}".removesuffix(".__main__"), *sys.argv[1:]])


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


def parser(about: str | None) -> argparse.ArgumentParser:
    """Make the command line that each measurement has: its text, and where the report goes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output", type=Path, help="where the report goes; a new file in bench/results if not given")
    return made
