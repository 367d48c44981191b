"""Clients that record what was acknowledged, and judge whether what is found after a restart can be so.

It owns what a client asks for, and the model of what its keys then hold. It knows nothing of how a server is ended.

Each client has a database of its own. Its requests are applied in order, so after a restart its keys hold what they
held after some number of its requests: no fewer than were acknowledged, no more than were sent.

    requests       1  2  3  4  5  6  7  8
                         |        |     +- sent: at most these
                         |        +- acknowledged: at least these
                         +- found to be there by the last look; `state` is what was found

The server reads its clock between a request and its reply. So a deadline is known as a range: a key may be missing
once the earliest has passed, and must not have a later end than the latest.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from math import inf
from random import Random
from time import time

from servers import GodisProcess, Raw, encode, parse

DEFAULT_TTL_MS = 6 * 3600 * 1000
SLACK_MS = 500  # the clock of a turn may be read a little before the request came

Request = list[bytes]
Found = dict[bytes, tuple[bytes, float]]  # key -> value, deadline (inf: none)
Held = tuple[bytes, float, float]  # value, earliest and latest deadline
State = dict[bytes, Held]


@dataclass
class Sent:
    """A request, and the range of time in which the server executed it."""

    request: Request
    sent_ms: float
    answered_ms: float = inf


class Writer:
    """One client, who asks for writes of all kinds in database `index`."""

    def __init__(self, index: int, flush: bytes = b"FLUSHDB") -> None:
        self.index = index
        self.acknowledged = 0  # since the last look
        self.acknowledged_ever = 0
        self.sent: list[Sent] = []  # since the last look
        self.state: State = {}  # by the last look
        self._flush = flush
        self._random = Random(index)
        self._number = 0

    def _key(self) -> bytes:
        return b"key%d" % self._random.randrange(5)

    def _next_request(self) -> Request:
        """Make up a request, numbered so that no two states are alike."""
        self._number += 1
        value = b"%d" % self._number
        short_lived = b"short%d" % self._random.randrange(5)
        kinds = [
            [b"SET", self._key(), value],
            [b"SET", self._key(), value, b"EX", b"5000"],
            [b"SET", self._key(), value * 300, b"KEEPTTL"],
            [b"SET", short_lived, value, b"PX", self._random.choice([b"1", b"50", b"400", b"3000"])],
            [b"DEL", short_lived],
            [b"APPEND", self._key(), b"," + value],
            [b"MSET", self._key(), value, self._key(), value + b"0"],
            [b"DEL", self._key(), self._key()],
            [b"PERSIST", self._key()],
            [b"EXPIRE", self._key(), b"6000"],
        ]
        return [self._flush] if self._random.random() < 0.01 else self._random.choice(kinds)

    def write(self, godis: GodisProcess) -> None:
        """Write in pipelines of random depth until the server is gone."""
        with contextlib.suppress(OSError), godis.raw() as raw:
            raw.ask("SELECT", self.index)
            while True:
                now_ms = time() * 1000
                batch = [Sent(self._next_request(), now_ms) for _ in range(self._random.randint(1, 20))]
                self.sent += batch
                raw.send(b"".join(encode(*sent.request) for sent in batch))
                for sent in batch:
                    assert not raw.read_reply().startswith(b"-")
                    sent.answered_ms = time() * 1000
                    self.acknowledged += 1

    def settle(self, found: Found) -> bool:
        """Return True if what is found can be so, and go on from there."""
        now_ms = time() * 1000
        state = dict(self.state)
        possible = not self.acknowledged and can_be(state, found, now_ms)
        for count, sent in enumerate(self.sent, 1):
            if possible:
                break
            apply(state, sent)
            possible = count >= self.acknowledged and can_be(state, found, now_ms)
        self.state = {key: (value, deadline_ms, deadline_ms) for key, (value, deadline_ms) in found.items()}
        self.sent.clear()
        self.acknowledged_ever += self.acknowledged
        self.acknowledged = 0
        return possible


def can_be(state: State, found: Found, now_ms: float) -> bool:
    """Return True if a server in a state may be found so at a moment."""
    return found.keys() <= state.keys() and all(
        found[key][0] == value and earliest_ms - SLACK_MS <= found[key][1] <= latest_ms
        if key in found
        else earliest_ms - SLACK_MS <= now_ms
        for key, (value, earliest_ms, latest_ms) in state.items()
    )


def apply(state: State, sent: Sent) -> None:
    """Do to a state what a request does to the keyspace, with the default TTL on."""

    def put(key: bytes, value: bytes, ttl_ms: int = DEFAULT_TTL_MS) -> None:
        state[key] = (value, sent.sent_ms + ttl_ms, sent.answered_ms + ttl_ms)

    match sent.request:
        case [b"SET", key, value, b"KEEPTTL"]:
            state[key] = (value, *state.get(key, (b"", inf, inf))[1:])
        case [b"SET", key, value, unit, ttl]:
            put(key, value, int(ttl) * (1000 if unit == b"EX" else 1))
        case [b"SET", key, value]:
            put(key, value)
        case [b"MSET", first, one, second, other]:
            put(first, one)
            put(second, other)
        case [b"APPEND", key, piece]:
            value, earliest_ms, latest_ms = state.get(key, (b"", inf, inf))
            state[key] = (value + piece, earliest_ms, latest_ms)
        case [b"DEL", *keys]:
            for key in keys:
                state.pop(key, None)
        case [b"PERSIST", key] if key in state:
            state[key] = (state[key][0], inf, inf)
        case [b"EXPIRE", key, seconds] if key in state:
            put(key, state[key][0], int(seconds) * 1000)
        case [b"FLUSHDB" | b"FLUSHALL"]:
            state.clear()


def look(raw: Raw, db: int) -> Found:
    """Return what a database holds."""
    raw.ask("SELECT", db)
    keys = parse(raw.ask("KEYS", "*"))
    raw.send(b"".join(encode("GET", key) + encode("PEXPIRETIME", key) for key in keys))
    found: Found = {}
    for key in keys:
        value, deadline_ms = parse(raw.read_reply()), parse(raw.read_reply())
        if value is not None and deadline_ms != -2:  # it may end between the questions
            found[key] = (value, inf if deadline_ms == -1 else deadline_ms)
    return found


def all_settle(godis: GodisProcess, writers: list[Writer]) -> bool:
    """Return True if each of the writers finds what it may find."""
    with godis.raw() as raw:
        found = [look(raw, writer.index) for writer in writers]
    settled = [writer.settle(of_writer) for writer, of_writer in zip(writers, found, strict=True)]
    return all(settled)
