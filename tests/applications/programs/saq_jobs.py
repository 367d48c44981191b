"""Jobs of SAQ. Run as a program, it enqueues some and says what became of them."""

import asyncio
import json
import os
import time

from saq import CronJob, Queue
from saq.queue import JobError

queue = Queue.from_url(os.environ["REDIS_URL"])


async def add(ctx, *, a, b):
    return a + b


async def fail(ctx):
    raise ValueError("on purpose")


async def second_time(ctx):
    """Fail when it is run for the first time."""
    if ctx["job"].attempts == 1:
        raise ValueError("on purpose")
    return ctx["job"].attempts


async def hang(ctx):
    await queue.redis.rpush("hanging", "yes")
    await asyncio.sleep(600)


async def tick(ctx):
    await queue.redis.rpush("ticks", "tick")


settings = {
    "queue": queue,
    "functions": [add, fail, second_time, hang],
    "cron_jobs": [CronJob(tick, cron="* * * * * *")],
    "concurrency": 4,
    "timers": {"schedule": 1, "abort": 1},
    "dequeue_timeout": 1,
}


async def main():
    await queue.connect()
    told = {"added": await queue.apply("add", a=1, b=2, timeout=60)}
    try:
        await queue.apply("fail", timeout=60)
    except JobError as error:
        told["failure"] = str(error)
    told["many"] = await queue.map("add", [{"a": i, "b": i} for i in range(4)], timeout=60)
    told["retried"] = await queue.apply("second_time", retries=2, timeout=60)
    later = await queue.enqueue("add", a=1, b=1, scheduled=int(time.time()) + 1)
    await queue.enqueue("add", a=1, b=1, scheduled=int(time.time()) + 600, key="much later")
    told["same"] = await queue.enqueue("add", a=1, b=1, key="much later")
    await later.refresh(60)
    told["later"] = later.result, later.status
    hanging = await queue.enqueue("hang", timeout=0)
    while not await queue.redis.exists("hanging"):
        await asyncio.sleep(0.01)
    await hanging.abort("enough")
    await hanging.refresh(60)
    told["aborted"] = hanging.status, hanging.error
    print(json.dumps(told))
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
