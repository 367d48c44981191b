"""Scripts: what they return, what they may not reach, how long they may take, and what of them is logged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from instances import Bench, Client, driven, work_of
from program import run_command
from redis.lock import Lock
from script_table import SCRIPTS
from servers import PATIENCE_SECONDS, ROOT, GodisProcess, Raw, RedisProcess, encode, wait_until

from errors import EXEC_ABANDONED
from scripts import runtime
from session import PAUSED

RELEASE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"
LOOP = "while true do end"


def replies(client: Raw, version: int) -> list[tuple[str, bytes]]:
    client.ask("HELLO", version)
    client.ask("FLUSHALL")
    found = []
    for line in SCRIPTS:
        found.append((line, client.ask("EVAL", line.replace("\\n", "\n"), 0)))
    return found


@pytest.mark.parametrize("version", [2, 3])
def test_scripts_reply_as_in_redis(version: int, shared_godis: GodisProcess, redis_server: RedisProcess) -> None:
    with shared_godis.raw() as ours, redis_server.raw() as theirs:
        differing = [
            (line, mine, other)
            for (line, mine), (_, other) in zip(replies(ours, version), replies(theirs, version), strict=True)
            if mine != other
        ]
    assert not differing


REQUESTS = [
    ("EVAL", "return 1", "x"),
    ("EVAL", "return 1", "-1"),
    ("EVAL", "return 1", "2", "a"),
    ("EVAL", "return {KEYS[1],KEYS[2],ARGV[1],#KEYS,#ARGV}", "2", "a", "b", "c"),
    ("EVALSHA", "aaaa", "0"),
    ("EVALSHA", "f" * 40, "0"),
    ("EVAL_RO", "return redis.call('set','a',1)", "0"),
    ("EVAL_RO", "return redis.call('publish','a',1)", "0"),
    ("EVAL_RO", "return redis.call('get','a')", "0"),
    ("SCRIPT", "KILL"),
    ("SCRIPT", "LOAD", "x("),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVALSHA", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", "0"),
    ("EVALSHA_RO", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"),
    ("SCRIPT", "EXISTS", "a", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"),
    ("SCRIPT", "FLUSH", "x"),
    ("SCRIPT", "FLUSH", "SYNC", "x"),
    ("SCRIPT", "FLUSH", "ASYNC"),
    ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"),
    ("SCRIPT", "DEBUG", "NO"),
    ("SCRIPT", "FOO"),
    ("EVAL", "#!lua", "0"),
    ("EVAL", "#!lua flags=foo\nreturn 1", "0"),
    ("EVAL", "#!python\nreturn 1", "0"),
    ("EVAL", "#!\nreturn 1", "0"),
    ("EVAL", "#!lua name=x\nreturn 1", "0"),
    ("EVAL", "#!lua flags=no-writes\nreturn redis.call('set','a',1)", "0"),
    ("EVAL", "#!lua  flags=no-writes,allow-oom  flags=allow-stale,no-cluster\nerror('x')", "0"),
    ("EVAL", "#!LUA\nreturn 1", "0"),
    ("MULTI",),
    ("EVAL", "return redis.call('incr','m')", "1", "m"),
    ("EVAL", "return redis.call('nosuch')", "0"),
    ("EXEC",),
    ("EVAL", "redis.call('select',3) return redis.call('set','k',1)", "0"),
    ("EXISTS", "k"),
    ("EVAL", "math.randomseed(7) return {math.random(1000),math.random(1000),tostring(math.random())}", "0"),
]


def test_requests_are_answered_as_in_redis(godis: GodisProcess, redis_server: RedisProcess) -> None:
    with godis.raw() as ours, redis_server.raw() as theirs:
        theirs.ask("FLUSHALL")
        theirs.ask("SCRIPT", "FLUSH")
        for request in REQUESTS:
            assert (request, ours.ask(*request)) == (request, theirs.ask(*request))


def test_a_lock_of_redis_py_is_taken_and_released(shared_godis: GodisProcess) -> None:
    client = shared_godis.client()
    with Lock(client, "lock", timeout=5) as lock:
        assert client.exists("lock")
        assert lock.extend(10)
        assert lock.reacquire()
    assert not client.exists("lock")
    script = client.register_script(RELEASE)
    assert script(keys=["lock"], args=["x"]) == 0
    client.close()


# ---- what a script may not reach

ESCAPES = [
    "return os",
    "return io",
    "return package",
    "return require",
    "return debug",
    "return python",
    "return getfenv",
    "return setfenv",
    "return newproxy",
    "return dofile",
    "return loadfile",
    "return module",
    "return print",
    "return _G.python",
    "return _G._G.os",
    "return loadstring(string.dump(function() end))()",
    "local n = 0 return load(function() n = n + 1 return n == 1 and string.dump(function() return 1 end) or nil end)()",
    "redis.call = nil",
    "string.rep = nil",
    "cjson.encode = nil",
    "_G.redis = nil",
    "KEYS = nil",
    "getmetatable('').__index = nil",
    "getmetatable('').x = 1",
    "rawset(redis, 'call', nil)",
    "rawset(_G, 'redis', nil)",
    "setmetatable(redis, {})",
    "setmetatable(_G, {})",
    "table.insert(_G, 1)",
    "table.insert(redis, 1)",
    "getmetatable(redis).__index.call = 1",
    "getmetatable(_G).__index.redis = 1",
    "return redis.call.x",
    "return redis.call.__class__",
    "return (next(redis)).x.y",
    "for _, f in pairs(redis) do if type(f) == 'userdata' then return {ok='yes'} end end error('none')",
]


def test_nothing_beyond_the_sandbox_is_reached() -> None:
    client = Bench().connect()
    for script in ESCAPES:
        assert client.wire("EVAL", script, 0).startswith(b"-"), script
    assert client.wire("EVAL", "return redis.call('ping')", 0) == b"+PONG\r\n"


HOSTILE = [
    "local t = {} while true do t[#t+1] = string.rep('x', 1000000) .. #t end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local function f() return 1 + f() end f()",
    "local function f() return pcall(f) end f() error('deep')",
    "local co co = function() return coroutine.wrap(co)() end co()",
    "return string.rep('a', 100000):find(string.rep('a?', 100000) .. 'b')",
    "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
    "error({})",
    "error({1})",
    "error(redis)",
    "error(setmetatable({}, {__index = function() error('x') end}))",
    "error(coroutine.create(function() end))",
    "return loadstring('return ' .. string.rep('(', 100000) .. '1' .. string.rep(')', 100000))()",
    "return loadstring(string.rep('x = ', 1) .. string.rep('{', 100000))()",
    "return redis.call('set', 'a', string.rep('x', 2^25), string.rep('x', 2^25))",
    "return unpack({}, 1, 1e8)",
    "return string.format('%99999d', 1)",
    "return redis.call(unpack({}, 1, 7000))",
    "local t = {} for i = 1, 100 do t[i] = t end return t",
    "local t = {} for i = 1, 1e7 do t[i] = i end return t",
]


@pytest.fixture
def with_little_memory(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of an instance whose scripts have 64 MB."""
    monkeypatch.setattr(runtime, "MEMORY_BYTES", 64 << 20)
    monkeypatch.setattr(runtime, "FULL_BYTES", 60 << 20)
    return Bench().connect()


