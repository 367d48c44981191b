"""The rewrite of the log: whatever happens meanwhile, the new log says what the old one did, and is shorter.

Below the server the clock stands still and the jobs of threads wait in a list, so that each step can be put between
any two commands. What the process does on top is seen from outside, under load and `kill -9`.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import run_one, state_of
from log_model import IN_MEMORY
from rewrite_rig import DATABASES, Rig, do, replayed
from servers import GodisProcess, RedisProcess, require, wait_until

import aof
from aof import AppendOnlyLog
from log.kept import kept_logs
from log.rewrite import Rewrite
from replies import OK


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    made = Rig(str(tmp_path))
    yield made
    for job, _ in made.jobs:  # what is left to be closed
        job()
    made.log.close()


KEYS = st.integers(0, 150).map(lambda number: f"k{number}")
COMMANDS = st.one_of(
    st.tuples(st.just("SET"), KEYS, st.integers(0, 999)),
    st.tuples(st.just("SET"), KEYS, st.integers(0, 999), st.just("PX"), st.integers(1, 3000)),
    st.tuples(st.just("SET"), KEYS, st.integers(0, 999), st.just("KEEPTTL")),
    st.tuples(st.just("INCR"), KEYS),
    st.tuples(st.just("APPEND"), KEYS, st.just("7")),
    st.tuples(st.just("DEL"), KEYS, KEYS),
    st.tuples(st.just("PEXPIRE"), KEYS, st.integers(-1, 3000)),
    st.tuples(st.just("PERSIST"), KEYS),
    st.tuples(st.just("GETDEL"), KEYS),
    st.tuples(st.just("RENAME"), KEYS, KEYS),
    st.tuples(st.just("MOVE"), KEYS, st.integers(0, DATABASES - 1)),
    st.tuples(st.just("COPY"), KEYS, KEYS, st.just("REPLACE")),
    st.tuples(st.just("SELECT"), st.integers(0, DATABASES - 1)),
    st.tuples(st.just("SWAPDB"), st.integers(0, DATABASES - 1), st.integers(0, DATABASES - 1)),
    st.tuples(st.sampled_from(["FLUSHDB", "FLUSHALL"])),
)
ALIKE = st.tuples(
    st.just("many"),
    st.sampled_from(["SET {} 8", "INCR {}", "EXPIRE {} 2", "DEL {}", "SETEX {} 2 8", "GET {}"]),
    st.lists(KEYS, min_size=1, max_size=6),
)
OTHERS = st.one_of(
    st.tuples(st.just("step")),
    st.tuples(st.just("walk")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("rewrite")),
    st.tuples(st.just("wait"), st.integers(1, 1500)),
    st.tuples(st.just("housekeeping")),
)


@settings(max_examples=60)
@given(st.integers(0, 150), st.lists(st.one_of(COMMANDS, COMMANDS, ALIKE, OTHERS), max_size=120))
def test_whatever_happens_meanwhile_the_new_log_says_what_the_keyspace_holds(
    count: int, actions: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        rig = Rig(directory)
        for number in range(count):
            rig.ask("SELECT", number % DATABASES)
            rig.ask("SET", f"k{number}", number, *(("PX", 1 + number * 50) if number % 3 else ()))
        rig.ask("SELECT", 0)
        rig.ask("BGREWRITEAOF")
        rig.end_turn()
        for action in actions:
            do(rig, action)
        rig.finish()
        assert rig.instance.rewrite.last_failure == ""
        rig.log.close()
        for db in rig.store.databases:
            db.check()
            assert db.views == ()
        assert replayed(rig.path) == state_of(rig.store)
        assert not os.path.exists(rig.path + ".rewrite")


@settings(max_examples=50)
@given(st.lists(st.one_of(COMMANDS, ALIKE, st.tuples(st.just("step"))), max_size=80), st.integers(0, 2**32))
def test_the_snapshot_alone_is_the_keyspace_at_the_moment_of_the_start(
    actions: list[tuple[Any, ...]], seed: int
) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        rig = Rig(directory)
        random = Random(seed)
        for number in range(300):
            rig.ask("SELECT", random.randrange(DATABASES))
            rig.ask("SET", f"k{random.randrange(200)}", number, *random.choice([(), ("PX", random.randrange(1, 900))]))
        rig.end_turn()
        before = state_of(rig.store)
        run = Rewrite(rig.log, rig.store)
        for action in actions:
            if action == ("step",):
                run.walk(lambda: True)
            else:
                rig.ask(*action)
        while not run.walk(lambda: True):
            rig.store.tick(rig.store.now_ms + 1)
        run.write_out()
        assert replayed(run.successor.path) == before
        run.abandon()
        run.close()
        rig.log.close()


def fill(rig: Rig, count: int = 500) -> None:
    for _ in range(3):
        for number in range(count):
            rig.ask("SET", f"key:{number}", "x" * 100)
        rig.end_turn()


def test_the_log_becomes_shorter_and_goes_on(rig: Rig) -> None:
    fill(rig)
    old_bytes = os.path.getsize(rig.path)
    rig.ask("BGREWRITEAOF")
    rig.finish()
    new_bytes = os.path.getsize(rig.path)
    assert new_bytes < old_bytes / 2
    assert rig.instance.rewrite.base_bytes == rig.log.size_bytes == new_bytes
    rig.ask("SET", "after", 1)
    rig.end_turn()
    rig.log.fsync()
    assert rig.log.synced_bytes == rig.log.written_bytes
    assert rig.log.size_bytes == os.path.getsize(rig.path) > new_bytes
    assert replayed(rig.path) == state_of(rig.store)


def test_nothing_new_counts_as_synced_before_the_new_file_and_its_directory_are(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then a crash may bring the old file back, which is whole only up to what was synced of it."""
    synced_directories: list[str] = []
    monkeypatch.setattr(aof, "sync_directory", synced_directories.append)
    fill(rig)
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    while not rig.rewriter.needs_fsync:
        rig.step()
    rig.rewriter.fsync()
    synced_bytes = rig.log.synced_bytes
    rig.ask("SET", "late", 1)
    rig.end_turn()
    end_bytes = rig.log.written_bytes  # what a turn would wait for under `always`
    rig.jobs.clear()
    rig.synced()
    assert not rig.instance.rewrite.in_progress
    assert rig.log.written_bytes == end_bytes
    assert rig.log.synced_bytes == synced_bytes < end_bytes
    assert synced_directories == []
    rig.log.fsync()
    assert rig.log.synced_bytes == end_bytes
    assert synced_directories == [os.path.realpath(os.path.dirname(rig.path)) + "/log.txt"]
    assert replayed(rig.path) == state_of(rig.store)


