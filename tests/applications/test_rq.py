"""RQ: a worker with its scheduler, dependent jobs, retries, jobs that are stopped or whose process is killed."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

from applications import package
from servers import GodisProcess, wait_until
from workers import running, url

rq: Any = package("rq")
command: Any = package("rq.command")
WORKER = "-m", "rq.cli", "worker", "--with-scheduler", "--quiet", "--path", ".", "--url"
SECONDS = 30


def test_a_worker_runs_dependent_scheduled_and_repeated_jobs(server_6h: GodisProcess) -> None:
    with server_6h.client() as client, running(server_6h, *WORKER, url(server_6h)):
        queue = rq.Queue(connection=client)
        first = queue.enqueue("rq_jobs.add", 2, 3)
        failing = queue.enqueue("rq_jobs.fail")
        dependent = queue.enqueue("rq_jobs.add", 1, 1, depends_on=first)
        waiting = queue.enqueue("rq_jobs.add", 1, 1, depends_on=failing)
        retried = queue.enqueue("rq_jobs.second_time", "a", retry=rq.Retry(max=2))
        retried_later = queue.enqueue("rq_jobs.second_time", "b", retry=rq.Retry(max=2, interval=1))
        scheduled = queue.enqueue_in(timedelta(seconds=1), "rq_jobs.add", 5, 5)
        repeated = queue.enqueue("rq_jobs.second_time", "c", repeat=rq.Repeat(times=1), retry=rq.Retry(max=1))
        done = first, dependent, retried, retried_later, scheduled, repeated
        wait_until(lambda: all(job.get_status() == "finished" for job in done), SECONDS)
        wait_until(lambda: client.get("c") == b"3", SECONDS)
        assert [job.return_value() for job in done] == [5, 2, "done", "done", 10, "done"]
        assert (failing.get_status(), waiting.get_status()) == ("failed", "deferred")
        assert "ValueError: on purpose" in failing.latest_result().exc_string
        assert queue.failed_job_registry.get_job_ids() == [failing.id]
        assert len(queue.scheduled_job_registry) == len(queue) == 0
        failing.requeue()
        wait_until(lambda: len(failing.results()) == 2 and failing.get_status() == "failed", SECONDS)


def test_a_job_that_is_stopped_or_killed_fails_and_the_worker_goes_on(server_6h: GodisProcess) -> None:
    with server_6h.client() as client, running(server_6h, *WORKER, url(server_6h)):
        queue = rq.Queue(connection=client)
        stopped, killed, last = *(queue.enqueue("rq_jobs.hang") for _ in range(2)), queue.enqueue("rq_jobs.add", 1, 2)
        wait_until(lambda: stopped.get_meta().get("pid"), SECONDS)
        command.send_stop_job_command(client, stopped.id)
        wait_until(lambda: killed.get_meta().get("pid"), SECONDS)
        os.kill(killed.meta["pid"], signal.SIGKILL)
        wait_until(last.return_value, SECONDS)
        assert (stopped.get_status(), killed.get_status(), last.return_value()) == ("stopped", "failed", 3)
        assert "signal 9" in killed.latest_result().exc_string
        (worker,) = rq.Worker.all(connection=client)
        assert (worker.successful_job_count, worker.failed_job_count) == (1, 2)
