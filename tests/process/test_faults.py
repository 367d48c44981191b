"""A real process on a real file, and what a disk, a clock or another program can do to them.

Each test ends with `kill -9` and a start: all that was acknowledged must be there, and nothing half. Kills at random
moments are test_kill.py's, loss of power test_power_loss.py's, a disk without space test_listener.py's.
GODIS_SOAK=n takes every system call where a plain run takes some, and an fsync of five seconds for one of one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from faults import SteeredGodis, Strace, limit_file_size
from log_model import read_log, set_, write_log
from program import Done, run_here
from servers import GODIS, PATIENCE_SECONDS, GodisProcess, Raw, encode, parse, require, wait_until

SOAK = "GODIS_SOAK" in os.environ
SLOW_FSYNC_SECONDS = 5 if SOAK else 1
POLICIES = ["always", "everysec", "no"]
HOUR = 3600
OK = b"+OK\r\n"
FINISHED = re.compile(r"(?:<\.\.\. )?(\w+)(?:\(| resumed).* = (-?\d+)")  # a call of a trace, and its result
REPAIR = ["ftruncate", "write"]


def fill(raw: Raw, first: int, count: int) -> None:
    raw.send(b"".join(encode("SET", f"k{number}", number) for number in range(first, first + count)))
    assert raw.read_exactly(count * len(OK)) == OK * count


def assert_filled(godis: GodisProcess, count: int) -> None:
    with godis.client() as client:
        found = client.mget([f"k{number}" for number in range(count)])
        assert found == [b"%d" % number for number in range(count)]


def restart(godis: GodisProcess) -> None:
    """Kill it, see that its log is whole, and start it."""
    godis.kill9()
    done = check(godis.directory)
    assert done.returncode == 0, done.stdout
    godis.start()
    assert "Traceback" not in godis.stderr()


def check(directory: Path, *args: str) -> Done:
    return run_here(directory, "check", "log.txt", *args)


# ---- the disk fails


@pytest.mark.parametrize("policy", POLICIES)
def test_a_disk_that_refuses_writes_costs_no_acknowledged_write_and_no_reads(tmp_path: Path, policy: str) -> None:
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis:
        with godis.raw() as raw:
            fill(raw, 0, 100)
            with Strace(godis, tmp_path / "log.txt", "write", "write:error=EIO"):
                assert (
                    raw.ask("SET", "k0", "lost") == b"-MISCONF Errors writing to the AOF file: Input/output error\r\n"
                )
                assert raw.is_closed()
                with godis.raw() as other:
                    assert other.ask("SET", "k0", "lost").startswith(b"-MISCONF")
                    assert other.ask("GET", "k99") == b"$2\r\n99\r\n"
        with godis.raw() as raw:
            wait_until(lambda: raw.ask("SET", "k0", 0) == OK, what="the log can be written again")
            fill(raw, 100, 100)
        restart(godis)
        assert_filled(godis, 200)


def test_a_write_of_which_the_disk_takes_a_part_is_cut_off_again(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as raw:
            fill(raw, 0, 10)
            size = log.stat().st_size
            limit_file_size(godis, size + 50_000)
            assert raw.ask("SET", "big", b"x" * 100_000).startswith(
                b"-MISCONF Errors writing to the AOF file: File too"
            )
            assert log.stat().st_size == size
        restart(godis)  # with the limit of the tests' own process, which has none
        assert_filled(godis, 10)
        with godis.raw() as raw:
            assert raw.ask("EXISTS", "big") == b":0\r\n"


def test_a_batch_of_megabytes_waits_for_a_full_disk_and_holds_up_nobody(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "godis-test", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk; test_huge.py has the same with a disk that is none")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 3_000_000)
        with GodisProcess(tmp_path, log="disk/log.txt") as godis:
            with godis.raw() as raw, godis.raw() as other:
                fill(raw, 0, 100)
                raw.send(encode("SET", "big", b"x" * 5_000_000))
                assert raw.read_reply() == b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"
                assert raw.is_closed()
                size = (disk / "log.txt").stat().st_size
                with Strace(godis, disk / "log.txt", "write") as trace:
                    for _ in range(500):
                        assert other.ask("SET", "k0", "lost").startswith(b"-MISCONF")
                        assert other.ask("GET", "k99") == b"$2\r\n99\r\n"
                    wait_until(lambda: len(trace.calls()) >= 3, what="it is tried again")
                    assert len(trace.calls()) < 100, "in slices, and not in each turn"
                assert (disk / "log.txt").stat().st_size >= size
                ballast.unlink()
                wait_until(lambda: other.ask("SET", "k0", 0) == OK, what="the log can be written again")
            godis.kill9()
            godis.start()
            assert_filled(godis, 100)
            with godis.raw() as raw:
                assert raw.ask("STRLEN", "big") == b":5000000\r\n"
            godis.stop()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def try_to_write(godis: GodisProcess, number: int) -> bytes:
    """Write by a connection of its own, since one whose write was in memory when an fsync failed is cut off."""
    with godis.raw() as raw, suppress(ConnectionError):
        return raw.ask("SET", f"k{number}", number)
    return b""


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_after_an_fsync_that_failed_nothing_is_safe_until_it_is_written_and_synced_again(
    tmp_path: Path, policy: str
) -> None:
    log = tmp_path / "log.txt"
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as raw:
        fill(raw, 0, 100)
        calls = "write,ftruncate,fdatasync"
        with Strace(godis, log, calls, "fdatasync:error=EIO:when=1..2") as trace:
            reply = raw.ask("SET", "k100", 100)
            if policy == "always":
                assert reply == b"-MISCONF Errors writing to the AOF file: Input/output error\r\n"
                assert raw.is_closed()
            else:
                assert reply == OK
            with godis.raw() as other:
                wait_until(lambda: other.ask("SET", "k101", 101).startswith(b"-MISCONF"), what="writes are refused")
            with godis.raw() as other:
                assert other.ask("GET", "k7") == b"$1\r\n7\r\n"
            wait_until(lambda: try_to_write(godis, 101) == OK, what="the log is well again")
            assert try_to_write(godis, 100) == OK
            # Cut off and written again, once in vain; only then synced with success, and writes go on.
            done = [match[1] + match[2] for match in map(FINISHED.match, trace.calls()) if match]
            after = done[done.index("fdatasync-1") + 1 :]
            after = after[after[0].startswith("write") :]  # one of the loop's may have been on its way
            assert [re.sub(r"\d+$", "", name) for name in after[:6]] == [*REPAIR, "fdatasync-", *REPAIR, "fdatasync"]
        restart(godis)
        assert_filled(godis, 102)


def test_a_process_killed_while_no_fsync_succeeds_has_all_that_it_acknowledged_in_the_file(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        with Strace(godis, tmp_path / "log.txt", "fdatasync", "fdatasync:error=EIO"):
            count = 0
            while raw.ask("SET", f"k{count}", count) == OK:
                count += 1
            assert count
            with godis.raw() as other:
                assert other.ask("SET", "refused", 1).startswith(b"-MISCONF")
        restart(godis)
        assert_filled(godis, count)


@pytest.mark.parametrize(("call", "error"), [("write", "ENOSPC"), ("fdatasync", "EIO"), ("rename", "EACCES")])
def test_a_rewrite_that_the_disk_refuses_fails_alone_and_the_log_goes_on(tmp_path: Path, call: str, error: str) -> None:
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        fill(raw, 0, 1000)
        fill(raw, 0, 1000)
        with Strace(godis, tmp_path / "log.txt.rewrite", call, f"{call}:error={error}"):
            raw.ask("BGREWRITEAOF")
            wait_until(lambda: "the rewrite of the log failed" in godis.stderr(), what="it fails")
            fill(raw, 1000, 10)
        assert b"aof_last_bgrewrite_status:err" in raw.ask("INFO", "persistence")
        assert not (tmp_path / "log.txt.rewrite").exists()
        size = (tmp_path / "log.txt").stat().st_size
        raw.ask("BGREWRITEAOF")
        wait_until(lambda: "the log is rewritten" in godis.stderr(), what="the next succeeds")
        assert (tmp_path / "log.txt").stat().st_size < size
        restart(godis)
        assert_filled(godis, 1010)


@pytest.mark.parametrize("policy", ["no", "always"])
def test_an_fsync_that_fails_during_a_rewrite_is_tried_again_whatever_the_policy(tmp_path: Path, policy: str) -> None:
    """Under `no` it is the one of the old log that fails, under `always` the one that makes the rename last."""
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as raw:
        fill(raw, 0, 100)
        with Strace(godis, tmp_path / "log.txt", "fdatasync", "fdatasync:error=EIO:when=1"):
            raw.ask("BGREWRITEAOF")
            wait_until(lambda: "the log cannot be written" in godis.stderr(), what="it fails")
            assert ("the log is rewritten" in godis.stderr()) == (policy == "always")
            wait_until(lambda: try_to_write(godis, 100) == OK, what="the log is well again")
        restart(godis)
        assert_filled(godis, 101)


def in_fsync(trace: Strace) -> bool:
    calls = trace.calls()
    return bool(calls) and calls[-1].startswith("fdatasync") and " = " not in calls[-1]


@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_an_fsync_that_takes_long_holds_nobody_up(tmp_path: Path, policy: str) -> None:
    log = tmp_path / ("log.txt" if policy == "everysec" else "log.txt.rewrite")
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as raw:
        delay = f"fdatasync:delay_enter={SLOW_FSYNC_SECONDS * 1_000_000}"
        with Strace(godis, log, "fdatasync", delay) as trace:
            raw.ask("SET", "first", 1)
            if policy == "no":  # which syncs nothing but the log that it writes anew
                raw.ask("BGREWRITEAOF")
            wait_until(lambda: in_fsync(trace), what="an fsync")
            fill(raw, 0, 300)
            assert raw.ask("GET", "k299") == b"$3\r\n299\r\n"
            assert in_fsync(trace), "the requests were meant to be answered meanwhile"
            godis.kill9()
        godis.start()
        assert_filled(godis, 300)


def test_under_always_a_write_is_answered_only_after_the_fsync_however_long_it_takes(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with GodisProcess(tmp_path, "--appendfsync", "always") as godis, godis.raw() as raw:
        delay = f"fdatasync:delay_enter={SLOW_FSYNC_SECONDS * 1_000_000}"
        with Strace(godis, log, "fdatasync", delay) as trace:
            raw.send(encode("SET", "k0", 0))
            wait_until(lambda: in_fsync(trace), what="the fsync")
            with godis.raw() as other:  # the loop is not held up: it accepts, reads, and answers what saw no such write
                assert other.ask("GET", "k2") == b"$-1\r\n"
                other.send(encode("SET", "k1", 1))
                raw.sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    raw.sock.recv(1)
                raw.sock.settimeout(PATIENCE_SECONDS)
                assert in_fsync(trace), "the reply was meant to be missed during the fsync"
                assert len(trace.calls()) == 1
                assert raw.read_reply() == OK
                assert "DELAYED" in trace.calls()[0]
                assert other.read_reply() == OK
                assert "DELAYED" in trace.calls()[1]
        restart(godis)
        assert_filled(godis, 2)


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_told_to_stop_during_a_long_fsync_it_ends_with_0_however_often_it_is_told(tmp_path: Path, policy: str) -> None:
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as raw:
        delay = f"fdatasync:delay_enter={SLOW_FSYNC_SECONDS * 1_000_000}"
        with Strace(godis, tmp_path / "log.txt", "fdatasync", delay) as trace:
            raw.send(encode("SET", "k0", 0))
            wait_until(lambda: in_fsync(trace), what="an fsync")
            for _ in range(3):
                godis.process.send_signal(signal.SIGTERM)
            assert raw.read_all() in (OK, b"")  # told more than once, it may not wait for the fsync to answer
            assert godis.terminate() == 0
            assert sum("DELAYED" in call for call in trace.calls()) >= 1
        godis.start()
        assert_filled(godis, 1)
        assert "Traceback" not in godis.stderr()


@pytest.mark.parametrize("nth", [1, 2], ids=["the snapshot's", "the last before the rename"])
def test_told_to_stop_during_a_long_fsync_of_a_rewrite_it_ends_with_0_and_the_old_log(tmp_path: Path, nth: int) -> None:
    rewritten = tmp_path / "log.txt.rewrite"
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        fill(raw, 0, 1000)
        delay = f"fdatasync:delay_enter={SLOW_FSYNC_SECONDS * 1_000_000}"
        with Strace(godis, rewritten, "fdatasync", delay) as trace:
            inode = (tmp_path / "log.txt").stat().st_ino
            raw.ask("BGREWRITEAOF")
            for number in range(nth):
                wait_until(lambda: in_fsync(trace) and len(trace.calls()) > number, 20, "the fsync")  # noqa: B023
                fill(raw, 1000 + 5 * number, 5)  # so that there is one more to come
            assert godis.terminate() == 0
        assert "the rewrite of the log is given up" in godis.stderr()
        assert "Traceback" not in godis.stderr()
        assert "Fatal" not in godis.stderr()
        assert not rewritten.exists()
        assert (tmp_path / "log.txt").stat().st_ino == inode
        godis.start()
        assert_filled(godis, 1000 + 5 * nth)


def test_told_to_stop_while_the_disk_fails_it_says_so_and_ends_with_1(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--appendfsync", "no") as godis, godis.raw() as raw:
        fill(raw, 0, 10)
        with Strace(godis, tmp_path / "log.txt", "fdatasync", "fdatasync:error=EIO"):
            assert godis.terminate() == 1
        assert "stopped, but the log could not be written: Input/output error" in godis.stderr()
        assert "Traceback" not in godis.stderr()
        godis.start()
        assert_filled(godis, 10)


# ---- others and the file


@pytest.mark.parametrize(
    ("what", "policy"),
    [("cut", "always"), ("emptied", "everysec"), ("made longer", "no"), ("removed", "always"), ("removed", "everysec")],
)
def test_a_log_that_somebody_spoils_while_it_is_in_use_is_written_anew(tmp_path: Path, what: str, policy: str) -> None:
    log = tmp_path / "log.txt"
    with GodisProcess(tmp_path, "--appendfsync", policy) as godis, godis.raw() as raw:
        fill(raw, 0, 500)
        match what:
            case "cut":
                os.truncate(log, log.stat().st_size - 100)
            case "emptied":
                os.truncate(log, 0)
            case "made longer":
                with log.open("ab") as file:
                    file.write(b"#12 a note of somebody\n")
            case "removed":
                log.unlink()
        fill(raw, 500, 500)
        wait_until(lambda: "the log is rewritten" in godis.stderr(), what="a new log")
        assert "somebody has changed the log's file" in godis.stderr()
        fill(raw, 1000, 10)
        restart(godis)
        assert_filled(godis, 1010)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("what", ["removed", "a file"])
def test_a_log_whose_directory_is_gone_refuses_writes_until_it_is_there_again(
    tmp_path: Path, policy: str, what: str
) -> None:
    directory = tmp_path / "D"
    directory.mkdir()
    with GodisProcess(tmp_path, "--appendfsync", policy, log="D/log.txt") as godis, godis.raw() as raw:
        fill(raw, 0, 10)
        shutil.rmtree(directory)
        if what == "a file":
            directory.write_text("somebody's")
        wait_until(lambda: try_to_write(godis, 10).startswith(b"-MISCONF"), what="writes are refused")
        assert b"its name is gone, and it cannot be written anew: " in try_to_write(godis, 10)
        with godis.raw() as other:
            info = other.ask("INFO", "persistence")
            assert b"aof_last_write_status:err\r" in info
            assert b"aof_last_bgrewrite_status:err\r" in info
            assert other.ask("GET", "k9") == b"$1\r\n9\r\n"
        assert godis.stderr().count("the rewrite of the log failed") == 1
        if what == "a file":
            directory.unlink()
        directory.mkdir()
        wait_until(lambda: try_to_write(godis, 10) == OK, what="it is tried again each second")
        godis.kill9()
        godis.start()
        assert_filled(godis, 11)
        assert "Traceback" not in godis.stderr()


def test_a_log_whose_directory_is_gone_ends_a_stop_with_1(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    with GodisProcess(tmp_path, log="D/log.txt") as godis:
        with godis.raw() as raw:
            fill(raw, 0, 10)
            shutil.rmtree(tmp_path / "D")
            wait_until(lambda: raw.ask("SET", "k", 1).startswith(b"-MISCONF"), what="it is noticed")
        assert godis.terminate() == 1
        assert "stopped, but the log could not be written: its name is gone" in godis.stderr()
        assert "everything is in the log" not in godis.stderr()


def remove_directory(log: Path) -> None:
    shutil.rmtree(log.parent)


def put_another_in_its_place(log: Path) -> None:
    other = log.with_name("other")
    shutil.copyfile(log, other)
    other.replace(log)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda log: log.unlink(), "its name is gone"),
        (lambda log: log.rename(log.with_name("moved")), "its name is gone"),
        (lambda log: os.truncate(log, log.stat().st_size - 1), "bytes and should have"),
        (lambda log: os.truncate(log, 0), "it has 0 bytes and should have"),
        (remove_directory, "its name is gone"),
        (put_another_in_its_place, "another file stands in the place of the log"),
    ],
    ids=["removed", "moved", "cut", "emptied", "directory removed", "replaced"],
)
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_stop_looks_at_the_log_once_more(
    tmp_path: Path, damage: Callable[[Path], object], told: str, policy: str
) -> None:
    log = tmp_path / "D" / "log.txt"
    log.parent.mkdir()
    with GodisProcess(tmp_path, "--appendfsync", policy, log="D/log.txt") as godis:
        with godis.raw() as raw:
            fill(raw, 0, 10)
        godis.process.send_signal(signal.SIGSTOP)  # so that no housekeeping comes between the damage and the stop
        damage(log)
        godis.process.send_signal(signal.SIGTERM)
        godis.process.send_signal(signal.SIGCONT)
        assert godis.process.wait(20) == 1
        assert "stopped, but the log could not be written: " in godis.stderr()
        assert told in godis.stderr()
        assert "everything is in the log" not in godis.stderr()


def test_another_file_in_the_logs_place_is_left_alone_and_writes_are_refused(tmp_path: Path) -> None:
    log, backup = tmp_path / "log.txt", tmp_path / "backup.txt"
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        fill(raw, 0, 10)
        shutil.copyfile(log, backup)
        fill(raw, 10, 10)
        content = backup.read_bytes()
        backup.replace(log)
        wait_until(lambda: raw.ask("SET", "k20", 20).startswith(b"-MISCONF"), what="writes are refused")
        assert b"another file stands in the place of the log" in raw.ask("SET", "k20", 20)
        assert raw.ask("GET", "k19") == b"$2\r\n19\r\n"
        assert log.read_bytes() == content
        log.unlink()
        wait_until(lambda: "the log is rewritten" in godis.stderr(), what="a new log")
        fill(raw, 20, 10)
        restart(godis)
        assert_filled(godis, 30)


def test_who_puts_a_backup_in_place_and_restarts_gets_the_backup(tmp_path: Path) -> None:
    log, backup = tmp_path / "log.txt", tmp_path / "backup.txt"
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as raw:
            fill(raw, 0, 10)
            shutil.copyfile(log, backup)
            raw.ask("FLUSHALL")
            backup.replace(log)
            wait_until(lambda: raw.ask("SET", "x", 1).startswith(b"-MISCONF"), what="it is noticed")
        assert godis.terminate() == 1
        assert "another file stands in the place of the log" in godis.stderr()
        godis.start()
        assert_filled(godis, 10)


def test_a_log_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    """A root without the right to override is like any other user."""
    require(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv, to take a right away")
    log = tmp_path / "log.txt"
    write_log(log, [[set_(b"a", b"1")]])
    log.chmod(0o400)
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    command = [*without, sys.executable, str(GODIS), "--log", str(log), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 1
    assert f"the log {log} cannot be used: Permission denied; let this user read and write it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_on_a_file_system_that_is_read_only_is_refused(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    log = disk / "log.txt"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "godis-test", str(disk)], check=False)
    require(mounted.returncode == 0, "a tmpfs cannot be mounted here")
    try:
        write_log(log, [[set_(b"a", b"1")]])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        command = [sys.executable, str(GODIS), "--log", str(log), "--port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert done.returncode == 1
        assert "Read-only file system; give a path on a file system that can be written" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_log_that_is_missing_or_empty_is_begun(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "log.txt").write_bytes(content)
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as raw:
            assert parse(raw.ask("DBSIZE")) == 0
            fill(raw, 0, 10)
        restart(godis)
        assert_filled(godis, 10)


# ---- killed at each system call

CHANGING = "openat,write,ftruncate,fsync,fdatasync,rename,link,linkat,unlink,chmod,fchmod,chown"
Place = tuple[str, int]  # the how manieth call of a name; it is not made any more


def some(places: list[Place], seed: str) -> list[Place]:
    """Choose where to kill: everywhere, or at some places that differ from test to test."""
    return places if SOAK else Random(seed).sample(places, min(3, len(places)))


def places_of(calls: list[str]) -> list[Place]:
    """Number the calls of a trace, each name for itself, as strace counts them."""
    counts: Counter[str] = Counter()
    places = []
    for call in calls:
        name = call.split("(")[0]
        counts[name] += 1
        places.append((name, counts[name]))
    return places


def killing(place: Place) -> str:
    name, number = place
    return f"{name}:signal=KILL:when={number}"


def run_traced(directory: Path, command: list[str], inject: str = "") -> tuple[int, list[str]]:
    """Run a program; return its exit code and its calls that change something in `directory`."""
    program = shutil.which("strace")
    require(program, "strace is not installed")
    output = directory / "strace.txt"
    traced = [str(program), "-f", "-qq", "-o", str(output), "-e", f"trace={CHANGING}"]
    for name in ("", "log.txt", "log.txt.repairing", "log.txt.before-repair-1", *TORN_NAMES):
        traced += ["-P", str(directory / name)]
    traced += ["-e", f"inject={inject}"] if inject else []
    done = subprocess.run(
        [*traced, *command], cwd=directory, capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    require(b"ptrace" not in done.stderr.lower(), f"strace cannot trace here: {done.stderr.decode()}")
    lines = output.read_text(errors="replace").splitlines()
    return done.returncode, [re.sub(r"^\d+ +", "", line) for line in lines if "(" in line]


def damaged_log(directory: Path) -> tuple[bytes, dict[bytes, bytes]]:
    """Make a log with a damaged batch in its middle; return it, and the keys and values of the whole ones."""
    directory.mkdir()
    log = directory / "log.txt"
    ends = write_log(log, [[set_(b"k%d" % number, b"%d" % number)] for number in range(3)])
    content = bytearray(log.read_bytes())
    content[ends[0] + (ends[1] - ends[0]) // 2] ^= 1
    log.write_bytes(content)
    return bytes(content), {b"k0": b"0", b"k2": b"2"}


def test_a_repair_killed_at_any_system_call_leaves_the_damaged_log_or_the_mended_one(tmp_path: Path) -> None:
    command = [sys.executable, str(GODIS), "check", "log.txt", "--repair"]
    damaged_log(tmp_path / "whole")
    code, calls = run_traced(tmp_path / "whole", command)
    assert code == 0
    mended = (tmp_path / "whole" / "log.txt").read_bytes()
    places = places_of(calls)
    assert {"write", "fsync", "rename"} <= {name for name, _ in places}
    for place in some(places, "repair"):
        directory = tmp_path / "{}-{}".format(*place)
        damaged, kept = damaged_log(directory)
        log = directory / "log.txt"
        code, _ = run_traced(directory, command, killing(place))
        assert code == -signal.SIGKILL, place
        assert log.read_bytes() in (damaged, mended), place
        assert check(directory, "--repair").returncode == 0, place
        assert log.read_bytes() == mended, place
        assert {key: value for (_, key), (value, _) in read_log(log)[0].data.items()} == kept
        assert damaged in [path.read_bytes() for path in directory.glob("log.txt.before-repair-*")], place


TORN = b"#500 01234567 1700000000000\r\n*3\r\n"
TORN_NAMES = [f"log.txt.torn-{offset}" for offset in range(400)]


def test_a_start_killed_at_any_system_call_loses_nothing_of_a_log_with_a_torn_tail(tmp_path: Path) -> None:
    def torn_log(directory: Path) -> bytes:
        directory.mkdir()
        write_log(directory / "log.txt", [[set_(b"k0", b"0")], [set_(b"k1", b"1")]])
        whole = (directory / "log.txt").read_bytes()
        (directory / "log.txt").write_bytes(whole + TORN)
        return whole

    # A Unix socket, which is made after the replay, and whose directory is not there, ends it.
    command = [sys.executable, str(GODIS), "--log", "log.txt", "--port", "0", "--unixsocket", "missing/sock"]
    torn_log(tmp_path / "whole")
    code, calls = run_traced(tmp_path / "whole", command)
    assert code == 1
    places = places_of(calls)
    assert {"write", "fsync", "ftruncate"} <= {name for name, _ in places}
    for place in some(places, "start"):
        directory = tmp_path / "{}-{}".format(*place)
        whole = torn_log(directory)
        code, _ = run_traced(directory, command, killing(place))
        assert code == -signal.SIGKILL, place
        assert (directory / "log.txt").read_bytes() in (whole, whole + TORN), place
        run_traced(directory, command)
        assert (directory / "log.txt").read_bytes() == whole, place
        assert TORN in [path.read_bytes() for path in directory.glob("log.txt.torn-*")], place


def test_a_rewrite_killed_at_any_system_call_leaves_the_old_log_or_the_new_one(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--appendfsync", "always") as godis:

        def rewrite(inject: str, number: int) -> list[str]:
            """Rewrite the log while a client writes; return the calls on the new file."""
            with godis.raw() as raw:
                fill(raw, number, 1)
                with Strace(godis, tmp_path / "log.txt.rewrite", CHANGING, inject) as trace, suppress(OSError):
                    done = godis.stderr().count("the log is rewritten")
                    raw.ask("BGREWRITEAOF")
                    wait_until(lambda: raw.ask("PING") and godis.stderr().count("the log is rewritten") > done, 20)
            return trace.calls()

        with godis.raw() as raw:
            fill(raw, 0, 5000)
            raw.ask("MSET", *(word for number in range(40) for word in (f"big{number}", b"x" * 20_000)))
        places = places_of(rewrite("", 5000))
        assert {"write", "fdatasync", "rename"} <= {name for name, _ in places}
        chosen = some(places, "rewrite")
        missed = 0
        for number, place in enumerate(chosen, 5001):
            done = godis.stderr().count("the log is rewritten")
            rewrite(killing(place), number)
            if godis.stderr().count("the log is rewritten") > done:  # a thread writes what there is: now in fewer calls
                missed += 1
                godis.kill9()
            wait_until(lambda: godis.process.poll() is not None, what=f"killed at {place}")
            assert godis.process.returncode == -signal.SIGKILL, place
            restart(godis)
            assert not (tmp_path / "log.txt.rewrite").exists()
            assert_filled(godis, number + 1)
            with godis.client() as client:
                assert all(client.strlen(f"big{number}") == 20_000 for number in range(40))
        assert missed <= len(chosen) // 2


# ---- a clock that is set


JUMPS = [("always", HOUR), ("everysec", -HOUR)]
MORE_JUMPS = [("everysec", HOUR), ("no", -HOUR)] if SOAK else []


@pytest.mark.parametrize(("policy", "jump"), JUMPS + MORE_JUMPS)
def test_a_clock_that_jumps_an_hour_stops_nothing_and_loses_nothing(tmp_path: Path, policy: str, jump: int) -> None:
    log = tmp_path / "log.txt"
    flags = ["--appendfsync", policy, "--timeout", "600", "--auto-rewrite-min-size", "100kb"]
    with SteeredGodis(tmp_path, *flags) as godis:
        with godis.raw() as idle, godis.raw() as paused, godis.raw() as raw:
            idle.ask("PING")
            fill(raw, 0, 10)
            raw.ask("SET", "short", 1, "EX", 600)
            raw.ask("SET", "soon", 1, "PX", 300)
            raw.ask("SET", "long", 1, "EX", 3 * HOUR)
            raw.ask("CLIENT", "PAUSE", 1000, "WRITE")
            paused.send(encode("SET", "paused", 1))
            wait_until(lambda: b" flags=b " in raw.ask("CLIENT", "LIST"), what="a client waits")
            godis.set_clock(jump)
            wait_until(lambda: "the system's clock was set by" in godis.stderr(), what="the jump is noticed")
            # The pause ends in its time; nobody was idle for an hour.
            assert paused.read_reply() == OK
            assert idle.ask("PING") == b"+PONG\r\n"
            # Deadlines are moments by the clock.
            assert parse(raw.ask("EXISTS", "short")) == (jump < 0)
            assert abs(parse(raw.ask("TTL", "long")) - (3 * HOUR - jump)) <= 5
            # Keys end in time, and are deleted though nobody asks for them.
            raw.ask("MSET", *(word for number in range(50) for word in (f"fresh{number}", 1)))
            for number in range(50):
                raw.ask("PEXPIRE", f"fresh{number}", 300)
            wait_until(lambda: b"*1\r\n$5\r\nfresh" not in raw.ask("KEYS", "fresh*"), what="fresh keys end")
            wait_until(lambda: log.read_bytes().count(b"DEL\r\n") >= 50, what="they are deleted")
            # The log is synced, and rewritten when it has grown.
            if policy != "no":
                with Strace(godis, log, "fdatasync") as trace:
                    raw.ask("SET", "synced", 1)
                    wait_until(lambda: any(" = 0" in call for call in trace.calls()), what="an fsync")
            raw.ask("SET", "big", b"x" * 200_000)
            wait_until(lambda: "the log is rewritten" in godis.stderr(), what="a rewrite by itself")
            fill(raw, 10, 10)
        restart(godis)
        assert_filled(godis, 20)
        # The times of the batches go to and fro now; the true clock is back.
        godis.kill9()
        godis.set_clock(0)
        godis.start()
        assert_filled(godis, 20)
        with godis.raw() as raw:
            raw.ask("FLUSHALL")
        godis.kill9()
        assert check(tmp_path).returncode == 0
