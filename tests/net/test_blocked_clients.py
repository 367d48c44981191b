"""Clients that wait for a key, on a server as a process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from servers import PATIENCE_SECONDS, GodisProcess, Raw, encode, parse, wait_until


@pytest.fixture
def godis(tmp_path: Path) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path, "--default-ttl", "0") as process:
        yield process


def info(raw: Raw, name: str) -> int:
    for line in parse(raw.ask("INFO")).decode().splitlines():
        if line.startswith(name + ":"):
            return int(line.partition(":")[2])
    raise AssertionError(name)


def wait_for_blocked(raw: Raw, count: int) -> None:
    wait_until(lambda: info(raw, "blocked_clients") == count, PATIENCE_SECONDS, f"{count} clients wait")


CASES = [  # request that waits, what ends it, its reply, what is left in the key and in d
    ("BLPOP none k 0", "RPUSH k a b", [b"k", b"a"], [b"b"], []),
    ("BRPOP k 0", "RPUSH k a b", [b"k", b"b"], [b"a"], []),
    ("BLMOVE k d LEFT RIGHT 0", "RPUSH k a b", b"a", [b"b"], [b"a"]),
    ("BRPOPLPUSH k d 0", "LPUSH k a", b"a", [], [b"a"]),
    ("BLMPOP 0 2 none k RIGHT COUNT 2", "RPUSH k a b c", [b"k", [b"c", b"b"]], [b"a"], []),
    ("BLPOP k 0", "RENAME source k", [b"k", b"s"], [], []),
    ("BLPOP k 0", "COPY source k", [b"k", b"s"], [], []),
    ("BLPOP k 0", "SWAPDB 0 1", [b"k", b"in 1"], [], []),
    ("BLPOP k 0", "LMOVE source k LEFT LEFT", [b"k", b"s"], [], []),
]


@pytest.mark.parametrize(("waits", "ends", "reply", "left", "moved"), CASES)
def test_a_client_that_waits_is_served_by_whatever_brings_an_element(
    godis: GodisProcess, waits: str, ends: str, reply: object, left: list[bytes], moved: list[bytes]
) -> None:
    with godis.raw() as client, godis.raw() as other:
        other.ask("RPUSH", "source", "s")
        other.ask("SELECT", 1)
        other.ask("RPUSH", "k", "in 1")
        other.ask("SELECT", 0)
        client.send(encode(*waits.split()))
        wait_for_blocked(other, 1)
        assert not other.ask(*ends.split()).startswith(b"-")
        assert parse(client.read_reply()) == reply
        assert parse(other.ask("LRANGE", "k", 0, -1)) == left
        assert parse(other.ask("LRANGE", "d", 0, -1)) == moved
        wait_for_blocked(other, 0)
        godis.kill9()
    godis.start()
    with godis.raw() as client:
        assert parse(client.ask("LRANGE", "k", 0, -1)) == left
        assert parse(client.ask("LRANGE", "d", 0, -1)) == moved


def test_a_request_that_looks_for_an_element_names_two_thousand_keys_at_most(godis: GodisProcess) -> None:
    keys = [f"k{number}" for number in range(2100)]
    with godis.raw() as client:
        for name in ("BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX"):
            assert client.ask(name, *keys, 0) == b"-ERR '%b' takes at most 2048 words\r\n" % name.lower().encode()
        for name, side in (("LMPOP", "LEFT"), ("ZMPOP", "MIN")):
            assert b"takes at most 2048 words" in client.ask(name, len(keys), *keys, side)
            assert b"takes at most 2048 words" in client.ask("B" + name, 0, len(keys), *keys, side)


def test_who_came_first_is_served_first_and_no_later_request_takes_the_element(godis: GodisProcess) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(godis.raw())
        waiting = []
        for number in range(5):
            waiting.append(stack.enter_context(godis.raw()))
            waiting[-1].send(encode("BLPOP", "k", 0))
            wait_for_blocked(other, number + 1)
        other.send(
            encode("RPUSH", "k", "0") + encode("LPOP", "k") + encode("RPUSH", "k", "1", "2") + encode("LLEN", "k")
        )
        assert [parse(other.read_reply()) for _ in range(4)] == [1, None, 2, 0]
        for number in range(3):
            assert parse(waiting[number].read_reply()) == [b"k", b"%d" % number]
        assert other.ask("MULTI") == b"+OK\r\n"
        for words in (("RPUSH", "k", "3"), ("RPUSH", "k", "4"), ("LLEN", "k")):
            other.ask(*words)
        assert parse(other.ask("EXEC")) == [1, 2, 2], "they are served behind the transaction"
        for number in range(3, 5):
            assert parse(waiting[number].read_reply()) == [b"k", b"%d" % number]


def test_a_timeout_ends_the_waiting_and_a_wrong_type_does_not(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        assert client.ask("BLPOP", "k", "0.05") == b"*-1\r\n"
        assert client.ask("BLMOVE", "k", "d", "LEFT", "LEFT", "0.05") == b"*-1\r\n"
        client.send(encode("BLPOP", "k", "0"))
        wait_for_blocked(other, 1)
        other.ask("SET", "k", "a string")
        assert info(other, "blocked_clients") == 1
        other.ask("DEL", "k")
        other.ask("RPUSH", "k", "a")
        assert parse(client.read_reply()) == [b"k", b"a"]


def test_who_hangs_up_takes_nothing(godis: GodisProcess) -> None:
    with godis.raw() as other, godis.raw() as next_one:
        for pipelined in (b"", encode("PING")):  # what it sent behind is unread, so its end is not seen before
            leaving = socket.create_connection(("127.0.0.1", godis.port))
            leaving.sendall(encode("BLPOP", "k", 0))
            wait_for_blocked(other, 1)
            leaving.sendall(pipelined)
            leaving.close()
            if not pipelined:
                wait_for_blocked(other, 0)
            next_one.send(encode("BLPOP", "k", 0))
            wait_for_blocked(other, 1 + bool(pipelined))
            other.ask("RPUSH", "k", "a")
            assert parse(next_one.read_reply()) == [b"k", b"a"]
            wait_for_blocked(other, 0)


def test_who_hangs_up_behind_a_request_that_is_not_read_frees_its_place(godis: GodisProcess) -> None:
    with godis.raw() as other:
        with godis.raw() as leaving:
            leaving.send(encode("BLPOP", "k", 0) + encode("PING"))
            wait_for_blocked(other, 1)
        wait_for_blocked(other, 0)


def test_who_is_killed_takes_nothing_of_what_comes_in_the_same_turn(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        number = parse(client.ask("CLIENT", "ID"))
        client.send(encode("BLPOP", "k", 0))
        wait_for_blocked(other, 1)
        other.send(encode("CLIENT", "KILL", "ID", number) + encode("RPUSH", "k", "a") + encode("LLEN", "k"))
        assert [parse(other.read_reply()) for _ in range(3)] == [1, 1, 1]


def test_who_waits_sees_nothing_of_a_long_command_before_its_end(godis: GodisProcess) -> None:
    """Served earlier, its pop would stand before the push in the log, and a restart would bring the element again."""
    words, keys = [str(number) for number in range(20_000)], [f"x{number}" for number in range(5_000)]
    transaction = [("RPUSH", "k", "a"), *[("SET", key, "v") for key in keys], ("RPUSH", "k", "b"), ("LLEN", "k")]
    with godis.raw() as client, godis.raw() as other, godis.raw() as third:
        client.send(encode("BLPOP", "k", 0))
        wait_for_blocked(third, 1)
        assert other.ask("RPUSH", "k", *words) == b":20000\r\n"
        assert parse(client.read_reply()) == [b"k", b"0"]
        assert third.ask("DEL", "k") == b":1\r\n"
        client.send(encode("BLPOP", "k", 0))
        wait_for_blocked(third, 1)
        other.send(b"".join(encode(*words) for words in [("MULTI",), *transaction, ("EXEC",)]))
        for _ in range(1 + len(transaction)):
            other.read_reply()
        assert parse(other.read_reply())[-2:] == [2, 2]
        assert parse(client.read_reply()) == [b"k", b"a"]
        godis.kill9()
    godis.start()
    with godis.raw() as client:
        assert parse(client.ask("LRANGE", "k", 0, -1)) == [b"b"]


def test_who_begins_to_wait_wakes_nobody_else(godis: GodisProcess) -> None:
    """Each of 400 that tried all before it again would take a minute."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(godis.raw())
        other.ask("XADD", "s", "1-1", "f", "v")
        other.ask("XGROUP", "CREATE", "s", "g", "$")
        tries = info(other, "blocked_clients")
        clients = [stack.enter_context(godis.raw()) for _ in range(400)]
        for client in clients:
            client.send(encode("XREAD", "BLOCK", 0, "STREAMS", "s", "$"))
        wait_for_blocked(other, 400 + tries)
        other.ask("XADD", "s", "1-2", "f", "v")
        for client in clients:
            assert parse(client.read_reply()) == [[b"s", [[b"1-2", [b"f", b"v"]]]]]


