"""A large value that a command takes out of the keyspace is freed in slices, whatever the command is.

To free a million members at once takes 60 to 150 ms. What `Store.expire_cycle` frees in slices is empty afterwards: a
test that keeps a reference to the value sees it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from instances import Bench, Client, driven, run_all

MEMBERS = [b"member%d" % number for number in range(3000)]
NUMBERED = [word for number, member in enumerate(MEMBERS) for word in (b"%d" % number, member)]
MAKERS: dict[str, list[list[bytes]]] = {
    "list": [[b"RPUSH", b"k", *MEMBERS]],
    "hash": [[b"HSET", b"k", *NUMBERED]],
    "set": [[b"SADD", b"k", *MEMBERS]],
    "sorted set": [[b"ZADD", b"k", *NUMBERED]],
    "stream": [[b"XADD", b"k", b"*", b"f", member] for member in MEMBERS],
    "string": [[b"SETRANGE", b"k", b"40000000", b"x"]],
}
# What makes small values first, and then takes the value of `k` out. `;` separates requests.
WAYS = [
    "DEL k",
    "UNLINK k",
    "DELEX k",
    "SET k v",
    "SET k v EX 100",
    "SETEX k 100 v",
    "MSET a v k v",
    "MSETEX 1 k v",
    "MULTI; SET k v; EXEC",
    "MULTI; DEL k; EXEC",
    "SET a v; RENAME a k",
    "SET a v; COPY a k REPLACE",
    "SADD a v; SUNIONSTORE k a",
    "SUNIONSTORE k a",
    "SADD a v; SINTERSTORE k a a",
    "ZADD a 1 v; ZUNIONSTORE k 1 a",
    "ZADD a 1 v; ZRANGESTORE k a 0 -1",
    "GEOADD a 1 1 v; GEOSEARCHSTORE k a FROMLONLAT 1 1 BYRADIUS 10 km",
    "RPUSH a 1 2; SORT a STORE k",
    "SET a v; BITOP NOT k a",
    "RESTORE k 0 payload REPLACE",
    "PEXPIREAT k 1",
    "PEXPIRE k 5; LATER; EXISTS k",
    "PEXPIRE k 5; LATER",
    "FLUSHALL",
    "FLUSHDB",
    "MULTI; FLUSHALL; EXEC",
    "SWAPDB 0 1; SELECT 1; SET k v",
    "MOVE k 1; SELECT 1; SET k v",
    "RENAME k b; SET b v",
]


def ask(client: Client, argv: list[bytes]) -> Any:
    reply = client.ask(*argv)
    return driven(reply)[0] if isinstance(reply, Generator) else reply


def payload(bench: Bench) -> bytes:
    """Return what DUMP makes of a short string."""
    client = bench.connect()
    client.ask("SET", "dumped", "v")
    dumped: bytes = ask(client, [b"DUMP", b"dumped"])
    client.ask("DEL", "dumped")
    return dumped


@pytest.mark.parametrize("way", [*WAYS, "pipeline"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_large_value_is_freed_in_slices_however_it_goes(kind: str, way: str) -> None:
    bench = Bench(default_ttl="0")
    client, dumped = bench.connect(), payload(bench)
    for argv in MAKERS[kind]:
        ask(client, argv)
    value = bench.store.databases[0].peek(b"k")
    known = len(value)
    if way == "pipeline":  # the second form of SET, for many
        run_all(bench.engine, client.session, [[b"SET", b"k", b"v"], [b"SET", b"a", b"v"], [b"SET", b"k", b"w"]])
    for line in way.split("; ") if way in WAYS else []:
        if line == "LATER":
            bench.advance(2)
        else:
            ask(client, [dumped if word == "payload" else word.encode() for word in line.split()])
    assert len(value) == known  # nothing yet
    while not bench.store.expire_cycle(lambda: False):
        pass
    assert len(value) == 0
    assert not bench.store.garbage
