"""dramatiq: workers, results, delays, pipelines, groups, retries, a killed worker, and rate limits."""

from __future__ import annotations

from typing import Any

from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, wait_until
from workers import load, running, url

dramatiq: Any = package("dramatiq")
rate_limits: Any = package("dramatiq.rate_limits")
backends: Any = package("dramatiq.rate_limits.backends")
WORKER = "-m", "dramatiq", "dramatiq_tasks", "--processes", "1", "--threads", "2"


def wait(message: Any) -> Any:
    return message.get_result(block=True, timeout=PATIENCE_SECONDS * 1000)


def test_a_worker_runs_delayed_tasks_pipelines_groups_and_retries(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "dramatiq_tasks")
    add = tasks.add
    with server_6h.client() as client, running(server_6h, *WORKER):
        delayed = add.send_with_options(args=(3, 4), delay=500)
        assert wait(add.send(1, 2)) == 3
        assert wait(delayed) == 7
        assert wait((add.message(1, 2) | add.message(4) | add.message(8)).run()) == 15
        group = dramatiq.group([add.message(number, number) for number in range(3)]).run()
        assert [*group.get_results(block=True, timeout=PATIENCE_SECONDS * 1000)] == [0, 2, 4]
        assert wait(tasks.second_time.send()) == "done"
        failed = tasks.fail.send()
        dead = "dramatiq:default.XQ", failed.options["redis_message_id"]
        wait_until(lambda: client.zscore(*dead), 30)
        tasks.broker.join("default", timeout=PATIENCE_SECONDS * 1000)


def test_a_task_of_a_worker_that_was_killed_is_run_by_another(server_6h: GodisProcess) -> None:
    tasks = load(server_6h, "dramatiq_tasks")
    with server_6h.client() as client:
        message = tasks.hang_once.send()
        with running(server_6h, *WORKER) as killed:
            wait_until(lambda: client.llen("runs") == 1, 30)
            killed.kill9()
        with running(server_6h, *WORKER):
            assert wait(message) == "done"
        assert client.llen("runs") == 2


def test_rate_limits_admit_what_they_say(server_6h: GodisProcess) -> None:
    backend = backends.RedisBackend(url=url(server_6h))

    def admitted(limiter: Any, tries: int) -> int:
        count = 0
        for _ in range(tries):
            with limiter.acquire(raise_on_failure=False) as let_in:
                count += let_in
        return count

    only_one = rate_limits.ConcurrentRateLimiter(backend, "one", limit=1)
    with only_one.acquire(), only_one.acquire(raise_on_failure=False) as second:
        assert second is False
    assert admitted(only_one, 3) == 3
    assert admitted(rate_limits.WindowRateLimiter(backend, "window", limit=3, window=600), 5) == 3
    bucket = rate_limits.BucketRateLimiter(backend, "bucket", limit=3, bucket=86_400_000)
    assert admitted(bucket, 5) == 3
    barrier = rate_limits.Barrier(backend, "barrier")
    assert barrier.create(2)
    assert [barrier.wait(block=False) for _ in range(2)] == [False, True]
