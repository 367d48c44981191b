"""Actors of dramatiq, with results."""

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["REDIS_URL"]
broker = RedisBroker(url=URL, heartbeat_timeout=2000, maintenance_chance=1_000_000)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(a, b):
    return a + b


@dramatiq.actor(store_results=True, min_backoff=1, max_backoff=100)
def second_time():
    """Fail when it is run for the first time."""
    if broker.client.incr("times") == 1:
        raise ValueError("on purpose")
    return "done"


@dramatiq.actor(max_retries=0)
def fail():
    raise ValueError("on purpose")


@dramatiq.actor(store_results=True)
def hang_once():
    if broker.client.rpush("runs", os.getpid()) == 1:
        time.sleep(600)
    return "done"
