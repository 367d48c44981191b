"""Scripts and the rest of the server: no memory, users with limits, pauses, and a redis-server that loads the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contents import contents, differences
from servers import PATIENCE_SECONDS, GodisProcess, Raw, RedisProcess, encode, parse, wait_until

LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, argv) return redis.call('SET', keys[1], argv[1]) end)
redis.register_function{function_name='get', callback=function(keys) return redis.call('GET', keys[1]) end,
                        flags={'no-writes'}}
"""
CALL = "return redis.call(KEYS[1], unpack(ARGV))"
PCALL = "return redis.pcall(KEYS[1], unpack(ARGV))"


def call(*words: str) -> list[str]:
    """Return a script that calls a command."""
    return ["EVAL", CALL, "1", *words]


WITHOUT_MEMORY = [
    call("SET", "k", "v"),
    call("GET", "a"),
    call("APPEND", "a", "x"),
    ["EVAL", PCALL, "1", "SET", "k", "v"],
    ["EVAL", "return redis.pcall('SET', 'k', 'v').err", "0"],
    ["EVAL", "return redis.acl_check_cmd('SET', 'k', 1)", "0"],
    ["EVAL", "redis.call('DEL', 'b') return redis.call('SET', 'k', 'after a DEL')", "0"],
    ["EVAL", "redis.pcall('SET', 'k', 'v') redis.call('DEL', 'nokey') return redis.call('SET', 'k', 2)", "0"],
    ["EVAL_RO", "return redis.call('GET', 'a')", "0"],
    ["EVAL", "#!lua\nreturn redis.call('GET', 'a')", "0"],
    ["EVAL", "#!lua flags=no-writes\nreturn redis.call('GET', 'a')", "0"],
    ["EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', 'a', 2)", "0"],
    ["EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', 'a', 2)", "0"],
    ["EVAL", "return redis.call('PUBLISH', 'c', 'm')", "0"],
    ["FCALL", "put", "1", "k", "v"],
    ["FCALL", "get", "1", "a"],
    ["FCALL_RO", "get", "1", "a"],
    ["GET", "k"],
    ["GET", "a"],
]


def test_without_memory_scripts_are_refused_as_in_redis(godis: GodisProcess, redis_server: RedisProcess) -> None:
    found = []
    for server in (godis, redis_server):
        with server.raw() as client:
            client.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            client.ask("MSET", "a", "1", "b", "2")
            client.ask("CONFIG", "SET", "maxmemory", "1")
            try:
                found.append([(words, client.ask(*words)) for words in WITHOUT_MEMORY])
            finally:
                client.ask("CONFIG", "SET", "maxmemory", "0")
                assert client.ask("FCALL", "put", "1", "k", "v") == b"+OK\r\n", "the limit is lifted"
    assert [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]] == []
    assert sum(reply.startswith(b"-OOM") or b"OOM" in reply for _, reply in found[0]) > 4


RULES = [
    "~k* +@all",
    "%R~* %W~k* +@all",
    "~* +@all -set",
    "~* +@all -@write",
    "~* +@all -eval",
    "~* +@all -fcall -script",
    "~* +eval +fcall +get",
    "~* +@all resetchannels &c*",
    "~* -@all +eval +set",
]
OF_A_USER = [
    call("SET", "k", "v"),
    call("SET", "a", "v"),
    call("GET", "a"),
    call("PUBLISH", "c", "m"),
    call("PUBLISH", "d", "m"),
    call("CONFIG", "GET", "port"),
    ["EVAL", PCALL, "1", "SET", "a", "v"],
    ["EVAL", "return redis.acl_check_cmd('SET', 'a', {})", "0"],
    ["EVAL", "redis.call('SET', 'k', 'kept') return redis.call('SET', 'a', 'denied')", "0"],
    ["EVAL", "return {redis.acl_check_cmd('SET', 'a', 1), redis.acl_check_cmd('GET', 'a')}", "0"],
    ["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"],
    ["EVAL_RO", "return redis.call('GET', 'a')", "0"],
    ["FCALL", "put", "1", "a", "v"],
    ["FCALL", "get", "1", "a"],
    ["SCRIPT", "LOAD", "return 1"],
    ["GET", "k"],
]
LOGGED = (b"count", b"reason", b"context", b"object", b"username")


def log_of_denials(client: Raw) -> list[Any]:
    """Return the entries of ACL LOG, without times and addresses."""
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in parse(client.ask("ACL", "LOG", "100"))]
    return [[entry[name] for name in LOGGED] for entry in entries]


