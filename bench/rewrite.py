"""What a rewrite of the log costs those who are served meanwhile: their longest wait, and the memory on top.

    python -m bench.rewrite [--keys 5000000] [--value-bytes 64]

A process overwrites random keys at a fixed rate, a `load.Prober` sends its PINGs: first for some seconds without a
rewrite, then during one, first Godis, then redis-server. Memory on top is that of the process at its most, less what it
was before; redis-server forks, so the pages that were copied for its child are added, as its INFO counts them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from random import randrange
from typing import Any

from servers import encode

from bench.load import Prober
from bench.rig import NAMES, Floor, Report, Server, key, parser, require_two_cores, serving

WRITES_A_SECOND, PIPELINE = 30_000, 100
QUIET_SECONDS, SETTLE_SECONDS, MOST_SECONDS = 5.0, 0.2, 600
STALL_FLOOR = Floor(10, at_most=True, unit=" ms")
MEMORY_FLOOR = Floor(10, at_most=True, unit=" %")


def write(server: Server, keys: int, value: bytes) -> None:
    """Overwrite random keys for ever, so many a second."""
    due = time.monotonic()
    with server.raw() as raw:
        while True:
            due += PIPELINE / WRITES_A_SECOND
            raw.send(b"".join(encode("SET", key(randrange(keys)), value) for _ in range(PIPELINE)))
            raw.read_exactly(5 * PIPELINE)
            time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def writing(server: Server, keys: int, value: bytes) -> Iterator[None]:
    """Have another process write meanwhile."""
    writer = multiprocessing.Process(target=write, args=(server, keys, value), daemon=True)
    writer.start()
    try:
        yield
    finally:
        writer.kill()
        writer.join()


def watch(server: Server, over: Callable[[], bool]) -> tuple[Prober, int]:
    """Probe until it is over; return what others waited, and the most bytes that the process took."""
    most_bytes, end = 0, time.monotonic() + MOST_SECONDS
    with Prober(server.port, SETTLE_SECONDS) as prober:
        going_on = True
        while going_on and time.monotonic() < end:
            most_bytes = max(most_bytes, server.resident_bytes)
            time.sleep(0.05)
            going_on = not over()
    return prober, most_bytes


def measure(report: Report, peer: str, keys: int, value: bytes, quiet_seconds: float) -> None:
    """Fill a server, and add its two lines."""
    with serving(peer) as server, server.client() as client:

        def persistence() -> dict[str, Any]:
            return dict(client.info("persistence"))

        server.fill(keys, value)
        with writing(server, keys, value):
            end = time.monotonic() + quiet_seconds
            quiet, before_bytes = watch(server, lambda: time.monotonic() > end)
            report.row(
                f"{NAMES[peer]}, no rewrite", f"{quiet_seconds:.1f}", quiet.shown(), f"{before_bytes >> 20}", "", ""
            )
            client.execute_command("BGREWRITEAOF")
            start = time.monotonic()
            during, most_bytes = watch(server, lambda: not persistence()["aof_rewrite_in_progress"])
            seconds = time.monotonic() - start
        copied = int(persistence().get("aof_last_cow_size", 0)) if peer == "redis" else 0
    more = 100 * (most_bytes + copied - before_bytes) / before_bytes
    worst = during.waits_ms[-1]
    floors = (STALL_FLOOR, MEMORY_FLOOR) if peer == "godis" else (None, None)
    stall = report.judge(f"stall: a rewrite with {keys:,} keys", worst, floors[0], f"{worst:.1f} ms")
    memory = report.judge(f"memory on top, in a rewrite of {keys:,} keys", more, floors[1], f"{more:.1f} %")
    size = f"{most_bytes + copied >> 20}"
    report.row(f"{NAMES[peer]}, rewriting", f"{seconds:.1f}", during.shown(), size, stall, memory)


def rewrite(report: Report, keys: int = 5_000_000, value_bytes: int = 64, quiet_seconds: float = QUIET_SECONDS) -> None:
    """Add a table with two lines a server."""
    title = f"{keys:,} keys, {WRITES_A_SECOND:,} SETs a second"
    report.table(title, "s", "PING: median / p99.9 / maximum, ms", "MB", "longest wait", "memory on top")
    for peer in ("godis", "redis"):
        measure(report, peer, keys, b"x" * value_bytes, quiet_seconds)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--keys", type=int, default=5_000_000)
    made.add_argument("--value-bytes", type=int, default=64)
    made.add_argument("--seconds", type=float, default=QUIET_SECONDS, help="how long it is watched without a rewrite")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("rewrite", arguments.output)
    rewrite(report, arguments.keys, arguments.value_bytes, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
