"""arq: a worker, results, delays, retries, jobs that are aborted, cron, and a worker that is stopped amid a job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from applications import beside
from servers import GodisProcess, wait_until
from workers import ask, running

BESIDE = beside("arq")
WORKER = "-m", "arq", "arq_jobs.WorkerSettings"


def test_a_worker_runs_delayed_retried_and_periodic_jobs(server_6h: GodisProcess) -> None:
    with server_6h.client() as client, running(server_6h, *WORKER, PYTHONPATH=BESIDE):
        told = ask(server_6h, "-m", "arq_jobs", PYTHONPATH=BESIDE)
        assert told["same"] is None  # a job's id is queued once
        assert told["results"] == ["3", "10", "2", "ValueError('on purpose')"]
        assert (told["aborted"], told["status"]) == (True, "complete")
        wait_until(lambda: client.llen("ticks") >= 2, 30)


def test_a_job_of_a_worker_that_was_stopped_is_run_by_another(server_6h: GodisProcess) -> None:
    with server_6h.client() as client, ThreadPoolExecutor() as pool:
        with running(server_6h, *WORKER, PYTHONPATH=BESIDE) as stopped:
            told = pool.submit(ask, server_6h, "-m", "arq_jobs", "hang_once", PYTHONPATH=BESIDE)
            wait_until(lambda: client.llen("runs") == 1, 30)
            stopped.process.terminate()
            stopped.process.wait()
        with running(server_6h, *WORKER, PYTHONPATH=BESIDE):
            assert told.result() == "done"
        assert client.llen("runs") == 2
