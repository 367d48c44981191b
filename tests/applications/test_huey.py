"""huey: a consumer with processes, priorities, delays, retries, pipelines, revoked and periodic tasks, and locks."""

from __future__ import annotations

from typing import Any

import pytest
from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, wait_until
from workers import load, running

huey: Any = package("huey")
CONSUMER = "-m", "huey.bin.huey_consumer", "huey_tasks.huey", "-q", "-d", "0.05", "-m", "0.1"


def wait(result: Any) -> Any:
    return result.get(blocking=True, timeout=PATIENCE_SECONDS)


def test_a_consumer_runs_delayed_retried_and_periodic_tasks(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "huey_tasks")
    add = tasks.add
    revoked = add(0, 0)
    revoked.revoke()
    with server_6h.client() as client, running(server_6h, *CONSUMER, "-w", "2", "-k", "process"):
        delayed = add.schedule((3, 4), delay=1)
        assert wait(add(1, 2)) == 3
        assert wait(delayed) == 7
        tasks.second_time()
        wait_until(lambda: client.lrange("notes", 0, -1) == [b"done"], 30)
        assert wait(tasks.huey.enqueue(add.s(1, 2).then(add, 4).then(add, 8))) == [3, 7, 15]
        with pytest.raises(huey.exceptions.TaskException, match="on purpose"):
            wait(tasks.fail())
        wait_until(lambda: client.get("ticks"), 70)
        assert revoked.is_revoked() is False  # a task that is revoked once is so until its turn
        assert revoked.get() is None
        assert tasks.huey.pending_count() == tasks.huey.scheduled_count() == 0


def test_tasks_of_a_higher_priority_are_run_first(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "huey_tasks")
    for priority in (1, 5, 3, 5):
        tasks.note(str(priority), priority=priority)
    with server_6h.client() as client, running(server_6h, *CONSUMER, "-w", "1", "-n"):
        wait_until(lambda: client.llen("notes") == 4, 30)
        assert client.lrange("notes", 0, -1) == [b"5", b"5", b"3", b"1"]


def test_a_lock_admits_one(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "huey_tasks")
    with pytest.raises(huey.exceptions.TaskLockedException):
        tasks.alone(lambda: tasks.alone(list))
    assert tasks.alone(list) == []
