"""Tasks of huey, with a queue whose tasks have priorities."""

import os

from huey import PriorityRedisHuey, crontab

huey = PriorityRedisHuey("app", url=os.environ["REDIS_URL"])


@huey.task()
def add(a, b):
    return a + b


@huey.task()
def fail():
    raise ValueError("on purpose")


@huey.task(retries=2)
def second_time():
    """Fail when it is run for the first time."""
    if huey.storage.conn.incr("times") == 1:
        raise ValueError("on purpose")
    huey.storage.conn.rpush("notes", "done")


@huey.task()
def note(word):
    huey.storage.conn.rpush("notes", word)


@huey.periodic_task(crontab())
def tick():
    huey.storage.conn.incr("ticks")


@huey.lock_task("once")
def alone(inner):
    return inner()
