"""Clients that track keys are told what redis-server tells them, however the requests of several clients interleave.

The same requests go to both servers, from a connection each on either side, one after another. After each request all
that each client has received is compared: its replies in their order, and the messages, whose order among several
clients or keys is each server's own. One more client receives what is redirected to it, in RESP2, and all events of
keys.
"""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import NamedTuple

import pytest
from grammars import words
from servers import GodisProcess, Raw, RedisProcess, encode, parse
from shrinking import shortest

CLIENTS = 3
REQUESTS_A_RUN = 400
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 4 + int(os.environ.get("GODIS_SOAK", "0")))
KEYS = words("a|ab|b|c|l")
REQUESTS = [
    *["CLIENT TRACKING ON"] * 6,
    *["CLIENT TRACKING OFF"] * 6,
    "CLIENT TRACKING ON NOLOOP",
    *["CLIENT TRACKING ON OPTIN"] * 2,
    *["CLIENT TRACKING ON OPTOUT"] * 2,
    *["CLIENT TRACKING ON BCAST"] * 2,
    "CLIENT TRACKING ON BCAST NOLOOP",
    *["CLIENT TRACKING ON BCAST PREFIX a"] * 2,
    "CLIENT TRACKING ON BCAST PREFIX b PREFIX c",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING ON PREFIX a",
    "CLIENT TRACKING ON BCAST OPTIN",
    "CLIENT TRACKING ON OPTIN OPTOUT",
    "CLIENT TRACKING ON NOSUCH",
    "CLIENT TRACKING NOSUCH",
    *["CLIENT TRACKING ON REDIRECT id"] * 4,
    "CLIENT TRACKING ON REDIRECT id BCAST NOLOOP",
    "CLIENT TRACKING ON REDIRECT id BCAST PREFIX b",
    "CLIENT TRACKING ON REDIRECT id OPTOUT",
    "CLIENT TRACKING ON REDIRECT 999999",
    *["CLIENT CACHING YES"] * 6,
    *["CLIENT CACHING NO"] * 4,
    "CLIENT CACHING NOSUCH",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKINGINFO",
    "CLIENT GETNAME",
    *["GET k"] * 12,
    *["MGET k k"] * 4,
    "STRLEN k",
    "EXISTS k k",
    "TYPE k",
    "TTL k",
    "OBJECT FREQ k",
    "LRANGE l 0 -1",
    "LLEN k",
    "SCARD k",
    "PFCOUNT k",
    "GETRANGE k 0 1",
    "TOUCH k",
    "DUMP nosuch",
    "XREAD STREAMS k 0",
    "GETEX k",
    "GETSET k v",
    *["SET k v"] * 8,
    "SET k v NX",
    "SET k v GET",
    "SETEX k 1000 v",
    "APPEND k v",
    "APPEND k ",
    "INCR k",
    "MSET k v k v",
    *["DEL k k"] * 3,
    "GETDEL k",
    "RPUSH l v v",
    "LPOP l",
    "LSET l 0 v",
    "LTRIM l 0 -1",
    "SADD k v",
    "PFADD k v",
    "EXPIRE k 1000",
    "EXPIRE k -1",
    "PERSIST k",
    "RENAME k k",
    "COPY k k REPLACE",
    "MOVE k 1",
    "SORT l STORE k",
    *["EVAL return(redis.call('get',KEYS[1])) 1 k"] * 2,
    "EVAL_RO return(redis.call('mget',KEYS[1],KEYS[2])) 2 k k",
    *["EVAL redis.call('set',KEYS[1],ARGV[1]) 1 k v"] * 2,
    "EVAL redis.call('get',KEYS[1]);redis.call('set',KEYS[1],1) 1 k",
    "EVAL redis.call('set',KEYS[1],1);return(redis.call('get',KEYS[1])) 1 k",
    "EVAL redis.call('set',KEYS[1],1);redis.call('set',KEYS[2],1);redis.call('del',KEYS[1]) 2 k k",
    "EVAL redis.call('select','1');redis.call('set',KEYS[1],1) 1 k",
    "EVAL redis.call('flushall') 0",
    "EVAL redis.call('set',KEYS[1],1);error('x') 1 k",
    "SELECT 0",
    "SELECT 1",
    "FLUSHDB",
    "FLUSHALL",
    *["MULTI"] * 3,
    *["EXEC"] * 5,
    "DISCARD",
    "RESET",
    "KILL",
    "ECHO v",
    "NOSUCH",
]
ENDS = (b"EXEC", b"DISCARD", b"RESET", b"KILL")  # of what was queued
Request = tuple[int, int, list[bytes]]  # the number of the client, of the one that is redirected to, and the words


def random_request(random: Random) -> Request:
    """Make up a request of one of the clients."""
    argv = [random.choice(KEYS) if word == "k" else word.encode() for word in random.choice(REQUESTS).split(" ")]
    words = [b"%d" % random.randrange(3) if word == b"v" else word for word in argv]
    return random.randrange(CLIENTS), random.randrange(CLIENTS + 1), words


