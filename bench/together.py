"""Clients that act together in `bench.compare`: subscribers, transactions, and two that play ping-pong.

publish_1, publish_100    redis-benchmark publishes; so many subscribers, of a process of their own, read all of it
multi_5                   MULTI, five commands, EXEC: sent at once, counted as one
blpop                     two clients: each waits in BLPOP for what the other one pushes; there and back counts as one
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from servers import encode

from bench.load import RECEIVE_BYTES, Batch, Load
from bench.rig import Floor, Server, key

FLOOR = Floor(0.6)
CHANNEL = "channel"
PUBLISH = ["PUBLISH", CHANNEL, "x" * 64]  # what redis-benchmark sends
KEYS = 10_000
BALL_BYTES = len(b"*2\r\n$8\r\nfor:0000\r\n$1\r\nx\r\n")

Client = Callable[[int], float]  # sends so many requests, and returns how many a second were answered


@contextlib.contextmanager
def subscribers(server: Server, count: int) -> Iterator[None]:
    """Let so many clients read what is published."""
    with server.connections(count) as sockets:
        for sock in sockets:
            sock.sendall(encode("SUBSCRIBE", CHANNEL))
            sock.recv(RECEIVE_BYTES)
        reader = multiprocessing.Process(target=_read_all, args=(sockets,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            reader.terminate()
            reader.join()


def _read_all(sockets: list[socket.socket]) -> None:
    poll, buffer = select.epoll(), bytearray(RECEIVE_BYTES)
    by_fd = {sock.fileno(): sock for sock in sockets}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            by_fd[fd].recv_into(buffer)


@contextlib.contextmanager
def transactions(server: Server, depth: int, clients: int, size_bytes: int) -> Iterator[Client]:
    """Send transactions of three SETs, and two GETs of the same keys, `depth` of them in a pipeline."""
    value = "x" * size_bytes
    queued, got = b"+OK\r\n" + b"+QUEUED\r\n" * 5, b"$%d\r\n%b\r\n" % (size_bytes, value.encode())
    replies = queued + b"*5\r\n" + b"+OK\r\n" * 3 + got * 2
    made = []
    for number in range(KEYS // 3):
        names = [key(3 * number + each) for each in range(3)]
        requests = [["SET", name, value] for name in names] + [["GET", name] for name in names[:2]]
        made.append(b"".join(encode(*words) for words in [["MULTI"], *requests, ["EXEC"]]))
    starts = range(0, len(made) - depth + 1, depth)
    pipelines = [Batch(b"".join(made[at : at + depth]), replies * depth) for at in starts]
    with server.connections(clients) as sockets:
        load = Load(sockets, pipelines)
        yield lambda requests: load.run(max(1, requests // depth)) * depth


@contextlib.contextmanager
def ping_pong(server: Server, _depth: int, clients: int, _size_bytes: int) -> Iterator[Client]:
    """Let pairs of clients play."""
    with server.connections(clients) as sockets:
        for number, sock in enumerate(sockets):
            sock.sendall(_wait(number))
        yield partial(_play, sockets, [BALL_BYTES] * clients)


def _wait(number: int) -> bytes:
    return encode("BLPOP", f"for:{number:04}", 0)


def _play(sockets: list[socket.socket], missing: list[int], count: int) -> float:
    """Play so many rounds; all pairs at once. Each client waits already; `missing`: for how many bytes."""
    numbers = {sock.fileno(): number for number, sock in enumerate(sockets)}
    serves = [encode("RPUSH", f"for:{number ^ 1:04}", "x") for number in range(len(sockets))]
    hits = [push + _wait(number) for number, push in enumerate(serves)]
    poll, buffer = select.epoll(), bytearray(RECEIVE_BYTES)
    for fd in numbers:
        poll.register(fd, select.EPOLLIN)
    with contextlib.closing(poll), socket.create_connection(sockets[0].getpeername()) as judge:
        playing, left = len(sockets) // 2, count
        start = time.perf_counter()
        for number in range(0, len(sockets), 2):
            judge.sendall(serves[number])  # it pushes for the odd one
        while playing:
            for fd, _ in poll.poll():
                number = numbers[fd]
                missing[number] -= sockets[number].recv_into(buffer)
                if missing[number]:
                    continue
                if number % 2 == 0:
                    left -= 1
                    if left < playing:  # this pair ends here, and waits again
                        playing -= 1
                        sockets[number].sendall(_wait(number))
                        missing[number] = BALL_BYTES
                        continue
                sockets[number].sendall(hits[number])
                missing[number] = len(b":1\r\n") + BALL_BYTES
        return count / (time.perf_counter() - start)


SUBSCRIBERS = {"publish_1": 1, "publish_100": 100}
CLIENTS: dict[str, Callable[[Server, int, int, int], contextlib.AbstractContextManager[Client]]] = {
    "multi_5": transactions,
    "blpop": ping_pong,
}
DEPTHS = {"publish_1": (1, 16), "publish_100": (1, 16), "multi_5": (1,), "blpop": (1,)}
PLAYERS = 2