def test_client_unblock_ends_the_waiting(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        number = parse(client.ask("CLIENT", "ID"))
        for reason, reply in (
            ([], b"*-1\r\n"),
            (["TIMEOUT"], b"*-1\r\n"),
            (["ERROR"], b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
        ):
            client.send(encode("BLPOP", "k", 0))
            wait_for_blocked(other, 1)
            assert b" flags=b " in parse(other.ask("CLIENT", "LIST"))
            other.send(encode("CLIENT", "UNBLOCK", number, *reason) * 2)
            assert [other.read_reply(), other.read_reply()] == [b":1\r\n", b":0\r\n"]
            assert client.read_reply() == reply
        assert other.ask("CLIENT", "UNBLOCK", number) == b":0\r\n"
        assert other.ask("RPUSH", "k", "a") == b":1\r\n"
        assert other.ask("LLEN", "k") == b":1\r\n", "nobody waits any more"


def test_a_killed_client_and_a_stop_of_the_server_end_the_waiting(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other, godis.raw() as third:
        number = parse(client.ask("CLIENT", "ID"))
        for raw in (client, third):
            raw.send(encode("BLPOP", "k", 0))
        wait_for_blocked(other, 2)
        assert other.ask("CLIENT", "KILL", "ID", number) == b":1\r\n"
        wait_for_blocked(other, 1)
        assert godis.terminate() == 0


def test_requests_behind_one_that_waits_run_after_it(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        client.send(encode("SET", "s", 1) + encode("BLPOP", "k", 0) + encode("INCR", "s"))
        assert client.read_reply() == b"+OK\r\n"
        wait_for_blocked(other, 1)
        assert other.ask("GET", "s") == b"$1\r\n1\r\n"
        other.ask("LPUSH", "k", "a")
        assert parse(client.read_reply()) == [b"k", b"a"]
        assert client.read_reply() == b":2\r\n"


def test_thousands_wait_and_each_gets_one(godis: GodisProcess) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(godis.raw())
        clients = [stack.enter_context(godis.raw()) for _ in range(500)]
        for client in clients:
            client.send(encode("BLPOP", "k", 0))
        wait_for_blocked(other, 500)
        other.send(b"".join(encode("RPUSH", "k", number) for number in range(500)))
        for _ in range(500):
            other.read_reply()
        got = [parse(client.read_reply())[1] for client in clients]
        assert sorted(map(int, got)) == list(range(500))


def test_under_always_what_a_waiting_client_got_is_synced(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--appendfsync", "always") as godis, godis.raw() as client, godis.raw() as other:
        for _ in range(20):
            client.send(encode("BLMOVE", "k", "d", "LEFT", "LEFT", 0))
            wait_for_blocked(other, 1)
            other.ask("RPUSH", "k", "a")
            assert parse(client.read_reply()) == b"a"
        godis.kill9()
        godis.start()
        with godis.raw() as raw:
            assert raw.ask("LLEN", "d") == b":20\r\n"


def test_workers_of_redis_py_share_a_queue(godis: GodisProcess) -> None:
    with godis.client() as producer, godis.client() as worker:
        assert worker.blpop(["q"], timeout=0.05) is None
        producer.rpush("q", *range(3))
        assert [worker.brpoplpush("q", "done", timeout=1) for _ in range(3)] == [b"2", b"1", b"0"]
        with pytest.raises(redis.ResponseError, match="not a float"):
            worker.execute_command("BLPOP", "q", "x")
        with worker.pipeline() as pipe:
            pipe.blpop("q", timeout=0)
            assert pipe.execute() == [None]
