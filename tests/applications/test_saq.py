"""SAQ: a worker, results, delays, retries, cron and jobs that are aborted."""

from __future__ import annotations

from applications import beside
from servers import GodisProcess, wait_until
from workers import ask, running

BESIDE = beside("saq")


def test_a_worker_runs_delayed_retried_and_periodic_jobs(server: GodisProcess) -> None:
    with server.client() as client, running(server, "-m", "saq", "saq_jobs.settings", PYTHONPATH=BESIDE):
        wait_until(lambda: client.exists("saq:default:sweep"), 30)  # else SAQ may abort a job that begins as it sweeps
        told = ask(server, "-m", "saq_jobs", PYTHONPATH=BESIDE)
        assert told["added"] == 3
        assert "ValueError: on purpose" in told["failure"]
        assert told["many"] == [0, 2, 4, 6]
        assert told["retried"] == 2
        assert told["same"] is None  # a job's key is queued once
        assert told["later"] == [2, "complete"]
        assert told["aborted"] == ["aborted", "enough"]
        wait_until(lambda: client.llen("ticks") >= 2, 30)
