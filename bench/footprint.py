"""What Godis and redis-server take when nothing happens: memory a key, memory a connection, CPU while idle.

    python bench/footprint.py

Both hold a million keys of 16 bytes with values of 64 bytes and a TTL of an hour, and nothing else; then both have as
many idle connections as the limit on open files allows, 9 900 at the most. Memory is the resident set of the process,
after less before, by the number. CPU is the share of one core over five seconds.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
KEYS, BATCH = 1_000_000, 1000
MOST_CONNECTIONS = 9900
IDLE_SECONDS = 5


def resident_bytes(pid: int) -> int:
    """Read the resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_seconds(pid: int) -> float:
    """Read the CPU time used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_share(pid: int) -> float:
    """Measure the share of a core that an idle process takes."""
    before = cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / IDLE_SECONDS


def connect(port: int) -> socket.socket:
    """Connect, and wait for the answer to a PING, so that the connection is really there."""
    for _ in range(200):
        try:
            connection = socket.create_connection((HOST, port), 10)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    else:
        raise ConnectionRefusedError(f"nobody listens on port {port}")
    connection.sendall(b"*1\r\n$4\r\nPING\r\n")
    connection.recv(64)
    return connection


def fill(port: int) -> None:
    """Set a million keys."""
    with connect(port) as connection, connection.makefile("rb") as replies:
        for start in range(0, KEYS, BATCH):
            connection.sendall(
                b"".join(
                    b"*5\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%b\r\n$2\r\nEX\r\n$4\r\n3600\r\n"
                    % (number, b"%064d" % number)
                    for number in range(start, start + BATCH)
                )
            )
            for _ in range(BATCH):
                replies.readline()


def measure(name: str, command: list[str], port: int) -> None:
    """Start a server, measure it, print a line of the table."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(MOST_CONNECTIONS, files - 200)
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(command, cwd=directory, stdout=nowhere, stderr=nowhere)
        try:
            connect(port).close()
            idle = idle_share(process.pid)
            before = resident_bytes(process.pid)
            connections = [connect(port) for _ in range(count)]
            a_connection = (resident_bytes(process.pid) - before) / count
            idle_connected = idle_share(process.pid)
            for connection in connections:
                connection.close()
            before = resident_bytes(process.pid)
            fill(port)
            a_key = (resident_bytes(process.pid) - before) / KEYS
        finally:
            process.kill()
            process.wait()
    print(
        f"| {name} | {a_key:.0f} B | {a_connection / 1024:.1f} KiB | {idle:.1%} | {idle_connected:.1%} ({count}) |",
        flush=True,
    )


def main() -> None:
    """Measure both."""
    print("| | a key | an idle connection | CPU idle | CPU with idle connections |\n|---|---:|---:|---:|---:|")
    godis = [sys.executable, str(ROOT / "godis.py"), "--port", "7411", "--no-log"]
    redis = [shutil.which("redis-server") or "redis-server", "--port", "7412", "--save", "", "--appendonly", "no"]
    measure("Godis", godis, 7411)
    measure("redis-server", redis, 7412)


if __name__ == "__main__":
    main()