def test_scripts_may_do_what_their_user_may_as_in_redis(godis: GodisProcess, redis_server: RedisProcess) -> None:
    found: list[list[Any]] = []
    for server in (godis, redis_server):
        answers: list[Any] = []
        with server.raw() as client, server.raw() as admin:
            admin.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            for rules in map(str.split, RULES):
                admin.ask("MSET", "a", "1", "k", "2")
                admin.ask("ACL", "LOG", "RESET")
                admin.ask("ACL", "SETUSER", "u", "reset", "on", "nopass", *rules)
                client.ask("AUTH", "u", "x")
                answers += [(rules, words, client.ask(*words)) for words in OF_A_USER]
                answers.append(log_of_denials(admin))
            admin.ask("ACL", "DELUSER", "u")
        found.append(answers)
    assert [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]] == []


def test_a_pause_of_writes_holds_back_scripts_that_may_write(godis: GodisProcess, redis_server: RedisProcess) -> None:
    held = [
        call("SET", "k", "v"),
        ["EVAL", "return 1", "0"],
        ["EVAL", "#!lua\nreturn 1", "0"],
        ["FCALL", "put", "1", "k", "v"],
        ["SCRIPT", "LOAD", "return 1"],
        ["EVAL_RO", "return redis.call('GET', 'k')", "0"],
        ["EVAL", "#!lua flags=no-writes\nreturn redis.call('GET', 'k')", "0"],
        ["FCALL", "get", "1", "k"],
        ["FCALL_RO", "get", "1", "k"],
    ]
    found = []
    for server in (godis, redis_server):
        answers: list[Any] = []
        with server.raw() as client, server.raw() as other:
            other.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
            for words in held:
                other.ask("CLIENT", "PAUSE", "1000000", "WRITE")
                client.send(encode("PING") + encode(*words) + encode("PING"))
                client.read_reply()  # the requests behind it have been received, too
                clients = other.ask("INFO", "clients")
                answers.append((words, b"blocked_clients:1" in clients))
                other.ask("CLIENT", "UNPAUSE")
                answers += [(words, client.read_reply()) for _ in range(2)]
        found.append(answers)
    assert [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]] == []


def write_by_scripts(client: Raw) -> None:
    """Write in all the ways in which a script writes."""
    client.ask("FUNCTION", "LOAD", LIBRARY)
    for words in (
        call("SET", "k", "v", "PX", "100000000"),
        [
            "EVAL",
            "for i = 1, 300 do redis.call('RPUSH', 'l', i) end redis.call('SELECT', 2) redis.call('SADD', 's', 1)",
            "0",
        ],
        ["EVAL", "redis.call('INCR', 'n') redis.call('INCR', 'n') error('behind its writes')", "0"],
        ["EVAL", "redis.call('SADD', 'r', 1, 2, 3, 4, 5) return redis.call('SPOP', 'r', 2)", "0"],
        ["EVAL", "return redis.call('HSET', 'h', 'f', redis.call('TIME')[1], 'g', math.random())", "0"],
        ["EVAL", "return redis.call('XADD', 'x', '*', 'f', 'v')", "0"],
        ["FCALL", "put", "1", "f", "by a function"],
        ["FCALL_RO", "get", "1", "f"],
        ["MULTI"],
        call("INCR", "n"),
        ["FCALL", "put", "1", "g", "in a transaction"],
        ["EXEC"],
        ["EVAL", "for i = 1, 20000 do redis.call('SET', 'k' .. i, i) end", "0"],
    ):
        client.ask(*words)


def libraries(client: Raw) -> list[Any]:
    """Return what FUNCTION LIST tells, in an order of its own."""
    found = parse(client.ask("FUNCTION", "LIST", "WITHCODE"))
    return sorted((each[1], each[3], sorted(map(repr, each[5])), each[7]) for each in found)


@pytest.mark.parametrize("rewritten", [False, True])
def test_redis_loads_a_log_that_scripts_and_functions_wrote(tmp_path: Path, rewritten: bool) -> None:
    with GodisProcess(tmp_path, "--default-ttl", "0", "--appendfsync", "always") as godis:
        with godis.raw() as client:
            write_by_scripts(client)
            if rewritten:
                client.ask("BGREWRITEAOF")
                wait_until(lambda: "the log is rewritten" in godis.stderr(), PATIENCE_SECONDS, "the rewrite")
            held, loaded = contents(client), libraries(client)
        godis.kill9()
        assert godis.log is not None
        directory = tmp_path / "redis"
        directory.mkdir()
        (directory / "appendonly.aof").write_bytes(godis.log.read_bytes())
    with RedisProcess(directory, "--appendonly", "yes", "--databases", "16") as redis, redis.raw() as client:
        assert differences(contents(client), held) == []
        assert libraries(client) == loaded
