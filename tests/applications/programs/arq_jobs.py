"""Jobs of arq. Run as a program, it enqueues some and says what became of them."""

import asyncio
import json
import os
import sys

from arq import Retry, create_pool, cron
from arq.connections import RedisSettings


async def add(ctx, a, b):
    return a + b


async def fail(ctx):
    raise ValueError("on purpose")


async def second_time(ctx):
    """Ask for another time when it is run for the first."""
    if ctx["job_try"] == 1:
        raise Retry(defer=0.1)
    return ctx["job_try"]


async def hang(ctx):
    await ctx["redis"].incr("hanging")
    await asyncio.sleep(600)


async def hang_once(ctx):
    if await ctx["redis"].rpush("runs", os.getpid()) == 1:
        await asyncio.sleep(600)
    return "done"


async def tick(ctx):
    await ctx["redis"].rpush("ticks", "tick")


class WorkerSettings:
    functions = (add, fail, second_time, hang, hang_once)
    cron_jobs = (cron(tick, second=set(range(60))),)
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    allow_abort_jobs = True
    poll_delay = 0.05


async def enqueue(pool):
    """Run a job of each kind to its end."""
    one = await pool.enqueue_job("add", 1, 2, _job_id="one")
    same = await pool.enqueue_job("add", 1, 2, _job_id="one")
    others = [
        await pool.enqueue_job("add", 5, 5, _defer_by=0.5),
        await pool.enqueue_job("second_time"),
        await pool.enqueue_job("fail"),
    ]
    hanging = await pool.enqueue_job("hang")
    while not await pool.exists("hanging"):
        await asyncio.sleep(0.01)
    aborted = await hanging.abort(timeout=60, poll_delay=0.05)
    results = await asyncio.gather(*map(result, (one, *others)), return_exceptions=True)
    return {"same": same, "aborted": aborted, "results": [*map(repr, results)], "status": await one.status()}


def result(job):
    return job.result(timeout=60, poll_delay=0.05)


async def main():
    pool = await create_pool(WorkerSettings.redis_settings)
    if sys.argv[1:] == ["hang_once"]:
        print(json.dumps(await result(await pool.enqueue_job("hang_once"))))
    else:
        print(json.dumps(await enqueue(pool)))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main())
