"""Tasks of docket."""

# ruff: noqa: B008 -- what a task depends on is a default, as in FastAPI

import asyncio
import os
from datetime import timedelta

import redis
from docket import Perpetual, RateLimit, Retry

store = redis.Redis.from_url(os.environ["REDIS_URL"])


async def add(a: int, b: int) -> int:
    return a + b


async def fail() -> None:
    raise ValueError("on purpose")


async def third_time(retry: Retry = Retry(attempts=5)) -> int:
    if retry.attempt < 3:
        raise ValueError("on purpose")
    return retry.attempt


async def hang_once() -> str:
    if store.rpush("runs", os.getpid()) == 1:
        await asyncio.sleep(600)
    return "done"


async def tick(perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=100), automatic=True)) -> None:
    store.rpush("ticks", "tick")


async def limited(rate: RateLimit = RateLimit(2, per=timedelta(hours=1), drop=True)) -> None:
    store.rpush("limited", "yes")


tasks = [add, fail, third_time, hang_once, tick, limited]