def test_hostile_scripts_end_with_an_error_and_change_nothing(with_little_memory: Client) -> None:
    client = with_little_memory
    for script in HOSTILE:
        assert client.wire("EVAL", script, 0).startswith(b"-"), script
    for script in ("local t = {} t[1] = t return t", "local t = {} for i = 1, 7000 do t = {t} end return t"):
        assert b"reached lua stack limit" in client.wire("EVAL", script, 0)
    large = client.ask("EVAL", "return string.rep('x', 5000000)", 0)
    assert len(large) == 5_000_000
    assert client.ask("EVAL", "return redis.call('set','a',string.rep('y', 1000))", 0) == b"OK"


def test_a_large_reply_that_does_not_fit_is_an_error_of_the_script(with_little_memory: Client) -> None:
    client = with_little_memory
    client.ask("SET", "large", b"x" * (20 << 20))
    script = "local t = {} for i = 1, 10 do t[i] = redis.call('get', 'large') .. i end"
    assert b"not enough memory" in client.wire("EVAL", script, 0)
    full = "local t = {} pcall(function() while true do t = {t} end end) "
    for call in ("redis.call('get', 'large')", "redis.call({}, {}, {})", "redis.sha1hex('x')", "redis.log(2, 'x')"):
        assert b"not enough memory" in client.wire("EVAL", full + "return " + call, 0)
    assert client.ask("EVAL", "return #redis.call('get', 'large')", 0) == 20 << 20


