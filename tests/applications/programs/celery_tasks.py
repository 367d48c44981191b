"""Tasks of Celery, with Godis as broker and for results."""

import os
import time

import redis
from celery import Celery

URL = os.environ["REDIS_URL"]
app = Celery("godis", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": int(os.environ.get("VISIBILITY_SECONDS", "3600"))},
    result_extended=True,
    worker_prefetch_multiplier=1,
    beat_schedule={"tick": {"task": "note", "schedule": 0.5, "args": ["tick"]}},
)
store = redis.Redis.from_url(URL)


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="fail")
def fail():
    raise ValueError("on purpose")


@app.task(name="third_time", bind=True, max_retries=5)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="note")
def note(word):
    store.rpush("notes", word)


@app.task(name="hang_once", acks_late=True)
def hang_once():
    """Hang when it is run for the first time."""
    if store.rpush("runs", os.getpid()) == 1:
        time.sleep(600)
    return "done"
