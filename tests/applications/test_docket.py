"""docket, the tasks of fastmcp: a worker, results, delays, retries, rate limits, and a worker that is killed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, wait_until
from workers import load, running, url

docket: Any = package("docket", "pydocket")
WORKER = "-m", "docket", "worker", "--tasks", "docket_tasks:tasks", "--redelivery-timeout", "1s"
# The rights that docket's documentation names, and what it leaves out, on a Redis, too: it needs MULTI, and a pattern
# that one subscribes to must be allowed as it stands.
RULES = (
    "~docket:* &docket:* &docket:cancel:* &docket:state:* &docket:progress:* "
    "+@read +@write +@set +@sortedset +@hash +@stream +@pubsub +@scripting +@connection +@transaction"
)
WAIT = timedelta(seconds=PATIENCE_SECONDS)


def test_a_worker_with_only_the_rights_it_needs_runs_delayed_retried_and_limited_tasks(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "docket_tasks")
    restricted = url(server_6h).replace("//", "//worker:secret@")

    async def run() -> None:
        async with docket.Docket(url=restricted) as jobs:
            now = datetime.now(timezone.utc)
            one = await jobs.add(tasks.add)(1, 2)
            later = await jobs.add(tasks.add, when=now + timedelta(seconds=0.5))(3, 4)
            never = await jobs.add(tasks.add, when=now + timedelta(days=1), key="never")(0, 0)
            await jobs.add(tasks.add, key="never")(5, 5)  # a key is scheduled once
            again = await jobs.add(tasks.third_time)()
            failed = await jobs.add(tasks.fail)()
            for _ in range(4):
                await jobs.add(tasks.limited)()
            results = [await task.get_result(timeout=WAIT) for task in (one, later, again)]
            assert results == [3, 7, 3]
            with pytest.raises(ValueError, match="on purpose"):
                await failed.get_result(timeout=WAIT)
            await jobs.cancel("never")
            with pytest.raises(docket.ExecutionCancelled):
                await never.get_result(timeout=WAIT)

    with server_6h.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", *RULES.split())
        with running(server_6h, *WORKER, "--url", restricted):
            asyncio.run(run())
            wait_until(lambda: client.llen("ticks") >= 3, 30)
        assert client.llen("limited") == 2
        assert client.acl_log() == []  # nothing that it tried was refused
        client.acl_deluser("worker")


def test_a_task_of_a_worker_that_was_killed_is_run_by_another(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "docket_tasks")
    worker = *WORKER, "--url", url(server_6h)

    async def run() -> None:
        async with docket.Docket(url=url(server_6h)) as jobs:
            with running(server_6h, *worker) as killed:
                task = await jobs.add(tasks.hang_once)()
                while not client.llen("runs"):
                    await asyncio.sleep(0.01)
                killed.kill9()
            with running(server_6h, *worker):
                assert await task.get_result(timeout=WAIT) == "done"

    with server_6h.client() as client:
        asyncio.run(run())
        assert client.llen("runs") == 2
