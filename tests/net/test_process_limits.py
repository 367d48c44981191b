"""What the system allows a process: files, threads, memory. What a server needs of it, it has before its clients."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
import gevent.threadpool
import pytest
from rig.etcd_cluster import EtcdNode
from servers import GODIS, ROOT, GodisProcess, Raw, RedisProcess, parse, require, wait_until
from stepped_turn import Rig

from errors import StartError
from net import turn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
OK = b"+OK\r\n"
LIMIT = 64
TOO_MANY = b"-ERR max number of clients reached\r\n"


def limited(command: list[str], soft: int, hard: int) -> list[str]:
    """Run a command with a limit on open files; root's right to go beyond it is taken away."""
    script = f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec {shlex.join(command)}"
    wrapped = ["sh", "-c", script]
    if os.geteuid() == 0:
        wrapped = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", *wrapped]
    return wrapped


class LimitedGodis(GodisProcess):
    """Godis that may open `hard` files."""

    def __init__(self, directory: Path, *args: str, hard: int = LIMIT, soft: int = LIMIT) -> None:
        self.soft, self.hard = soft, hard
        super().__init__(directory, *args)

    def command(self) -> list[str]:
        return limited(super().command(), self.soft, self.hard)


class LimitedRedis(RedisProcess):
    """Redis that may open LIMIT files."""

    def command(self) -> list[str]:
        return limited(super().command(), LIMIT, LIMIT)


def patched(patch: str, arguments: list[str]) -> list[str]:
    """Return the command line of a Godis that runs some lines of Python before it starts."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{patch}\nimport godis\n"
    return [sys.executable, "-c", f"{program}sys.exit(godis.main({arguments!r}))"]


class PatchedGodis(GodisProcess):
    """Godis that runs some lines of Python before it starts."""

    def __init__(self, directory: Path, patch: str) -> None:
        self.patch = patch
        super().__init__(directory)

    def command(self) -> list[str]:
        return patched(self.patch, super().command()[2:])


def maxclients(raw: Raw) -> int:
    return int(parse(raw.ask("CONFIG", "GET", "maxclients"))[1])


def soft_limit(godis: GodisProcess) -> int:
    limits = Path(f"/proc/{godis.pid}/limits").read_text()
    return int(limits.partition("Max open files")[2].split()[0])


def synced(raw: Raw) -> bool:
    return b"aof_unsynced_bytes:0\r" in raw.ask("INFO", "persistence")


# ---- files


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_crowd_that_takes_all_descriptors_costs_no_write_and_no_stop(tmp_path: Path, policy: str) -> None:
    with LimitedGodis(tmp_path, "--appendfsync", policy) as godis:
        crowd = [godis.raw() for _ in range(LIMIT - 8)]
        assert crowd[0].ask("SET", "a", 1) == OK
        assert crowd[-1].read_all() == TOO_MANY
        crowd[0].ask("BGREWRITEAOF")
        wait_until(lambda: "the log is rewritten" in godis.stderr(), what="a rewrite has descriptors")
        with godis.raw() as late:
            assert late.read_all() == TOO_MANY
        for client in crowd:
            client.close()
        wait_until(godis.answers, what="the crowd is gone")
        with godis.raw() as raw:
            assert raw.ask("SET", "b", 1) == OK
            wait_until(lambda: synced(raw), what="it is synced")
        assert godis.terminate() == 0
        assert "everything is in the log" in godis.stderr()
        assert "Traceback" not in godis.stderr()


def test_maxclients_is_lowered_to_what_the_limit_allows_as_redis_does_it(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with LimitedGodis(tmp_path) as godis, godis.raw() as raw:
        assert "maxclients is lowered from 10000 to 32: this process may open 64 files" in godis.stderr()
        with LimitedRedis(tmp_path / "redis") as redis, redis.raw() as real:
            assert maxclients(raw) == maxclients(real) == LIMIT - 32
            for number in (20, 32, 40, 1_000_000):
                assert raw.ask("CONFIG", "SET", "maxclients", number) == real.ask("CONFIG", "SET", "maxclients", number)
            assert maxclients(raw) == maxclients(real)


def test_the_soft_limit_is_raised_to_what_maxclients_needs(tmp_path: Path) -> None:
    require(Path("/proc/self/limits").exists(), "this system has no /proc, to look at a limit")
    with LimitedGodis(tmp_path, "--maxclients", "500", hard=1000) as godis, godis.raw() as raw:
        assert "maxclients is lowered" not in godis.stderr()
        assert soft_limit(godis) == 532
        assert raw.ask("CONFIG", "SET", "maxclients", 900) == OK
        assert soft_limit(godis) == 932


def test_a_limit_too_low_for_one_client_is_told(tmp_path: Path) -> None:
    command = limited([sys.executable, str(GODIS), "--port", "0"], 32, 32)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "may open 32 files and needs 32 for itself: raise the limit (ulimit -n)" in done.stderr
    assert "Traceback" not in done.stderr


# ---- threads


def test_all_threads_run_before_the_first_client_and_none_is_started_later(tmp_path: Path) -> None:
    require(Path("/proc/self/task").exists(), "this system has no /proc, to count threads")
    with GodisProcess(tmp_path, "--appendfsync", "always") as godis, godis.raw() as raw:
        threads = len(os.listdir(f"/proc/{godis.pid}/task"))
        assert threads == 1 + turn.THREADS
        for number in range(100):
            assert raw.ask("SET", number, 1) == OK
        raw.ask("BGREWRITEAOF")
        wait_until(lambda: "the log is rewritten" in godis.stderr(), what="a rewrite")
        assert len(os.listdir(f"/proc/{godis.pid}/task")) == threads


def test_threads_that_cannot_be_started_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(gevent.threadpool, "start_new_thread", refuse)
    pool = gevent.threadpool.ThreadPool(1)
    monkeypatch.setattr(gevent.get_hub(), "threadpool", pool)
    with pytest.raises(StartError, match=r"cannot start 3 threads \(can't start new thread\): raise the limit"):
        turn.start_threads(3)


def test_a_member_of_a_pool_that_cannot_start_its_watchdog_says_so(node: EtcdNode, tmp_path: Path) -> None:
    patch = 'import threading\ndef fail(thread): raise RuntimeError("can\'t start new thread")\n'
    patch += "threading.Thread.start = fail"
    program = patched(patch, ["--port", "0", "--pool", f"etcd://{node.endpoint}/{tmp_path.name}"])
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "godis: cannot start a thread (can't start new thread): raise the limit on processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=["memory", "thread"])
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_an_fsync_that_cannot_begin_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, error: Exception
) -> None:
    rig = Rig(tmp_path, monkeypatch, policy=policy)
    in_thread = rig.turn._in_thread

    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(rig.turn, "_in_thread", refuse)
    writer, reader = rig.connect(), rig.connect()
    writer.ask("SET a 1")
    reader.ask("GET b")
    rig.turn.end()
    rig.turn.each_second()
    assert not rig.turn.syncing
    assert reader.take() == b"$-1\r\n"
    assert writer.take() == (b"" if policy == "always" else OK)
    monkeypatch.setattr(rig.turn, "_in_thread", in_thread)
    rig.turn.each_second()
    rig.settle()
    assert rig.log.synced_bytes == rig.log.written_bytes > 0
    assert writer.take() == (OK if policy == "always" else b"")
    rig.close()


def test_a_rewrite_that_no_thread_takes_fails_and_the_next_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, monkeypatch, policy="everysec")
    rewriter, in_thread = rig.turn.rewriter, rig.turn._in_thread
    rig.connect().ask("SET a 1")
    rig.turn.end()

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(rewriter, "_in_thread", refuse)
    rig.instance.rewrite.requested = True
    rig.turn.end()
    assert rewriter.step(lambda: False)
    assert rig.instance.rewrite.last_failure == "can't start new thread"
    assert not rig.instance.rewrite.running
    monkeypatch.setattr(rewriter, "_in_thread", in_thread)
    rig.instance.rewrite.requested = True
    rig.turn.end()
    assert rewriter.step(lambda: False)
    rig.settle()
    assert rig.instance.rewrite.last_failure == ""
    assert not rig.instance.rewrite.running
    rig.close()


# ---- housekeeping

FAIL_FOR_A_SECOND = """
import {module} as module
from time import monotonic
plain, ends = module.{name}, []
def failing(*args):
    if not ends:
        ends.append(monotonic() + 1)
    if monotonic() < ends[0]:
        raise {error}
    return plain(*args)
