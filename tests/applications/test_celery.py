"""Celery: broker and results, chords, retries, a worker that is killed amid a task, and beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, wait_until
from workers import load, running

celery: Any = package("celery")
WORKER = "-m", "celery", "-A", "celery_tasks", "worker", "-c", "2", "-l", "WARNING", "--without-mingle"


def wait(result: Any) -> Any:
    return result.get(timeout=PATIENCE_SECONDS)


def test_a_worker_runs_tasks_chords_chains_and_retries(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "celery_tasks")
    add, total = tasks.add, tasks.total
    with tasks.app, running(server_6h, *WORKER):
        assert [wait(result) for result in [add.delay(number, number) for number in range(10)]] == [*range(0, 20, 2)]
        assert wait(celery.group(add.s(1, number) for number in range(3)).delay()) == [1, 2, 3]
        assert wait(celery.chord(add.s(number, 1) for number in range(5))(total.s())) == 15
        assert wait((add.s(1, 2) | add.s(4) | add.s(8)).delay()) == 15
        assert wait(tasks.third_time.delay()) == 2
        assert wait(add.apply_async((1, 2), countdown=0.3)) == 3
        failed = tasks.fail.delay()
        with pytest.raises(ValueError, match="on purpose"):
            wait(failed)
        assert "on purpose" in failed.traceback
        (answer,) = tasks.app.control.ping(limit=1, timeout=PATIENCE_SECONDS)
        assert [*answer.values()] == [{"ok": "pong"}]
        failed.forget()
        assert failed.status == "PENDING"


def test_a_task_of_a_worker_that_was_killed_is_run_by_another(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "celery_tasks")
    with tasks.app, server_6h.client() as client:
        with running(server_6h, *WORKER) as killed:
            result = tasks.hang_once.delay()
            wait_until(lambda: client.llen("runs") == 1)
            killed.kill9()
        assert client.hlen("unacked") == 1
        with running(server_6h, *WORKER, VISIBILITY_SECONDS="1"):
            assert wait(result) == "done"
            wait_until(lambda: client.hlen("unacked") == 0)
        assert client.llen("runs") == 2


def test_beat_sends_a_task_again_and_again(server_6h: GodisProcess, tmp_path: Path) -> None:
    beat = *WORKER[:4], "beat", "-l", "WARNING", "-s", str(tmp_path / "schedule")
    with server_6h.client() as client, running(server_6h, *WORKER), running(server_6h, *beat, "--pidfile="):
        wait_until(lambda: client.llen("notes") >= 3)
        assert set(client.lrange("notes", 0, -1)) == {b"tick"}
