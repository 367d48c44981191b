"""Lists, hashes, sets, sorted sets, streams, bitmaps and HyperLogLogs in measurements: filled, and asked.

A test is what redis-benchmark sends, and what has to be there before. `__rand_int__` is one of so many numbers as the
case has keys, in twelve digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from servers import encode

from bench.load import Batch
from bench.rig import Server

BATCH_REQUESTS = 100
BATCH_BYTES = 1 << 17
ELEMENTS = 500  # of a request that fills
MEMBERS = 100_000  # of a large collection, as many as `__rand_int__` has values
HASHES = 10_000
SHORT = "x" * 64

Words = Sequence[object]
Fill = Callable[[int], Iterable[Words]]  # so many elements, or keys -> what makes them


def elements(name: str, key: str, parts: Iterable[Sequence[object]]) -> Iterator[Words]:
    """Make requests `name key part …`, so many parts each."""
    chunk: list[object] = []
    for number, part in enumerate(parts, 1):
        chunk += part
        if number % ELEMENTS == 0:
            yield [name, key, *chunk]
            chunk = []
    if chunk:
        yield [name, key, *chunk]


def pour(server: Server, requests: Iterable[Words]) -> None:
    """Run requests in pipelines, and refuse errors."""
    with server.raw(timeout=60) as raw:
        wires: list[bytes] = []

        def send() -> None:
            raw.send(b"".join(wires))
            for _ in wires:
                if (reply := raw.read_reply()).startswith(b"-"):
                    raise SystemExit(f"{server.name} refused what was to be there: {reply!r}")
            wires.clear()

        size = 0
        for words in requests:
            wires.append(encode(*map(str, words)))
            size += len(wires[-1])
            if len(wires) == BATCH_REQUESTS or size > BATCH_BYTES:
                send()
                size = 0
        send()


def nothing(_requests: int) -> Iterable[Words]:
    """Fill in nothing."""
    return ()


def number(value: int) -> str:
    """Write a number as redis-benchmark does for `__rand_int__`."""
    return f"{value:012}"


def list_of(count: int) -> Iterator[Words]:
    """Fill the list."""
    return elements("RPUSH", "mylist", ([SHORT] for _ in range(count)))


def set_of(count: int) -> Iterator[Words]:
    """Fill the set."""
    return elements("SADD", "myset", ([f"element:{number(each)}"] for each in range(count)))


def hash_of(count: int) -> Iterator[Words]:
    """Fill the hash."""
    return elements("HSET", "myhash", ([f"element:{number(each)}", SHORT] for each in range(count)))


def sorted_set_of(count: int) -> Iterator[Words]:
    """Fill the sorted set."""
    return elements("ZADD", "myzset", ([each, f"element:{number(each)}"] for each in range(count)))


def stream_of(count: int) -> Iterator[Words]:
    """Fill the stream."""
    return (["XADD", "mystream", f"{each}-1", "field", SHORT] for each in range(1, count + 1))


def hashes_of_ten(count: int) -> Iterator[Words]:
    """Make hashes of ten fields."""
    for each in range(count):
        yield ["HSET", f"hash:{number(each)}", *(word for field in range(10) for word in (f"field{field}", SHORT[:20]))]


class Test(NamedTuple):
    """A test of a type: its request, what is there before all runs, what is added before each, and its floors.

    A request without words is made by `toggles`: redis-benchmark's numbers have leading zeros, and no offset may.
    """

    words: list[str]
    before: Fill = nothing  # as many as the case has keys
    each: Fill = nothing  # as many as there will be requests
    keyspace: int = MEMBERS
    floor_16: float | None = 0.45  # of throughput over redis-server's, at P=16; at P=1 it is FLOOR_1


FLOOR_1 = 0.65
TESTS: dict[str, Test] = {
    "lpush": Test(["LPUSH", "mylist", SHORT]),
    "rpop": Test(["RPOP", "mylist"], each=list_of),
    "lrange_100": Test(["LRANGE", "mylist", "0", "99"], list_of, floor_16=None),
    "sadd": Test(["SADD", "myset", "element:__rand_int__"]),
    "spop": Test(["SPOP", "myset"], each=set_of),
    "hset": Test(["HSET", "myhash", "element:__rand_int__", SHORT]),
    "hget": Test(["HGET", "myhash", "element:__rand_int__"], hash_of),
    "hgetall_10": Test(["HGETALL", "hash:__rand_int__"], hashes_of_ten, keyspace=HASHES, floor_16=None),
    "zadd": Test(["ZADD", "myzset", "__rand_int__", "element:__rand_int__"], floor_16=0.35),
    "zrange_100": Test(["ZRANGE", "myzset", "0", "99"], sorted_set_of, floor_16=None),
    "zrangebyscore_10": Test(
        ["ZRANGEBYSCORE", "myzset", "__rand_int__", "+inf", "LIMIT", "0", "10"],
        sorted_set_of,
        floor_16=None,
    ),
    "zrank": Test(["ZRANK", "myzset", "element:__rand_int__"], sorted_set_of),
    "xadd": Test(["XADD", "mystream", "*", "field", SHORT], floor_16=0.35),
    "xrange_100": Test(["XRANGE", "mystream", "-", "+", "COUNT", "100"], stream_of, keyspace=10_000, floor_16=None),
    "setbit": Test([]),
    "pfadd": Test(["PFADD", "myhll", "element:__rand_int__"]),
}


def toggles(depth: int, requests: int) -> list[Batch]:
    """Make pipelines that set bits of one string to 1 and 0; all replies are equally long."""
    random = Random(1)
    made = []
    for _ in range(requests // depth):
        offsets = random.sample(range(8 * MEMBERS), depth)
        asked = [encode("SETBIT", "mybits", offset, random.choice("01")) for offset in offsets]
        made.append(Batch(b"".join(asked), b":0\r\n" * depth))
    return made
