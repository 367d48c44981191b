"""How long a well-behaved client waits while others attack: the longest PING in ms, Godis beside redis-server.

    python bench/hostile.py [--turns] [PART OF AN ATTACK'S NAME]

The server has a core for itself; on the other one runs the attack, and a process that sends a PING every five
milliseconds, or as soon as the last one is answered. This one goes before all else (SCHED_FIFO, which needs root), the
server before most (a server of SCHED_FIFO that is busy would be stopped for 50 ms a second by the kernel). Both servers
keep a log (everysec) and get the same attack, each on a fresh process. "Nothing" is the floor, which neighbours leave.
Each attack is made three times (or so often as the environment's ROUNDS says); shown are the median of the longest
waits, and the worst. `nan`: the server ended; `inf`: it was silent for a minute.

With --turns it is Godis alone, and the CPU time that its longest turn took, in which nobody else is served: it can be
measured on a busy machine, too, though caches that others use make it longer.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = 2.0
MEBIBYTE = 1 << 20
CROWD = min(9000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
PING = b"*1\r\n$4\r\nPING\r\n"


def request(*words: bytes) -> bytes:
    """Make a RESP request."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def connect(port: int) -> socket.socket:
    """Connect, waiting for the server to come up."""
    for _ in range(400):
        try:
            return socket.create_connection((HOST, port), 60)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise ConnectionRefusedError(f"nobody listens on port {port}")


def ask(port: int, wire: bytes) -> None:
    """Send requests, and read until the reply of a PING behind them is there."""
    with connect(port) as connection:
        sender = threading.Thread(target=connection.sendall, args=(wire + PING,))
        sender.start()
        end = b""
        while not end.endswith(b"+PONG\r\n"):
            chunk = connection.recv(MEBIBYTE)
            if not chunk:
                break
            end = (end + chunk)[-16:]
        sender.join()


def until_time_is_up() -> Callable[[], bool]:
    """Return what says whether the attack goes on."""
    end = time.monotonic() + SECONDS
    return lambda: time.monotonic() < end


# ---- attacks


def nothing(port: int) -> None:
    """Leave it alone."""
    time.sleep(SECONDS)


def pour(port: int, wire: bytes, readers: int = 4) -> None:
    """Send the same from some connections, as fast as it is taken, and read all replies."""
    going = until_time_is_up()

    def run() -> None:
        with contextlib.suppress(OSError), connect(port) as connection:

            def read() -> None:
                with contextlib.suppress(OSError):
                    while connection.recv(MEBIBYTE):
                        pass

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            while going():
                connection.sendall(wire)
            connection.shutdown(socket.SHUT_RDWR)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 5)


