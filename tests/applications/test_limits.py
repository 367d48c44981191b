"""Limits of requests by the package limits: its Lua scripts count, and its keys end by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from applications import package
from servers import GodisProcess
from tables import for_each

limits = package("limits")
storage: Any = package("limits.storage")
STRATEGIES = "FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"


@for_each("name", STRATEGIES)
def test_a_strategy_lets_through_what_its_limit_says(server_6h: GodisProcess, name: str) -> None:
    limiter = getattr(limits.strategies, name)(storage.storage_from_string(f"redis://127.0.0.1:{server_6h.port}"))
    limit = limits.parse("3/minute")
    assert [limiter.hit(limit, name, "user") for _ in range(5)] == [True] * 3 + [False] * 2
    assert limiter.get_window_stats(limit, name, "user").remaining == 0
    assert limiter.hit(limit, name, "another")
    with server_6h.client() as client:
        assert all(0 < client.ttl(key) <= 120 for key in client.keys("*"))
    limiter.clear(limit, name, "user")
    assert limiter.test(limit, name, "user")


@for_each("name", STRATEGIES)
def test_a_strategy_lets_through_as_much_by_asyncio(server_6h: GodisProcess, name: str) -> None:
    async def hits() -> list[bool]:
        store = storage.storage_from_string(f"async+redis://127.0.0.1:{server_6h.port}", implementation="redispy")
        limiter = getattr(limits.aio.strategies, name)(store)
        return [await limiter.hit(limits.parse("3/minute"), name) for _ in range(5)]

    assert asyncio.run(hits()) == [True] * 3 + [False] * 2


def test_a_reset_deletes_the_keys_of_limits_alone(server: GodisProcess) -> None:
    store = storage.storage_from_string(f"redis://127.0.0.1:{server.port}")
    limits.strategies.FixedWindowRateLimiter(store).hit(limits.parse("3/minute"), "user")
    with server.client() as client:
        client.set("mine", "1")
        assert store.reset() == 1
        assert client.keys("*") == [b"mine"]
