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
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random
from time import time
from typing import Any

from contents import READS, ask_all
from servers import GodisProcess, Raw, encode

DEFAULT_TTL_MS = 6 * 3600 * 1000
NO_SUCH_KEY = b"-ERR no such key\r\n"  # of RENAME
SLACK_MS = 500  # the clock of a turn may be read a little before the request came

Request = list[bytes]
Value = Any  # bytes, or of a list a tuple, of a set a frozenset, of a hash and a sorted set a dict, of a stream a tuple
Found = dict[bytes, tuple[Value, float]]  # key -> value, deadline (inf: none)
Held = tuple[Value, float, float]  # value, earliest and latest deadline
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
        if self._random.random() < 0.01:
            return [self._flush]
        kinds = kinds if self._random.random() < 0.5 else [*self._on_collections(), kinds[0]]
        return self._random.choice(kinds)

    def _on_collections(self) -> list[Request]:
        """Make up a request of each kind on lists, hashes, sets, sorted sets and streams: most are of many elements."""
        random, number = self._random, self._number
        few, many = random.sample(range(300), random.randint(1, 40)), range(2500)
        members = many if random.random() < 0.02 else few  # as many are done in slices
        names = [b"m%d" % member for member in members]
        pairs = [word for name in names for word in (name, b"%d" % number)]
        scores = [word for name in names for word in (b"%d" % number, name)]
        a, b = (b"%d" % random.randrange(3) for _ in range(2))
        return [
            [random.choice([b"RPUSH", b"LPUSH"]), b"list" + a, *(b"%d" % (number + member) for member in members)],
            [b"LPOP", b"list" + a, b"%d" % random.randint(1, 20)],
            [b"LTRIM", b"list" + a, b"-60", b"-1"],
            [b"LMOVE", b"list" + a, b"list" + b, b"LEFT", b"RIGHT"],
            [b"HSET", b"hash" + a, *pairs],
            [b"HDEL", b"hash" + a, *names],
            [b"HINCRBY", b"hash" + a, b"count", b"%d" % number],
            [b"SADD", b"set" + a, *names],
            [b"SREM", b"set" + a, *names],
            [b"SMOVE", b"set" + a, b"set" + b, names[0]],
            [b"SUNIONSTORE", b"set" + a, b"set" + a, b"set" + b],
            [b"ZADD", b"zset" + a, *scores],
            [b"ZREM", b"zset" + a, *names],
            [b"ZPOPMIN", b"zset" + a, b"%d" % random.randint(1, 20)],
            [b"XADD", b"stream" + a, b"%d-0" % number, b"field", b"%d" % number],
            [b"XTRIM", b"stream" + a, b"MAXLEN", b"=", b"20"],
            [b"RENAME", b"set" + a, b"set" + b] if a != b else [b"DEL", b"zset" + a],
            [b"COPY", b"hash" + a, b"hash" + b, b"REPLACE"] if a != b else [b"DEL", b"list" + a, b"hash" + a],
        ]

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
                    reply = raw.read_reply()
                    assert not reply.startswith(b"-") or reply == NO_SUCH_KEY, (sent.request[:5], reply)
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
        case [b"RENAME" | b"COPY" as name, source, target, *_] if source in state:
            state[target] = state.pop(source) if name == b"RENAME" else state[source]
        case [name, key, *words] if name in CHANGES:
            value, earliest_ms, latest_ms = state.get(key, (EMPTY[key[:-1]], inf, inf))
            state[key] = (CHANGES[name](value, words), earliest_ms, latest_ms)
        case [b"LMOVE", source, target, *_] if source in state:
            first = state[source][0][0]
            change(state, source, lambda items: items[1:])
            change(state, target, lambda items: (*items, first))
        case [b"SMOVE", source, target, member] if source in state and member in state[source][0]:
            change(state, source, lambda members: members - {member})
            change(state, target, lambda members: members | {member})
        case [b"SUNIONSTORE", target, *sources]:
            state[target] = (frozenset().union(*(state[key][0] for key in sources if key in state)), inf, inf)
    for key in [key for key, held in state.items() if not held[0] and held[0] != b""]:
        del state[key]


def without(value: Value, names: list[bytes]) -> Value:
    gone = set(names)
    return {name: each for name, each in value.items() if name not in gone}


# Of lists, hashes, sets, sorted sets and streams: the empty value, by the key's name without its number.
EMPTY: dict[bytes, Value] = {b"list": (), b"hash": {}, b"set": frozenset(), b"zset": {}, b"stream": ()}
# What a request makes of the value of its key.
CHANGES: dict[bytes, Callable[[Value, list[bytes]], Value]] = {
    b"RPUSH": lambda items, words: (*items, *words),
    b"LPUSH": lambda items, words: (*reversed(words), *items),
    b"LPOP": lambda items, words: items[int(words[0]) :],
    b"LTRIM": lambda items, words: items[int(words[0]) :],
    b"HSET": lambda fields, words: fields | dict(zip(words[::2], words[1::2], strict=True)),
    b"HDEL": without,
    b"HINCRBY": lambda fields, words: fields | {words[0]: b"%d" % (int(fields.get(words[0], 0)) + int(words[1]))},
    b"SADD": lambda members, words: members | frozenset(words),
    b"SREM": lambda members, words: members - frozenset(words),
    b"ZADD": lambda scores, words: scores | dict(zip(words[1::2], words[::2], strict=True)),
    b"ZREM": without,
    b"ZPOPMIN": lambda scores, words: without(
        scores, sorted(scores, key=lambda m: (int(scores[m]), m))[: int(words[0])]
    ),
    b"XADD": lambda entries, words: (*entries, (words[0], tuple(words[1:]))),
    b"XTRIM": lambda entries, words: entries[-int(words[2]) :],
}


def change(state: State, key: bytes, how: Callable[[Value], Value]) -> None:
    value, earliest_ms, latest_ms = state.get(key, (EMPTY[key[:-1]], inf, inf))
    state[key] = (how(value), earliest_ms, latest_ms)


def look(raw: Raw, db: int) -> Found:
    """Return what a database holds."""
    _, keys = ask_all(raw, [["SELECT", db], ["KEYS", "*"]])
    kinds = ask_all(raw, [["TYPE", key] for key in keys])
    known = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if kind in READS]
    values = ask_all(raw, [[key if part == b"{}" else part for part in READS[kind][0].split()] for key, kind in known])
    deadlines = ask_all(raw, [["PEXPIRETIME", key] for key, _ in known])
    found: Found = {}
    for (key, kind), value, deadline_ms in zip(known, values, deadlines, strict=True):
        if value is not None and deadline_ms != -2:  # it may end between the questions
            found[key] = (as_value(kind, value), inf if deadline_ms == -1 else deadline_ms)
    return found


def as_value(kind: bytes, reply: Any) -> Value:
    """Return what was read of a key in the form of the model."""
    match kind:
        case b"list":
            return tuple(reply)
        case b"set":
            return frozenset(reply)
        case b"hash" | b"zset":
            return dict(zip(reply[::2], reply[1::2], strict=True))
        case b"stream":
            return tuple((entry, tuple(fields)) for entry, fields in reply)
    return reply


def all_settle(godis: GodisProcess, writers: list[Writer]) -> bool:
    """Return True if each of the writers finds what it may find."""
    with godis.raw() as raw:
        found = [look(raw, writer.index) for writer in writers]
    settled = [writer.settle(of_writer) for writer, of_writer in zip(writers, found, strict=True)]
    return all(settled)
