"""`kill -9` under load loses nothing that was acknowledged, whatever the fsync policy.

Each client writes to keys of its own, so what it must find again is simple to say: its requests are applied in order,
so after the restart its keys hold what they held after some number of its requests, no fewer than were acknowledged
and no more than were sent. The clients go on from there, and are killed again.

The process is killed, not the machine: what was written to the file survives even where it was not synced yet.
GODIS_SOAK=n makes n rounds of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from random import Random

import pytest
from servers import GodisProcess, encode, parse, wait_until

Request = list[bytes]
State = dict[bytes, tuple[bytes, bool]]  # key -> value, whether it has a deadline

CLIENTS = 8
ROUNDS = int(os.environ.get("GODIS_SOAK", "3"))


class Writer:
    """One client: what it asked for, what was acknowledged, and what its keys must hold after each request."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.random = Random(index)
        self.requests: list[Request] = []
        self.state: State = {}  # after the first `settled` requests, which were all found again
        self.settled = 0
        self.acknowledged = 0

    def key(self) -> bytes:
        return b"%d:%d" % (self.index, self.random.randrange(5))

    def next_request(self) -> Request:
        """Make up a request, numbered so that no two states are alike."""
        value = b"%d" % len(self.requests)
        kinds = [
            [b"SET", self.key(), value],
            [b"SET", self.key(), value, b"EX", b"5000"],
            [b"SET", self.key(), value * 300, b"KEEPTTL"],
            [b"APPEND", self.key(), b"," + value],
            [b"MSET", self.key(), value, self.key(), value + b"0"],
            [b"DEL", self.key(), self.key()],
            [b"PERSIST", self.key()],
            [b"EXPIRE", self.key(), b"6000"],
        ]
        return self.random.choice(kinds)

    def write(self, godis: GodisProcess) -> None:
        """Write in pipelines of random depth until the server is gone."""
        with contextlib.suppress(OSError), godis.raw() as raw:
            while True:
                batch = [self.next_request() for _ in range(self.random.randint(1, 20))]
                self.requests += batch
                raw.send(b"".join(encode(*request) for request in batch))
                for _ in batch:
                    assert not raw.read_reply().startswith(b"-")
                    self.acknowledged += 1

    def settle(self, found: State) -> bool:
        """Find the number of requests after which the keys held what was found, and go on from there."""
        state = dict(self.state)
        for count in range(self.settled, len(self.requests) + 1):
            if count > self.settled:
                apply(state, self.requests[count - 1])
            if count >= self.acknowledged and state == found:
                del self.requests[count:]
                self.state, self.settled, self.acknowledged = state, count, count
                return True
        return False


def apply(state: State, request: Request) -> None:
    """Do to a state what a request does to the keyspace, with the default TTL on."""
    match request:
        case [b"SET", key, value, b"KEEPTTL"]:
            state[key] = (value, state.get(key, (b"", False))[1])
        case [b"SET", key, value, *_]:
            state[key] = (value, True)
        case [b"MSET", first, one, second, other]:
            state[first] = (one, True)
            state[second] = (other, True)
        case [b"APPEND", key, piece]:
            value, has_deadline = state.get(key, (b"", False))
            state[key] = (value + piece, has_deadline)
        case [b"DEL", *keys]:
            for key in keys:
                state.pop(key, None)
        case [(b"PERSIST" | b"EXPIRE") as name, key, *_] if key in state:
            state[key] = (state[key][0], name == b"EXPIRE")


def keyspaces(godis: GodisProcess) -> dict[int, State]:
    """Return what the server holds, by client."""
    found: dict[int, State] = {index: {} for index in range(CLIENTS)}
    with godis.raw() as raw:
        for key in parse(raw.ask("KEYS", "*")):
            deadline = parse(raw.ask("PTTL", key)) >= 0
            found[int(key.split(b":")[0])][key] = (parse(raw.ask("GET", key)), deadline)
    return found


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_a_killed_server_finds_all_that_it_acknowledged(tmp_path: Path, policy: str) -> None:
    writers = [Writer(index) for index in range(CLIENTS)]
    random = Random(policy)

    goal = 0

    def acknowledged() -> int:
        return sum(writer.acknowledged for writer in writers)

    def enough() -> bool:
        return acknowledged() >= goal

    with GodisProcess(tmp_path, "--appendfsync", policy) as godis:
        for _ in range(ROUNDS):
            goal = acknowledged() + random.randint(200, 2000)
            threads = [threading.Thread(target=writer.write, args=(godis,)) for writer in writers]
            for thread in threads:
                thread.start()
            wait_until(enough, 30, "writes are acknowledged")
            godis.kill9()
            for thread in threads:
                thread.join()
            godis.start()
            found = keyspaces(godis)
            lost = [writer.index for writer in writers if not writer.settle(found[writer.index])]
            assert not lost, f"clients {lost} of {tmp_path}"
        assert godis.terminate() == 0


def test_what_was_asked_and_not_answered_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A request of many keys is one effect: a kill leaves all of them or none."""
    keys = [f"k{number}" for number in range(500)]
    with GodisProcess(tmp_path) as godis:
        for generation in range(5):
            with godis.raw() as raw:
                assert raw.ask("MSET", *(word for key in keys for word in (key, generation))) == b"+OK\r\n"
                raw.send(encode("MSET", *(word for key in keys for word in (key, generation + 1))))
                godis.kill9()
            godis.start()
            with godis.client() as client:
                assert set(client.mget(keys)) in ({b"%d" % generation}, {b"%d" % (generation + 1)})
