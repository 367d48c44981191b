"""The longest turn of a pool's instances while long commands go through one of them, in ms of CPU.

    python -m bench.pool_stalls [--only PART-OF-A-NAME] [--rounds 1]

Two instances on one node of etcd. Each attack is made at the first; the second applies the same log and is asked
nothing. Within a turn nobody else is served. It is CPU time of the loop's thread, as with `bench.hostile --turns`, so
it can be measured on a busy machine; how long single requests wait there is another matter. Shown is the longest of
the rounds, each of which has fresh instances.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rig.etcd_cluster import EtcdNode
from servers import encode, wait_until

from bench.attacks import MEBIBYTE, Attack, ask, many_words, once
from bench.hostile import FLOOR, WatchedGodis, attacked
from bench.rig import Report, Settings, parser, require_two_cores

SETTLE_SECONDS = 1.0
VALUE = b"v" * 64
LINEARIZABLE = encode(b"READMODE", b"linearizable")


def fill(port: int) -> None:
    """Set a million keys; a pipeline of SETs would take a minute."""
    for start in range(0, 1_000_000, 50_000):
        keys = [b"key:%07d" % number for number in range(start, start + 50_000)]
        ask(port, encode(b"MSET", *(word for key in keys for word in (key, b"v"))))


def long_value(port: int) -> None:
    """Make a value whose copy takes long."""
    ask(port, encode(b"SETRANGE", b"huge", b"%d" % (256 * MEBIBYTE), b"x"))


def burst(port: int, _seconds: float) -> None:
    """Set 200 000 keys, as fast as they are taken: some hundred entries of a thousand commands."""
    for start in range(0, 200_000, 50_000):
        ask(port, b"".join(encode(b"SET", b"burst:%07d" % number, VALUE) for number in range(start, start + 50_000)))


ATTACKS = {
    "nothing": Attack(lambda _port, seconds: time.sleep(seconds)),
    "MGET of a million keys, local": Attack(once(lambda: many_words(b"MGET")), fill),
    "MGET of a million keys, linearizable": Attack(once(lambda: LINEARIZABLE + many_words(b"MGET")), fill),
    "EXISTS of a million keys": Attack(once(lambda: many_words(b"EXISTS")), fill),
    "MSET of 500 000 keys": Attack(once(lambda: many_words(b"MSET", VALUE))),
    "DEL of a million keys": Attack(once(lambda: many_words(b"DEL")), fill),
    "SET of 60 MB": Attack(once(lambda: encode(b"SET", b"large", bytes(60 * MEBIBYTE)))),
    "APPEND to 256 MB": Attack(once(lambda: encode(b"APPEND", b"huge", b"x")), long_value),
    "200 000 SETs in pipelines": Attack(burst),
}


@contextmanager
def two_instances() -> Iterator[list[WatchedGodis]]:
    """Start a node of etcd and two instances that note how long their turns take."""
    with tempfile.TemporaryDirectory(prefix="bench-pool-") as directory, ExitStack() as running:
        node = EtcdNode("one", Path(directory))
        node.start()
        running.callback(node.stop)
        instances = []
        for name in ("first", "second"):
            home = Path(directory) / name
            home.mkdir()
            settings = Settings(log="off", flags=("--pool", f"etcd://{node.endpoint}/bench", "--instance-id", name))
            instances.append(running.enter_context(WatchedGodis(home, settings)))
        yield instances


def applied(instance: WatchedGodis) -> str:
    """Say how far the log is applied."""
    with instance.raw() as raw:
        told: bytes = raw.ask("INFO", "pool")
    return told.partition(b"pool_log_entries:")[2].split(b"\r")[0].decode()


def longest_turns(attack: Attack, seconds: float) -> list[float]:
    """Attack the first of two instances, and return what the longest turn of each took."""
    with two_instances() as instances:
        first, second = instances
        attack.prepare(first.port)
        wait_until(lambda: applied(first) == applied(second), 60, "all is applied")
        time.sleep(SETTLE_SECONDS)
        for instance in instances:
            instance.longest_turn_ms()
        attacked(first.port, attack, seconds)
        wait_until(lambda: applied(first) == applied(second), 60, "all is applied")
        time.sleep(SETTLE_SECONDS)
        return [instance.longest_turn_ms() for instance in instances]


def stalls(report: Report, only: str = "", rounds: int = 1, seconds: float = 1.0) -> None:
    """Add a table with a line for each attack."""
    report.table("the longest turn in a pool, ms of CPU", "where it was asked", "at another instance")
    for name, attack in ATTACKS.items():
        if only in name:
            runs = [longest_turns(attack, seconds) for _ in range(rounds)]
            floor = FLOOR if name != "nothing" else None
            worst = [max(turns) for turns in zip(*runs, strict=True)]
            report.row(name, *(report.judge(name, longest, floor, f"{longest:.1f} ms") for longest in worst))


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--only", default="", help="the attacks whose name has this in it")
    made.add_argument("--rounds", type=int, default=1)
    arguments = made.parse_args()
    require_two_cores("etcd")
    report = Report("pool-stalls", arguments.output)
    stalls(report, arguments.only, arguments.rounds)
    report.close()


if __name__ == "__main__":
    main()
