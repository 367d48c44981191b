"""The log and a real redis-server: it loads ours unchanged, and we replay what it wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import all_families
import pytest
import redis
from contents import Contents, ask_all, differences
from contents import contents as all_contents
from grammars import FAMILIES
from log_model import FAR_MS, read_log, set_, write_log
from servers import GODIS, Failure, GodisProcess, Raw, RedisProcess, require, wait_until

from errors import LogError

APPEND = ("--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--appendfsync", "always", "--databases", "16")
COMMANDS_A_FAMILY = 400
BATCHES = [
    [set_(b"a", b"1"), set_(b"b", b"\x00#5 00000000 1\r\n\xff", db=9), set_(b"", b"")],
    [(9, [b"DEL", b"nokey"]), (0, [b"SET", b"forever", b"x"]), (3, [b"INCRBY", b"n", b"5"])],
    [(3, [b"MULTI"]), (3, [b"INCRBY", b"n", b"2"]), set_(b"c", b"3", db=3, deadline_ms=FAR_MS + 7), (3, [b"EXEC"])],
    [(0, [b"DEL", b"a"]), set_(b"c", b"0")],
]


@pytest.fixture(scope="module", autouse=True)
def _redis_7() -> None:
    program = shutil.which("redis-server")
    require(program, "redis-server is not installed")
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    require(re.search(r"v=7\.", version), f"this is not Redis 7: {version}")


def contents(server: RedisProcess) -> dict[tuple[int, bytes], tuple[bytes, int | None]]:
    """Return what a server holds in all its databases, as Model does."""
    found: dict[tuple[int, bytes], tuple[bytes, int | None]] = {}
    for db in range(16):
        with server.client(db=db) as client:
            for key in client.scan_iter(count=1000):
                deadline_ms = client.pexpiretime(key)
                found[db, key] = client.get(key), None if deadline_ms < 0 else deadline_ms
    return found


def one_file(directory: Path, into: Path) -> None:
    """Join the parts of a multi-part AOF in the order of its manifest, as our error message tells people to."""
    (manifest,) = (directory / "appendonlydir").glob("*.manifest")
    parts = [manifest.with_name(line.split()[1]) for line in manifest.read_text().splitlines()]
    assert parts
    into.write_bytes(b"".join(part.read_bytes() for part in parts))


def fill(client: redis.Redis) -> None:
    """Write in the ways that a Redis logs differently: options, transactions, other databases."""
    client.set("plain", "v")
    client.set("ex", "v", pxat=FAR_MS)
    client.set("binary", bytes(range(256)))
    client.set("kept", "v")
    client.pexpireat("kept", FAR_MS + 1)
    client.set("gone", "v")
    client.delete("gone", "nokey")
    client.mset({"m1": "1", "m2": "2"})
    with client.pipeline(transaction=True) as pipeline:
        pipeline.incr("n")
        pipeline.incrby("n", 10)
        pipeline.set("t", "v", pxat=FAR_MS)
        pipeline.execute()


def test_redis_loads_our_log_unchanged(tmp_path: Path) -> None:
    write_log(tmp_path / "appendonly.aof", BATCHES)
    ours, _ = read_log(tmp_path / "appendonly.aof")
    assert len(ours.data) == 6
    with RedisProcess(tmp_path, *APPEND) as server:
        assert contents(server) == ours.data


def test_redis_goes_on_where_we_stopped_and_we_where_it_did(tmp_path: Path) -> None:
    ours = tmp_path / "appendonly.aof"
    write_log(ours, BATCHES)
    with RedisProcess(tmp_path, *APPEND, "--aof-timestamp-enabled", "yes") as server, server.client(db=5) as client:
        client.set("from-redis", "1")
        fill(client)
        held = contents(server)
    mixed = tmp_path / "log.txt"
    one_file(tmp_path, mixed)
    assert b"#TS:" in mixed.read_bytes()
    model, report = read_log(mixed)
    assert model.data == held
    assert report.batches == len(BATCHES)
    assert report.foreign_commands > 10

    write_log(mixed, [[set_(b"ours-again", b"2"), (5, [b"DEL", b"from-redis"])]])
    model, _ = read_log(mixed)
    shutil.rmtree(tmp_path / "appendonlydir")
    mixed.rename(tmp_path / "appendonly.aof")
    with RedisProcess(tmp_path, *APPEND) as server:
        assert contents(server) == model.data
        assert (0, b"ours-again") in model.data
        assert (5, b"from-redis") not in model.data


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("timestamps", ["yes", "no"])
def test_a_redis_log_is_replayed(tmp_path: Path, timestamps: str, rewritten: bool) -> None:
    with (
        RedisProcess(tmp_path, *APPEND, "--aof-timestamp-enabled", timestamps) as server,
        server.client(db=0) as client,
        server.client(db=7) as other,
    ):
        fill(client)
        fill(other)
        if rewritten:
            client.bgrewriteaof()
            wait_for_rewrite(client)
        client.set("last", "v")
        held = contents(server)
    one_file(tmp_path, tmp_path / "log.txt")
    model, report = read_log(tmp_path / "log.txt")
    assert model.data == held
    assert report.torn_bytes == 0


def wait_for_rewrite(client: redis.Redis) -> None:
    def done() -> bool:
        persistence = client.info("persistence")
        return not persistence["aof_rewrite_in_progress"] and not persistence["aof_rewrite_scheduled"]

    wait_until(done, 20, "the rewrite ends")


def test_a_redis_log_that_a_crash_tore_is_replayed(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, *APPEND) as server, server.client() as client:
        fill(client)
        held = contents(server)
        server.kill9()
    path = tmp_path / "log.txt"
    one_file(tmp_path, path)
    torn = b"*3\r\n$3\r\nSET\r\n$5\r\nplain\r\n$3\r\nne"
    with path.open("ab") as file:
        file.write(torn)
    model, report = read_log(path)
    assert model.data == held
    assert report.torn_bytes == len(torn)


def test_a_redis_log_with_a_snapshot_and_a_manifest_are_refused_with_advice(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, "--appendonly", "yes") as server, server.client() as client:
        fill(client)
        client.bgrewriteaof()
        wait_for_rewrite(client)
    (snapshot,) = (tmp_path / "appendonlydir").glob("*.base.rdb")
    (manifest,) = (tmp_path / "appendonlydir").glob("*.manifest")
    for path, advice in ((snapshot, "import"), (manifest, "import"), (snapshot.parent, "data directory")):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(LogError, match=advice):
            read_log(path)
        assert before == (path.read_bytes() if path.is_file() else b"")


def test_redis_loads_what_we_left_of_a_torn_log(tmp_path: Path) -> None:
    sizes = write_log(tmp_path / "appendonly.aof", BATCHES)
    content = (tmp_path / "appendonly.aof").read_bytes()[: sizes[-1] - 4]
    (tmp_path / "appendonly.aof").write_bytes(content)
    ours, report = read_log(tmp_path / "appendonly.aof")
    assert report.torn_bytes == len(content) - sizes[-2]
    with RedisProcess(tmp_path, *APPEND) as server:
        assert contents(server) == ours.data


# ---- all types


def test_all_types_survive_a_restart_a_rewrite_and_an_export_and_redis_loads_our_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis:
        with godis.raw() as raw:
            all_families.fill(raw, 7, COMMANDS_A_FAMILY)
            held = all_contents(raw)
        assert {db for db, _ in held} == set(range(len(FAMILIES)))
        export_log(godis, tmp_path / "exported")
        godis.kill9()
        shutil.copy(log, tmp_path / "written")
        godis.start()
        with godis.raw() as raw:
            assert differences(all_contents(raw), held) == []
            raw.ask("BGREWRITEAOF")
        wait_until(lambda: "the log is rewritten" in godis.stderr(), 20, "the rewrite")
        godis.kill9()
        godis.start()
        with godis.raw() as raw:
            assert differences(all_contents(raw), held) == []
        godis.kill9()
        shutil.copy(log, tmp_path / "rewritten")
        shutil.copy(tmp_path / "exported", log)
        godis.start()
        with godis.raw() as raw:
            assert differences(all_contents(raw), held) == []
    for name in ("written", "rewritten", "exported"):
        directory = tmp_path / f"redis-{name}"
        directory.mkdir()
        shutil.copy(tmp_path / name, directory / "appendonly.aof")
        with RedisProcess(directory, *APPEND) as server, server.raw() as raw:
            assert differences(all_contents(raw), held) == [], name


def export_log(godis: GodisProcess, output: Path) -> None:
    """Write the log as plain commands, while the server runs."""
    with output.open("wb") as file:
        subprocess.run([sys.executable, str(GODIS), "export", str(godis.log)], stdout=file, check=True)


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_redis_log_with_all_types_is_taken_over(tmp_path: Path, rewritten: bool) -> None:
    """What redis-server itself finds in its log counts: it does not log how many entries a group has read."""
    with RedisProcess(tmp_path, *APPEND) as server:
        with server.raw() as raw, server.client() as client:
            all_families.fill(raw, 8, COMMANDS_A_FAMILY)
            if rewritten:
                client.bgrewriteaof()
                wait_for_rewrite(client)
                all_families.fill(raw, 9, COMMANDS_A_FAMILY // 4)
        one_file(tmp_path, tmp_path / "log.txt")
        server.kill9()
        server.start()
        with server.raw() as raw:
            held = all_contents(raw)
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis, godis.raw() as raw:
        assert differences(all_contents(raw), held) == []


def test_what_one_dumps_the_other_restores(tmp_path: Path) -> None:
    """Everything that random commands left in one server goes into the other, and back, key by key."""
    (tmp_path / "redis").mkdir()
    with (
        GodisProcess(tmp_path, "--default-ttl", "0") as godis,
        RedisProcess(tmp_path / "redis") as server,
        godis.raw() as ours,
        server.raw() as theirs,
    ):
        all_families.fill(ours, 11, COMMANDS_A_FAMILY)
        held = all_contents(ours)
        restore_all(ours, theirs, held)
        assert differences(all_contents(theirs), held) == []
        ours.ask("FLUSHALL")
        restore_all(theirs, ours, held)
        assert differences(all_contents(ours), held) == []


def restore_all(source: Raw, target: Raw, held: Contents) -> None:
    for (db, key), (_, _, deadline_ms) in held.items():
        _, dumped = ask_all(source, [["SELECT", db], ["DUMP", key]])
        assert not isinstance(dumped, Failure), (key, dumped)
        life = [max(0, deadline_ms), dumped, "ABSTTL"]
        _, reply = ask_all(target, [["SELECT", db], ["RESTORE", key, *life]])
        assert reply == b"OK", (key, reply)
