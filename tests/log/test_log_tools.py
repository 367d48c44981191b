"""`godis.py check` and `godis.py export` as their user meets them: real files, the real program, exit codes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
from log_model import FAR_MS, Record, read_log, set_, write_log
from program import run_here
from servers import GODIS, PATIENCE_SECONDS, ROOT, GodisProcess, RedisProcess, require, wait_until

from log.reader import frame
from protocol import encode_command

BATCHES: list[list[Record]] = [
    [set_(b"a", b"1"), set_(b"b", b"2", db=9)],
    [(9, [b"DEL", b"b"])],
    [(0, [b"RENAME", b"a", b"z"]), set_(b"c", b"3"), (0, [b"SET", b"old", b"", b"PXAT", b"1000000000000"])],
]


def run(directory: Path, *args: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run the program to its end, here; return its exit code, stdout and stderr."""
    done = run_here(directory, *args, env={"TZ": "UTC"} | (env or {}))
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    write_log(path, BATCHES)
    path.with_name("log.txt.lock").unlink(missing_ok=True)
    return path


def damage(log: Path, offset: int) -> bytes:
    content = bytearray(log.read_bytes())
    content[offset] ^= 1
    log.write_bytes(content)
    return bytes(content)


# check


def test_a_whole_log_is_described(log: Path) -> None:
    code, stdout, stderr = run(log.parent, "check", "log.txt")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines() == [
        f"log.txt: {log.stat().st_size} bytes",
        "batches    3",
        "commands   6",
        "keys       3 at the end of the log; 1 of them have expired since",
        "first      2023-11-14T22:13:20.000+00:00",
        "last       2023-11-14T22:13:20.002+00:00",
        "whole",
    ]
    assert list(log.parent.iterdir()) == [log]
    assert run(log.parent, "check", "log.txt", "--repair")[:2] == (0, stdout)


def test_a_log_of_many_databases_needs_no_flag(log: Path) -> None:
    write_log(log, [[set_(b"far", b"1", db=500), (0, [b"SWAPDB", b"0", b"700"])]])
    assert "\nkeys       4 at" in run(log.parent, "check", "log.txt")[1]


def test_a_log_of_refused_commands_is_described_in_short(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"*3\r\n$6\r\nNOSUCH\r\n$1\r\nk\r\n$1\r\nv\r\n" * 5000)
    code, stdout, _ = run(tmp_path, "check", "log.txt")
    assert code == 1
    assert "a command there is refused: ERR unknown command 'NOSUCH'" in stdout
    assert "and 4900 faults more" in stdout
    assert len(stdout.splitlines()) < 320


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    (tmp_path / "log.txt").touch()
    assert run(tmp_path, "check", "log.txt")[0] == 0


def test_a_torn_tail_is_told_and_cut(log: Path) -> None:
    content = log.read_bytes()
    log.write_bytes(content + b"#99 ")
    code, stdout, _ = run(log.parent, "check", "log.txt")
    assert code == 1
    assert f"at byte {len(content)}: the file ends inside it" in stdout
    assert stdout.splitlines()[-1].startswith("torn tail")
    assert log.read_bytes() == content + b"#99 "
    code, stdout, _ = run(log.parent, "check", "--repair", "log.txt")
    assert (code, stdout.splitlines()[-1]) == (0, f"repaired; the original is {log}.before-repair-1")
    assert log.read_bytes() == content
    assert Path(f"{log}.before-repair-1").read_bytes() == content + b"#99 "


