"""What the attacks of `bench.hostile` have in common: clients that send and read, and what an attack is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from servers import HOST, encode

from bench.rig import PING

SETTLE_SECONDS = 0.3
MEBIBYTE = 1 << 20
CROWD = 9000  # or as many as the limit on open files allows


def connect(port: int) -> socket.socket:
    """Connect."""
    return socket.create_connection((HOST, port), 60)


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


def until_time_is_up(seconds: float) -> Callable[[], bool]:
    """Return what says whether the attack goes on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


Act = Callable[[int, float], None]  # on a port, for so many seconds if it has no end


def pour(port: int, seconds: float, wire: bytes, readers: int = 4) -> None:
    """Send the same from some connections, as fast as it is taken, and read all replies."""
    going = until_time_is_up(seconds)

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
        thread.join(seconds + 5)


@dataclass(frozen=True)
class Attack:
    """What is done, what is done before without being measured, and whether it takes place in a crowd."""

    run: Act
    prepare: Callable[[int], object] = lambda port: None  # what it returns is kept until the server ends
    crowded: bool = False


def once(wire: Callable[[], bytes]) -> Act:
    """Make an attack that is one request, or some, made once."""

    def attack(port: int, _seconds: float) -> None:
        with contextlib.suppress(OSError):  # who kills all clients gets no reply
            ask(port, wire())
        time.sleep(SETTLE_SECONDS)  # what is done in slices goes on behind the reply

    return attack


def many_words(name: bytes, value: bytes = b"") -> bytes:
    """Make a request of a million words: keys, or keys and values."""
    if value:
        return encode(name, *(word for number in range(500_000) for word in (b"key:%07d" % number, value)))
    return encode(name, *(b"key:%07d" % number for number in range(1_000_000)))
