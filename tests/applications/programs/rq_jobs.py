"""Jobs of RQ."""

import os
import time

import redis
import rq


def add(a, b):
    return a + b


def fail():
    raise ValueError("on purpose")


def second_time(key):
    """Fail when it is run for the first time."""
    if redis.Redis.from_url(os.environ["REDIS_URL"]).incr(key) == 1:
        raise ValueError("on purpose")
    return "done"


def hang():
    rq.get_current_job().meta["pid"] = os.getpid()
    rq.get_current_job().save_meta()
    time.sleep(600)
