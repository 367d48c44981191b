"""How long other clients wait while one does something large: the longest PING, Godis beside redis-server.

Shown are the median, the 99.9th percentile and the maximum, in milliseconds, for each case; "nothing" is the floor, and
on a shared machine that floor is what its neighbours leave. `load.Prober` says how they are measured.

    python -m bench.stalls [--keys 1000000]

"as many new keys" is where dicts grow and where the collector of cycles finds most to look at. What the rewrite of a
log costs others is `log/rewrite.py`'s.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable

from servers import encode, wait_until

from bench.load import Prober
from bench.rig import Floor, Report, Server, both, key, parser, require_two_cores

FLOOR = Floor(20, at_most=True, unit=" ms")
EXPIRY_SECONDS = 120
SETTLE_SECONDS = 1.0  # before and after
CLIENTS = 2000
FILLED_A_SECOND = 40_000  # keys, at least, on a slow machine

Act = Callable[[Server, int], None]


def fill(server: Server, keys: int, seconds: float = 3600) -> None:
    """Set all keys, with deadlines in one and the same millisecond."""
    server.fill(keys, b"value", "PXAT", str(int((time.time() + seconds) * 1000)))


def ask(server: Server, *words: str) -> None:
    """Send one request and wait until the last byte of its reply is there."""
    with server.raw(timeout=60) as raw:
        raw.send(encode(*words) + encode("PING"))
        end = b""
        while not end.endswith(b"+PONG\r\n"):
            end = end[-16:] + raw.sock.recv(1 << 20)


def nothing(_: Server, __: int) -> None:
    """Let the others have the server."""


def expire_all(server: Server, keys: int) -> None:
    """Wait until every key is gone: the counter says so at no cost, a count of keys would not.

    No other case lets keys expire, so the server's counter begins at none.
    """
    with server.client() as client:
        wait_until(lambda: client.info("stats")["expired_keys"] >= keys, EXPIRY_SECONDS, "all keys expire")


def pipeline(server: Server, keys: int) -> None:
    """Send as many GETs as there are keys in one go, and read the answers."""
    with server.raw(timeout=60) as raw:
        sender = multiprocessing.Process(target=raw.send, args=(encode("GET", key(0)) * keys,))
        sender.start()
        answers = 0
        while answers < keys:
            answers += raw.sock.recv(1 << 20).count(b"$")
        sender.join()


def collect(server: Server, _: int) -> None:
    """Make full collections of cycles due: clients come, one after the other, are refused something, and go."""
    for _ in range(CLIENTS):
        with server.raw() as client:
            assert client.ask("NOSUCH", *["x"] * 10).startswith(b"-")


# What is done while others wait, and how long the keys live that are there before, if there are any.
CASES: dict[str, tuple[str, Act]] = {
    "nothing": ("", nothing),
    "as many new keys": ("", fill),
    "a pipeline of as many GETs": ("an hour", pipeline),
    "a full collection is due": ("an hour", collect),
    "KEYS *": ("an hour", lambda server, _: ask(server, "KEYS", "*")),
    "FLUSHALL": ("an hour", lambda server, _: ask(server, "FLUSHALL", "ASYNC")),
    "all keys expire at once": ("until all are set", expire_all),
}


def longest(server: Server, case: str, keys: int, settle_seconds: float) -> Prober:
    """Do it, and return what a client beside it saw."""
    life, act = CASES[case]
    if life:
        fill(server, keys, 3600 if life == "an hour" else keys / FILLED_A_SECOND + 2 * settle_seconds)
    with Prober(server.port, settle_seconds) as prober:
        act(server, keys)
    ask(server, "FLUSHALL")
    return prober


def stalls(report: Report, keys: int = 1_000_000, settle_seconds: float = SETTLE_SECONDS) -> None:
    """Add a table with a line for each case."""
    report.table(f"{keys:,} keys: median / p99.9 / maximum, ms", "Godis", "redis-server", "Godis's longest")
    with both() as servers:
        for title in CASES:
            godis, redis = (longest(server, title, keys, settle_seconds) for server in servers.values())
            worst = godis.waits_ms[-1]
            floor = FLOOR if title != "nothing" else None
            figure = report.judge(f"stall: {title}, {keys:,} keys", worst, floor, f"{worst:.1f} ms")
            report.row(title, godis.shown(), redis.shown(), figure)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--keys", type=int, default=1_000_000)
    made.add_argument("--seconds", type=float, default=SETTLE_SECONDS, help="how long is waited before and after")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("stalls", arguments.output)
    stalls(report, arguments.keys, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