FULL_AND_ENDLESS = """
import sys
sys.path[:0] = sys.argv[1:]
from itertools import count
from instances import Bench
from commands.script_runs import Scripts
from errors import SCRIPT_KILLED
from scripts import runtime
runtime.MEMORY_BYTES, runtime.FULL_BYTES = 16 << 20, 12 << 20
ticks = count()
Scripts.tick = lambda self: SCRIPT_KILLED if next(ticks) > 200 else None
full = "local t = {} pcall(function() while true do t = {t} end end) "
for script in ("while true do end", "while true do pcall(function() while true do t = {t} end end) end"):
    print(Bench().connect().wire("EVAL", full + script, 0).decode()[:4])
"""


def test_a_script_that_has_taken_all_memory_can_be_ended(tmp_path: Path) -> None:
    """By a process of its own, which would wait for ever if Lua jumped out of a function of Python."""
    done = run_command(sys.executable, "-c", FULL_AND_ENDLESS, str(ROOT), str(ROOT / "tests/support"), cwd=tmp_path)
    assert done.stdout.split() == ["-ERR", "-ERR"], done.stderr


def test_a_script_leaves_nothing_in_an_error_that_others_get(with_little_memory: Client) -> None:
    client = with_little_memory
    full = "local t = {} pcall(function() while true do t = {t} end end) "
    call = "redis.call('get', 'a')"
    client.wire("EVAL", f"{full} xpcall(function() {call} end, function(e) e.err = 'mine' end)", 0)
    assert b"not enough memory" in client.wire("EVAL", f"{full} {call}", 0)


def test_a_tick_while_a_script_is_compiled_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "TICK_INSTRUCTIONS", 1)
    assert Bench().connect().ask("EVAL", "return 7", 0) == 7


# ---- how long they may take


ENDLESS = (
    LOOP,
    f"pcall(function() {LOOP} end) {LOOP}",
    f"coroutine.wrap(function() {LOOP} end)()",
    f"xpcall(function() {LOOP} end, function() {LOOP} end)",
    "while true do coroutine.wrap(function() for i = 1, 20000 do end end)() end",
    "local t = {} for i = 1, 2 do t[i] = t end return t",
)


def test_others_get_busy_until_a_script_is_killed(godis: GodisProcess) -> None:
    with godis.raw() as script, godis.raw() as other:
        other.ask("CONFIG", "SET", "busy-reply-threshold", "50")
        assert other.ask("CONFIG", "GET", "lua-time-limit") == b"*2\r\n$14\r\nlua-time-limit\r\n$2\r\n50\r\n"
        by_greenlet = f'EVAL "{LOOP}" 0\r\n'.encode()  # text is answered by the connection's greenlet, not by the hub
        for request in (*(encode("EVAL", loop, 0) for loop in ENDLESS), by_greenlet):
            script.send(request)
            wait_until(lambda: other.ask("GET", "x").startswith(b"-BUSY"))
            assert other.ask("PING").startswith(b"-BUSY Redis is busy running a script. You can only call")
            assert other.ask("MULTI") == b"+OK\r\n"
            assert other.ask("DISCARD") == b"+OK\r\n"
            assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"
            assert b"Script killed by user with SCRIPT KILL." in script.read_line()
            assert other.ask("SCRIPT", "KILL").startswith(b"-NOTBUSY")
            assert other.ask("PING") == b"+PONG\r\n"


def test_a_long_pipeline_is_answered_while_a_script_takes_long(godis: GodisProcess) -> None:
    """It is late in its turn, and waits for another one."""
    requests = 5000
    with godis.raw() as script, godis.raw() as other:
        other.ask("CONFIG", "SET", "busy-reply-threshold", "1")
        script.send(encode("EVAL", LOOP, 0))
        wait_until(lambda: other.ask("GET", "x").startswith(b"-BUSY"))
        other.send(encode("GET", "x") * requests)
        assert all(other.read_reply().startswith(b"-BUSY") for _ in range(requests))
        assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"


def test_a_script_that_has_written_cannot_be_killed_but_the_server_ends(godis: GodisProcess) -> None:
    with godis.raw() as script, godis.raw() as other:
        other.ask("CONFIG", "SET", "lua-time-limit", "50")
        other.ask("SET", "a", "1")
        script.send(encode("EVAL", f"redis.call('set','a',2) {LOOP}", 0))
        wait_until(lambda: other.ask("GET", "a").startswith(b"-BUSY"))
        assert other.ask("SCRIPT", "KILL").startswith(b"-UNKILLABLE")
        other.send(encode("SHUTDOWN", "NOSAVE"))
        assert godis.process.wait(PATIENCE_SECONDS) == 0
    godis.start()
    with godis.raw() as client:
        assert client.ask("GET", "a") == b"$1\r\n1\r\n"


