"""redis-py and valkey-py, sync and by asyncio, in both protocols: what their own classes do with several commands.

Single commands are compared with redis-server's elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from applications import package
from servers import HOST, GodisProcess, wait_until
from tables import for_each

redis, valkey = package("redis"), package("valkey")
redis_asyncio, valkey_asyncio = package("redis.asyncio"), package("valkey.asyncio")
CLIENTS = [(redis.Redis, 2), (redis.Redis, 3), (valkey.Valkey, 2), (valkey.Valkey, 3)]
ASYNC_CLIENTS = [
    (redis_asyncio.Redis, 2),
    (redis_asyncio.Redis, 3),
    (valkey_asyncio.Valkey, 2),
    (valkey_asyncio.Valkey, 3),
]
WATCH_ERRORS = redis.WatchError, valkey.WatchError
LOCK_ERRORS = redis.exceptions.LockError, valkey.exceptions.LockError
KEYS = [f"key:{number}" for number in range(300)]
FIELDS = {f"field:{number}": float(number) for number in range(200)}

Client = tuple[Any, int]


def connect(server: GodisProcess, client: Client) -> Any:
    """Make a client of an empty server."""
    kind, protocol = client
    with server.raw() as raw:
        raw.ask("FLUSHALL")
    return kind(host=HOST, port=server.port, protocol=protocol, decode_responses=True)


def run(server: GodisProcess, client: Client, job: Callable[[Any], Awaitable[None]]) -> None:
    """Run a job of an asyncio client."""

    async def main() -> None:
        async with connect(server, client) as connected:
            await asyncio.wait_for(job(connected), 60)

    asyncio.run(main())


@for_each("client", CLIENTS)
def test_a_pipeline_fails_if_another_client_changes_what_it_watches(server: GodisProcess, client: Client) -> None:
    with closing(connect(server, client)) as r:
        r.set("n", 1)
        with r.pipeline() as pipeline:
            pipeline.watch("n")
            r.set("n", 5)
            pipeline.multi()
            pipeline.set("n", int(pipeline.immediate_execute_command("GET", "n")) + 1)
            with pytest.raises(WATCH_ERRORS):
                pipeline.execute()
        tries = []

        def add(pipeline: Any) -> None:
            tries.append(pipeline.get("n"))
            if len(tries) == 1:
                r.set("n", 7)
            pipeline.multi()
            pipeline.set("n", int(tries[-1]) + 1)

        assert r.transaction(add, "n") == [True]
        assert tries == ["5", "7"]
        assert r.pipeline(transaction=False).get("n").incr("n").lpush("list", "a", "b").execute() == ["8", 9, 2]


@for_each("client", CLIENTS)
def test_a_lock_is_held_by_one(server: GodisProcess, client: Client) -> None:
    with closing(connect(server, client)) as r:
        with r.lock("lock", timeout=50) as lock:
            assert not r.lock("lock").acquire(blocking=False)
            assert not r.lock("lock", blocking_timeout=0.05, sleep=0.01).acquire()
            lock.extend(50)
            assert 90_000 < r.pttl("lock") <= 100_000
            lock.reacquire()
            assert 40_000 < r.pttl("lock") <= 50_000
        other = r.lock("lock", timeout=50)
        assert other.acquire(blocking=False)
        r.delete("lock")
        with pytest.raises(LOCK_ERRORS):
            other.release()


@for_each("client", CLIENTS)
def test_messages_come_by_channel_pattern_and_shard(server: GodisProcess, client: Client) -> None:
    with closing(connect(server, client)) as r, closing(r.pubsub(ignore_subscribe_messages=True)) as subscribed:
        called: list[Any] = []
        subscribed.subscribe("channel", handled=called.append)
        subscribed.psubscribe("pattern*")
        subscribed.ssubscribe("shard")
        told: list[tuple[str, str]] = []

        def read(count: int) -> bool:
            if message := subscribed.get_message(timeout=0.1):
                told.append((message["type"], message["data"]))
            return len(told) == count

        assert subscribed.get_message(timeout=60) is None  # the first of the confirmations
        wait_until(lambda: r.pubsub_numsub("handled") == [("handled", 1)] and r.pubsub_numpat() == 1)
        for channel, data in (("channel", "1"), ("handled", "2"), ("pattern:a", "3")):
            r.publish(channel, data)
        r.execute_command("SPUBLISH", "shard", "4")
        wait_until(lambda: read(3))
        wait_until(lambda: subscribed.get_message(timeout=0.01) is None and called)
        assert sorted(told) == [("message", "1"), ("pmessage", "3"), ("smessage", "4")]
        assert [message["data"] for message in called] == ["2"]


@for_each("client", CLIENTS)
def test_the_iterators_of_scan_find_all(server: GodisProcess, client: Client) -> None:
    with closing(connect(server, client)) as r:
        r.mset({**dict.fromkeys(KEYS, "x"), "another": "y"})
        assert sorted(r.scan_iter(match="key:*", count=20)) == sorted(KEYS)
        r.hset("hash", mapping=FIELDS)
        r.zadd("sorted", FIELDS)
        r.sadd("set", *FIELDS)
        assert {field: float(value) for field, value in r.hscan_iter("hash", count=20)} == FIELDS
        assert dict(r.zscan_iter("sorted", count=20)) == FIELDS
        assert set(r.sscan_iter("set", count=20)) == FIELDS.keys()
        assert set(r.scan_iter(_type="hash")) == {"hash"}


@for_each("client", CLIENTS)
def test_scripts_functions_blocking_and_monitor(server: GodisProcess, client: Client) -> None:
    with closing(connect(server, client)) as r:
        script = r.register_script("return {KEYS[1], tonumber(ARGV[1]) + 1}")
        assert script(keys=["k"], args=[4]) == ["k", 5]
        assert r.pipeline().set("a", "1").evalsha(script.sha, 1, "k", 1).execute() == [True, ["k", 2]]
        r.function_load("#!lua name=lib\nredis.register_function('f', function(_, a) return a[1] end)", replace=True)
        assert r.fcall("f", 0, "z") == "z"
        assert r.blpop(["none"], timeout=0.01) is None
        r.rpush("list", "a")
        assert list(r.blpop(["none", "list"], timeout=60)) == ["list", "a"]
        with r.monitor() as monitor:
            r.set("seen", "1")
            seen = iter(monitor.listen())
            assert next(command for told in seen if (command := told["command"]).startswith("SET")) == "SET seen 1"


def test_a_client_side_cache_forgets_what_another_client_changes(server: GodisProcess) -> None:
    config = redis.cache.CacheConfig()
    with (
        closing(redis.Redis(host=HOST, port=server.port, protocol=3, cache_config=config)) as caching,
        server.client() as other,
    ):
        other.config_resetstat()
        other.set("k", "1")
        assert [caching.get("k"), caching.get("k")] == [b"1", b"1"]
        assert caching.get_cache().size == 1
        assert other.info("commandstats")["cmdstat_get"]["calls"] == 1
        other.set("k", "2")
        wait_until(lambda: caching.get("k") == b"2")
        other.flushall()
        wait_until(lambda: caching.get("k") is None)


@for_each("client", ASYNC_CLIENTS)
def test_all_of_it_by_asyncio(server: GodisProcess, client: Client) -> None:
    async def job(r: Any) -> None:
        await r.mset({**dict.fromkeys(KEYS, "x"), "n": 1})
        async with r.pipeline() as pipeline:
            await pipeline.watch("n")
            await r.set("n", 5)
            pipeline.multi()
            pipeline.set("n", 9)
            with pytest.raises(WATCH_ERRORS):
                await pipeline.execute()

        async def add(pipeline: Any) -> None:
            number = int(await pipeline.get("n"))
            pipeline.multi()
            pipeline.set("n", number + 1)

        assert await r.transaction(add, "n") == [True]
        assert await r.get("n") == "6"
        async with r.lock("lock", timeout=50) as lock:
            assert not await r.lock("lock").acquire(blocking=False)
            await lock.extend(50)
            await lock.reacquire()
        assert await r.exists("lock") == 0
        assert sorted([key async for key in r.scan_iter(match="key:*", count=20)]) == sorted(KEYS)
        waiting = asyncio.ensure_future(r.blpop(["list"], timeout=60))
        assert sorted(await asyncio.gather(*(r.incr("n") for _ in range(20)))) == list(range(7, 27))
        await r.rpush("list", "a")
        assert list(await waiting) == ["list", "a"]
        script = r.register_script("return ARGV[1]")
        assert await script(args=["a"]) == "a"

    run(server, client, job)


@for_each("client", ASYNC_CLIENTS)
def test_messages_by_asyncio(server: GodisProcess, client: Client) -> None:
    async def job(r: Any) -> None:
        async with r.pubsub() as subscribed:
            await subscribed.subscribe("channel")
            await subscribed.psubscribe("pattern*")
            told: list[tuple[str, Any]] = []
            async for message in subscribed.listen():
                told.append((message["type"], message["data"]))
                if len(told) == 2:
                    assert await r.publish("channel", "1") == await r.publish("pattern:a", "2") == 1
                if len(told) == 4:
                    break
            assert told == [("subscribe", 1), ("psubscribe", 2), ("message", "1"), ("pmessage", "2")]

    run(server, client, job)
