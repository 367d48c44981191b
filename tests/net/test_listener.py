"""The server from outside: dialects, limits, clients that misbehave, a full disk. Real process, real sockets."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import (
    HOST,
    PATIENCE_SECONDS,
    GodisProcess,
    Raw,
    RedisProcess,
    encode,
    outward_address,
    parse,
    require,
    wait_until,
)

from errors import QUOTES_HINT

MEBIBYTE = 1 << 20


# ---- two dialects

TEXT_SESSION = [
    (b"SET mykey hello", b"OK"),
    (b"GET mykey", b"hello"),
    (b"get mykey", b"hello"),
    (b"GET nokey", b"ERR value not found or expired"),
    (b"SETEX tempkey 10 temporary", b"OK"),
    (b"TTL tempkey", b"10"),
    (b"TTL mykey", b"21600"),
    (b"DEL mykey", b"hello"),
    (b"DEL nokey", b"ERR key not found"),
    (b"PING", b"+PONG"),
    (b'SET quoted "two words\\x21"', b"OK"),
    (b"GET quoted", b"two words!"),
    (b"STRLEN quoted", b"10"),
    (b"SET quoted other NX", b"(nil)"),
    (b"SETEX tempkey ten value", b"ERR value is not an integer or out of range"),
    (b"SETEX tempkey 0 value", b"ERR invalid expire time in 'setex' command"),
    (b"GET", b"ERR wrong number of arguments for 'get' command"),
    (b"ECHO ''", b""),
    (b"MULTI", b"OK"),
    (b"PING", b"QUEUED"),
    (b"EXEC", b"PONG"),
]


def test_a_telnet_user_gets_the_answers_of_the_table(godis: GodisProcess) -> None:
    with godis.raw() as client:
        for line, answer in TEXT_SESSION:
            assert client.ask_line(line) == answer, line


def test_an_unknown_command_is_named_in_text(godis: GodisProcess) -> None:
    with godis.raw() as client:
        assert client.ask_line(b"NOSUCH a b").startswith(b"ERR unknown command 'NOSUCH'")


def test_each_request_chooses_its_dialect(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.send(b"SET a 1\n" + encode("GET", "a") + b"GET a\r\n" + encode("DEL", "a") + b"GET a\n")
        assert client.read_line() == b"OK"
        assert client.read_reply() == b"$1\r\n1\r\n"
        assert client.read_line() == b"1"
        assert client.read_reply() == b":1\r\n"
        assert client.read_line() == b"ERR value not found or expired"


# Requests of all kinds of replies, and of all ways through a connection: plain, refused, without a reply, in RESP3.
MIXED_SESSION = [
    ("SET", "k", "v"),
    ("GET", "k"),
    ("GET", "nokey"),
    ("INCR", "n"),
    ("INCR", "k"),
    ("CLIENT", "REPLY", "SKIP"),
    ("INCR", "n"),
    ("MGET", "k", "n"),
    ("NOSUCH",),
    ("SET", "long", "x" * 5000),
    ("GET", "long"),
    *[("SET", "k", "w")] * 5,
    *[("GET", "k")] * 5,
    ("HELLO", "3"),
    ("GET", "nokey"),
    ("CLIENT", "REPLY", "OFF"),
    ("INCR", "n"),
    ("CLIENT", "REPLY", "ON"),
    ("GET", "n"),
    ("QUIT",),
]


def requests_in_pieces(pieces: str) -> Iterator[bytes]:
    """Spell the session's requests as a client sends them in so many pieces."""
    requests = [encode(*words) for words in MIXED_SESSION]
    wire = b"".join(requests)
    size = {"of one request": 1, "of a few requests": 3, "of five requests": 5}.get(pieces)
    if size:
        yield from (b"".join(requests[start : start + size]) for start in range(0, len(requests), size))
    elif pieces == "of a few bytes":
        yield from (wire[start : start + 7] for start in range(0, len(wire), 7))
    else:
        yield wire