def test_a_script_that_takes_long_is_one_command(godis: GodisProcess) -> None:
    script = "for i = 1, 3000000 do end redis.call('incr','n') for i = 1, 30000000 do end return redis.call('incr','n')"
    with godis.raw() as first, godis.raw() as second, godis.raw() as other:
        other.ask("CONFIG", "SET", "lua-time-limit", "1")
        first.send(encode("EVAL", script, 0))
        wait_until(lambda: other.ask("GET", "n") != b"$-1\r\n")
        second.send(b"MULTI\r\nPING\r\nEXEC\r\n")
        seen = set()
        while (reply := other.ask("GET", "n")).startswith(b"-BUSY"):
            seen.add(reply)
        assert reply == b"$1\r\n2\r\n"
        assert first.read_reply() == b":2\r\n"
        assert len(seen) <= 1


def test_a_script_of_a_transaction_may_take_long(godis: GodisProcess) -> None:
    with godis.raw() as script, godis.raw() as other:
        other.ask("CONFIG", "SET", "lua-time-limit", "1")
        for line in ("MULTI", "SET a 1", f'EVAL "{LOOP}" 0', "SET b 2", "EXEC"):
            script.send(line.encode() + b"\r\n")
        wait_until(lambda: other.ask("GET", "a").startswith(b"-BUSY"))
        assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"
        wait_until(lambda: other.ask("GET", "b") == b"$1\r\n2\r\n")
        other.ask("SET", "c", "3")
    godis.kill9()
    godis.start()
    with godis.raw() as client:
        assert client.ask("MGET", "a", "b", "c") == b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"


@pytest.mark.parametrize("how", ["SHUTDOWN NOSAVE", "SIGTERM"])
def test_a_transaction_whose_script_has_not_ended_when_the_server_does_leaves_nothing(
    how: str, godis: GodisProcess
) -> None:
    with godis.raw() as script, godis.raw() as other:
        other.ask("CONFIG", "SET", "lua-time-limit", "1")
        for line in ("MULTI", "SET a 1", f"EVAL \"redis.call('incr', 'n') {LOOP}\" 0", "SET b 2", "EXEC"):
            script.send(line.encode() + b"\r\n")
        wait_until(lambda: other.ask("GET", "a").startswith(b"-BUSY"))
        godis.process.terminate() if how == "SIGTERM" else other.send(encode(*how.split()))
        assert godis.process.wait(PATIENCE_SECONDS) == 0
        assert script.read_all().endswith(EXEC_ABANDONED + b"\r\n")
    godis.start()
    with godis.raw() as client:
        assert client.ask("EXISTS", "a", "b", "n") == b":0\r\n"


# ---- what is logged


class PausesAndFails:
    """Runs a script in two parts: it pauses before it begins, and fails when it has ended."""

    def __init__(self) -> None:
        self.job: Callable[[], Any] | None = None

    def stack(self) -> PausesAndFails:
        return self

    def pause(self) -> None:
        """Never called: no time passes."""

    def now(self) -> float:
        return 0.0

    def run(self, job: Callable[[], Any] | None) -> Any:
        if job is not None:
            self.job = job
            return PAUSED
        assert self.job is not None
        self.job()
        raise MemoryError

    def drive(self, go_on: Callable[[], bool]) -> None:
        assert go_on()


def test_the_effects_of_a_script_that_fails_when_it_has_paused_are_logged_once() -> None:
    bench = Bench()
    bench.instance.apart = PausesAndFails()
    work = work_of(bench.connect().ask("EVAL", "return redis.call('incr', 'n')", 0))
    with pytest.raises(MemoryError):
        driven(work)
    assert bench.log.records == [[b"INCRBY", b"n", b"1"]]
    assert not bench.instance.closed_gates


def test_a_script_is_logged_as_its_effects(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.ask("EVAL", "redis.call('set','a',ARGV[1]) redis.call('select',2) redis.call('lpush','l',1,2)", 0, "x")
        client.ask("EVAL", "redis.call('incr','n') error('after')", 0)
    godis.kill9()
    assert godis.log is not None
    log = godis.log.read_bytes()
    assert b"EVAL" not in log
    godis.start()
    with godis.raw() as client:
        assert client.ask("GET", "a") == b"$1\r\nx\r\n"
        assert client.ask("GET", "n") == b"$1\r\n1\r\n"
