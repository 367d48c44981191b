"""How fast a log is loaded: by replay into an engine, and by redis-server from the same file.

    python bench/replay.py [--commands 1000000] [--batch 50] [--value-bytes 64] [--keys 100000]

redis-server's time is from its start until it answers, without the time that it needs to start with no log.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aof import AppendOnlyLog, NullLog, replay  # noqa: E402
from config import Config  # noqa: E402
from engine import Engine  # noqa: E402
from session import Instance  # noqa: E402
from store import Store  # noqa: E402

DEADLINE_MS = 4_102_444_800_000
NOW_MS = 1_700_000_000_000


def write_log(path: Path, commands: int, batch: int, value: bytes, keys: int) -> None:
    """Write a log of SETs with deadlines, `batch` of them a turn."""
    log = AppendOnlyLog(str(path))
    log.open()
    for number in range(commands):
        log.append_set(0, b"key:%012d" % (number * 7919 % keys), value, DEADLINE_MS)
        if number % batch == batch - 1:
            log.write(NOW_MS)
    log.close()


def replay_seconds(path: Path) -> float:
    """Load the log into an engine, as the program does when it starts."""
    log = NullLog()
    store = Store(1, log)
    store.begin_replay(NOW_MS)
    engine = Engine(Instance(store, log, Config({}, {}), "bench", run_id="", started_ms=0))
    start = monotonic()
    replay(str(path), engine.apply, NOW_MS, 0, apply_many=engine.apply_many)
    return monotonic() - start


def redis_seconds(path: Path | None) -> float:
    """Start redis-server on a copy of the log, until it says that it is ready."""
    with tempfile.TemporaryDirectory() as directory:
        if path is not None:
            shutil.copy(path, Path(directory) / "appendonly.aof")
        socket = f"{directory}/redis.sock"
        arguments = ["--port", "0", "--unixsocket", socket, "--dir", directory, "--appendonly", "yes"]
        start = monotonic()
        server = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "eady to accept connections" in line:
                    return monotonic() - start
        finally:
            server.kill()
            server.communicate()
    raise SystemExit("redis-server ended without having loaded the log")


def show(name: str, seconds: float, commands: int, size: int) -> None:
    print(f"{name:13} {seconds:7.2f} s {commands / seconds:12,.0f} commands/s {size / seconds / 1e6:8.1f} MB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--keys", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.txt"
        write_log(path, options.commands, options.batch, b"x" * options.value_bytes, options.keys)
        size = path.stat().st_size
        print(f"{options.commands:,} SETs, {options.batch} a batch, {size / 1e6:.0f} MB")
        show("replay", replay_seconds(path), options.commands, size)
        if shutil.which("redis-server"):
            show("redis-server", redis_seconds(path) - redis_seconds(None), options.commands, size)
        else:
            print("redis-server is not installed")


if __name__ == "__main__":
    main()
