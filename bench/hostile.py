"""How long a well-behaved client waits while others attack: the longest PING in ms, Godis beside redis-server.

    python -m bench.hostile [--only PART-OF-A-NAME] [--rounds 3]
    python -m bench.hostile --turns                                  the longest turn of Godis instead

The attack runs on the clients' core, and so does a `load.Prober`, which goes before it and asks anew when it was
answered. Both servers keep a log (everysec) and get the same attack, each on a fresh process. "Nothing" is the floor:
what the machine's neighbours leave. Shown are the median of the longest waits of the rounds, and the worst. `nan`: the
server ended.

With --turns it is Godis alone, and the CPU time that its longest turn took, in which nobody else is served: it can be
measured on a busy machine, too, though caches that others use make it longer. A core that is shared has the client
wait for several turns, and for the scheduler.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from servers import HOST, ROOT, encode, wait_until

from bench import hostile_together
from bench.attacks import (
    CROWD,
    MEBIBYTE,
    SETTLE_SECONDS,
    Act,
    Attack,
    ask,
    connect,
    many_words,
    once,
    pour,
    until_time_is_up,
)
from bench.load import Prober
from bench.rig import (
    PING,
    SERVER_CORE,
    Floor,
    Godis,
    Report,
    Settings,
    most_connections,
    parser,
    require_two_cores,
    serving,
)

SECONDS = 2.0
CROWD_HOST = "127.0.0.2"  # where a crowd comes to, so that it can be told from who measures
SETTINGS = {
    "godis": Settings(flags=("--host", f"{HOST} {CROWD_HOST}")),
    "redis": Settings(flags=("--bind", HOST, CROWD_HOST)),
}
FLOOR = Floor(50, at_most=True, unit=" ms")


# ---- attacks


def nothing(port: int, seconds: float) -> None:
    """Leave it alone."""
    time.sleep(seconds)


def pouring(*words: bytes) -> Act:
    """Make an attack that is one request without end."""
    wire = encode(*words)
    return lambda port, seconds: pour(port, seconds, wire * (1 + 65536 // len(wire)))


def read_nothing(port: int, seconds: float) -> None:
    """Ask for twenty megabytes on each of 50 connections, and read none of it.

    Of more, redis-server would fill the machine's memory: it has no limit on them unless it is told one.
    """
    ask(port, encode(b"SET", b"big", b"x" * MEBIBYTE))
    connections = [connect(port) for _ in range(50)]
    for connection in connections:
        connection.sendall(encode(b"GET", b"big") * 20)
    time.sleep(seconds)


def write_slowly(port: int, seconds: float) -> None:
    """Announce 512 MB on many connections, and send a byte now and then."""
    connections = [connect(port) for _ in range(1000)]
    for connection in connections:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
    going = until_time_is_up(seconds)
    while going():
        for connection in connections:
            connection.send(b"x")


def crowd(port: int, seconds: float) -> None:
    """Connect thousands, which say nothing, and hang up on all of them at once."""
    connections = [connect(port) for _ in range(most_connections(CROWD))]
    time.sleep(0.5)
    for connection in connections:
        connection.close()
    time.sleep(0.5)


def flood(port: int, seconds: float, first: bytes = b"", reset: bool = False) -> None:
    """Connect and hang up, as fast as it goes."""
    going = until_time_is_up(seconds)
    linger = struct.pack("ii", 1, 0)
    while going():
        with contextlib.suppress(OSError):
            connection = socket.create_connection((HOST, port), 5)
            if first:
                connection.sendall(first)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()


# ---- attacks that need something to be there first


def long_values(count: int, value: bytes) -> bytes:
    """Make an MSET of so many keys, all with this value."""
    return encode(b"MSET", *(word for number in range(count) for word in (b"key:%07d" % number, value)))


def fill(port: int) -> None:
    """Set a million keys."""
    for start in range(0, 1_000_000, 100_000):
        ask(port, b"".join(encode(b"SET", b"key:%07d" % number, b"v") for number in range(start, start + 100_000)))


def options(*words: bytes, first: tuple[bytes, ...]) -> Act:
    """Make an attack that is one request of a million words, nearly all of them options."""
    return once(lambda: encode(*first, *words * (1_000_000 // len(words))))


def fill_to_the_limit(port: int) -> None:
    """Set a million keys, and let there be no room for another."""
    ask(port, encode(b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru", b"maxmemory", b"4gb"))
    fill(port)
    with connect(port) as connection:
        connection.sendall(encode(b"INFO", b"memory"))
        used = int(connection.recv(MEBIBYTE).partition(b"used_memory:")[2].split()[0])
    ask(port, encode(b"CONFIG", b"SET", b"maxmemory", b"%d" % used))


def huge(size: int) -> Callable[[int], None]:
    """Make a value of this size, at the least cost for whoever sends it."""
    return lambda port: ask(port, encode(b"SETRANGE", b"huge", b"%d" % (size - 1), b"x"))


def two_strings(port: int) -> None:
    """Set two strings whose common subsequence takes about as long as is allowed."""
    ask(port, encode(b"MSET", b"a", bytes(range(250)) * 16, b"b", bytes(range(249, -1, -1)) * 16))


def kill_crowd(port: int, _seconds: float) -> None:
    """Kill all who came to the crowd's address."""
    ask(port, encode(b"CLIENT", b"KILL", b"LADDR", b"%b:%d" % (CROWD_HOST.encode(), port)))
    time.sleep(SETTLE_SECONDS)


