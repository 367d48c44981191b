"""Several clients that act together get the replies of redis-server, however their requests interleave.

The same requests go to both servers, from a connection each on either side, one after another: transactions, writes of
others between WATCH and EXEC, clients that wait for a key and those that fill it. After each request both servers must
say that the same clients wait; those that wait no more have their replies compared.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import NamedTuple

import pytest
from grammars import words
from servers import GodisProcess, RedisProcess, encode, parse
from shrinking import shortest

CLIENTS = 3
REQUESTS_A_RUN = 600
LATE_SECONDS = 20  # that a busy machine may take until a client is served
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 4 + int(os.environ.get("GODIS_SOAK", "0")))
KEYS = words("a|b|c|d")
REQUESTS = [
    *["MULTI"] * 6,
    *["EXEC"] * 8,
    *["WATCH k"] * 5,
    "WATCH k k",
    "UNWATCH",
    "DISCARD",
    "RESET",
    "MULTI x",
    "WATCH",
    *["SET k v"] * 3,
    "SET k v NX",
    "SET k 5 EX 1000",
    "GET k",
    "GET k",
    "GET",
    "INCR k",
    "INCRBY k x",
    "APPEND k v",
    "STRLEN k",
    "GETSET k v",
    "GETDEL k",
    "MSET k v k v",
    "MGET k k",
    "DEL k k",
    "EXISTS k",
    "EXPIRE k 1000",
    "EXPIRE k -1",
    "PERSIST k",
    "RENAME k k",
    "COPY k k",
    "MOVE k 1",
    "TYPE k",
    "DBSIZE",
    "SADD k v",
    "SREM k v",
    "FLUSHDB",
    "FLUSHALL",
    "SWAPDB 0 1",
    "SELECT 0",
    "SELECT 1",
    "SELECT 99",
    "PING",
    "ECHO v",
    "NOSUCH v",
    "OBJECT NOSUCH k",
    "CLIENT NOSUCH",
]
WAITING = [
    *["BLPOP k 0"] * 4,
    *["BRPOP k k 0"] * 2,
    *["BLMOVE k k LEFT RIGHT 0"] * 2,
    "BRPOPLPUSH k k 0",
    "BLMPOP 0 2 k k LEFT COUNT 2",
    *["BZPOPMIN k 0"] * 2,
    "BZPOPMAX k k 0",
    "BZMPOP 0 1 k MIN",
    "BLPOP k x",
    "BLPOP k -1",
    *["RPUSH k v v"] * 6,
    *["LPUSH k v"] * 4,
    *["ZADD k v v"] * 4,
    "LPOP k",
    "ZPOPMIN k",
    "LMOVE k k LEFT LEFT",
    "LLEN k",
    "LRANGE k 0 -1",
    "ZRANGE k 0 -1 WITHSCORES",
    *["UNBLOCK"] * 2,
    "UNBLOCK ERROR",
    *["DEL k k k"] * 3,
    "SET k v",
    "RENAME k k",
    "COPY k k REPLACE",
    "SWAPDB 0 1",
    "SELECT 0",
    "SELECT 1",
    *["MULTI"] * 2,
    *["EXEC"] * 4,
]
Request = tuple[int, list[bytes]]  # the number of the client


def random_request(random: Random, lines: list[str]) -> Request:
    """Make up a request of one of the clients."""
    line = random.choice(lines).split()
    argv = [random.choice(KEYS) if word == "k" else word.encode() for word in line]
    return random.randrange(CLIENTS), [b"%d" % random.randrange(3) if word == b"v" else word for word in argv]


class Clients:
    """The clients of one server, which holds nothing, and a connection that asks about them."""

    def __init__(self, stack: ExitStack, server: GodisProcess | RedisProcess, protocol: int) -> None:
        self.control = stack.enter_context(server.raw())
        self.control.ask("FLUSHALL")
        self.raws = [stack.enter_context(server.raw()) for _ in range(CLIENTS)]
        for raw in self.raws:
            raw.ask("HELLO", protocol)
        self.ids = [int(parse(raw.ask("CLIENT", "ID"))) for raw in self.raws]

    def waiting(self) -> set[int]:
        """Return the numbers of the clients that wait."""
        listed = parse(self.control.ask("CLIENT", "LIST", "ID", *self.ids)).decode().splitlines()
        return {index for index, line in enumerate(listed) if "b" in line.split(" flags=")[1].split()[0]}

    def settle(self, client: int) -> None:
        """Wait until a request of a client is answered, or waits: the server may read another connection first."""
        while not select.select([self.raws[client].sock], [], [], 0)[0] and client not in self.waiting():
            pass


class Difference(NamedTuple):
    """How many requests it took until the two servers differed, and what they said."""

    ran: int
    ours: object
    theirs: object


def first_difference(
    ours: GodisProcess, theirs: RedisProcess, requests: list[Request], protocol: int
) -> Difference | None:
    """Ask both the same; return the first difference."""
    with ExitStack() as stack:
        both = godis, redis = Clients(stack, ours, protocol), Clients(stack, theirs, protocol)
        waiting: set[int] = set()
        for ran, (client, argv) in enumerate(requests, 1):
            if argv[0] == b"UNBLOCK":
                for clients in both:
                    clients.control.ask("CLIENT", "UNBLOCK", clients.ids[client], *argv[1:])
            elif client not in waiting:
                waiting.add(client)
                for clients in both:
                    clients.raws[client].send(encode(*argv))
                    clients.settle(client)
            still = redis.waiting()
            end = time.monotonic() + LATE_SECONDS
            while godis.waiting() != still and time.monotonic() < end:
                pass
            if godis.waiting() != still:
                return Difference(ran, godis.waiting(), still)
            for served in sorted(waiting - still):
                reply, expected = (clients.raws[served].read_reply() for clients in both)
                if reply != expected:
                    return Difference(ran, reply, expected)
            waiting = still
            if argv == [b"RESET"]:
                for clients in both:
                    clients.raws[client].ask("HELLO", protocol)
    return None


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lines", [REQUESTS, WAITING], ids=["transactions", "waiting"])
def test_requests_of_several_clients_interleave_as_in_redis(
    plain_godis: GodisProcess, redis_server: RedisProcess, lines: list[str], seed: int, protocol: int
) -> None:
    random = Random(seed)
    requests = [random_request(random, lines) for _ in range(REQUESTS_A_RUN)]
    found = shortest(
        requests,
        lambda shorter: first_difference(plain_godis, redis_server, shorter, protocol),
        lambda difference: difference.ran,
    )
    if found is not None:
        listing = "\n".join(f"{client}: {b' '.join(argv)!r}" for client, argv in found[0])
        replies = f"Godis: {found[1].ours!r}\nRedis: {found[1].theirs!r}"
        pytest.fail(f"seed {seed}, RESP{protocol}\n{listing}\n{replies}", pytrace=False)