def test_corruption_is_told_mended_and_a_server_starts_on_what_is_left(tmp_path: Path) -> None:
    """The batch that is lost made a key that the last one renames: a start would refuse that RENAME."""
    with GodisProcess(tmp_path) as godis:
        with godis.client() as client:
            for key in ("a", "b", "c"):
                client.set(key, "1")
            with client.pipeline(transaction=False) as pipeline:
                pipeline.rename("b", "z").set("d", "1").execute()
        godis.terminate()
        log = tmp_path / "log.txt"
        offset = log.read_bytes().index(b"$1\r\nb\r\n")
        content = damage(log, offset + 3)
        code, stdout, _ = run(tmp_path, "check", "log.txt")
        assert code == 1
        assert "the checksum is wrong, and whole batches follow" in stdout
        assert "may have touched db 0: 'z'" in stdout
        assert "ERR no such key" in stdout
        assert stdout.splitlines()[-1].startswith("corrupt")
        assert log.read_bytes() == content

        start = subprocess.run(godis.command(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        assert start.returncode == 1
        advice = re.search(r"`python godis\.py (check --repair [^`]+)`", start.stderr)
        assert advice, start.stderr
        assert run(tmp_path, *advice[1].split())[0] == 0
        assert run(tmp_path, "check", "log.txt")[0] == 0
        assert (tmp_path / "log.txt.before-repair-1").read_bytes() == content
        godis.start()
        with godis.client() as client:
            assert sorted(client.keys()) == [b"a", b"c", b"d"]


def test_a_log_in_use_may_be_checked_and_not_repaired(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.client() as client:
        client.set("a", "1")
        log = tmp_path / "log.txt"
        assert run(tmp_path, "check", "log.txt")[0] == 0
        godis.process.send_signal(signal.SIGSTOP)  # as if it were in the middle of a write
        with log.open("ab") as file:
            file.write(b"#5")
        content = log.read_bytes()
        code, stdout, _ = run(tmp_path, "check", "log.txt")
        assert code == 1
        assert f"a write that was going on: the log log.txt is in use by process {godis.pid}" in stdout
        code, stdout, stderr = run(tmp_path, "check", "log.txt", "--repair")
        assert (code, stdout) == (2, "")
        assert f"in use by process {godis.pid} " in stderr
        assert log.read_bytes() == content
        assert not list(tmp_path.glob("*repair*"))
        godis.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("args", [["check"], ["check", "--repair"], ["export"]])
@pytest.mark.parametrize(("name", "said"), [("nosuch", "no file nosuch"), (".", "Is a directory"), ("rdb", "snapshot")])
def test_what_cannot_be_looked_at_is_code_2(tmp_path: Path, args: list[str], name: str, said: str) -> None:
    (tmp_path / "rdb").write_bytes(b"REDIS0010\xfa")
    code, stdout, stderr = run(tmp_path, *args, name)
    assert (code, stdout, len(stderr.splitlines())) == (2, "", 1)
    assert said in stderr


def test_a_file_that_may_not_be_read_is_code_2(log: Path) -> None:
    log.chmod(0)
    closed = Path("/proc/sys/vm/compact_memory") if os.access(log, os.R_OK) else log  # that one root may only write
    require(closed.exists() and not os.access(closed, os.R_OK), "no file that is closed to root")
    code, stdout, stderr = run(log.parent, "check", str(closed))
    assert (code, stdout) == (2, "")
    assert "Permission denied" in stderr


@pytest.mark.parametrize(
    "args",
    [
        ["check"],
        ["check", "log.txt", "--until", "1"],
        ["check", "log.txt", "--output", "new.txt"],
        ["check", "log.txt", "--repair", "--until", "1", "--output", "new.txt"],
        ["check", "log.txt", "--until", "yesterday", "--output", "new.txt"],
        ["check", "log.txt", "--until", "", "--output", "new.txt"],
        ["check", "log.txt", "--until", "1", "--output", "log.txt"],
        ["check", "log.txt", "--until", "1", "--output", "no/such/directory"],
        ["export"],
        ["export", "log.txt", "--repair"],
        ["--repair"],
    ],
)
def test_a_wrong_request_is_code_2_and_changes_nothing(log: Path, args: list[str]) -> None:
    content = log.read_bytes()
    code, stdout, _ = run(log.parent, *args)
    assert (code, stdout) == (2, "")
    assert log.read_bytes() == content
    assert list(log.parent.iterdir()) == [log]


@pytest.mark.parametrize("args", [["check"], ["check", "--repair"], ["export"]])
def test_a_file_that_is_no_log_is_code_1_and_left_alone(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "notes.md").write_bytes(b"# Notes\n\nhello\n")
    code, stdout, stderr = run(tmp_path, *args, "notes.md")
    assert code == 1
    assert "is not a log" in stdout + stderr
    assert (tmp_path / "notes.md").read_bytes() == b"# Notes\n\nhello\n"


# The line is first shown after a moment, in which a fast machine may have read everything.
SHOWN_AT_ONCE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import cli.progress
cli.progress.SHOWN_EVERY_SECONDS = 0
import godis
sys.exit(godis.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["check", "log.txt"], r"\rreading log\.txt: \d+ % of 30 MB, \d+ MB/s"),
        (["export", "log.txt"], r"\rexporting log\.txt: \d+ % of 30 MB, \d+ MB/s"),
        (["--port", "0"], r"\rreading log\.txt: \d+ % of 30 MB, \d+ MB/s"),
    ],
    ids=["check", "export", "start"],
)
def test_a_terminal_sees_how_far_it_is(tmp_path: Path, args: list[str], line: str) -> None:
    log = tmp_path / "log.txt"
    write_log(log, [[set_(b"%d" % number, b"v" * 1000) for number in range(100)]] * 300)
    assert run(tmp_path, "check", "log.txt")[2] == ""
    mine, its = pty.openpty()
    command = [sys.executable, "-c", SHOWN_AT_ONCE, *args]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=its) as process:
        os.close(its)
        shown = ""
        with contextlib.suppress(OSError):  # so a terminal ends whose other side is closed
            while chunk := os.read(mine, 100_000):
                shown += chunk.decode()
                if "serving on" in shown:
                    process.terminate()
        process.wait(PATIENCE_SECONDS)
    os.close(mine)
    found = re.search(line, shown)
    assert found
    assert re.search(r"\r +\r", shown[found.end() :])  # it is taken away