def pouring(*words: bytes) -> Callable[[int], None]:
    """Make an attack that is one request without end."""
    wire = request(*words)
    return lambda port: pour(port, wire * (1 + 65536 // len(wire)))


def read_nothing(port: int) -> None:
    """Ask for twenty megabytes on each of 50 connections, and read none of it.

    Of more, redis-server would fill the machine's memory: it has no limit on them unless it is told one.
    """
    ask(port, request(b"SET", b"big", b"x" * MEBIBYTE))
    connections = [connect(port) for _ in range(50)]
    for connection in connections:
        connection.sendall(request(b"GET", b"big") * 20)
    time.sleep(SECONDS)


def write_slowly(port: int) -> None:
    """Announce 512 MB on many connections, and send a byte now and then."""
    connections = [connect(port) for _ in range(min(1000, CROWD))]
    for connection in connections:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
    going = until_time_is_up()
    while going():
        for connection in connections:
            connection.send(b"x")


def crowd(port: int) -> None:
    """Connect thousands, which say nothing, and hang up on all of them at once."""
    connections = [connect(port) for _ in range(CROWD)]
    time.sleep(0.5)
    for connection in connections:
        connection.close()
    time.sleep(0.5)


def flood(port: int, first: bytes = b"", reset: bool = False) -> None:
    """Connect and hang up, as fast as it goes."""
    going = until_time_is_up()
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


@dataclass(frozen=True)
class Attack:
    """What is done, what is done before without being measured, and whether it takes place in a crowd."""

    run: Callable[[int], None]
    prepare: Callable[[int], None] = lambda port: None
    crowded: bool = False


def once(wire: Callable[[], bytes]) -> Callable[[int], None]:
    """Make an attack that is one request, or some, made once."""

    def attack(port: int) -> None:
        with contextlib.suppress(OSError):  # who kills all clients gets no reply
            ask(port, wire())
        time.sleep(0.5)  # what is done in slices goes on behind the reply

    return attack


def many_words(name: bytes, value: bytes = b"") -> bytes:
    """Make a request of a million words: keys, or keys and values."""
    if value:
        return request(name, *(word for number in range(500_000) for word in (b"key:%07d" % number, value)))
    return request(name, *(b"key:%07d" % number for number in range(1_000_000)))


def fill(port: int) -> None:
    """Set a million keys."""
    for start in range(0, 1_000_000, 100_000):
        ask(port, b"".join(request(b"SET", b"key:%07d" % number, b"v") for number in range(start, start + 100_000)))


def huge(size: int) -> Callable[[int], None]:
    """Make a value of this size, at the least cost for whoever sends it."""
    return lambda port: ask(port, request(b"SETRANGE", b"huge", b"%d" % (size - 1), b"x"))


def two_strings(port: int) -> None:
    """Set two strings whose common subsequence takes about as long as is allowed."""
    ask(port, request(b"MSET", b"a", bytes(range(250)) * 44, b"b", bytes(range(249, -1, -1)) * 44))


HUGE = 512 * MEBIBYTE

ATTACKS: dict[str, Attack] = {
    "nothing": Attack(nothing),
    "50 clients ask for 20 MB each and read none": Attack(read_nothing),
    "1000 clients announce 512 MB and send a byte now and then": Attack(write_slowly),
    f"{CROWD} silent clients come, and hang up at once": Attack(crowd),
    "connect and hang up, as fast as it goes": Attack(flood),
    "connect and reset": Attack(lambda port: flood(port, reset=True)),
    "HTTP POSTs": Attack(lambda port: flood(port, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    "half a request, then gone": Attack(lambda port: flood(port, request(b"SET", b"k", b"v" * 100)[:-5])),
    "pipelines without end: GET": Attack(pouring(b"GET", b"k")),
    "pipelines without end: SET of 1 KiB": Attack(pouring(b"SET", b"k", b"x" * 1024)),
    "pipelines without end: INFO": Attack(pouring(b"INFO")),
    "pipelines without end: COMMAND DOCS": Attack(pouring(b"COMMAND", b"DOCS")),
    "pipelines without end: FLUSHALL": Attack(pouring(b"FLUSHALL")),
    "pipelines without end: AUTH": Attack(pouring(b"AUTH", b"wrong")),
    "pipelines without end: CONFIG SET": Attack(pouring(b"CONFIG", b"SET", b"timeout", b"0")),
    "pipelines without end: LCS of 11 000 bytes": Attack(pouring(b"LCS", b"a", b"b"), two_strings),
    "lines of text of 60 KB, all quotes": Attack(lambda port: pour(port, b"EXISTS " + b"'' " * 20_000 + b"\n")),
    "MGET of a million keys": Attack(once(lambda: many_words(b"MGET")), fill),
    "EXISTS of a million keys": Attack(once(lambda: many_words(b"EXISTS")), fill),
    "DEL of a million keys": Attack(once(lambda: many_words(b"DEL")), fill),
    "MSET of 500 000 keys": Attack(once(lambda: many_words(b"MSET", b"value")), fill),
    "SET of 512 MB": Attack(once(lambda: request(b"SET", b"huge", bytes(HUGE)))),
    "GET of 512 MB": Attack(once(lambda: request(b"GET", b"huge")), huge(HUGE)),
    "SETRANGE k 536870911 x": Attack(huge(HUGE)),
    "APPEND to 400 MB": Attack(once(lambda: request(b"APPEND", b"huge", b"x")), huge(400 * MEBIBYTE)),
    "DEL of 512 MB": Attack(once(lambda: request(b"DEL", b"huge")), huge(HUGE)),
    f"CLIENT LIST of {CROWD} clients": Attack(once(lambda: request(b"CLIENT", b"LIST")), crowded=True),
    f"CLIENT KILL of {CROWD} clients": Attack(
        once(lambda: request(b"CLIENT", b"KILL", b"TYPE", b"normal")), crowded=True
    ),
    f"INFO with {CROWD} clients": Attack(once(lambda: request(b"INFO") * 100), crowded=True),
}


# ---- measuring


def probe(port: int, pipe: Connection) -> None:
    """Ping until told to stop, and send the longest wait in ms back."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    longest = 0.0
    with connect(port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pipe.send(connection.getsockname()[1])
        due = time.monotonic()
        while not pipe.poll():
            due = max(due + 0.005, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            connection.sendall(PING)
            try:
                if not connection.recv(64):
                    break
            except TimeoutError:  # a minute
                longest = float("inf")
                break
            longest = max(longest, (time.monotonic() - due) * 1000)
    pipe.send(longest)


def longest_wait(command: list[str], port: int, attack: Attack) -> float:
    """Start a server, attack it, and return the longest wait of the other client."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("GODIS_BENCH_DIR")) as directory:
        server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.sched_setaffinity(server.pid, {0})
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, server.pid, -20)
        try:
            ask(port, PING)
            attack.prepare(port)
            here, there = multiprocessing.Pipe()
            prober = multiprocessing.Process(target=probe, args=(port, there))
            guests = [connect(port) for _ in range(CROWD if attack.crowded else 0)]
            time.sleep(0.5 if not guests else 2)
            prober.start()
            here.recv()
            attacker = multiprocessing.Process(target=attack.run, args=(port,))
            attacker.start()
            attacker.join()
            if server.poll() is not None:
                return float("nan")
            with contextlib.suppress(OSError):
                here.send(None)
            longest = float(here.recv())
            prober.join()
            for guest in guests:
                guest.close()
            return longest
        finally:
            server.kill()
            server.wait()


WATCHED = """
import signal, sys, time
sys.path.insert(0, sys.argv.pop(1))
import godis, turn
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
    print(longest * 1000, flush=True)
    longest = 0.0
turn.Turn._begin, turn.Turn.end = noted_begin, noted_end
signal.signal(signal.SIGUSR1, tell)
sys.exit(godis.main(sys.argv[1:]))
"""


def longest_turn(port: int, attack: Attack) -> float:
    """Attack a Godis that notes its turns, and return how many ms of CPU the longest took."""
    command = [sys.executable, "-c", WATCHED, str(ROOT), "--port", str(port)]
    with tempfile.TemporaryDirectory(dir=os.environ.get("GODIS_BENCH_DIR")) as directory:
        server = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert server.stdout
        try:
            ask(port, PING)
            attack.prepare(port)
            guests = [connect(port) for _ in range(CROWD if attack.crowded else 0)]
            time.sleep(0.5)
            server.send_signal(signal.SIGUSR1)
            server.stdout.readline()
            attacker = multiprocessing.Process(target=attack.run, args=(port,))
            attacker.start()
            attacker.join()
            server.send_signal(signal.SIGUSR1)
            for guest in guests:
                guest.close()
            return float(server.stdout.readline() or "nan")
        finally:
            server.kill()
            server.wait()


def show_turns(chosen: str) -> None:
    """Print the longest turn of each attack."""
    print("| the longest turn, ms of CPU | |\n|---|---:|", flush=True)
    for number, (name, attack) in enumerate(ATTACKS.items()):
        if chosen in name:
            print(f"| {name} | {longest_turn(7501 + number, attack):.1f} |", flush=True)


def main() -> None:
    """Measure both and print the table."""
    words = [word for word in sys.argv[1:] if word != "--turns"]
    chosen = words[0] if words else ""
    if "--turns" in sys.argv:
        show_turns(chosen)
        return
    os.sched_setaffinity(0, {1})
    redis_server = shutil.which("redis-server") or "redis-server"
    port = 7431
    print("| the longest wait of a PING, ms: median (worst) | Godis | redis-server |\n|---|---:|---:|", flush=True)
    for name, attack in ATTACKS.items():
        if chosen not in name:
            continue
        figures: list[str] = []
        commands = (
            [sys.executable, str(ROOT / "godis.py"), "--port"],
            [redis_server, "--save", "", "--appendonly", "yes", "--port"],
        )
        for command in commands:
            waits = []
            for _ in range(ROUNDS):
                port += 1
                waits.append(longest_wait([*command, str(port)], port, attack))
            figures.append(f"{statistics.median(waits):.1f} ({max(waits):.1f})")
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
