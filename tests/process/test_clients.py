"""The clients that people use, as they are: redis-py, redis-cli, redis-benchmark, telnet and nc."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, PATIENCE_SECONDS, ROOT, GodisProcess, encode, require, wait_until
from telnet import Telnet

SIX_HOURS_SECONDS = 21600


# ---- redis-py


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(shared_godis: GodisProcess, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A redis-py client in either protocol, on an empty keyspace."""
    with shared_godis.client(protocol=request.param) as client:
        client.flushall()
        yield client


def test_redis_py_sets_and_gets(client: Any) -> None:
    assert client.ping() is True
    assert client.set("k", "v") is True
    assert client.get("k") == b"v"
    assert client.get("nokey") is None
    assert client.set("k", "w", nx=True) is None
    assert client.set("k", "w", xx=True, get=True) == b"v"
    assert client.mset({"a": 1, "b": 2.5}) is True
    assert client.mget("a", "nokey", "b") == [b"1", None, b"2.5"]
    assert client.incr("a", 41) == 42
    assert client.incrbyfloat("b", 0.25) == 2.75
    assert client.append("k", "xyz") == 4
    assert client.getrange("k", 1, 2) == b"xy"
    assert client.delete("k", "a", "nokey") == 2
    assert client.exists("b") == 1
    assert client.type("b") == b"string"


def test_redis_py_keeps_binary_keys_and_values(client: Any) -> None:
    value = bytes(range(256)) * 300
    for key in (b"\x00\r\n", b"", "ключ".encode(), b"$5\r\nhello\r\n"):
        assert client.set(key, value) is True
        assert client.get(key) == value
    assert client.set("empty", b"") is True
    assert client.get("empty") == b""


def test_a_client_that_quits_gets_every_reply_though_the_server_has_not_read_all_that_it_sent(
    shared_godis: GodisProcess,
) -> None:
    value = b"x" * 20000
    with shared_godis.raw() as raw, shared_godis.client() as other:
        raw.ask("SET", "k", value)
        raw.send(encode("GET", "k") * 50 + encode("QUIT") + encode("SET", "k", value) * 20)
        # The server has sent all, or gone: before anything is read, so the replies still lie in its system's buffers.
        wait_until(lambda: all(each["cmd"] != "get" for each in other.client_list()))
        assert raw.read_exactly(50 * len(b"$20000\r\n%b\r\n" % value)) == b"$20000\r\n%b\r\n" % value * 50
        assert raw.read_reply() == b"+OK\r\n"
        raw.end_of_input()
        assert raw.sock.recv(1) == b""