# --until


def test_a_flushall_is_undone(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        with godis.client() as client, godis.client(db=3) as other:
            other.set("k", "v")
            client.mset({f"k{number}": number for number in range(100)})
            mset_ms = newest_ms(tmp_path / "log.txt")
            wait_until(lambda: tells_later(client, mset_ms), 5, "the clock goes on")
            client.flushall()
            client.set("after", "1")
        assert godis.terminate() == 0
        moment = next(ms for ms, content in timed(tmp_path / "log.txt") if b"FLUSHALL" in content)
        args = ("check", "log.txt", "--until", str(moment), "--output", "back.txt")
        code, stdout, _ = run(tmp_path, *args)
        assert code == 0
        assert stdout.startswith("back.txt: ")
        assert run(tmp_path, *args)[0] == 2  # back.txt is there
    with GodisProcess(tmp_path, log="back.txt") as godis, godis.client() as client, godis.client(db=3) as other:
        assert client.dbsize() == 100
        assert client.get("k42") == b"42"
        assert other.get("k") == b"v"


def test_a_flushall_before_a_rewrite_is_undone_from_the_log_that_the_rewrite_replaced(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.client() as client:
        client.mset({f"k{number}": number for number in range(100)})
        mset_ms = newest_ms(tmp_path / "log.txt")
        wait_until(lambda: tells_later(client, mset_ms), 5, "the clock goes on")
        client.flushall()
        moment = newest_ms(tmp_path / "log.txt")
        client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_rewritten_kept_size"], what="the rewrite")
        client.set("after", "1")
        assert godis.terminate() == 0
    args = ("check", "log.txt", "--until", str(moment), "--output", "back.txt")
    code, stdout, _ = run(tmp_path, *args)
    assert code == 0
    assert re.search(r"from +\S*log\.txt\.rewritten-\d+, which a rewrite replaced", stdout)
    assert len(read_log(tmp_path / "back.txt")[0].data) == 100
    code, stdout, _ = run(tmp_path, "check", "log.txt", "--until", "2001-01-01", "--output", "none.txt")
    assert (code, "no batch is that old" in stdout) == (0, True)


def timed(log: Path) -> list[tuple[int, bytes]]:
    """Split a log at its heads: each batch's time and bytes."""
    parts = re.split(rb"(?m)^#\d+ [0-9a-f]{8} (\d+)(?: [0-9a-f]{8}){0,2}\r\n", log.read_bytes())
    return [(int(ms), content) for ms, content in zip(parts[1::2], parts[2::2], strict=True)]


def newest_ms(log: Path) -> int:
    return timed(log)[-1][0]


def tells_later(client: redis.Redis, unix_ms: int) -> bool:
    seconds, microseconds = client.time()
    return bool(seconds * 1000 + microseconds // 1000 > unix_ms)


@pytest.mark.parametrize(
    ("moment", "zone"),
    [
        ("1700000000.001", "Etc/GMT-2"),
        ("1700000000001", "Etc/GMT-2"),
        ("2023-11-14T22:13:20.001", "UTC"),
        ("2023-11-15T00:13:20.001", "Etc/GMT-2"),
        ("2023-11-14T22:13:20.001Z", "Etc/GMT-2"),
    ],
)
def test_a_moment_may_be_written_in_each_way(log: Path, moment: str, zone: str) -> None:
    args = ("check", "log.txt", "--until", moment, "--output", "new.txt")
    assert run(log.parent, *args, env={"TZ": zone})[0] == 0
    model, report = read_log(log.with_name("new.txt"))
    assert model.data == {(0, b"a"): (b"1", FAR_MS), (9, b"b"): (b"2", FAR_MS)}
    assert report.batches == 1


# export, and copies of a live log


def contents(server: RedisProcess | GodisProcess) -> dict[tuple[int, bytes], tuple[bytes, int]]:
    """Return what a server holds in all its databases: value and deadline."""
    found: dict[tuple[int, bytes], tuple[bytes, int]] = {}
    for db in range(16):
        with server.client(db=db) as client:
            keys = [*client.scan_iter(count=1000)]
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(key).pexpiretime(key)
                answers = pipe.execute()
            found |= zip([(db, key) for key in keys], zip(answers[::2], answers[1::2], strict=True), strict=True)
    return found


def fill(client: redis.Redis) -> None:
    client.mset({f"k{number}": f"{number}" * 50 for number in range(2000)})
    client.set("binary", bytes(range(256)) * 300)
    client.set("kept", "v", pxat=FAR_MS)
    client.set("gone", "v")
    client.delete("gone")
    client.incrby("n", 5)
    client.append("kept", "w")
    client.setrange("binary", 10, "xyz")
    client.rename("k1", "renamed")
    client.persist("k2")
    client.expire("k3", 1000)


def test_an_exported_log_goes_into_a_redis_through_its_pipe(tmp_path: Path) -> None:
    require(shutil.which("redis-server") and shutil.which("redis-cli"), "redis-server is not installed")
    with (
        GodisProcess(tmp_path) as godis,
        godis.client() as client,
        godis.client(db=7) as other,
        RedisProcess(tmp_path) as server,
    ):
        fill(client)
        fill(other)
        client.swapdb(0, 2)
        with subprocess.Popen(
            [sys.executable, str(GODIS), "export", "log.txt"], cwd=tmp_path, stdout=subprocess.PIPE
        ) as exporter:
            piped = subprocess.run(
                ["redis-cli", "-p", str(server.port), "--pipe"],
                stdin=exporter.stdout,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=True,
            )
        assert exporter.returncode == 0
        assert "errors: 0" in piped.stdout
        ours = contents(godis)
        assert len(ours) > 4000
        assert contents(server) == ours


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    write_log(log, [[set_(b"k", b"v" * 1000)]] * 2000)
    with subprocess.Popen(
        [sys.executable, str(GODIS), "export", "log.txt"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as exporter:
        assert exporter.stdout is not None
        assert exporter.stderr is not None
        assert exporter.stdout.read(10) == b"*2\r\n$6\r\nSE"
        exporter.stdout.close()
        assert exporter.stderr.read() == b""


def test_a_torn_tail_is_left_out_of_the_export_and_said(log: Path) -> None:
    whole = run(log.parent, "export", "log.txt")
    log.write_bytes(log.read_bytes() + b"#7 ")
    code, stdout, stderr = run(log.parent, "export", "log.txt")
    assert (code, stdout) == whole[:2]
    assert "the last 3 bytes of log.txt are no whole batch" in stderr


def test_the_export_of_a_corrupt_log_fails_with_advice(log: Path) -> None:
    damage(log, 60)
    code, _, stderr = run(log.parent, "export", "log.txt")
    assert code == 1
    assert "damaged at byte 0" in stderr
    assert "check --repair log.txt" in stderr


def test_lines_of_the_original_are_exported_with_the_default_ttl(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"SET a 1\n#18 00000000 1\n")
    code, stdout, _ = run(tmp_path, "export", "log.txt", env={"GODIS_DEFAULT_TTL": "0"})
    assert (code, stdout.split("\r\n")[-4:]) == (0, ["a", "$1", "1", ""])
    assert run(tmp_path, "export", "log.txt", env={"GODIS_DEFAULT_TTL": "long"})[0] == 2


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_plain_copy_of_a_live_log_is_a_backup(tmp_path: Path, rewritten: bool) -> None:
    """Eight clients count, each its own key, in order: a copy holds for each of them a state that there was.

    It holds at least what was acknowledged before it began, and at most what was before it ended.
    """
    done = threading.Event()
    with GodisProcess(tmp_path) as godis:
        acknowledged = [0] * 8

        def count(number: int) -> None:
            with godis.client() as client:
                while not done.is_set():
                    acknowledged[number] = client.incr(f"n{number}")

        def rewrite() -> None:
            with godis.raw() as raw:
                while not done.wait(0.005):
                    raw.ask("BGREWRITEAOF")

        threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
        threads += [threading.Thread(target=rewrite)] * rewritten
        with godis.client() as client:
            client.mset({f"ballast{number}": b"x" * 5000 for number in range(500)})
        for thread in threads:
            thread.start()
        copies = []
        try:
            for number in range(3):
                least = 100 * (number + 1)
                wait_until(lambda: min(acknowledged) > least, 20, "all clients count")  # noqa: B023 - asked at once
                before = [*acknowledged]
                copy = tmp_path / f"copy{number}.txt"
                subprocess.run(["cp", str(tmp_path / "log.txt"), str(copy)], check=True)
                copies.append((copy, before, [*acknowledged]))
            if rewritten:
                wait_until(lambda: "the log is rewritten" in godis.stderr(), PATIENCE_SECONDS, "a rewrite is done")
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert ("the log is rewritten" in godis.stderr()) == rewritten
    whole = (tmp_path / "log.txt").read_bytes()
    assert rewritten or all(whole.startswith(copy.read_bytes()) for copy, _, _ in copies)
    # As if the last of them had caught a write half done.
    torn = tmp_path / "torn.txt"
    torn.write_bytes(copies[-1][0].read_bytes()[:-5])
    for copy, before, after in [*copies, (torn, [0] * 8, copies[-1][2])]:
        assert run(tmp_path, "check", copy.name)[0] == (copy == torn)
        with GodisProcess(tmp_path, log=copy.name) as godis, godis.client() as client:
            assert client.strlen("ballast499") == 5000
            counts = [int(client.get(f"n{number}") or 0) for number in range(8)]
        assert all(low <= found <= high + 1 for low, found, high in zip(before, counts, after, strict=True))


# What a log or a path must not do


@pytest.mark.parametrize(
    "payload",
    [
        b"*2000000000\r\n$3\r\nDEL\r\n",
        b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2000000000\r\n",
        encode_command([b"SELECT", b"1" * 5000]),
        encode_command([b"SWAPDB", b"1" * 5000, b"0"]),
    ],
)
def test_a_batch_of_absurd_numbers_is_a_fault_and_no_traceback(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "log.txt").write_bytes(frame(payload, 1_700_000_000_000))
    assert run(tmp_path, "check", "log.txt")[0] == 1
    assert run(tmp_path, "export", "log.txt")[0] == ("SWAPDB" not in payload.decode())
    assert run(tmp_path, "check", "log.txt", "--repair")[0] == 0
    assert run(tmp_path, "check", "log.txt")[0] == 0


FORGED = "2026-01-01 00:00:00 INFO all is well"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_newline_in_a_path_makes_no_line_of_its_own(tmp_path: Path) -> None:
    name = f"x\n{FORGED}\x1b[2J.txt"
    with GodisProcess(tmp_path, log=name) as godis, godis.client() as client:
        client.set("a", "1")
        assert godis.terminate() == 0
        said = godis.stderr()
    write_log(tmp_path / name, [[set_(b"k", b"v")]])
    with (tmp_path / name).open("ab") as log:
        log.write(b"#1")
    for args in (
        ["check", name],
        ["export", name],
        ["check", name, "--until", "2030-01-01", "--output", f"a\n{FORGED}"],
    ):
        said += "".join(run(tmp_path, *args)[1:])
    for args in (["check", f"{name}?"], ["check", "--repair", name], ["--log", f"no\n{FORGED}/log.txt"]):
        said += "".join(run(tmp_path, *args)[1:])
    assert said.count(FORGED) > 6
    assert not [line for line in said.splitlines() if line.startswith(FORGED)]
    assert "\x1b" not in said
