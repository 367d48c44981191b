"""Jobs of APScheduler. Run as a program, it is the scheduler that runs what others have stored."""

import os
import time

import redis
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler

PORT = int(os.environ["REDIS_URL"].rsplit(":", 1)[1].split("/")[0])


def note(word):
    with redis.Redis(port=PORT) as client:
        client.rpush("notes", word)


def make_scheduler():
    return BackgroundScheduler(jobstores={"default": RedisJobStore(port=PORT)}, timezone="UTC")


if __name__ == "__main__":
    make_scheduler().start()
    time.sleep(600)
