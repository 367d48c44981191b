"""BullMQ: a worker, delays, retries, priorities, flows, schedulers, and a worker that is killed amid a job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from applications import node_packages
from servers import GodisProcess, wait_until
from workers import ask, running

NODE_PATH = node_packages("bullmq")
WORKER = "node", "bullmq_jobs.js", "work"


def test_a_worker_runs_delayed_retried_and_periodic_jobs_and_flows(server_6h: GodisProcess) -> None:
    with running(server_6h, *WORKER, NODE_PATH=NODE_PATH):
        told = ask(server_6h, "node", "bullmq_jobs.js", "add", NODE_PATH=NODE_PATH)
    assert told["many"] == [0, 2, 4]
    assert told["same"] == 2  # a job's id is added once
    assert (told["delayed"], told["retried"], told["flow"]) == (3, 2, 12)
    assert (told["failed"], told["failures"]) == ("on purpose", 1)
    assert told["waiting"] == {"prioritized": 3, "paused": 0}
    assert [note for note in told["notes"] if note != "again"] == ["priority 1", "priority 2", "priority 3"]
    with server_6h.client() as client:
        assert client.exists("bull:jobs:meta")
    assert ask(server_6h, "node", "bullmq_jobs.js", "obliterate", NODE_PATH=NODE_PATH) == []


def test_a_job_of_a_worker_that_was_killed_is_run_by_another(server_6h: GodisProcess) -> None:
    with server_6h.client() as client, ThreadPoolExecutor() as pool:
        with running(server_6h, *WORKER, NODE_PATH=NODE_PATH) as killed:
            told = pool.submit(ask, server_6h, "node", "bullmq_jobs.js", "hang", NODE_PATH=NODE_PATH)
            wait_until(lambda: client.llen("runs") == 1, 30)
            killed.kill9()
        with running(server_6h, *WORKER, NODE_PATH=NODE_PATH):
            assert told.result() == "done"
        assert client.llen("runs") == 2
