"""Caches for asyncio: aiocache, cashews and fastapi-cache2, with their locks, limits and transactions."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from applications import package
from servers import GodisProcess

aiocache = package("aiocache")
aiocache_lock, serializers = package("aiocache.lock"), package("aiocache.serializers")
cashews = package("cashews")
fastapi, fastapi_cache = package("fastapi"), package("fastapi_cache", "fastapi-cache2")
RedisBackend = package("fastapi_cache.backends.redis", "fastapi-cache2").RedisBackend
cached_route = package("fastapi_cache.decorator", "fastapi-cache2").cache
redis_asyncio = package("redis.asyncio", "redis")


def url(server: GodisProcess) -> str:
    return f"redis://127.0.0.1:{server.port}"


def run(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def test_aiocache(server_6h: GodisProcess) -> None:
    async def main() -> None:
        options = {"endpoint": "127.0.0.1", "port": server_6h.port, "namespace": "n"}
        cache = aiocache.Cache(aiocache.Cache.REDIS, serializer=serializers.JsonSerializer(), **options)
        assert await cache.set("a", {"x": 1}, ttl=9)
        assert await cache.get("a") == {"x": 1}
        assert await cache.multi_set([("b", 1), ("c", 2)], ttl=5)
        assert await cache.multi_get(["a", "b", "missing"]) == [{"x": 1}, 1, None]
        assert [await cache.increment("n", 3), await cache.expire("a", 20), await cache.delete("b")] == [3, True, 1]
        with pytest.raises(ValueError, match="already exists"):
            await cache.add("a", 1)
        async with aiocache_lock.RedLock(cache, "lock", lease=20):
            assert await cache.exists("lock-lock")
        async with aiocache_lock.OptimisticLock(cache, "a") as lock:
            assert await lock.cas({"y": 2})
        made = itertools.count(1)

        @aiocache.cached(cache=aiocache.Cache.REDIS, ttl=60, **options)  # type: ignore[untyped-decorator]
        async def number(_of: str) -> int:
            return next(made)

        assert [await number("a"), await number("a"), await number("b")] == [1, 1, 2]
        assert await cache.get("a") == {"y": 2}
        assert await cache.clear(namespace="n")
        assert await cache.get("a") is None
        await number.cache.close()
        await cache.close()

    run(main())


def test_cashews(server_6h: GodisProcess) -> None:
    async def main() -> None:
        cache = cashews.Cache()
        cache.setup(url(server_6h), client_side=False)
        made = itertools.count(1)

        @cache(ttl="50s", key="plain:{x}")  # type: ignore[untyped-decorator]
        async def plain(x: int) -> int:
            return next(made)

        @cache.hit(ttl="50s", cache_hits=1, key="hit:{x}")  # type: ignore[untyped-decorator]
        async def hit(x: int) -> int:
            return next(made)

        @cache.early(ttl="50s", key="early:{x}")  # type: ignore[untyped-decorator]
        async def early(x: int) -> int:
            return next(made)

        assert [await plain(1), await plain(1), await plain(2)] == [1, 1, 2]
        assert [await hit(1), await hit(1), await hit(1)] == [3, 3, 4]
        assert [await early(1), await early(1)] == [5, 5]
        assert await limited(cache.rate_limit(limit=2, period="50s")) == [1, 1, "RateLimitError"]
        assert await limited(cache.slice_rate_limit(limit=2, period="50s")) == [1, 1, "RateLimitError"]
        async with cache.lock("lock", expire=30):
            assert await cache.is_locked("lock")
        async with cache.transaction():
            await cache.set("t", 1)
            await cache.incr("n")
        with pytest.raises(ZeroDivisionError):
            async with cache.transaction():
                await cache.set("t", 2 // 0)
        assert [await cache.get("t"), await cache.get("n"), await cache.set("t", 5, exist=False)] == [1, 1, False]
        await cache.set_many({"p:1": 1, "p:2": 2}, expire=50)
        assert sorted([key async for key in cache.scan("p:*")]) == ["p:1", "p:2"]
        await cache.delete_match("p:*")
        assert await cache.get_many("p:1", "p:2") == (None, None)
        assert await cache.incr_bits("bits", 0, 2, size=8) == (1, 1)
        assert await cache.get_bits("bits", 0, 1, 2, size=8) == (1, 0, 1)
        assert await cache.slice_incr("slice", 0, 100, 5, expire=50) == 1
        await cache.close()

    async def limited(limit: Any) -> list[Any]:
        @limit  # type: ignore[untyped-decorator]
        async def one() -> int:
            return 1

        done: list[Any] = []
        for _ in range(3):
            try:
                done.append(await one())
            except cashews.RateLimitError as error:
                done.append(type(error).__name__)
        return done

    run(main())


def test_cashews_at_the_clients_side(server_6h: GodisProcess) -> None:
    async def main() -> None:
        first, second = cashews.Cache(), cashews.Cache()
        for cache in (first, second):
            cache.setup(f"{url(server_6h)}?protocol=2", client_side=True)  # in RESP3 it misses what redis-py is told
            await cache.init()
        await first.set("k", 1, expire=50)
        assert [await second.get("k"), await second.get("k")] == [1, 1]
        await first.set("k", 2, expire=50)
        while await second.get("k") != 2:  # until it is told
            await asyncio.sleep(0.01)
        await first.close()
        await second.close()

    run(main())


def test_fastapi_cache(server_6h: GodisProcess) -> None:
    async def main() -> None:
        app, made = fastapi.FastAPI(), itertools.count(1)

        @app.get("/number")  # type: ignore[untyped-decorator]
        @cached_route(expire=60)  # type: ignore[untyped-decorator]
        async def number(of: str) -> dict[str, Any]:
            return {"of": of, "number": next(made)}

        async def ask(query: str) -> bytes:
            """Ask the application as a web server does."""
            sent: list[dict[str, Any]] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "GET", "path": "/number", "query_string": query.encode(), "headers": []}
            await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("h", 80)}, receive, send)
            assert sent[0]["status"] == 200
            return b"".join(message.get("body", b"") for message in sent)

        async with redis_asyncio.from_url(url(server_6h)) as r:
            fastapi_cache.FastAPICache.init(RedisBackend(r), prefix="cache")
            assert await ask("of=a") == await ask("of=a") == b'{"of":"a","number":1}'
            assert await ask("of=b") == b'{"of":"b","number":2}'
            assert [0 < await r.ttl(key) <= 60 for key in await r.keys("cache*")] == [True, True]
            await fastapi_cache.FastAPICache.clear()
            assert await ask("of=a") == b'{"of":"a","number":3}'
            fastapi_cache.FastAPICache.reset()

    run(main())