def test_a_failed_fsync_after_the_rename_is_repaired_in_the_new_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(rig)
    rig.ask("BGREWRITEAOF")
    rig.finish()
    rig.ask("SET", "late", 1)
    rig.end_turn()

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(aof, "_sync", broken)
        rig.log.fsync()
    assert rig.log.failure
    rig.log.fsync()
    assert rig.log.failure is None
    assert replayed(rig.path) == state_of(rig.store)


FAULTS = [*(("write", nth) for nth in (1, 2, 3, 5)), ("fsync", 1), ("fsync", 2), ("replace", 1), ("open", 1)]


@pytest.mark.parametrize("closed_to_rename", [False, True], ids=["", "the way of Windows"])
@pytest.mark.parametrize(("name", "nth"), FAULTS)
def test_a_failure_leaves_the_old_log_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str, nth: int, closed_to_rename: bool
) -> None:
    """The nth call for the rewrite's file fails."""
    monkeypatch.setattr(aof, "CLOSED_TO_RENAME", closed_to_rename)
    fill(rig, 3000)
    real = {"write": os.write, "fsync": aof._sync, "replace": os.replace, "open": os.open}[name]
    calls = 0

    def fails(*args: Any, **named: Any) -> Any:
        nonlocal calls
        ours = args[0] != rig.log._descriptor and (name != "open" or str(args[0]).endswith(".rewrite"))
        calls += ours
        if ours and calls == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **named)

    inode = os.stat(rig.path).st_ino
    with monkeypatch.context() as patch:
        patch.setattr(*((aof, "_sync") if name == "fsync" else (os, name)), fails)
        rig.ask("BGREWRITEAOF")
        rig.end_turn()
        for number in range(40):
            rig.ask("INCR", f"n{number % 7}")
            rig.ask("DEL", f"key:{number}")
            rig.end_turn()
            rig.step()
        rig.finish()
    assert calls >= nth
    assert rig.instance.rewrite.last_failure == "No space left on device"
    assert os.stat(rig.path).st_ino == inode
    assert rig.log.failure is None
    assert not os.path.exists(rig.path + ".rewrite")
    assert all(db.views == () for db in rig.store.databases)
    assert replayed(rig.path) == state_of(rig.store)
    rig.ask("BGREWRITEAOF")
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    assert replayed(rig.path) == state_of(rig.store)