def pause_crowd(port: int, _seconds: float) -> None:
    """Let thousands ask for something during a pause, which ends for all of them at once."""
    crowd = [connect(port) for _ in range(most_connections(CROWD))]
    with connect(port) as operator:
        operator.sendall(encode(b"CLIENT", b"PAUSE", b"2000", b"WRITE"))
        operator.recv(64)
    for client in crowd:
        client.sendall(encode(b"SET", b"k", b"v"))
    for client in crowd:
        client.recv(64)


HUGE = 512 * MEBIBYTE
HALF = encode(b"SET", b"k", b"v" * 100)[:-5]
QUOTES = b"EXISTS " + b"'' " * 20_000 + b"\n"

ATTACKS: dict[str, Attack] = {
    "nothing": Attack(nothing),
    "50 clients ask for 20 MB each and read none": Attack(read_nothing),
    "1000 clients announce 512 MB and send a byte now and then": Attack(write_slowly),
    "thousands of silent clients come, and hang up at once": Attack(crowd),
    "connect and hang up, as fast as it goes": Attack(flood),
    "connect and reset": Attack(lambda port, seconds: flood(port, seconds, reset=True)),
    "HTTP POSTs": Attack(lambda port, seconds: flood(port, seconds, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    "half a request, then gone": Attack(lambda port, seconds: flood(port, seconds, HALF)),
    "pipelines without end: GET": Attack(pouring(b"GET", b"k")),
    "pipelines without end: SET of 1 KiB": Attack(pouring(b"SET", b"k", b"x" * 1024)),
    "pipelines without end: INFO": Attack(pouring(b"INFO")),
    "pipelines without end: COMMAND DOCS": Attack(pouring(b"COMMAND", b"DOCS")),
    "pipelines without end: FLUSHALL": Attack(pouring(b"FLUSHALL")),
    "pipelines without end: AUTH": Attack(pouring(b"AUTH", b"wrong")),
    "pipelines without end: CONFIG SET": Attack(pouring(b"CONFIG", b"SET", b"timeout", b"0")),
    "pipelines without end: LCS of 4096 bytes": Attack(pouring(b"LCS", b"a", b"b"), two_strings),
    "lines of text of 60 KB, all quotes": Attack(lambda port, seconds: pour(port, seconds, QUOTES)),
    "MGET of a million keys": Attack(once(lambda: many_words(b"MGET")), fill),
    "EXISTS of a million keys": Attack(once(lambda: many_words(b"EXISTS")), fill),
    "DEL of a million keys": Attack(once(lambda: many_words(b"DEL")), fill),
    "MSET of 500 000 keys": Attack(once(lambda: many_words(b"MSET", b"value")), fill),
    "SET of 512 MB": Attack(once(lambda: encode(b"SET", b"huge", bytes(HUGE)))),
    "GET of 512 MB": Attack(once(lambda: encode(b"GET", b"huge")), huge(HUGE)),
    "SETRANGE k 536870911 x": Attack(lambda port, _seconds: huge(HUGE)(port)),
    "APPEND to 400 MB": Attack(once(lambda: encode(b"APPEND", b"huge", b"x")), huge(400 * MEBIBYTE)),
    "DEL of 512 MB": Attack(once(lambda: encode(b"DEL", b"huge")), huge(HUGE)),
    "COPY of 512 MB": Attack(once(lambda: encode(b"COPY", b"huge", b"copy")), huge(HUGE)),
    "MOVE of 512 MB": Attack(once(lambda: encode(b"MOVE", b"huge", b"1")), huge(HUGE)),
    "GETRANGE of 512 MB": Attack(once(lambda: encode(b"GETRANGE", b"huge", b"1", b"-1")), huge(HUGE)),
    "a name of a command of 512 MB": Attack(once(lambda: encode(bytes(HUGE)))),
    "an option of 512 MB": Attack(once(lambda: encode(b"SET", b"k", b"v", bytes(HUGE)))),
    "a number of 512 MB": Attack(once(lambda: encode(b"INCRBY", b"k", b"1" * HUGE))),
    "a client's name of 512 MB": Attack(once(lambda: encode(b"CLIENT", b"SETNAME", b"x" * HUGE))),
    "MSET of 300 000 values of 2 KB": Attack(once(lambda: long_values(300_000, b"x" * 2048))),
    "KEYS with a long pattern, and a key of 1 MB": Attack(
        once(lambda: encode(b"KEYS", b"*" + b"?" * 1000 + b"x*")),
        lambda port: ask(port, encode(b"SET", b"k" * MEBIBYTE, b"v")),
    ),
    "SCAN with a pattern, and 2000 keys of 10 KB": Attack(
        once(lambda: encode(b"SCAN", b"0", b"MATCH", b"*" + b"?" * 20 + b"x*", b"COUNT", b"2000")),
        lambda port: ask(port, b"".join(encode(b"SET", b"%05d" % n + b"k" * 10_000, b"v") for n in range(2000))),
    ),
    "a million options of SET": Attack(options(b"EX", b"100", first=(b"SET", b"k", b"v"))),
    "a million sections of INFO": Attack(options(b"memory", first=(b"INFO",))),
    "a million names for COMMAND DOCS": Attack(options(b"get", first=(b"COMMAND", b"DOCS"))),
    "a million patterns for CONFIG GET": Attack(options(b"port", first=(b"CONFIG", b"GET"))),
    "a million words that are no options": Attack(options(b"junk", first=(b"SET", b"k", b"v"))),
    "SET of 100 MB for which 300 000 keys have to go": Attack(
        once(lambda: encode(b"SET", b"huge", bytes(100 * MEBIBYTE))), fill_to_the_limit
    ),
    "CLIENT LIST of thousands": Attack(once(lambda: encode(b"CLIENT", b"LIST")), crowded=True),
    "CLIENT KILL of thousands": Attack(kill_crowd, crowded=True),
    "a pause that ends for thousands": Attack(pause_crowd),
    "INFO with thousands of clients": Attack(once(lambda: encode(b"INFO") * 100), crowded=True),
    **hostile_together.ATTACKS,
}


# ---- measuring


@contextlib.contextmanager
def crowd_around(port: int, wanted: int) -> Iterator[None]:
    """Let so many be connected who say nothing, or as many as there may be."""
    with contextlib.ExitStack() as stack:
        places = [(CROWD_HOST, port)] * min(wanted, most_connections(wanted))
        guests = [stack.enter_context(socket.create_connection(place, 60)) for place in places]
        if guests:
            guests[-1].sendall(PING)
            guests[-1].recv(64)
        yield


def attacked(port: int, attack: Attack, seconds: float) -> None:
    """Attack, from a process of its own, and return when that is over."""
    attacker = multiprocessing.Process(target=attack.run, args=(port, seconds))
    attacker.start()
    attacker.join()


def longest_wait(peer: str, attack: Attack, seconds: float) -> tuple[float, float]:
    """Start a server, attack it; return the longest wait of the other client, and the server's most memory in MiB."""
    with serving(peer, SETTINGS[peer]) as server:
        stays = attack.prepare(server.port)
        with crowd_around(server.port, CROWD if attack.crowded else 0):
            with Prober(server.port, SETTLE_SECONDS, catches_up=False) as prober:
                attacked(server.port, attack, seconds)
            ended = server.process.poll() is not None
        most_mebibytes = math.nan if ended else server.peak_bytes() / MEBIBYTE
        del stays
    return math.nan if ended or not prober.waits_ms else prober.waits_ms[-1], most_mebibytes


TOLD = "longest turn, in seconds of CPU: "
WATCHED = f"""
import signal, sys, time
sys.path.insert(0, sys.argv.pop(1))
import godis
from net import signals, turn
signals.LEFT_ALONE += "SIGUSR1",
begin, end, began, longest = turn.Turn._begin, turn.Turn.end, 0.0, 0.0
def noted_begin(self):
    global began
    began = time.thread_time()
    begin(self)
def noted_end(self):
    global longest
    end(self)
    longest = max(longest, time.thread_time() - began)
def tell(*_):
    global longest
    print("{TOLD}", longest, flush=True)
    longest = 0.0
turn.Turn._begin, turn.Turn.end = noted_begin, noted_end
if "--pool" in sys.argv:
    import pool.network
    begin_in_pool = pool.network.PoolTurn._begin
    pool.network.PoolTurn._begin = lambda self: (noted_begin(self), begin_in_pool(self))
signal.signal(signal.SIGUSR1, tell)
sys.exit(godis.main(sys.argv[1:]))
"""


class WatchedGodis(Godis):
    """Godis that notes how long its turns take."""

    def command(self) -> list[str]:
        """Run it under what notes that."""
        arguments = super().command()[5:]  # behind taskset, its two, Python and the program
        return ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", WATCHED, str(ROOT), *arguments]

    def longest_turn_ms(self) -> float:
        """Say what the longest turn since the last call took of CPU."""
        told = self.stderr().count(TOLD)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.stderr().count(TOLD) > told and self.stderr().endswith("\n"), 60, "it tells")
        told_last: str = self.stderr().rpartition(TOLD)[2].split()[0]
        return 1000 * float(told_last)


def longest_turn(attack: Attack, seconds: float) -> float:
    """Attack a Godis that notes its turns, and return how many ms of CPU the longest took."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-godis-") as directory,
        WatchedGodis(Path(directory), SETTINGS["godis"]) as server,
    ):
        stays = attack.prepare(server.port)
        with crowd_around(server.port, CROWD if attack.crowded else 0):
            time.sleep(SETTLE_SECONDS)
            server.longest_turn_ms()
            attacked(server.port, attack, seconds)
            longest: float = server.longest_turn_ms()
        del stays
        return longest


def turns(report: Report, only: str = "", seconds: float = SECONDS) -> None:
    """Add a table with the longest turn under each attack."""
    report.table("the longest turn, ms of CPU", "Godis")
    for name, attack in ATTACKS.items():
        if only in name:
            longest = longest_turn(attack, seconds)
            floor = FLOOR if name != "nothing" else None
            report.row(name, report.judge(f"longest turn: {name}", longest, floor, f"{longest:.1f} ms"))


def hostile(report: Report, only: str = "", rounds: int = 3, seconds: float = SECONDS) -> None:
    """Add a table with a line for each attack."""
    report.table("the longest wait of a PING, ms: median (worst); MiB", "Godis", "redis-server", "Godis's median")
    for name, attack in ATTACKS.items():
        if only not in name:
            continue
        cells, median = [], {}
        for peer in ("godis", "redis"):
            found = [longest_wait(peer, attack, seconds) for _ in range(rounds)]
            waits = [wait for wait, _ in found]
            median[peer] = statistics.median(waits)
            cells.append(f"{median[peer]:.1f} ({max(waits):.1f}); {max(most for _, most in found):.0f}")
        floor = FLOOR if name != "nothing" else None
        figure = report.judge(f"others wait: {name}", median["godis"], floor, f"{median['godis']:.1f} ms")
        report.row(name, *cells, figure)


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("--only", default="", help="the attacks whose name has this in it")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=SECONDS, help="how long an attack goes on that has no end")
    made.add_argument("--turns", action="store_true", help="the longest turn of Godis, not how long others wait")
    arguments = made.parse_args()
    require_two_cores()
    report = Report("hostile", arguments.output)
    if arguments.turns:
        turns(report, arguments.only, arguments.seconds)
    else:
        hostile(report, arguments.only, arguments.rounds, arguments.seconds)
    report.close()


if __name__ == "__main__":
    main()