@pytest.mark.parametrize("pieces", ["of one request", "of a few requests", "of five requests", "of a few bytes"])
def test_replies_are_the_same_in_whatever_pieces_requests_come(shared_godis: GodisProcess, pieces: str) -> None:
    replies = []
    for way in ("in one piece", pieces):
        with shared_godis.raw() as operator, shared_godis.raw() as client:
            operator.ask("FLUSHALL")
            for piece in requests_in_pieces(way):
                client.send(piece)
                operator.ask("PING")  # so that the server has most likely read it before the next comes
            replies.append(re.sub(rb"\r\nid\r\n:\d+", b"", client.read_all()))  # HELLO's, which is another each time
            assert operator.ask("GET", "n") == b"$1\r\n3\r\n"
    assert replies[0] == replies[1]
    assert replies[0].count(b"+OK\r\n") == 1 + 1 + 5 + 1 + 1


def test_text_commands_pipeline_and_lists_take_a_line_each(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.send(b"MSET a 1 b 2\nMGET a nokey b\nDEL a nokey b\n")
        expected = [b"OK", b"1", b"(nil)", b"2", b"1", b"ERR key not found", b"2"]
        assert [client.read_line() for _ in expected] == expected


@pytest.mark.parametrize(("word", "answer"), [(b"exit", b""), (b"EXIT", b""), (b"quit", b"+OK\r\n")])
def test_a_line_that_says_farewell_closes(shared_godis: GodisProcess, word: bytes, answer: bytes) -> None:
    with shared_godis.raw() as client:
        client.send(b"PING\n" + word + b"\nPING\n")
        assert client.read_all() == b"+PONG\r\n" + answer


def test_after_hello_lines_are_answered_in_resp_until_reset(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as client:
        client.send(b"HELLO 3\nGET nokey\nSET k v\nNOSUCH\nECHO hello\nRESET\nSET k w\nGET k\n")
        assert client.read_reply().startswith(b"%7\r\n")
        replies = [b"_\r\n", b"+OK\r\n", b"-ERR unknown command 'NOSUCH'", b"$5\r\nhello\r\n"]
        assert [reply for reply in replies if not client.read_reply().startswith(reply)] == []
        assert [client.read_line() for _ in range(3)] == [b"RESET", b"OK", b"w"]


def test_a_line_with_an_open_quote_is_an_error_and_not_the_end(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as client:
        for line in (b'SET a "open', b"GET 'a", b'SET a "b"c', b"'" * 40_000 + b"x"):
            assert client.ask_line(line).startswith(b"ERR unbalanced quotes")
        client.send(b"HELLO 2\n")
        client.read_reply()
        assert client.ask_line(b'GET "').startswith(b"-ERR unbalanced quotes")
        assert client.ask("EXISTS", "a") == b":0\r\n"


HINTED = [
    (b"SET a hello world", True),
    (b"SET a hello big world", True),
    (b"GET two words", True),
    (b"SETEX a 10 hello world", True),
    (b"MSET a hello world", True),
    (b"CLIENT SETNAME my name", True),
    (b"SET a", False),
    (b"CONFIG SET timeout", False),
    (b"SETEX a ten hello", False),
    (b"NOSUCH hello world", False),
]


@pytest.mark.parametrize(("line", "hinted"), HINTED)
def test_too_many_words_in_a_line_are_told_of_quotes(shared_godis: GodisProcess, line: bytes, hinted: bool) -> None:
    with shared_godis.raw() as client:
        answer = client.ask_line(line)
        assert answer.startswith(b"ERR ")
        assert answer.endswith(QUOTES_HINT) == hinted
        assert QUOTES_HINT not in client.ask(*line.split())


@pytest.mark.parametrize("word", [b"help", b"HELP", b"?"])
def test_help_is_ten_lines(tmp_path: Path, word: bytes) -> None:
    with GodisProcess(tmp_path, "--requirepass", "secret") as godis, godis.raw() as client:
        client.send(word + b"\n")
        lines = [client.read_line() for _ in range(10)]
        client.send(b"PING\n")
        assert client.read_line().startswith(b"-NOAUTH")
        assert any(line.startswith(b"AUTH ") for line in lines)
        client.ask("AUTH", "secret")
        for line in lines:  # each begins with a command that is there
            assert not client.ask(line.split()[0], b"x").startswith(b"-ERR unknown command")


def test_what_a_terminal_would_obey_is_never_sent_to_it(shared_godis: GodisProcess) -> None:
    """In no answer to a line: values, keys, names and what an error quotes. RESP has it as it is."""
    evil = b"a\x1b]0;title\x07\r\n\xff\xf4"
    escaped = rb"a\x1b]0;title\x07\r\n\xff\xf4"
    quoted = b'"' + escaped + b'"'
    with shared_godis.raw() as client:
        client.ask("SET", evil, evil)
        assert client.ask("GET", evil) == b"$%d\r\n%b\r\n" % (len(evil), evil)
        for line in (b"GET %b", b"ECHO %b", b"GETRANGE %b 0 -1", b"MGET %b"):
            assert client.ask_line(line % quoted) == escaped, line
        assert client.ask_line(b"KEYS a*title*") == escaped
        assert client.ask_line(quoted + b" x").startswith(rb"ERR unknown command 'a\x1b]0;title\x07  \xff\xf4'")
        assert client.ask_line(b"DEL " + quoted) == escaped


def test_a_huge_value_is_shown_to_a_terminal_while_others_are_served(godis: GodisProcess) -> None:
    value = b"\x1b\n" * (4 * MEBIBYTE)
    with godis.raw() as client, godis.raw() as other:
        client.ask("MSET", "huge", value, "small", "x")
        for line, shown in ((b"GET huge", 1), (b"MGET huge huge", 2)):
            client.send(line + b"\nPING\n")
            client.read_exactly(1)
            assert other.ask("GET", "small") == b"$1\r\nx\r\n"  # most of the reply is still to be made
            expected = (rb"\x1b\n" * (4 * MEBIBYTE) + b"\r\n") * shown + b"+PONG\r\n"
            assert client.read_exactly(len(expected) - 1) == expected[1:]


def test_resp_quit_answers_and_runs_nothing_after_it(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.send(encode("QUIT") + encode("SET", "after", "quit"))
        assert client.read_all() == b"+OK\r\n"
    with godis.raw() as client:
        assert client.ask("EXISTS", "after") == b":0\r\n"


def test_nothing_is_sent_before_the_client_speaks(godis: GodisProcess) -> None:
    with godis.raw() as client:
        assert client.ask("PING") == b"+PONG\r\n"


def test_the_unix_socket_serves_too(tmp_path: Path) -> None:
    path = tmp_path / "godis.sock"
    with GodisProcess(tmp_path, "--unixsocket", str(path)) as godis:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(str(path))
        with Raw(sock) as client:
            assert client.ask_line(b"SET a 1") == b"OK"
        with godis.raw() as client:
            assert client.ask("GET", "a") == b"$1\r\n1\r\n"
        godis.terminate()
        assert not path.exists()


# ---- bytes that are no requests

BROKEN = [
    (b"*1\r\n:5\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b"*1000000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*abc\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$600000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
]


@pytest.mark.parametrize(("broken", "error"), BROKEN)
def test_a_broken_request_is_answered_and_closes_only_its_own_connection(
    shared_godis: GodisProcess, broken: bytes, error: bytes
) -> None:
    with shared_godis.raw() as bystander, shared_godis.raw() as client:
        client.send(encode("ECHO", "before") + broken)
        assert client.read_exactly(12) == b"$6\r\nbefore\r\n"
        assert client.read_line() + b"\r\n" == error
        assert client.is_closed()
        assert bystander.ask("PING") == b"+PONG\r\n"


def test_an_announced_billion_elements_cost_no_memory(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as bystander:
        bystander.ask("PING")
        before = shared_godis.resident_bytes
        for _ in range(20):
            with shared_godis.raw() as client:
                client.send(b"*1048576\r\n$3\r\nSET\r\n")
                bystander.ask("PING")
        assert shared_godis.resident_bytes - before < 8 * MEBIBYTE


@pytest.mark.parametrize("request_line", [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nSET a 1\r\n"])
def test_an_http_request_is_closed_at_once(shared_godis: GodisProcess, request_line: bytes) -> None:
    with shared_godis.raw() as client:
        client.send(request_line + b"SET smuggled 1\r\n")
        client.read_all()
    with shared_godis.raw() as client:
        assert client.ask("EXISTS", "smuggled") == b":0\r\n"


def test_a_client_that_leaves_at_any_byte_disturbs_nobody(shared_godis: GodisProcess) -> None:
    request = encode("SET", "cut", "value") + b"GET cut\r\n"
    with shared_godis.raw() as bystander:
        for size in range(len(request)):
            with shared_godis.raw() as client:
                client.send(request[:size])
            assert bystander.ask("PING") == b"+PONG\r\n"
        wait_until(lambda: b"connected_clients:1\r\n" in bystander.ask("INFO", "clients"), what="all are gone")


# ---- limits


def test_one_client_too_many_is_told_and_closed(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--maxclients", "2") as godis, godis.raw() as first:
        wait_until(lambda: len(parse(first.ask("CLIENT", "LIST")).splitlines()) == 1, what="only one is connected")
        second = godis.raw()
        assert second.ask("PING") == b"+PONG\r\n"
        with godis.raw() as third:
            assert third.read_all() == b"-ERR max number of clients reached\r\n"
        second.close()
        assert first.ask("PING") == b"+PONG\r\n"


def test_protected_mode_refuses_who_comes_from_elsewhere_as_redis_does(tmp_path: Path) -> None:
    address = outward_address()
    require(address != HOST, "this machine has no address but loopback")

    def greeting(port: int) -> bytes:
        with Raw(socket.create_connection((address, port), 10)) as client:
            client.send(encode("PING"))
            return client.read_line()

    with GodisProcess(tmp_path, "--host", "0.0.0.0") as godis, godis.raw() as operator:
        with RedisProcess(tmp_path, "--bind", "0.0.0.0") as real:
            sentences = greeting(real.port).split(b". ")[:2]
        assert greeting(godis.port).split(b". ")[:2] == sentences
        assert sentences[0].startswith(b"-DENIED ")
        assert operator.ask("PING") == b"+PONG\r\n"
        operator.ask("CONFIG", "SET", "requirepass", "secret")
        assert greeting(godis.port).startswith(b"-NOAUTH ")
        operator.ask("CONFIG", "SET", "requirepass", "", "protected-mode", "no")
        assert greeting(godis.port) == b"+PONG"


def test_an_idle_client_is_closed_after_the_timeout(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--timeout", "1") as godis, godis.raw() as client:
        client.ask("PING")
        assert client.is_closed()


def test_the_process_lives_on_when_it_runs_out_of_descriptors(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        resource.prlimit(godis.pid, resource.RLIMIT_NOFILE, (40, 40))
        crowd = [godis.raw() for _ in range(60)]
        for client in crowd:
            client.close()
        with godis.client() as client:
            wait_until(client.ping, what="a new client is served")


# ---- clients that do not read


@pytest.fixture
def big_value(godis: GodisProcess) -> bytes:
    value = os.urandom(1024) * 1024
    with godis.client() as client:
        client.set("big", value)
    return value


def test_a_client_that_does_not_read_is_not_read_from(godis: GodisProcess, big_value: bytes) -> None:
    with godis.raw() as client, godis.raw() as bystander:
        before = godis.resident_bytes
        client.send(encode("GET", "big") * 200)
        for _ in range(50):
            assert bystander.ask("PING") == b"+PONG\r\n"
        assert godis.resident_bytes - before < 50 * MEBIBYTE
        for _ in range(200):
            assert client.read_reply() == b"$1048576\r\n" + big_value + b"\r\n"


def test_a_client_above_its_output_limit_is_dropped(godis: GodisProcess, big_value: bytes) -> None:
    with godis.raw() as bystander:
        assert bystander.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 8mb 0 0") == b"+OK\r\n"
        with godis.raw() as client:
            client.send(encode("MGET", *["big"] * 32))
            wait_until(lambda: "bytes of replies not read" in godis.stderr(), what="the slow reader is dropped")
            with pytest.raises((ConnectionError, OSError)):
                client.read_reply()
        assert bystander.ask("PING") == b"+PONG\r\n"


def test_a_client_above_the_soft_limit_for_too_long_is_dropped(godis: GodisProcess, big_value: bytes) -> None:
    with godis.raw() as bystander, godis.raw() as client:
        bystander.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1")
        client.send(encode("MGET", *["big"] * 32))
        wait_until(lambda: "bytes of replies not read" in godis.stderr(), what="the slow reader is dropped")


class QuietGodis(GodisProcess):
    """Godis whose loop is woken by nothing but its clients: it keeps house once an hour."""

    def command(self) -> list[str]:
        python, program, *rest = super().command()
        code = (
            f"import sys; sys.path.insert(0, {str(Path(program).parent)!r}); import godis, server;"
            "server.HOUSEKEEPING_SECONDS = 3600; sys.exit(godis.main(sys.argv[1:]))"
        )
        return [python, "-c", code, *rest]


def test_replies_of_many_turns_and_a_close_need_no_other_event(tmp_path: Path) -> None:
    with QuietGodis(tmp_path) as godis, godis.raw(timeout=PATIENCE_SECONDS) as client:
        client.ask("SET", "large", b"x" * (MEBIBYTE + 1))
        client.send(encode("GET", "large") * 5 + encode("QUIT"))
        client.read_exactly(5 * len(b"$1048577\r\n" + b"x" * (MEBIBYTE + 1) + b"\r\n"))
        assert client.read_all() == b"+OK\r\n"


# ---- CLIENT PAUSE and KILL, from the connection's side


def test_paused_commands_run_in_order_when_the_pause_ends(godis: GodisProcess) -> None:
    with godis.raw() as chief, godis.raw() as client:
        assert chief.ask("CLIENT", "PAUSE", "60000", "ALL") == b"+OK\r\n"
        client.send(encode("APPEND", "log", "a") + encode("APPEND", "log", "b") + b"GET log\r\n")
        wait_until(lambda: b" flags=b " in chief.ask("CLIENT", "LIST"), what="the client waits")
        assert chief.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert client.read_reply() == b":1\r\n"
        assert client.read_reply() == b":2\r\n"
        assert client.read_line() == b"ab"


def test_a_pause_for_writes_lets_reads_through_and_ends_by_itself(godis: GodisProcess) -> None:
    with godis.raw() as client:
        assert client.ask("CLIENT", "PAUSE", "300", "WRITE") == b"+OK\r\n"
        assert client.ask("GET", "a") == b"$-1\r\n"
        assert client.ask("SET", "a", "1") == b"+OK\r\n"


def test_a_paused_client_can_be_killed(godis: GodisProcess) -> None:
    with godis.raw() as chief, godis.raw() as client:
        number = parse(client.ask("CLIENT", "ID"))
        chief.ask("CLIENT", "PAUSE", "60000", "ALL")
        client.send(encode("SET", "a", "1"))
        assert chief.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
        assert client.is_closed()
        assert chief.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert chief.ask("EXISTS", "a") == b":0\r\n"


# ---- the end


def count_until_closed(client: Raw, reply: bytes) -> int:
    """Count replies until the server closes; a reset is a close, too, when it had not read all that was sent."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while True:
            assert client.read_exactly(len(reply)) == reply
            count += 1
    return count


def test_what_was_read_is_answered_and_kept_when_the_process_is_told_to_stop(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as client:
            client.send(b"".join(encode("SET", f"key{number}", number) for number in range(1000)))
            assert client.read_reply() == b"+OK\r\n"
            assert godis.terminate() == 0
            acknowledged = 1 + count_until_closed(client, b"+OK\r\n")
        godis.start()
        with godis.raw() as client:
            assert parse(client.ask("DBSIZE")) >= acknowledged


def test_shutdown_ends_the_process_with_success(godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.ask("SET", "a", "1")
        client.send(encode("SHUTDOWN"))
        assert client.read_all() == b""
    assert godis.process.wait(PATIENCE_SECONDS) == 0
    godis.start()
    with godis.raw() as client:
        assert client.ask("GET", "a") == b"$1\r\n1\r\n"


# ---- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    require(os.geteuid() == 0, "mounting a small file system needs root")
    directory = tmp_path / "small"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], check=False)
    require(done.returncode == 0, "a tmpfs cannot be mounted here")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path, tmp_path: Path, policy: str) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    with GodisProcess(tmp_path, "--appendfsync", policy, log=small_disk / "log.txt") as godis:
        acknowledged = {}
        for number in range(100):
            value = bytes([65 + number % 26]) * 10_000
            with godis.raw() as client:
                reply = client.ask("SET", f"key{number}", value)
            if reply != b"+OK\r\n":
                break
            acknowledged[f"key{number}"] = value
        assert reply == b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"
        assert acknowledged
        with godis.raw() as client:
            assert client.ask("SET", "x", "1").startswith(b"-MISCONF")
            assert client.ask("GET", "key0") == b"$10000\r\n" + acknowledged["key0"] + b"\r\n"
            ballast.unlink()
            wait_until(lambda: client.ask("SET", "x", "1") == b"+OK\r\n", what="writes are accepted again")
        godis.kill9()
        godis.start()
        with godis.client() as reader:
            assert {key: reader.get(key) for key in acknowledged} == acknowledged
            assert reader.get("x") == b"1"
