"""Several clients that act together get the replies of redis-server, however their requests interleave.

The same requests go to both servers, from a connection each on either side, one after another: transactions, and
writes of others between WATCH and EXEC.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest
from grammars import words
from servers import GodisProcess, Raw, RedisProcess
from shrinking import shortest

CLIENTS = 3
REQUESTS_A_RUN = 600
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
Request = tuple[int, list[bytes]]  # the number of the client


def random_request(random: Random) -> Request:
    """Make up a request; one in three comes from the same client as the transaction that is most likely open."""
    line = random.choice(REQUESTS).split()
    argv = [random.choice(KEYS) if word == "k" else word.encode() for word in line]
    return random.randrange(CLIENTS), [b"%d" % random.randrange(3) if word == b"v" else word for word in argv]


def first_difference(godis: list[Raw], redis: list[Raw], requests: list[Request], protocol: int) -> int | None:
    """Ask both the same; return how many requests it took until a reply differed."""
    for clients in (godis, redis):
        for raw in clients:
            raw.ask("RESET")
            raw.ask("HELLO", protocol)
        clients[0].ask("FLUSHALL")
    for number, (client, argv) in enumerate(requests, 1):
        ours, theirs = godis[client].ask(*argv), redis[client].ask(*argv)
        if ours != theirs:
            return number
        if argv == [b"RESET"]:
            for clients in (godis, redis):
                clients[client].ask("HELLO", protocol)
    return None


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_transactions_interleave_as_in_redis(
    plain_godis: GodisProcess, redis_server: RedisProcess, seed: int, protocol: int
) -> None:
    random = Random(seed)
    requests = [random_request(random) for _ in range(REQUESTS_A_RUN)]
    with ExitStack() as stack:
        godis = [stack.enter_context(plain_godis.raw()) for _ in range(CLIENTS)]
        redis = [stack.enter_context(redis_server.raw()) for _ in range(CLIENTS)]
        found = first_difference(godis, redis, requests, protocol)
        if found is None:
            return
        cut, _ = shortest(
            requests, lambda shorter: first_difference(godis, redis, shorter, protocol), lambda ran: ran
        ) or (requests[:found], found)
        listing = "\n".join(f"{client}: {b' '.join(argv)!r}" for client, argv in cut)
        first_difference(godis, redis, cut[:-1], protocol)
        client, argv = cut[-1]
        replies = f"Godis: {godis[client].ask(*argv)!r}\nRedis: {redis[client].ask(*argv)!r}"
        pytest.fail(f"seed {seed}, RESP{protocol}\n{listing}\n{replies}", pytrace=False)
