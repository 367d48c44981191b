"""taskiq-redis: three brokers, results, a worker that is killed, and schedules."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, wait_until
from workers import load, running

package("taskiq_redis", "taskiq-redis")
WORKER = "-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1", "--log-level", "WARNING"


@pytest.mark.parametrize("broker", ["ListQueueBroker", "PubSubBroker", "RedisStreamBroker"])
def test_a_worker_of_each_broker_runs_tasks(
    server_6h: GodisProcess, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER", broker)
    tasks = load(server_6h, "taskiq_tasks")

    async def run() -> None:
        await tasks.broker.startup()
        added = [await tasks.add.kiq(number, number) for number in range(5)]
        results = [await task.wait_result(timeout=PATIENCE_SECONDS) for task in added]
        assert [result.return_value for result in results] == [0, 2, 4, 6, 8]
        failed = await (await tasks.fail.kiq()).wait_result(timeout=PATIENCE_SECONDS)
        assert (failed.is_err, repr(failed.error)) == (True, "ValueError('on purpose')")
        await tasks.broker.shutdown()

    with server_6h.client() as client, running(server_6h, *WORKER):
        if broker == "PubSubBroker":  # what nobody hears is lost
            wait_until(lambda: client.pubsub_numsub("taskiq")[0][1], 30)
        asyncio.run(run())


def test_a_task_of_a_process_that_was_killed_is_run_by_another(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "taskiq_tasks")

    async def run() -> None:
        await tasks.broker.startup()
        task = await tasks.kill_once.kiq()
        while not await task.is_ready():  # a worker looks for what others have left when it has read something new
            await tasks.note.kiq("new")
            await asyncio.sleep(0.1)
        assert (await task.get_result()).return_value == "done"
        await tasks.broker.shutdown()

    with server_6h.client() as client, running(server_6h, *WORKER):
        asyncio.run(run())
        assert client.get("runs") == b"2"
        wait_until(lambda: client.xpending("taskiq", "taskiq")["pending"] == 0)


def test_a_scheduler_sends_what_is_due(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "taskiq_tasks")
    due = datetime.now(timezone.utc) - timedelta(seconds=1)

    async def schedule() -> list[str]:
        await tasks.source.startup()
        await tasks.note.schedule_by_time(tasks.source, due, "due")
        later = await tasks.note.schedule_by_time(tasks.source, due + timedelta(days=1), "later")
        await tasks.note.schedule_by_cron(tasks.source, "* * * * *", "cron")
        await later.unschedule()
        names = [task.args[0] for task in await tasks.source.get_schedules()]
        await tasks.source.shutdown()
        return sorted(names)

    assert asyncio.run(schedule()) == ["cron", "due"]
    scheduler = "-m", "taskiq", "scheduler", "taskiq_tasks:scheduler", "--log-level", "WARNING"
    with server_6h.client() as client, running(server_6h, *WORKER), running(server_6h, *scheduler):
        wait_until(lambda: set(client.lrange("notes", 0, -1)) == {b"due", b"cron"}, 60)
