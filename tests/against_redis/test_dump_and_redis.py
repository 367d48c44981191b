"""DUMP here and RESTORE in a real redis-server, and the other way, for every type and size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis_values import SIZES, TYPES, ask_all, content, requests
from servers import GodisProcess, Raw, RedisProcess, parse

HUGE = 30_000
CASES = [(kind, "integers", size) for kind in TYPES for size in SIZES] + [(kind, "mixed", 130) for kind in TYPES]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """A Godis whose strings live for ever."""
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.fixture
def ours(server: GodisProcess) -> Iterator[Raw]:
    """A connection to it."""
    with server.raw() as raw:
        raw.ask("FLUSHALL")
        yield raw


@pytest.mark.parametrize(("kind", "elements", "size"), CASES)
def test_a_value_goes_to_redis_and_back(ours: Raw, real: Raw, kind: str, elements: str, size: int) -> None:
    real.ask("FLUSHALL")
    for server in (ours, real):
        ask_all(server, requests(kind, size, elements, b"k"))
    assert real.ask("RESTORE", "from", 0, parse(ours.ask("DUMP", "k"))) == b"+OK\r\n"
    assert ours.ask("RESTORE", "from", 0, parse(real.ask("DUMP", "k"))) == b"+OK\r\n"
    assert content(real, b"from") == content(ours, b"k")
    assert content(ours, b"from") == content(real, b"k")


def huge(kind: str) -> list[list[bytes]]:
    """Return the commands that make a value of HUGE elements."""
    words = [b"%d" % (number * 7919 % 1_000_003) for number in range(HUGE)]
    if kind == "string":
        return [[b"SET", b"k", b" ".join(words)]]
    if kind == "stream":
        entries = [[b"XADD", b"k", b"%d-1" % (number + 1), b"f", word] for number, word in enumerate(words)]
        read = [b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"5000", b"STREAMS", b"k", b">"]
        return [*entries, [b"XGROUP", b"CREATE", b"k", b"g", b"0"], read]
    name, step = {"list": (b"RPUSH", 1), "set": (b"SADD", 1), "zset": (b"ZADD", 2), "hash": (b"HSET", 2)}[kind]
    pairs = [each for word in words for each in ((word, word) if step == 2 else (word,))]
    return [[name, b"k", *pairs[start : start + 1000]] for start in range(0, len(pairs), 1000)]


@pytest.mark.parametrize("kind", TYPES)
def test_a_huge_value_goes_to_redis_and_back(
    server: GodisProcess, redis_server: RedisProcess, ours: Raw, real: Raw, kind: str
) -> None:
    real.ask("FLUSHALL")
    ask_all(ours, huge(kind))
    assert real.ask("RESTORE", "k", 0, parse(ours.ask("DUMP", "k"))) == b"+OK\r\n"
    assert ours.ask("RESTORE", "back", 0, parse(real.ask("DUMP", "k"))) == b"+OK\r\n"
    with server.client() as here, redis_server.client() as there:
        assert elements(here, kind, "k") == elements(there, kind, "k") == elements(here, kind, "back")


def elements(client: redis.Redis, kind: str, key: str) -> Any:
    """Return all elements of a value."""
    if kind == "string":
        return client.get(key)
    if kind == "list":
        return client.lrange(key, 0, -1)
    if kind == "set":
        return client.smembers(key)
    if kind == "zset":
        return client.zrange(key, 0, -1, withscores=True)
    if kind == "hash":
        return client.hgetall(key)
    pending = client.xpending_range(key, "g", "-", "+", HUGE)
    return client.xrange(key), [(each["message_id"], each["consumer"], each["times_delivered"]) for each in pending]


def test_what_was_restored_is_the_same_after_a_restart(server: GodisProcess, ours: Raw, real: Raw) -> None:
    real.ask("FLUSHALL")
    for kind in TYPES:
        ask_all(real, requests(kind, 600, "integers", kind.encode()))
        payload = parse(real.ask("DUMP", kind))
        assert ours.ask("RESTORE", kind, 4_000_000_000_000, payload, "ABSTTL") == b"+OK\r\n"
    held = [(content(ours, kind.encode()), ours.ask("PEXPIRETIME", kind)) for kind in TYPES]
    assert [value for value, _ in held] == [content(real, kind.encode()) for kind in TYPES]
    server.kill9()
    server.start()
    with server.raw() as again:
        assert [(content(again, kind.encode()), again.ask("PEXPIRETIME", kind)) for kind in TYPES] == held