module.{name} = failing
"""


@pytest.mark.parametrize("error", ["MemoryError", "ValueError"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("store", "Store.expire_cycle"),
        ("keyspace.eviction", "Eviction.step"),
        ("net.rewriter", "Rewriter.consider"),
        ("net.turn", "Turn.each_second"),
    ],
)
def test_a_chore_that_fails_ends_no_housekeeping(tmp_path: Path, module: str, name: str, error: str) -> None:
    with PatchedGodis(tmp_path, FAIL_FOR_A_SECOND.format(module=module, name=name, error=error)) as godis:
        wait_until(lambda: f"failed ({error})" in godis.stderr(), what="a chore fails")
        assert godis.stderr().count("and is tried again") == 1
        assert ("Traceback" in godis.stderr()) == (error == "ValueError")  # a mistake in the program
        with godis.raw() as raw:
            raw.ask("SET", "dies", 1, "PX", 10)
            wait_until(lambda: b"expired_keys:1" in raw.ask("INFO", "stats"), what="keys expire without being read")
            raw.ask("SET", "a", 1)
            wait_until(lambda: synced(raw), what="fsyncs go on")
        assert godis.terminate() == 0


def test_housekeeping_that_ends_ends_the_server_with_an_error(tmp_path: Path) -> None:
    patch = FAIL_FOR_A_SECOND.format(module="gevent", name="sleep", error="MemoryError")
    program = patched(patch, ["--port", "0", "--log", str(tmp_path / "log.txt")])
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "stopped, since housekeeping ended: MemoryError" in done.stderr
