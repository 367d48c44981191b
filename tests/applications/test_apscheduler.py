"""APScheduler: a job store that outlives its schedulers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from applications import package
from servers import GodisProcess, wait_until
from workers import load, running

package("apscheduler", "APScheduler")


def test_a_scheduler_runs_what_another_has_stored(server_6h: GodisProcess) -> None:
    jobs = load(server_6h, "apscheduler_jobs")
    note = "apscheduler_jobs:note"
    scheduler = jobs.make_scheduler()
    scheduler.start(paused=True)
    scheduler.add_job(note, "interval", seconds=0.2, args=["again"], id="again")
    scheduler.add_job(note, "date", run_date=datetime.now(timezone.utc), args=["once"], misfire_grace_time=None)
    scheduler.add_job(note, "date", run_date=datetime.now(timezone.utc) + timedelta(days=1), args=["no"], id="later")
    scheduler.add_job(note, "cron", hour=3, args=["never"], id="removed")
    scheduler.remove_job("removed")
    scheduler.shutdown()
    with server_6h.client() as client:
        for _ in range(2):  # the second goes on where the first was killed
            client.delete("notes")
            with running(server_6h, "-m", "apscheduler_jobs"):
                wait_until(lambda: client.lrange("notes", 0, -1).count(b"again") >= 2, 30)
        assert client.zcard("apscheduler.run_times") == client.hlen("apscheduler.jobs") == 2
        left = jobs.make_scheduler()
        left.start(paused=True)
        assert [job.id for job in left.get_jobs()] == ["again", "later"]
        left.shutdown()
