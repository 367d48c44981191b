"""Functions: libraries that stay. They are logged, and are in rewrites, snapshots, and what a redis-server reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import old_forms
import pytest
from instances import Bench, Client, driven, work_of
from pool_member import US, Member, copy_of, make
from rewrite_rig import Rig
from servers import GODIS, GodisProcess, Raw, RedisProcess, encode, wait_until

from commands import script_runs
from errors import BUSY_FUNCTION, FUNCTION_LOAD_TIMEOUT, FUNCTION_NOT_FOUND, OUT_OF_MEMORY, CommandError
from replies import OK
from session import PoolState

Request = Sequence[str | bytes]

HEAD = b"#!lua name=lib\n"
ONE = HEAD + b"redis.register_function('one', function() return 1 end)"
TWO = b"#!lua name=other\nredis.register_function('two', function() return 2 end)"
CODE = rb"""#!lua name=lib
local count = 0
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{
    function_name='get', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'},
    description='get it'
}
redis.register_function{
    function_name='bad', callback=function() return redis.call('SET', 'a', 1) end, flags={'no-writes'}
}
redis.register_function('words', function(keys, args) return {#keys, keys[1], #args, args[1]} end)
redis.register_function('late', function() return redis.register_function('x', function() end) end)
redis.register_function('keys', function() return KEYS end)
redis.register_function('global', function() y = 1 end)
redis.register_function('boom', function()
    return error('boom') end)
redis.register_function('nope', function() return redis.call('nope') end)
redis.register_function('caught', function() return redis.pcall('nope') end)
redis.register_function('fails', function() return redis.error_reply('My Err') end)
redis.register_function('libraries', function() return cjson.encode({struct.size('i'), bit.bor(1, 2)}) end)
redis.register_function('counts', function() count = count + 1 return count end)
redis.register_function('names', function()
    local names = {}
    for name in pairs(redis) do names[#names + 1] = name end
    table.sort(names)
    return names
end)
"""
FIRST_LINES = [
    *("", "x", "#!lua", "#!lua\n", "#!lua name=\n", "#!lua name=a-b\n", "#!js name=a\n", "#!lua name=a b=c\n", "#!\n"),
    *(
        "#!lua name=a name=b\n",
        "#! lua name=a\n",
        "#!LUA NAME=a\nx",
        '#!lua name="a b"\n',
        "#!lua 'name=a'\r\nx",
        "#!lua 'a\n",
    ),
]
BODIES = [
    *(
        "",
        "return 1",
        "x x",
        "redis.call('GET', 'x')",
        "redis.pcall('GET', 'x')",
        "redis.setresp(3)",
        "x = 1",
        "print(1)",
    ),
    *("error('x')", "redis.foo = 1", "local x = KEYS", "local x = cjson", "while true do end", "_G.x = 1"),
    "redis.log(redis.LOG_WARNING, redis.REDIS_VERSION) redis.register_function('f', function() end)",
    "redis.register_function('f', function() end) redis.register_function('f', function() end)",
]
ARGUMENTS = [
    *(
        "",
        "1, 2, 3",
        "'f'",
        "'f', 1",
        "'a-b', function() end",
        "'', function() end",
        "1, function() end",
        "{}, function() end",
    ),
    *("{}", "{function_name='f'}", "{callback=function() end}", "{function_name={}, callback=function() end}"),
    *("{function_name='f', callback=1}", "{'f', callback=function() end}", "{[true]=1}", "'a\\0b', function() end"),
    *(
        f"{{FUNCTION_NAME='f', callback=function() end, {more}}}"
        for more in ("flags=1", "flags={'x'}", "flags={1}", "flags={{}}", "flags={'No-Writes', 'allow-oom'}")
    ),
    *(f"{{function_name='f', callback=function() end, {more}}}" for more in ("description=1", "description={}", "x=1")),
]
LOADED = [
    *(["FUNCTION", "LOAD", "REPLACE", line] for line in FIRST_LINES),
    *(["FUNCTION", "LOAD", "REPLACE", f"#!lua name=lib\n{body}"] for body in BODIES),
    *(["FUNCTION", "LOAD", "REPLACE", f"#!lua name=lib\nredis.register_function({each})"] for each in ARGUMENTS),
]
CALLS = [
    *("put 1 k v", "put 0", "PUT 1 k w", "get 1 k", "bad 1 k", "words 1 a b", "late 0", "keys 0", "global 0", "boom 0"),
    *("nope 0", "caught 0", "fails 0", "libraries 0", "counts 0", "counts 0", "names 0", "unknown 0", "get 2 a", "get"),
    *("get -1 a", "get x a", "get 99999999999999999999 a", "get +1 a", "get 01 a", "boom -0"),
    "get 9223372036854775807 a",
]
REQUESTS: list[Request] = [
    ["FUNCTION", "LOAD", ONE],
    ["FUNCTION", "LOAD", ONE],
    ["FUNCTION", "LOAD", ONE.replace(b"lib", b"lib2")],
    ["FUNCTION", "LOAD", "REPLACE", ONE.replace(b"lib", b"lib2")],
    ["FUNCTION", "LOAD", "BAD", ONE],
    ["FUNCTION", "LOAD", "REPLACE", "replace", ONE],
    *(
        ["FUNCTION", *words.split()]
        for words in ("", "LOAD", "NOPE", "DELETE", "DELETE nolib", "STATS x", "DUMP x", "KILL")
    ),
    *(
        ["FUNCTION", "LIST", *words.split()]
        for words in ("", "WITHCODE", "LIBRARYNAME", "LIBRARYNAME l?b", "libraryname x")
    ),
    *(["FUNCTION", "LIST", *words.split()] for words in ("x", "WITHCODE WITHCODE", "LIBRARYNAME a LIBRARYNAME b")),
    ["FUNCTION", "STATS"],
    ["FUNCTION", "RESTORE", "x"],
    ["FUNCTION", "RESTORE", "x" * 30],
    ["FUNCTION", "RESTORE", old_forms.payload(0, old_forms.string(b"v"))],
    ["FUNCTION", "RESTORE", old_forms.payload(245, old_forms.string(ONE)), "x"],
    ["FUNCTION", "RESTORE", old_forms.payload(245, old_forms.string(ONE)), "FLUSH", "x"],
    *(
        ["FUNCTION", "RESTORE", old_forms.payload(245, old_forms.string(ONE)), *how]
        for how in ((), ["APPEND"], ["REPLACE"])
    ),
    ["FUNCTION", "RESTORE", old_forms.payload(245, old_forms.string(TWO)), "FLUSH"],
    ["FUNCTION", "LIST"],
    ["FUNCTION", "LOAD", TWO.replace(b"other", b"third")],
    ["FUNCTION", "RESTORE", old_forms.payload(245, old_forms.string(TWO.replace(b"other", b"third"))), "REPLACE"],
    ["FUNCTION", "DELETE", "other"],
    ["EVAL", "return redis.call('FUNCTION', 'LIST')", "0"],
    ["EVAL", "return redis.call('FCALL', 'f', '0')", "0"],
    ["FUNCTION", "FLUSH", "x"],
    ["FUNCTION", "FLUSH", "ASYNC"],
    ["FUNCTION", "FLUSH", "SYNC", "x"],
]


@pytest.fixture(scope="module")
def pair(shared_godis: GodisProcess, redis_server: RedisProcess) -> Any:
    with shared_godis.raw() as ours, redis_server.raw() as theirs:
        for each in (ours, theirs):
            each.ask("FUNCTION", "FLUSH")
        yield ours, theirs
        theirs.ask("FUNCTION", "FLUSH")


@pytest.mark.parametrize("protocol", [2, 3])
def test_requests_are_answered_as_redis_answers_them(pair: tuple[Raw, Raw], protocol: int) -> None:
    flush: Request = ["FUNCTION", "FLUSH"]
    load: Request = ["FUNCTION", "LOAD", CODE]
    calls = [[name, *call.split()] for call in CALLS for name in ("FCALL", "FCALL_RO")]
    requests: list[Request] = [*REQUESTS, *LOADED, flush, load, *calls, flush]
    for each in pair:
        each.ask("HELLO", protocol)
    for argv in requests:
        ours, theirs = (each.ask(*argv) for each in pair)
        if list(argv[:2]) == ["FUNCTION", "LIST"] and protocol == 3:
            assert sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n")), argv
        else:
            assert ours == theirs, argv


def test_payloads_are_exchanged_with_redis(pair: tuple[Raw, Raw]) -> None:
    for giver, taker in (pair, pair[::-1]):
        giver.ask("FUNCTION", "LOAD", CODE)
        payload = giver.ask("FUNCTION", "DUMP").partition(b"\r\n")[2][:-2]
        assert taker.ask("FUNCTION", "RESTORE", payload, "FLUSH") == b"+OK\r\n"
        assert taker.ask("FCALL", "words", "1", "a", "b") == b"*4\r\n:1\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n"
        for each in pair:
            each.ask("FUNCTION", "FLUSH")


def test_an_empty_payload_is_that_of_redis(pair: tuple[Raw, Raw]) -> None:
    ours, theirs = (each.ask("FUNCTION", "DUMP") for each in pair)
    assert ours == theirs
    assert pair[0].ask("FUNCTION", "RESTORE", ours.partition(b"\r\n")[2][:-2]) == b"+OK\r\n"


def test_a_function_that_takes_long_is_shown_and_ended_by_its_own_command(tmp_path: Path) -> None:
    loop = HEAD + b"redis.register_function('loop', function() while true do end end)"
    with GodisProcess(tmp_path) as server, server.raw() as busy, server.raw() as other:
        other.ask("CONFIG", "SET", "busy-reply-threshold", "1")
        other.ask("FUNCTION", "LOAD", loop)
        busy.send(encode("FCALL", "loop", "1", "a", "b"))
        wait_until(lambda: b"loop" in other.ask("FUNCTION", "STATS"))
        running, _ = other.ask("FUNCTION", "STATS").split(b"duration_ms")
        assert running.endswith(b"$5\r\nFCALL\r\n$4\r\nloop\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\nb\r\n$11\r\n")
        for refused in (["GET", "k"], ["SCRIPT", "KILL"]):
            assert other.ask(*refused) == b"-" + BUSY_FUNCTION + b"\r\n"
        assert other.ask("FUNCTION", "KILL") == b"+OK\r\n"
        assert busy.read_reply().startswith(b"-ERR Script killed by user")


# ---- effects


@pytest.fixture
def client() -> Client:
    return Bench().connect()


def logged(client: Client) -> list[list[bytes]]:
    records = client.bench.log.records.copy()
    client.bench.log.records.clear()
    return records


def test_what_changes_libraries_is_logged_as_it_came_out(client: Client) -> None:
    load = [b"FUNCTION", b"LOAD", b"REPLACE", ONE]
    assert client.ask("FUNCTION", "LOAD", ONE) == b"lib"
    assert logged(client) == [load]
    payload = client.ask("FUNCTION", "DUMP")
    client.ask("FUNCTION", "RESTORE", payload, "FLUSH")
    assert logged(client) == [[b"FUNCTION", b"FLUSH"], load]
    client.ask("FUNCTION", "DELETE", "lib")
    client.ask("FUNCTION", "FLUSH")
    assert logged(client) == [[b"FUNCTION", b"DELETE", b"lib"]]
    for refused in (["LOAD", "x"], ["DELETE", "lib"], ["RESTORE", "x"]):
        assert isinstance(client.ask("FUNCTION", *refused), CommandError)
    assert logged(client) == []


def test_a_call_is_logged_as_its_effects(client: Client) -> None:
    client.ask("FUNCTION", "LOAD", CODE)
    logged(client)
    assert client.ask("FCALL", "put", 1, "k", "v") == OK
    assert [argv[:3] for argv in logged(client)] == [[b"SET", b"k", b"v"]]
    client.ask("FCALL", "get", 1, "k")
    assert logged(client) == []


def test_all_or_none_of_a_payload_is_restored(client: Client) -> None:
    """A function of the second library is there already."""
    client.ask("FUNCTION", "LOAD", TWO)
    body = old_forms.string(ONE) + b"\xf5" + old_forms.string(TWO.replace(b"other", b"third"))
    logged(client)
    for policy in ("APPEND", "REPLACE"):
        assert isinstance(client.ask("FUNCTION", "RESTORE", old_forms.payload(245, body), policy), CommandError)
    assert logged(client) == []
    assert list(client.session.store.libraries) == [b"other"]
    assert client.ask("FCALL", "one", 0).text == FUNCTION_NOT_FOUND


def test_a_library_that_takes_too_long_to_load_leaves_the_others_as_they_were(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_runs, "LOAD_TICKS", 3)
    client.ask("FUNCTION", "LOAD", "#!lua name=a\nredis.register_function('f', function() return tostring(7) end)")
    for body in ("while true do end", "local t = {} for i = 1, 2 do t[i] = t end return t"):
        assert FUNCTION_LOAD_TIMEOUT in client.ask("FUNCTION", "LOAD", f"#!lua name=b\n{body}").text
        assert client.ask("FCALL", "f", 0) == b"7"


def test_flushall_leaves_functions(client: Client) -> None:
    client.ask("FUNCTION", "LOAD", ONE)
    client.ask("FLUSHALL")
    assert client.ask("FCALL", "one", 0) == 1


def test_a_library_remembers_from_call_to_call(client: Client) -> None:
    client.ask("FUNCTION", "LOAD", CODE)
    assert [client.ask("FCALL", "counts", 0) for _ in range(3)] == [1, 2, 3]
    client.ask("FUNCTION", "LOAD", "REPLACE", CODE)
    assert client.ask("FCALL", "counts", 0) == 1


def test_a_replaced_library_loses_the_functions_that_it_no_longer_has(client: Client) -> None:
    client.ask("FUNCTION", "LOAD", CODE)
    client.ask("FUNCTION", "LOAD", "REPLACE", ONE)
    assert client.ask("FCALL", "put", 1, "k", "v").text == FUNCTION_NOT_FOUND
    assert client.ask("FCALL", "one", 0) == 1


def test_functions_are_loaded_and_called_in_a_transaction(client: Client) -> None:
    client.ask("MULTI")
    client.ask("FUNCTION", "LOAD", ONE)
    client.ask("FCALL", "one", 0)
    assert driven(work_of(client.ask("EXEC")))[0] == [b"lib", 1]


def test_a_function_that_may_write_needs_memory() -> None:
    client = Bench(maxmemory="1mb", maxmemory_policy="noeviction").connect()
    client.ask("FUNCTION", "LOAD", CODE)
    client.ask("SET", "k", "x" * 3000)
    client.ask("CONFIG", "SET", "maxmemory", 1000)
    assert client.ask("FCALL", "put", 1, "k", "v").text == OUT_OF_MEMORY
    assert client.ask("FCALL", "get", 1, "k") == b"x" * 3000


# ---- what lasts


def test_a_rewrite_has_the_libraries(tmp_path: Path) -> None:
    rig = Rig(str(tmp_path))
    for words in (["LOAD", ONE.decode()], ["LOAD", TWO.decode()], ["DELETE", "lib"]):
        rig.ask("FUNCTION", *words)
    rig.end_turn()
    rig.ask("BGREWRITEAOF")
    rig.finish()
    rig.ask("FUNCTION", "LOAD", ONE.decode())
    rig.end_turn()
    data = Path(rig.path).read_bytes()
    assert data.count(TWO) == 1
    assert b"DELETE" not in data
    assert data.count(ONE) == 1


def test_libraries_are_there_after_a_start_and_a_rewrite(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as server:
        with server.raw() as client:
            client.ask("FUNCTION", "LOAD", CODE)
            client.ask("FUNCTION", "LOAD", TWO)
            client.ask("FUNCTION", "DELETE", "other")
        server.kill9()
        server.start()
        with server.raw() as client:
            assert client.ask("FCALL", "put", "1", "k", "v") == b"+OK\r\n"
            client.ask("BGREWRITEAOF")
            wait_until(lambda: b"aof_rewrite_in_progress:0" in client.ask("INFO", "persistence"))
        server.kill9()
        server.start()
        with server.raw() as client:
            assert client.ask("FCALL_RO", "get", "1", "k") == b"$1\r\nv\r\n"
            assert b"libraries_count\r\n:1\r\n" in client.ask("FUNCTION", "STATS")


def told(*words: object) -> bytes:
    """Return what a subcommand prints."""
    return subprocess.run([sys.executable, str(GODIS), *map(str, words)], check=True, capture_output=True).stdout


def test_check_export_and_a_copy_keep_libraries(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as server, server.raw() as client:
        client.ask("FUNCTION", "LOAD", CODE)
        client.ask("FCALL", "put", "1", "k", "v")
    told("check", tmp_path / "log.txt")
    assert CODE in told("export", tmp_path / "log.txt")
    told("check", "--until", "2099-01-01T00:00:00Z", "--output", tmp_path / "copy.txt", tmp_path / "log.txt")
    assert CODE in (tmp_path / "copy.txt").read_bytes()


def started_on(source: Path, directory: Path) -> GodisProcess:
    """Start on what `import` makes of a Redis's files."""
    directory.mkdir()
    told("import", source, "--log", directory / "log.txt")
    return GodisProcess(directory)


def test_redis_loads_our_log_with_functions_and_we_its_files(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    with GodisProcess(ours) as server, server.raw() as client:
        client.ask("FUNCTION", "LOAD", CODE)
        client.ask("FCALL", "put", "1", "k", "v")
    shutil.copy(ours / "log.txt", theirs / "appendonly.aof")
    with RedisProcess(theirs, "--appendonly", "yes", "--appendfsync", "always") as redis, redis.raw() as client:
        assert client.ask("FCALL_RO", "get", "1", "k") == b"$1\r\nv\r\n"
        client.ask("FUNCTION", "LOAD", TWO)
        client.ask("SAVE")
        client.ask("FUNCTION", "LOAD", "REPLACE", TWO)
    for source in (theirs / "dump.rdb", theirs / "appendonlydir"):
        with started_on(source, tmp_path / f"of-{source.name}") as server, server.raw() as client:
            assert client.ask("FCALL", "two", "0") == b":2\r\n"
            assert client.ask("FCALL_RO", "get", "1", "k") == b"$1\r\nv\r\n"


# ---- in a pool


def member() -> Member:
    made = Member()
    made.instance.pool = PoolState("0" * 40, "p", [], stale_reads=True)
    return made


def entry(of: Member, *argv: bytes) -> Any:
    of.seq += 1
    [data] = make(of.seq, [list(argv)], instance=US)
    return of.apply(data).replies[0]


def test_a_pool_has_the_same_libraries_everywhere_and_in_snapshots() -> None:
    first = member()
    assert entry(first, b"FUNCTION", b"LOAD", CODE) == b"lib"
    assert entry(first, b"FUNCTION", b"LOAD", HEAD).text == b"ERR Library 'lib' already exists"
    assert [entry(first, b"FCALL", b"counts", b"0") for _ in range(2)] == [1, 1]
    second = copy_of(first)
    second.instance.pool, second.seq = first.instance.pool, first.seq
    for each in (first, second):
        assert entry(each, b"FCALL", b"put", b"1", b"k", b"v") == OK
        assert entry(each, b"FUNCTION", b"LOAD", TWO) == b"other"
    assert first.replica.dump() == second.replica.dump()
    assert second.ask(b"FCALL_RO get 1 k") == b"v"