def test_it_does_not_begin_while_something_is_not_written(rig: Rig) -> None:
    """The copy of the log's tail would bring it once more, behind the snapshot that has it."""
    fill(rig)
    rig.ask("INCR", "n")
    rig.instance.rewrite.requested = True
    rig.rewriter.begin()
    assert rig.instance.rewrite.last_failure == "the log cannot be written"
    rig.end_turn()
    rig.ask("BGREWRITEAOF")
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    assert replayed(rig.path) == state_of(rig.store)


def test_a_log_that_fails_meanwhile_ends_the_rewrite(rig: Rig) -> None:
    fill(rig)
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    rig.log.write_failure = rig.log.failure = b"the disk is gone"
    rig.step()
    assert rig.instance.rewrite.last_failure == "the disk is gone"
    assert rig.ask("BGREWRITEAOF") == b"MISCONF Errors writing to the AOF file: the disk is gone"
    rig.log.write_failure = rig.log.failure = None


@pytest.mark.parametrize("looked", [True, False], ids=["found during it", "found at its end"])
@pytest.mark.parametrize("spoil", [lambda path: os.truncate(path, 100), os.unlink], ids=["cut", "removed"])
def test_a_log_that_is_spoilt_during_a_rewrite_is_written_anew_by_the_next_one(
    rig: Rig, spoil: Callable[[str], None], looked: bool
) -> None:
    fill(rig)
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    rig.step()
    spoil(rig.path)
    rig.ask("SET", "meanwhile", "1")
    rig.end_turn()
    if looked:
        rig.rewriter.consider()
    rig.finish()
    assert "somebody changed the log meanwhile" in rig.instance.rewrite.last_failure
    rig.rewriter.consider()
    assert rig.instance.rewrite.requested, "at once"
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    assert not rig.log.damage
    assert replayed(rig.path) == state_of(rig.store)


def test_the_way_of_windows_closes_the_files_before_it_renames(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aof, "CLOSED_TO_RENAME", True)
    fill(rig)
    rig.ask("BGREWRITEAOF")
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    rig.ask("SET", "after", 1)
    rig.end_turn()
    assert replayed(rig.path) == state_of(rig.store)


def test_it_begins_by_itself_when_the_log_has_grown(tmp_path: Path) -> None:
    rig = Rig(str(tmp_path), auto_rewrite_min_size="10kb", auto_rewrite_percentage="50")
    rig.ask("SET", "key", "x" * 5000)
    rig.end_turn()
    rig.rewriter.consider()
    assert not rig.instance.rewrite.requested, "too small"
    rig.ask("SET", "key", "x" * 6000)
    rig.end_turn()
    rig.rewriter.consider()
    assert rig.instance.rewrite.requested
    rig.finish()
    base_bytes = rig.instance.rewrite.base_bytes
    assert 6000 < base_bytes < 6300
    rig.ask("SET", "key", "x" * 2000)
    rig.end_turn()
    rig.rewriter.consider()
    assert not rig.instance.rewrite.requested, "too small"
    rig.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", "0", "auto-aof-rewrite-min-size", "0")
    rig.rewriter.consider()
    assert not rig.instance.rewrite.requested, "never"
    rig.ask("CONFIG", "SET", "auto-aof-rewrite-percentage", "30")
    rig.rewriter.consider()
    assert rig.instance.rewrite.requested
    rig.log.close()


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("passed_ms", "due"), [(59_000, False), (60_000, True), (-3_600_000, True), (3_600_000, True)])
def test_one_that_failed_is_tried_again_after_a_minute_whatever_the_clock_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, passed_ms: int, due: bool
) -> None:
    rig.ask("CONFIG", "SET", "auto-aof-rewrite-min-size", "1")
    rig.ask("SET", "key", "x" * 100)
    rig.end_turn()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        rig.ask("BGREWRITEAOF")
        rig.end_turn()
    assert rig.instance.rewrite.last_failure
    rig.store.tick(rig.store.now_ms + passed_ms)
    rig.rewriter.consider()
    assert rig.instance.rewrite.requested is due


def test_a_second_one_is_refused_and_without_a_log_there_is_none(rig: Rig, tmp_path: Path) -> None:
    assert rig.ask("BGREWRITEAOF") == b"Background append only file rewriting started"
    refusal = b"ERR Background append only file rewriting already in progress"
    assert rig.ask("BGREWRITEAOF") == refusal
    rig.end_turn()
    assert rig.ask("BGREWRITEAOF") == refusal
    rig.finish()
    assert rig.ask("BGREWRITEAOF") == b"Background append only file rewriting started"
    rig.instance.config.appendonly = False
    assert b"--no-log" in rig.ask("BGREWRITEAOF")