class Clients:
    """The clients of one server, which holds nothing, the one that only listens, and one that asks for nothing."""

    def __init__(self, stack: ExitStack, server: GodisProcess | RedisProcess, protocol: int) -> None:
        self.stack, self.server, self.protocol = stack, server, protocol
        self.control = stack.enter_context(server.raw())
        self.control.ask("FLUSHALL")
        self.control.ask("CONFIG", "SET", "notify-keyspace-events", "KEA")
        self.control.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "nosuch")  # so that somebody always tracks
        self.raws: list[Raw] = []
        self.ids: list[int] = []
        for number in range(CLIENTS + 1):
            self.connect(number)
        self.raws[CLIENTS].send(encode("PSUBSCRIBE", "__redis__*", "__keyevent@*"))
        for _ in range(2):
            self.raws[CLIENTS].read_reply()

    def connect(self, number: int) -> None:
        """Connect a client, in the place of the one that had this number."""
        raw = self.stack.enter_context(self.server.raw())
        raw.ask("HELLO", self.protocol if number < CLIENTS else 2)
        self.raws[number:], self.ids[number:] = (
            [raw, *self.raws[number + 1 :]],
            [
                int(parse(raw.ask("CLIENT", "ID"))),
                *self.ids[number + 1 :],
            ],
        )

    def run(self, request: Request) -> list[tuple[list[bytes], list[bytes]]]:
        """Send a request; return the replies and the messages that each client has received."""
        client, other, argv = request
        raw = self.raws[client]
        replies: list[list[bytes]] = [[] for _ in self.raws]
        if argv == [b"KILL"]:
            self.control.ask("CLIENT", "KILL", "ID", self.ids[client])
            self.connect(client)
        else:
            raw.send(encode(*(b"%d" % self.ids[other] if word == b"id" else word for word in argv)))
            while not replies[client] or is_message(replies[client][-1]):
                replies[client] += self._read(raw)
        for _ in range(2):  # what the request has caused was sent before a later request is answered
            self.control.ask("PING")
        for number, each in enumerate(self.raws):
            while each.buffer or select.select([each.sock], [], [], 0)[0]:
                replies[number] += self._read(each)
        if argv == [b"RESET"]:
            raw.ask("HELLO", self.protocol)
        return [
            ([each for each in all_ if not is_message(each)], sorted(each for each in all_ if is_message(each)))
            for all_ in replies
        ]

    def _read(self, raw: Raw) -> list[bytes]:
        """Read a reply or a message, and the messages that Redis 7.0 puts amid an array, as they are to be compared."""
        amid: list[bytes] = []
        reply = read_whole(raw, amid)
        return [
            re.sub(rb":(\d+)", self._name, reply) if b"redir" in reply else plain(reply) for reply in (*amid, reply)
        ]

    def _name(self, match: re.Match[bytes]) -> bytes:
        return b"client %d" % self.ids.index(int(match[1])) if int(match[1]) in self.ids else b":"


def read_whole(raw: Raw, amid: list[bytes]) -> bytes:
    """Read one reply; append the messages inside it to `amid`."""
    head = raw.read_line()
    wire, kind = head + b"\r\n", head[:1]
    if kind in b"$=!" and head[1:] != b"-1":
        return wire + raw.read_exactly(int(head[1:]) + 2)
    missing = max(0, int(head[1:])) * (2 if kind == b"%" else 1) if kind in b"*~>%" else 0
    while missing:
        part = read_whole(raw, amid)
        if part.startswith(b">"):
            amid.append(part)
        else:
            wire, missing = wire + part, missing - 1
    return wire


def plain(reply: bytes) -> bytes:
    """Return a message of RESP2 with the null of RESP2, where Redis 7.0 puts that of the client that tracks."""
    return reply.replace(b"_\r\n", b"$-1\r\n") if reply.startswith(b"*3") and b"invalidate" in reply else reply


def is_message(reply: bytes) -> bool:
    return reply.startswith(b">") or b"message" in reply[:24]


class Difference(NamedTuple):
    """How many requests it took until the two servers differed, and what the clients had received."""

    ran: int
    ours: object
    theirs: object


def first_difference(
    ours: GodisProcess, theirs: RedisProcess, requests: list[Request], protocol: int
) -> Difference | None:
    """Ask both the same; return the first difference."""
    with ExitStack() as stack:
        godis, redis = Clients(stack, ours, protocol), Clients(stack, theirs, protocol)
        stack.callback(redis.control.ask, "CONFIG", "SET", "notify-keyspace-events", "")
        queueing: set[int] = set()
        for ran, request in enumerate(requests, 1):
            client, _, argv = request
            if argv[0] == b"CLIENT" and argv[1].startswith(b"TRACKING") and client in queueing:
                continue  # Redis keeps messages to the client itself until EXEC ends, and then goes by its new mode
            (queueing.add if argv == [b"MULTI"] else queueing.discard if argv[0] in ENDS else bool)(client)
            received, expected = godis.run(request), redis.run(request)
            if received != expected:
                return Difference(
                    ran,
                    *zip(*(pair for pair in zip(received, expected, strict=True) if pair[0] != pair[1]), strict=True),
                )
    return None


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_clients_that_track_keys_are_told_what_redis_tells_them(
    plain_godis: GodisProcess, redis_server: RedisProcess, seed: int, protocol: int
) -> None:
    random = Random(seed)
    requests = [random_request(random) for _ in range(REQUESTS_A_RUN)]
    found = shortest(
        requests,
        lambda shorter: first_difference(plain_godis, redis_server, shorter, protocol),
        lambda difference: difference.ran,
    )
    if found is not None:
        listing = "\n".join(f"{client}: {b' '.join(argv)!r} ({other})" for client, other, argv in found[0])
        replies = f"Godis: {found[1].ours!r}\nRedis: {found[1].theirs!r}"
        pytest.fail(f"seed {seed}, RESP{protocol}\n{listing}\n{replies}", pytrace=False)