def test_a_protocol_error_is_not_told_to_a_client_that_wants_no_replies(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as raw:
        raw.send(encode("CLIENT", "REPLY", "OFF") + b"*a\r\n")
        assert raw.sock.recv(100) == b""


def test_redis_py_decodes(shared_godis: GodisProcess) -> None:
    with shared_godis.client(decode_responses=True, client_name="who") as client:
        client.set("k", "grün")
        assert client.get("k") == "grün"
        assert client.client_getname() == "who"


def test_redis_py_pipelines_in_order(client: Any) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(2000):
            pipeline.set(f"k{number}", number).get(f"k{number}")
        replies = pipeline.execute()
    assert replies[::2] == [True] * 2000
    assert replies[1::2] == [b"%d" % number for number in range(2000)]


def test_redis_py_gets_an_error_in_the_middle_of_a_pipeline(client: Any) -> None:
    with client.pipeline(transaction=False) as pipeline:
        replies = pipeline.set("k", "text").incr("k").get("k").execute(raise_on_error=False)
    assert replies[0] is True
    assert isinstance(replies[1], redis.ResponseError)
    assert "not an integer" in str(replies[1])
    assert replies[2] == b"text"


def test_a_transaction_of_redis_py_runs_as_a_whole_or_not_at_all(client: Any) -> None:
    with client.pipeline(transaction=True) as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
    with client.pipeline(transaction=True) as pipeline, pytest.raises(redis.ResponseError, match="wrong number"):
        pipeline.set("a", 5).execute_command("GET").execute()
    assert client.get("a") in ("2", b"2")


def test_redis_py_sees_deadlines(client: Any) -> None:
    client.set("plain", "v")
    assert SIX_HOURS_SECONDS - 60 < client.ttl("plain") <= SIX_HOURS_SECONDS
    client.set("short", "v", ex=100)
    assert 90 < client.ttl("short") <= 100
    assert client.expire("short", 1000, gt=True) is True
    assert client.expire("short", 500, gt=True) is False
    assert client.expireat("short", 4000000000) is True
    assert client.expiretime("short") == 4000000000
    assert client.persist("short") is True
    assert client.ttl("short") == -1
    assert client.ttl("nokey") == -2
    assert client.set("gone", "v", pxat=1) is True
    assert client.get("gone") is None


def test_redis_py_scans_every_key_once_it_is_there(client: Any) -> None:
    client.mset({f"key:{number}": number for number in range(1000)})
    found = []
    for key in client.scan_iter(match="key:*", count=50):
        found.append(key)
        client.set(b"other:" + key, "v")
        client.delete(b"other:" + found[len(found) // 2])
    assert sorted(set(found)) == sorted(f"key:{number}".encode() for number in range(1000))


def test_redis_py_manages_its_connection(client: Any) -> None:
    client.client_setname("tester")
    assert client.client_getname() in (b"tester", "tester")
    info = client.client_info()
    assert info["name"] == "tester"
    assert info["id"] == client.client_id()
    assert client.client_id() in {int(one["id"]) for one in client.client_list()}
    assert client.echo("hello") == b"hello"
    assert client.config_get("maxclients") == {"maxclients": "10000"}
    assert client.info("server")["redis_version"].startswith("7.")
    assert client.dbsize() == 0
    assert client.command_count() > 50
    assert client.command_getkeys("MSET", "a", 1, "b", 2) in (["a", "b"], [b"a", b"b"])
    assert client.time()[0] > 1_700_000_000


def test_redis_py_kills_a_connection_and_recovers(client: Any, shared_godis: GodisProcess) -> None:
    with shared_godis.client(single_connection_client=True, retry=Retry(NoBackoff(), 1)) as other:
        assert client.client_kill_filter(_id=other.client_id()) == 1
        assert other.ping() is True  # on a new connection


def test_redis_py_checks_the_health_of_its_connection(shared_godis: GodisProcess) -> None:
    with shared_godis.client(health_check_interval=0.000001, single_connection_client=True) as client:
        before = client.info("stats")["total_commands_processed"]
        for _ in range(10):
            assert client.get("nokey") is None
        after = client.info("stats")["total_commands_processed"]
    assert after - before >= 20  # a PING before each


def test_redis_py_selects_a_database(shared_godis: GodisProcess) -> None:
    with shared_godis.client(db=3) as third, shared_godis.client() as first:
        third.set("only-here", 1)
        assert first.get("only-here") is None
        third.flushdb()
        assert third.dbsize() == 0


def test_threads_that_share_a_pool_count_to_the_same_number(client: Any) -> None:
    def count(_: int) -> None:
        for _ in range(200):
            client.incr("counter")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert client.get("counter") == b"1600"


def test_redis_py_works_in_asyncio(shared_godis: GodisProcess) -> None:
    async def session() -> list[Any]:
        async with redis.asyncio.Redis(host=HOST, port=shared_godis.port) as client:
            await client.delete("async")
            return await asyncio.gather(*(client.incr("async") for _ in range(50)))

    assert sorted(asyncio.run(session())) == list(range(1, 51))


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    once = Retry(NoBackoff(), 0)
    with GodisProcess(tmp_path, "--requirepass", "secret") as godis:
        for protocol in (2, 3):
            for guess in ({}, {"password": "wrong"}, {"username": "nobody", "password": "secret"}):
                client = godis.client(protocol=protocol, retry=once, **guess)
                with client as stranger, pytest.raises(redis.AuthenticationError):
                    stranger.get("k")
            with godis.client(protocol=protocol, password="secret") as friend:
                assert friend.set("k", "v") is True
            with godis.client(protocol=protocol, username="default", password="secret") as friend:
                assert friend.get("k") == b"v"


def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    path = tmp_path / "godis.sock"
    with GodisProcess(tmp_path, "--unixsocket", str(path)) as godis:
        with redis.Redis(unix_socket_path=str(path)) as client, godis.client() as other:
            client.set("k", "v")
            assert other.get("k") == b"v"
        assert godis.terminate() == 0
    assert not path.exists()


# ---- redis-cli


def redis_cli(godis: GodisProcess, *words: str, given: bytes = b"") -> str:
    """Run redis-cli and return what it printed; its standard input is `given`."""
    require(shutil.which("redis-cli"), "redis-cli is not installed")
    done = subprocess.run(
        ["redis-cli", "-p", str(godis.port), *words],
        input=given,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.fixture
def empty(shared_godis: GodisProcess) -> GodisProcess:
    """The module's Godis without a key."""
    with shared_godis.client() as client:
        client.flushall()
    return shared_godis


def test_redis_cli_runs_commands(empty: GodisProcess) -> None:
    assert redis_cli(empty, "SET", "k", "v w") == "OK\n"
    assert redis_cli(empty, "GET", "k") == "v w\n"
    assert redis_cli(empty, "--no-raw", "GET", "nokey") == "(nil)\n"
    assert redis_cli(empty, "--no-raw", "DEL", "k") == "(integer) 1\n"
    assert redis_cli(empty, "--no-raw", "MGET", "k", "l") == "1) (nil)\n2) (nil)\n"
    assert redis_cli(empty, "nosuch").startswith("ERR unknown command 'nosuch'")
    assert redis_cli(empty, "-x", "SET", "k", given=b"from stdin") == "OK\n"
    assert redis_cli(empty, "STRLEN", "k") == "10\n"


def test_redis_cli_speaks_resp3(empty: GodisProcess) -> None:
    assert redis_cli(empty, "-3", "SET", "k", "v") == "OK\n"
    assert redis_cli(empty, "-3", "--no-raw", "CONFIG", "GET", "maxclients") == '1# "maxclients" => "10000"\n'
    assert json.loads(redis_cli(empty, "-3", "--json", "HELLO", "3"))["proto"] == 3


def test_redis_cli_takes_a_session_from_standard_input(empty: GodisProcess) -> None:
    session = b'SET k "a b"\nGET k\nSELECT 1\nGET k\nSELECT 0\nINCR n\n'
    assert redis_cli(empty, "--no-raw", given=session).split("\n") == [
        *("OK", '"a b"', "OK", "(nil)", "OK", "(integer) 1", "")
    ]


def test_redis_cli_loads_in_bulk(empty: GodisProcess) -> None:
    requests = b"".join(encode("SET", f"key:{number}", number) for number in range(5000))
    assert "errors: 0, replies: 5000" in redis_cli(empty, "--pipe", given=requests)
    assert redis_cli(empty, "DBSIZE") == "5000\n"


def test_redis_cli_scans(empty: GodisProcess) -> None:
    redis_cli(empty, "MSET", *(word for number in range(100) for word in (f"k{number}", "v")))
    assert len(set(redis_cli(empty, "--scan").split())) == 100
    assert sorted(redis_cli(empty, "--scan", "--pattern", "k1?").split()) == [f"k1{digit}" for digit in range(10)]
    assert "Biggest string found" in redis_cli(empty, "--bigkeys")
    assert "Biggest string found" in redis_cli(empty, "--memkeys")


def test_redis_cli_shows_info(shared_godis: GodisProcess) -> None:
    text = redis_cli(shared_godis, "INFO")
    assert "# Server\r\nredis_version:7." in text
    assert f"tcp_port:{shared_godis.port}\r\n" in text
    assert "keyspace" not in redis_cli(shared_godis, "INFO", "server").lower()


# ---- redis-benchmark


@pytest.mark.parametrize("depth", [1, 16])
def test_redis_benchmark_runs_clean(shared_godis: GodisProcess, depth: int) -> None:
    require(shutil.which("redis-benchmark"), "redis-benchmark is not installed")
    tests = "ping_inline,ping_mbulk,set,get,incr,mset"
    done = subprocess.run(
        ["redis-benchmark", "-p", str(shared_godis.port), "-q", "-t", tests, "-n", "3000", "-P", str(depth)],
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    results = [line.rsplit("\r", 1)[-1] for line in done.stdout.decode().split("\n") if line.strip()]
    assert done.stderr == b""
    assert [line.split(":")[0] for line in results] == [
        *("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)")
    ]
    assert all("requests per second" in line for line in results)


# ---- telnet and nc


def test_ctrl_c_in_telnet_spoils_nothing(shared_godis: GodisProcess) -> None:
    """On a terminal of its own: telnet sends IAC IP, IAC DO TM, and shows nothing before the latter is answered."""
    require(shutil.which("telnet") and shutil.which("setsid"), "telnet or setsid is not installed")
    terminal, inner = pty.openpty()
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        while select.select([terminal], [], [], 0)[0]:
            shown += os.read(terminal, 65536)
        return text in shown

    def enter(typed: str, answer: str) -> None:
        os.write(terminal, typed.encode())
        wait_until(lambda: shows(answer.encode()), PATIENCE_SECONDS, f"{answer} after {typed}")

    def entered_again(typed: str, answer: str) -> bool:
        """Enter a line once more, because telnet drops what is typed while it handles Ctrl-C."""
        os.write(terminal, typed.encode())
        with contextlib.suppress(pytest.fail.Exception):
            wait_until(lambda: shows(answer.encode()), 1)
        return shows(answer.encode())

    with subprocess.Popen(
        ["setsid", "--ctty", "telnet", HOST, str(shared_godis.port)], stdin=inner, stdout=inner, stderr=inner
    ) as telnet:
        os.close(inner)
        try:
            enter("", "Escape character is '^]'.")
            enter("SET umlaut ÀÿЀ\n", "\nOK")
            enter("GET umlaut\n", "\nÀÿЀ")
            enter("SET wrong", "SET wrong")
            enter("\x03", "^C")
            wait_until(lambda: entered_again("PING\n", "\n+PONG"), PATIENCE_SECONDS, "output is shown again")
            enter("\x1d", "telnet> ")  # to telnet itself
            enter("send ayt\n", "[Yes]")
            enter("EXISTS wrong\n", "\n0")
        finally:
            telnet.kill()
            os.close(terminal)


def test_a_session_in_telnet(empty: GodisProcess) -> None:
    with Telnet(empty.port) as telnet:
        assert telnet.type("SET mykey hello") == "OK"
        assert telnet.type("GET mykey") == "hello"
        assert telnet.type("TTL mykey") == str(SIX_HOURS_SECONDS)
        assert telnet.type("GET nokey") == "ERR value not found or expired"
        assert telnet.type("SETEX tempkey 10 temporary") == "OK"
        assert telnet.type("GET tempkey") == "temporary"
        assert telnet.type('SET quoted "two words"') == "OK"
        assert telnet.type("get quoted") == "two words"
        assert telnet.type("DEL mykey") == "hello"
        assert telnet.type("DEL mykey") == "ERR key not found"
        assert telnet.type("INCR counter") == "1"
        assert telnet.type("PING") == "+PONG"
        assert telnet.type("NOSUCH").startswith("ERR unknown command 'NOSUCH'")
        assert telnet.type("SET onlykey").startswith("ERR wrong number of arguments for 'set' command")
        assert telnet.type("SETEX tempkey temporary 10").startswith("ERR value is not an integer")
        assert telnet.type("exit") == "Connection closed by foreign host."


def test_the_session_in_the_readme_goes_as_printed(empty: GodisProcess) -> None:
    """Its lines are what is typed and what is answered in turn; `exit` has the last word."""
    block = re.search(r"^    \$ telnet localhost 6379\n((?:    .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert block
    *lines, last = [line[4:] for line in block[1].splitlines()]
    assert len(lines) >= 12
    with Telnet(empty.port) as telnet:
        for typed, answer in zip(lines[::2], lines[1::2], strict=True):
            assert (typed, telnet.type(typed)) == (typed, answer)
        assert last == "exit"
        assert telnet.type(last) == "Connection closed by foreign host."


def test_nothing_is_said_before_the_first_request(empty: GodisProcess) -> None:
    with empty.raw() as silent, empty.raw() as other:
        assert other.ask("PING") == b"+PONG\r\n"
        silent.end_of_input()
        assert silent.read_all() == b""


def test_nc_gets_every_answer_after_it_said_its_last_word(empty: GodisProcess) -> None:
    require(shutil.which("nc"), "nc is not installed")
    count = 2000
    lines = b"".join(b"SET k%d v%d\nGET k%d\n" % (number, number, number) for number in range(count))
    done = subprocess.run(
        ["nc", "-N", HOST, str(empty.port)], input=lines, capture_output=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert done.stdout.split(b"\r\n") == [*(w for n in range(count) for w in (b"OK", b"v%d" % n)), b""]


def test_an_expired_key_is_absent_for_text_too(empty: GodisProcess) -> None:
    with empty.raw() as raw:
        assert raw.ask_line(b"SET k v PX 1") == b"OK"
        wait_until(lambda: raw.ask_line(b"GET k") != b"v", what="it expires")
        assert raw.ask_line(b"GET k") == b"ERR value not found or expired"
        assert raw.ask_line(b"DEL k") == b"ERR key not found"
        assert raw.ask_line(b"TTL k") == b"-2"
