"""Tasks of taskiq, on a broker of the kind that BROKER names."""

import os

import redis
import taskiq_redis
from taskiq import TaskiqScheduler

URL = os.environ["REDIS_URL"]
OPTIONS = {"RedisStreamBroker": {"idle_timeout": 1000, "xread_block": 200, "consumer_id": "0"}}
kind = os.environ.get("BROKER", "RedisStreamBroker")
results = taskiq_redis.RedisAsyncResultBackend(URL, result_ex_time=600)
broker = getattr(taskiq_redis, kind)(URL, **OPTIONS.get(kind, {})).with_result_backend(results)
source = taskiq_redis.ListRedisScheduleSource(URL)
scheduler = TaskiqScheduler(broker, [source])


@broker.task(task_name="add")
async def add(a, b):
    return a + b


@broker.task(task_name="fail")
async def fail():
    raise ValueError("on purpose")


@broker.task(task_name="kill_once")
def kill_once():
    """Kill the process when it is run for the first time."""
    if redis.Redis.from_url(URL).incr("runs") == 1:
        os.kill(os.getpid(), 9)
    return "done"


@broker.task(task_name="note")
async def note(word):
    redis.Redis.from_url(URL).rpush("notes", word)
