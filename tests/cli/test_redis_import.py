"""`godis.py import`, and a start in the data directory of a Redis: with the files of a real redis-server."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import old_forms
import pytest
from contents import contents, differences
from old_forms import length, string
from program import run_here
from redis_values import ask_all, requests
from servers import GodisProcess, RedisProcess, parse, wait_until

from cli.redis_import import import_redis
from commands import TABLE
from config import Config

KINDS = {"string": b"SET", "list": b"RPUSH", "set": b"SADD", "zset": b"ZADD", "hash": b"HSET", "stream": b"XGROUP"}
AOF = ("--appendonly", "yes", "--aof-use-rdb-preamble")
WAYS: dict[str, tuple[str, ...]] = {
    "a snapshot": (),
    "an AOF with a snapshot": (*AOF, "yes"),
    "an AOF of commands": (*AOF, "no"),
}


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the content of all files below a directory, but Godis's own and the servers' output."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix not in (".txt", ".stderr")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths if ".txt" not in path.name}


def run(directory: Path, *args: str) -> tuple[int, str, str]:
    """Run the program to its end; return its exit code, stdout and stderr."""
    done = run_here(directory, *args, env={"TZ": "UTC"})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module", params=WAYS)
def redis_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """The data directory of a Redis that was stopped, and what the Redis held."""
    directory = tmp_path_factory.mktemp("left")
    options = WAYS[request.param]
    with RedisProcess(directory, *options) as server, server.raw() as raw:
        kinds = [kind for kind, name in KINDS.items() if name in TABLE]
        for kind in kinds:
            ask_all(raw, requests(kind, 300, "integers", f"{kind}:before".encode()))
        if options:
            ask_all(raw, [[b"BGREWRITEAOF"]])
            while b"aof_rewrite_in_progress:0" not in raw.ask("INFO", "persistence"):
                pass
        for kind in kinds:
            ask_all(raw, requests(kind, 20, "mixed", f"{kind}:after".encode()))
        raw.ask("MULTI")
        ask_all(raw, [[b"SET", b"a", b"1"], [b"INCR", b"a"], [b"EXEC"]])
        ask_all(raw, [[b"SET", b"far", b"x", b"PXAT", b"4000000000000"], [b"SELECT", b"9"], [b"SET", b"k", b"1"]])
        if not options:
            ask_all(raw, [[b"SAVE"]])
        stop(server)
        server.start()  # for a Redis forgets how far the groups of a stream have read, when it reads its AOF
        with server.raw() as after:
            held = contents(after)
        stop(server)
    return directory, held


def stop(server: RedisProcess) -> None:
    """Let a Redis write what it has and end."""
    with server.raw() as raw:
        raw.send(b"SHUTDOWN\r\n")
        server.process.wait(60)


def test_a_log_is_made_of_what_a_redis_left(redis_left: tuple[Path, object], tmp_path: Path) -> None:
    directory, held = redis_left
    before = files_of(directory)
    code, said, errors = run(tmp_path, "import", str(directory), "--log", "new.txt")
    assert (code, errors) == (0, "")
    assert "at the end of the log" in said
    assert files_of(directory) == before
    with GodisProcess(tmp_path, log="new.txt") as server, server.raw() as raw:
        assert not differences(contents(raw), held)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "flags",
    [
        lambda directory: ["--log", str(directory)],
        lambda directory: ["--log", str(directory / "log.txt")],
        lambda directory: ["--data-dir", str(directory)],
    ],
    ids=["the directory as the log", "a log in the directory", "the directory for data"],
)
def test_a_start_takes_over_what_a_redis_left_and_goes_on(
    redis_left: tuple[Path, object], tmp_path: Path, flags: Callable[[Path], list[str]]
) -> None:
    directory = Path(shutil.copytree(redis_left[0], tmp_path / "data"))
    before = files_of(directory)
    with GodisProcess(tmp_path, *flags(directory), log=None) as server:
        assert "taking over the files of a Redis" in server.stderr()
        with server.raw() as raw:
            assert not differences(contents(raw), redis_left[1])  # type: ignore[arg-type]
            raw.ask("SET", "new", "1")
            held = contents(raw)
        server.kill9()
        server.start()
        with server.raw() as raw:
            assert not differences(contents(raw), held)
        assert server.stderr().count("taking over") == 1
    assert files_of(directory) == before


def test_a_log_that_holds_keys_is_kept_unless_told(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\x00" + string(b"k") + string(b"v")))
    (tmp_path / "log.txt").write_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n")
    before = (tmp_path / "log.txt").read_bytes()
    code, said, errors = run(tmp_path, "import", "dump.rdb")
    assert (code, said) == (2, "")
    assert "log.txt holds 1 keys" in errors
    assert "--replace" in errors
    assert (tmp_path / "log.txt").read_bytes() == before
    code, said, _ = run(tmp_path, "import", "dump.rdb", "--replace")
    assert code == 0
    assert "keys       1 at the end" in said
    (kept,) = tmp_path.glob("log.txt.rewritten-*")
    assert kept.read_bytes() == before
    assert b"SET" in (tmp_path / "log.txt").read_bytes()


def test_a_log_without_keys_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\x00" + string(b"k") + string(b"v")))
    (tmp_path / "log.txt").write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    assert run(tmp_path, "import", "dump.rdb")[0] == 0


MODULE = b"\x07" + string(b"doc") + length(2**60)
AOF_OF_TWO = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (None, 2, "file cannot be read: No such file"),
        (b"hello\n", 2, "neither a file of Redis"),
        (b"", 2, "neither a file of Redis"),
        (old_forms.snapshot(b"\x00" + string(b"k"))[:-9], 1, "byte 12: "),
        (old_forms.snapshot(MODULE), 1, "key 'doc' has a value of the module"),
        (AOF_OF_TWO + b"*1\r\n$6\r\nNOSUCH\r\n" + AOF_OF_TWO, 1, "byte 54: .*unknown command 'NOSUCH'"),
        (AOF_OF_TWO[:-9] + b"????" + AOF_OF_TWO, 1, "byte 27: "),
        (b"file nofile.aof seq 1 type b\n", 2, "nofile.aof cannot be read"),
        (b"file ../up.aof seq 1 type b\n", 1, "no manifest of Redis"),
        (b"file a.aof seq 1 type b\njunk\n", 1, "has the line 'junk'"),
    ],
)
def test_what_cannot_be_imported_is_told_and_makes_no_log(
    tmp_path: Path, content: bytes | None, code: int, reason: str
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    found, said, errors = run(tmp_path, "import", "file")
    assert (found, said) == (code, "")
    assert re.search(reason, errors), errors
    assert {path.name for path in tmp_path.iterdir()} <= {"file"}


def test_the_torn_end_of_an_aof_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(AOF_OF_TWO[:-3])
    code, said, _ = run(tmp_path, "import", ".")
    assert code == 0
    assert "left out: the last 24 bytes, which are no whole command" in said
    assert "keys       1 at the end" in said


def test_a_transaction_without_an_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(AOF_OF_TWO + b"*1\r\n$5\r\nMULTI\r\n" + AOF_OF_TWO)
    code, said, _ = run(tmp_path, "import", "appendonly.aof")
    assert code == 0
    assert "keys       2 at the end" in said


def test_functions_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\xf5" + string(b"#!lua name=x")))
    code, said, _ = run(tmp_path, "import", "dump.rdb")
    assert code == 0
    assert "left out: functions (FUNCTION LOAD) (1)" in said


def test_a_database_beyond_those_of_a_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\xfe\x14\x00" + string(b"k") + string(b"v")))
    code, said, _ = run(tmp_path, "import", "dump.rdb")
    assert code == 0
    assert "start with --databases 21 or more" in said


def test_a_start_beside_a_damaged_snapshot_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"")[:-1] + b"?")
    code, _, errors = run(tmp_path, "--port", "0")
    assert code == 1
    assert "checksum of the snapshot is wrong" in errors
    assert "move them away or give another --log" in errors
    assert not (tmp_path / "log.txt").exists() or not (tmp_path / "log.txt").read_bytes()


def test_a_directory_without_files_of_redis_is_no_log(tmp_path: Path) -> None:
    code, _, errors = run(tmp_path, "--log", ".", "--port", "0")
    assert code == 1
    assert "Is a directory" in errors


def test_a_log_that_is_there_is_served_whatever_a_redis_left(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"junk")
    (tmp_path / "log.txt").write_bytes(AOF_OF_TWO)
    with GodisProcess(tmp_path) as server, server.raw() as raw:
        assert parse(raw.ask("DBSIZE")) == 2


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_that_ends_while_it_takes_over_begins_anew(tmp_path: Path, sent: signal.Signals) -> None:
    keys = b"".join(b"\x00" + string(b"k%d" % number) + string(b"v" * 20) for number in range(100_000))
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(keys))
    before = files_of(tmp_path)
    with GodisProcess(tmp_path, "--no-log", log=None) as server:
        server.terminate()
        server.args = ("--log", "log.txt")
        server.launch()
        rewrite = tmp_path / "log.txt.rewrite"
        wait_until(lambda: rewrite.exists() and rewrite.stat().st_size, 20, "a part of the log is written")
        code = server.terminate(sent)
        assert code == (0 if sent == signal.SIGTERM else -sent)
        assert rewrite.exists() == (sent == signal.SIGKILL)
        assert not (tmp_path / "log.txt").read_bytes()
        server.start()
        with server.raw() as raw:
            assert parse(raw.ask("DBSIZE")) == 100_000
        assert not rewrite.exists()
        assert "Traceback" not in server.stderr()
    assert files_of(tmp_path) == before


def test_an_interrupted_import_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\x00" + string(b"k") + string(b"v")))
    monkeypatch.setattr("cli.redis_import.read", interrupt)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        import_redis(Config({"--log": "new.txt"}, {}), "dump.rdb", replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.rdb"]


def test_functions_of_an_aof_are_left_out_too(tmp_path: Path) -> None:
    function = b"*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$3\r\n#!x\r\n"
    (tmp_path / "appendonly.aof").write_bytes(AOF_OF_TWO + function)
    code, said, _ = run(tmp_path, "import", "appendonly.aof")
    assert code == 0
    assert "left out: functions (FUNCTION LOAD) (1)" in said


def test_a_manifest_may_quote_names_and_list_history(tmp_path: Path) -> None:
    (tmp_path / "a b.aof").write_bytes(AOF_OF_TWO)
    manifest = b'file old.aof seq 1 type h\nfile "a\\x20b.aof" seq 2 type b\n'
    (tmp_path / "appendonly.aof.manifest").write_bytes(manifest)
    code, said, _ = run(tmp_path, "import", ".")
    assert code == 0
    assert "keys       2 at the end" in said


def test_an_older_aof_has_a_snapshot_before_its_commands(tmp_path: Path) -> None:
    snapshot = old_forms.snapshot(b"\x00" + string(b"k") + string(b"v"))
    (tmp_path / "appendonly.aof").write_bytes(snapshot + b"#TS:1700000000\r\n" + AOF_OF_TWO)
    code, said, _ = run(tmp_path, "import", ".")
    assert code == 0
    assert "keys       3 at the end" in said


def test_an_import_into_a_log_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"\x00" + string(b"k") + string(b"v")))
    with GodisProcess(tmp_path, "--data-dir", "data", log=None):
        code, _, errors = run(tmp_path, "import", "dump.rdb", "--log", "data/1/log.txt", "--replace")
    assert code == 2
    assert "is in use by process" in errors


def test_long_and_short_values_and_deadlines_keep_their_order(tmp_path: Path) -> None:
    pieces = []
    for number in range(2000):
        size = (10, 10, 10, 5000, 2_000_000)[number % 5 if number < 10 else number % 4]
        deadline = b"\xfc" + (4_000_000_000_000 + number).to_bytes(8, "little") if number % 7 == 3 else b""
        word = b"%d" % number
        pieces.append(deadline + b"\x00" + string(b"k" + word) + string(word * (size // len(word))))
        if number == 1000:
            pieces.append(b"\xfe\x03")
    (tmp_path / "dump.rdb").write_bytes(old_forms.snapshot(b"".join(pieces)))
    with GodisProcess(tmp_path) as server:
        server.kill9()
        server.start()
        with server.client() as first, server.client(db=3) as second:
            assert (first.dbsize(), second.dbsize()) == (1001, 999)
            assert first.strlen("k4") == 2_000_000
            assert second.get("k1003") == b"1003" * 1250
            assert first.pexpiretime("k3") == 4_000_000_000_003
            assert second.pexpiretime("k1999") == -1
