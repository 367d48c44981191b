"""Clients of our own: a load that redis-benchmark cannot send (mixes, lines of text), and one that waits beside it.

`Load` is a closed loop: each connection has one pipeline under way, and sends the next when the last is answered. The
pipelines are made before, and of each reply only the length is looked at (the first is compared whole), so that the
client, in Python, costs about as much as redis-benchmark: two system calls a pipeline, and a few bytecodes. Connections
are open before the clock runs: with thousands, redis-benchmark's opening of them would count as the server's work.

Text goes to both servers, since redis-server takes lines, too; it answers them in RESP.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from multiprocessing.connection import Connection
from random import Random
from typing import NamedTuple

from servers import HOST, encode

from bench.rig import PING, key, quantile

REQUESTS = 200_000  # made before; with fewer, the same few keys would be in the processor's caches
ANSWER_SECONDS = 30
RECEIVE_BYTES = 1 << 18
PROBE_SECONDS = 0.005


class Batch(NamedTuple):
    """A pipeline, and the reply that it must get."""

    request: bytes
    reply: bytes


def request_and_reply(what: str, name: str, value: str, text: bool, text_reply: bool) -> Batch:
    """Make one request in the dialect that is asked for, and the reply in the one that the server answers with."""
    words = {"ping": ["PING"], "set": ["SET", name, value], "get": ["GET", name]}[what]
    request = " ".join(words).encode() + b"\r\n" if text else encode(*words)
    if text_reply:
        reply = {"ping": "+PONG", "set": "OK", "get": value}[what]
    else:
        reply = {"ping": "+PONG", "set": "+OK", "get": f"${len(value)}\r\n{value}"}[what]
    return Batch(request, reply.encode() + b"\r\n")


def batches(test: str, depth: int, value: str, *, keys: int, text_reply: bool, requests: int) -> list[Batch]:
    """Make pipelines of a test, `get`, `text-set` or the like; `mix` is nine GETs to a SET."""
    random = Random(1)
    dialect, _, what = test.rpartition("-")

    def one() -> Batch:
        chosen = ("set" if random.random() < 0.1 else "get") if what == "mix" else what
        name = key(random.randrange(keys))
        return request_and_reply(chosen, name, value, dialect == "text", dialect == "text" and text_reply)

    made = []
    for _ in range(max(1, requests // depth)):
        parts = [one() for _ in range(depth)]
        made.append(Batch(b"".join(part.request for part in parts), b"".join(part.reply for part in parts)))
    return made


class Load:
    """Connections that each have a pipeline under way."""

    def __init__(self, sockets: Sequence[socket.socket], pipelines: Sequence[Batch]) -> None:
        self.sockets = {sock.fileno(): sock for sock in sockets}
        self.endless: Iterator[Batch] = cycle(pipelines)
        self.poll = select.epoll()
        for fd, sock in self.sockets.items():
            sock.settimeout(ANSWER_SECONDS)
            self.poll.register(fd, select.EPOLLIN)
        self._check(sockets[0], pipelines[0])

    def _check(self, sock: socket.socket, batch: Batch) -> None:
        """Compare one reply whole: of the others only the length is looked at."""
        sock.sendall(batch.request)
        reply = b""
        while len(reply) < len(batch.reply):
            reply += sock.recv(RECEIVE_BYTES)
        if reply != batch.reply:
            raise SystemExit(f"asked {batch.request[:100]!r}: {reply[:100]!r} instead of {batch.reply[:100]!r}")

    def run(self, count: int) -> float:
        """Send so many pipelines; return how many a second were answered."""
        missing: dict[int, int] = {}
        todo = islice(self.endless, count)
        buffer, sockets, wait = bytearray(RECEIVE_BYTES), self.sockets, self.poll.poll
        start = time.perf_counter()
        for (fd, sock), batch in zip(sockets.items(), islice(todo, len(sockets)), strict=False):
            missing[fd] = len(batch.reply)
            sock.sendall(batch.request)
        while missing:
            ready = wait(ANSWER_SECONDS)
            if not ready:
                raise SystemExit(f"no answer for {ANSWER_SECONDS} s; {sum(missing.values())} bytes missing")
            for fd, _ in ready:
                sock = sockets[fd]
                missing[fd] -= sock.recv_into(buffer)
                if missing[fd] <= 0:
                    following = next(todo, None)
                    if following is None:
                        del missing[fd]
                    else:
                        missing[fd] = len(following.reply)
                        sock.sendall(following.request)
        return count / (time.perf_counter() - start)


class Prober:
    """A process that sends a PING, or another request, again and again while something goes on: how long do they wait?

    What is due is sent whether or not the last was answered in time, and its wait counts from when it was due:
    so a stall counts for each that it delays (no coordinated omission). One that does not catch up asks anew when it
    was answered, so that its waits are those of single requests. It goes before all else on its core, where the system
    allows that, so that a client beside it does not count as the server's stall.
    """

    def __init__(self, port: int, settle_seconds: float, request: bytes = PING, catches_up: bool = True) -> None:
        self.port = port
        self.request = request
        self.catches_up = catches_up
        self.settle_seconds = settle_seconds
        self.pipe, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self._probe, args=(there,), daemon=True)
        self.waits_ms: list[float] = []

    def __enter__(self) -> Prober:
        self.process.start()
        time.sleep(self.settle_seconds)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(self.settle_seconds)  # what is done in slices goes on behind the answer
        with contextlib.suppress(OSError):  # it has ended, and its waits lie in the pipe
            self.pipe.send(None)
        self.waits_ms = sorted(self.pipe.recv())
        self.process.join()

    def _probe(self, pipe: Connection) -> None:
        self.pipe.close()  # so that this end hears when the other process is gone
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        waits: list[float] = []
        with contextlib.suppress(ConnectionError):  # the server ended, or closed it: no more waits
            self._ping(pipe, waits)
        with contextlib.suppress(BrokenPipeError):
            pipe.send(waits)

    def _ping(self, pipe: Connection, waits: list[float]) -> None:
        with socket.create_connection((HOST, self.port), ANSWER_SECONDS) as connection:
            due = time.monotonic()
            answer = b"none yet"
            while answer and not (waits and pipe.poll()):  # at least once, however short the time and late the start
                due += PROBE_SECONDS
                if not self.catches_up:
                    due = max(due, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
                with contextlib.suppress(TimeoutError):  # then it has waited that long
                    connection.sendall(self.request)
                    answer = connection.recv(64)
                waits.append((time.monotonic() - due) * 1000)

    def shown(self) -> str:
        """Show the median, the 99.9th percentile and the longest wait."""
        waits = self.waits_ms
        return f"{quantile(waits, 0.5):.2f} / {quantile(waits, 0.999):.1f} / {waits[-1]:.1f}"