def test_a_file_that_a_killed_rewrite_left_is_removed_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "log.txt.rewrite"
    left.write_bytes(b"half a snapsh")
    log = AppendOnlyLog(str(tmp_path / "log.txt"))
    log.open()
    assert not left.exists()
    log.close()


# ---- the process


def test_a_real_redis_loads_what_was_rewritten(tmp_path: Path) -> None:
    require(shutil.which("redis-server"), "redis-server is not installed")
    with GodisProcess(tmp_path, "--auto-rewrite-min-size", "100kb") as godis:
        with godis.client() as client:
            for number in range(3000):
                client.set(f"key:{number % 100}", "x" * 200)
            wait_until(lambda: "the log is rewritten" in godis.stderr(), 10, "the rewrite begins by itself and ends")
            client.execute_command("SELECT", 3)
            client.set("other", "value", px=10_000_000)
            expected = client.get("other")
        assert godis.terminate() == 0
    target = tmp_path / "redis"
    (target / "appendonlydir").mkdir(parents=True)
    shutil.copy(tmp_path / "log.txt", target / "appendonlydir" / "log.aof")
    (target / "appendonlydir" / "appendonly.aof.manifest").write_text("file log.aof seq 1 type i\n")
    with RedisProcess(target, "--appendonly", "yes") as server, server.client() as client:
        assert client.dbsize() == 100
        assert client.get("key:7") == b"x" * 200
        client.execute_command("SELECT", 3)
        assert client.get("other") == expected
        assert client.pttl("other") > 0


def test_a_stop_amid_a_rewrite_is_clean(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        with godis.client() as client:
            with client.pipeline(transaction=False) as pipe:
                for number in range(100_000):
                    pipe.set(number, number)
                pipe.execute()
            client.execute_command("BGREWRITEAOF")
        assert godis.terminate() == 0
        assert not (tmp_path / "log.txt.rewrite").exists()
        godis.start()
        with godis.client() as client:
            assert client.dbsize() == 100_000


def test_the_loop_hands_a_large_value_over_as_it_is_and_the_thread_writes_it_in_pieces(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = b"v" * (9 << 20) + b"\0end"
    assert run_one(rig.engine, rig.session, [b"SET", b"large", value]) is OK
    rig.ask("SET", "small", "1")
    rig.end_turn()
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    written: list[int] = []
    write = os.write

    def write_and_note(descriptor: int, data: Any) -> int:
        written.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_and_note)
    run = rig.rewriter._run
    assert run is not None
    while not run.walked:
        rig.rewriter.step(lambda: False)
        held = [piece for records, _ in run._queue for piece in records]
        assert not written
    assert any(piece is value for piece in held)  # no copy of it was made
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    assert sum(written) >= len(value)
    assert max(written) <= aof.STEP_BYTES
    rig.log.close()
    assert replayed(rig.path)[0, b"large"] == (value, -1)


def test_the_logs_that_rewrites_replaced_are_kept_and_no_more_of_them_than_asked(rig: Rig) -> None:
    def rewrite() -> None:
        rig.store.tick(rig.store.now_ms + 1000)
        rig.ask("BGREWRITEAOF")
        rig.finish()
        assert rig.instance.rewrite.last_failure == ""

    contents = []
    for number in range(4):
        rig.ask("SET", "k", number)
        rig.end_turn()
        contents.append(Path(rig.path).read_bytes())
        rig.ask("CONFIG", "SET", "keep-rewritten", "2" if number else "1")
        rewrite()
        kept = [Path(path).read_bytes() for path in kept_logs(rig.path)]
        assert kept == contents[-len(kept) :]
        assert len(kept) == (1, 2, 2, 2)[number]
        assert rig.instance.rewrite.kept_bytes == sum(map(len, kept))
    rig.ask("CONFIG", "SET", "keep-rewritten", "0")
    rewrite()
    assert kept_logs(rig.path) == []
    assert rig.instance.rewrite.kept_bytes == 0


def test_a_log_that_cannot_be_kept_is_rewritten_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    rig.ask("SET", "k", "1")
    rig.end_turn()
    rig.ask("BGREWRITEAOF")
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    assert kept_logs(rig.path) == []
    assert "the log that the rewrite replaces is not kept: Operation not permitted" in caplog.text


def test_a_rename_that_fails_leaves_no_second_name_of_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    rig.ask("SET", "k", "1")
    rig.end_turn()
    monkeypatch.setattr(os, "replace", refuse)
    rig.ask("BGREWRITEAOF")
    rig.finish()
    assert rig.instance.rewrite.last_failure == "Input/output error"
    assert kept_logs(rig.path) == []
