"""How long other clients wait while one does something large: the longest PING, Godis beside redis-server.

    python bench/stalls.py [KEYS]

A process of its own sends a PING every five milliseconds, whether or not the last was answered in time, and notes
how long after its due time each answer came: so a stall counts for every PING that it delays (no coordinated
omission). Shown are the median, the 99.9th percentile and the maximum, in milliseconds, for each case; "nothing" is
the floor, and on a shared machine that floor is what its neighbours leave.
"""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
KEYS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
BATCH = 1000
PING = b"*1\r\n$4\r\nPING\r\n"


def connect(port: int) -> socket.socket:
    """Connect, waiting for the server to come up."""
    for _ in range(200):
        try:
            return socket.create_connection((HOST, port), 60)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise ConnectionRefusedError(f"nobody listens on port {port}")


def probe(port: int, pipe: Connection) -> None:
    """Ping until told to stop, and send the delays in ms back."""
    delays = []
    with connect(port) as connection:
        due = time.monotonic()
        while not pipe.poll():
            due += 0.005
            time.sleep(max(0.0, due - time.monotonic()))
            connection.sendall(PING)
            connection.recv(64)
            delays.append((time.monotonic() - due) * 1000)
    pipe.send(delays)


def ask(port: int, *words: bytes) -> None:
    """Send one request and wait until the beginning of its reply is there, and then for the rest."""
    with connect(port) as connection:
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words) + PING)
        end = b""
        while not end.endswith(b"+PONG\r\n"):
            end = end[-16:] + connection.recv(1 << 20)


def fill(port: int, life_ms: bytes) -> None:
    """Set all keys in pipelines, with deadlines in one and the same millisecond."""
    with connect(port) as connection, connection.makefile("rb") as replies:
        for start in range(0, KEYS, BATCH):
            connection.sendall(
                b"".join(
                    b"*5\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$5\r\nvalue\r\n$4\r\nPXAT\r\n$%d\r\n%b\r\n"
                    % (number, len(life_ms), life_ms)
                    for number in range(start, start + BATCH)
                )
            )
            for _ in range(BATCH):
                replies.readline()


def far() -> bytes:
    """Return a deadline an hour away."""
    return b"%d" % int((time.time() + 3600) * 1000)


def expire_all(port: int) -> None:
    """Wait until every key has expired and is gone: the counter says so at no cost, a count of keys would not."""
    with connect(port) as connection:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection.sendall(b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\n")
            if b"expired_keys:%d\r\n" % KEYS in connection.recv(4096):
                return
            time.sleep(0.05)


def pipeline(port: int) -> None:
    """Send as many GETs as there are keys in one go, and read the answers."""
    with connect(port) as connection:
        request = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n"
        sender = multiprocessing.Process(target=connection.sendall, args=(request * KEYS,))
        sender.start()
        answers = 0
        while answers < KEYS:
            answers += connection.recv(1 << 20).count(b"$")
        sender.join()


CASES: dict[str, tuple[Callable[[], bytes] | None, Callable[[int], None]]] = {
    "nothing": (None, lambda port: time.sleep(2)),
    "a pipeline of as many GETs": (far, pipeline),
    "KEYS *": (far, lambda port: ask(port, b"KEYS", b"*")),
    "FLUSHALL": (far, lambda port: ask(port, b"FLUSHALL", b"ASYNC")),
    "all keys expire at once": (lambda: b"%d" % int((time.time() + KEYS / 40_000 + 2) * 1000), expire_all),
}


def measure(command: list[str], port: int) -> dict[str, str]:
    """Run every case against a server, and return the figures."""
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for name, (life, act) in CASES.items():
                if life is not None:
                    fill(port, life())
                here, there = multiprocessing.Pipe()
                prober = multiprocessing.Process(target=probe, args=(port, there))
                prober.start()
                time.sleep(0.5)
                act(port)
                time.sleep(1)  # what is done in slices goes on behind the answer
                here.send(None)
                delays = here.recv()
                prober.join()
                quantiles = statistics.quantiles(delays, n=1000)
                figures[name] = f"{statistics.median(delays):.2f} / {quantiles[998]:.1f} / {max(delays):.1f}"
                ask(port, b"FLUSHALL")
        finally:
            server.kill()
            server.wait()
    return figures


def main() -> None:
    """Measure both and print the table."""
    godis = measure([sys.executable, str(ROOT / "godis.py"), "--port", "7421"], 7421)
    redis_server = shutil.which("redis-server") or "redis-server"
    redis = measure([redis_server, "--port", "7422", "--save", "", "--appendonly", "yes"], 7422)
    print(f"| {KEYS} keys: median / p99.9 / maximum, ms | Godis | redis-server |\n|---|---:|---:|")
    for name in CASES:
        print(f"| {name} | {godis[name]} | {redis[name]} |")


if __name__ == "__main__":
    main()
