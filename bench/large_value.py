"""What a large value costs those who are served beside it, Godis beside redis-server.

    python -m bench.large_value [--elements 1000000]

While the log is rewritten, the first push to a large list copies it, because a point-in-time view still has to write
the list as it was; the copy shares its chunks. Shown are how long a PING waits, and the CPU time of the longest turn of
Godis, in which nobody else is served: a busy machine does not change that much.

`python -m bench.large_value copies` shows what such a copy takes for the containers of Python, in CPU time; what it
takes to write the value; and what it takes to free it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers import Raw, encode

from bench.hostile import WatchedGodis
from bench.load import Prober
from bench.rig import PEERS, Floor, Report, Server, Settings, parser, require_two_cores
from protocol import encode_command
from values.lists import List

FLOOR = Floor(20, at_most=True, unit=" ms")
ELEMENTS = 1_000_000
PART = 1000  # elements of a request that fills the list
PUSHES = 200
TRIES = 7
SETTLE_SECONDS = 0.5

Act = Callable[[Raw], None]


@contextmanager
def serving(peer: str, elements: int) -> Iterator[tuple[Server, Raw]]:
    """Start a server, with a log, and a list in it."""
    made = WatchedGodis if peer == "godis" else PEERS[peer]
    with (
        TemporaryDirectory(prefix=f"bench-{peer}-") as directory,
        made(Path(directory), Settings(log="everysec")) as server,
        server.raw(timeout=120) as raw,
    ):
        for start in range(0, elements, PART):
            raw.ask("RPUSH", "list", *(f"element:{number}" for number in range(start, min(start + PART, elements))))
        yield server, raw


def push(raw: Raw) -> None:
    """Push, again and again."""
    for number in range(PUSHES):
        raw.ask("RPUSH", "list", str(number))
        time.sleep(0.002)


def rewrite_and_push(raw: Raw) -> None:
    """Push while the log is rewritten, until that is done."""
    raw.ask("BGREWRITEAOF")
    push(raw)
    while b"aof_rewrite_in_progress:1" in raw.ask("INFO", "persistence"):
        time.sleep(0.05)


def rewrite_and_delete(raw: Raw) -> None:
    """Delete the list while the log is rewritten."""
    raw.ask("BGREWRITEAOF")
    raw.ask("UNLINK", "list")


CASES: dict[str, Act] = {
    "nothing": lambda _raw: None,
    "pushes": push,
    "pushes amid a rewrite": rewrite_and_push,
    "COPY": lambda raw: raw.send(encode("COPY", "list", "copy")),
    "UNLINK amid a rewrite": rewrite_and_delete,
}


def large_value(report: Report, elements: int = ELEMENTS, settle_seconds: float = SETTLE_SECONDS) -> None:
    """Add a table with a line for each case."""
    report.table(
        f"a list of {elements:,}: median / p99.9 / maximum, ms", "Godis", "redis-server", "longest turn of Godis"
    )
    found: dict[str, list[str]] = {title: [] for title in CASES}
    turns_ms: dict[str, float] = {}
    for peer in ("godis", "redis"):
        with serving(peer, elements) as (server, raw):
            for title, act in CASES.items():
                if isinstance(server, WatchedGodis):
                    server.longest_turn_ms()
                with Prober(server.port, settle_seconds) as prober:
                    act(raw)
                found[title].append(prober.shown())
                if isinstance(server, WatchedGodis):
                    turns_ms[title] = server.longest_turn_ms()
    for title, longest_ms in turns_ms.items():
        floor = FLOOR if title != "nothing" else None
        figure = report.judge(f"longest turn: {title}", longest_ms, floor, f"{longest_ms:.1f} ms")
        report.row(title, *found[title], figure)


def least_ms(run: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest CPU time of several tries, and that of freeing what came out."""
    taken, freed = [], []
    for _ in range(TRIES):
        start = time.process_time()
        made: Any = run()
        end = time.process_time()
        del made
        taken.append(end - start)
        freed.append(time.process_time() - end)
    return min(taken) * 1000, min(freed) * 1000


def copies(report: Report, elements: int = ELEMENTS) -> None:
    """Add a table of the containers: a copy, and the writing in commands of 48 elements."""
    report.table(f"{elements:,} elements, ms of CPU", "made, elements included", "freed", "copied", "written")

    def fresh() -> Iterator[bytes]:
        return (b"element:%d" % number for number in range(elements))

    kinds: dict[str, Callable[[], Any]] = {
        "list": lambda: list(fresh()),
        "deque": lambda: deque(fresh()),
        "List of values/lists.py": lambda: List(fresh()),
        "set": lambda: set(fresh()),
        "dict": lambda: dict.fromkeys(fresh(), b"value"),
    }
    for name, make in kinds.items():
        made_ms, freed_ms = least_ms(make)
        value = make()
        copied_ms, _ = least_ms(value.copy)
        words = list(value)
        written_ms, _ = least_ms(
            lambda words=words: [  # type: ignore[misc]
                encode_command([b"RPUSH", b"list", *words[start : start + 48]]) for start in range(0, elements, 48)
            ]
        )
        report.row(name, *(f"{ms:.1f}" for ms in (made_ms, freed_ms, copied_ms, written_ms)))


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("part", nargs="?", choices=["copies"])
    made.add_argument("--elements", type=int, default=ELEMENTS)
    made.add_argument("--seconds", type=float, default=SETTLE_SECONDS, help="how long is waited before and after")
    arguments = made.parse_args()
    report = Report("large_value", arguments.output)
    if arguments.part == "copies":
        copies(report, arguments.elements)
    else:
        require_two_cores()
        large_value(report, arguments.elements, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
