"""Publish and subscribe: what clients are told, on a server as a process and beside redis-server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby, zip_longest
from random import Random
from typing import Any

import pytest
from instances import Bench
from servers import PATIENCE_SECONDS, GodisProcess, Raw, RedisProcess, encode, parse, wait_until

import errors


@pytest.fixture
def godis(tmp_path: Any) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path) as process:
        yield process


# ---- the same as redis-server

NAMES = ["a", "b", "ab", "a*", "?", "[ab]"]
LINES = [
    "SUBSCRIBE n",
    "SUBSCRIBE n n",
    "PSUBSCRIBE n",
    "PSUBSCRIBE n n",
    "SSUBSCRIBE n",
    "UNSUBSCRIBE n",
    "PUNSUBSCRIBE n",
    "SUNSUBSCRIBE n",
    *["PUBLISH n hello"] * 8,
    "SPUBLISH n hello",
    "PUBSUB NUMSUB n n",
    "PUBSUB NUMPAT",
    "PUBSUB CHANNELS a b",
    "PUBSUB SHARDCHANNELS a b",
    "PUBSUB SHARDNUMSUB n",
    "PUBSUB NOSUCH",
    "PING",
    "PING x",
    "GET k",
    "RESET",
    "SUBSCRIBE",
    "PUBLISH n",
    "ECHO hello",
]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_subscribers_are_told_what_redis_tells_them(
    godis: GodisProcess, redis_server: RedisProcess, seed: int, protocol: int
) -> None:
    random = Random(seed)
    requests = []
    for _ in range(250):
        line = random.choice(LINES).split()
        requests.append((random.randrange(3), [random.choice(NAMES) if word == "n" else word for word in line]))
    told = []
    for server in (godis, redis_server):
        with contextlib.ExitStack() as stack:
            raws = [stack.enter_context(server.raw()) for _ in range(3)]
            told.append(conversation(raws, requests, protocol))
    for ours, theirs in zip(*(map(in_order, each) for each in told), strict=True):
        for number, (mine, their) in enumerate(zip_longest(ours, theirs)):
            assert mine == their, ours[max(0, number - 3) : number]


def in_order(told: list[bytes]) -> list[bytes]:
    """Sort messages that follow one another: redis-server tries the patterns in the order of its hash table."""
    groups = groupby(told, lambda reply: b"message" in reply)
    return [reply for are_messages, group in groups for reply in (sorted(group) if are_messages else group)]


def conversation(raws: list[Raw], requests: list[tuple[int, list[str]]], protocol: int) -> list[list[bytes]]:
    """Send requests one after another; return all that each client was told."""
    told: list[list[bytes]] = [[] for _ in raws]
    for raw in raws:
        raw.ask("HELLO", protocol)
    for client, words in requests:
        raws[client].send(encode(*words) + encode("PING", "done"))
        while b"done" not in (reply := raws[client].read_reply()):
            told[client].append(reply)
        if words == ["RESET"]:
            raws[client].ask("HELLO", protocol)
    for client, raw in enumerate(raws):
        raw.send(encode("PING", "end"))
        while b"end" not in (reply := raw.read_reply()):
            told[client].append(reply)
    return told


# ---- what is Godis's own


ORDERED = [  # what is sent at once, after HELLO 3
    "SUBSCRIBE a; PUBLISH a x; PING",
    "SUBSCRIBE a; PSUBSCRIBE a; PING; PUBLISH a x; PING",
    "SSUBSCRIBE a; SPUBLISH a x; PING",
    "MULTI; SUBSCRIBE a; PUBLISH a x; PING; EXEC",
    "CLIENT REPLY OFF; SUBSCRIBE a; PUBLISH a x; PING; CLIENT REPLY ON",
    "CLIENT REPLY SKIP; SUBSCRIBE a; PING",
    "SUBSCRIBE a; CLIENT REPLY SKIP; PUBLISH a x; PING",
]


@pytest.mark.parametrize("requests", ORDERED)
def test_messages_are_among_the_replies_of_a_pipeline_where_redis_has_them(
    godis: GodisProcess, redis_server: RedisProcess, requests: str
) -> None:
    received = []
    for server in (redis_server, godis):
        with server.raw() as raw:
            raw.ask("HELLO", "3")
            raw.send(b"".join(encode(*line.split()) for line in (*requests.split("; "), "QUIT")))
            received.append(raw.read_all())
    assert received[0] == received[1]


PIPELINES = [  # the channels of the messages, and what each client has sent before; the first one publishes
    ("a a a a", "PING", "SUBSCRIBE a", "SUBSCRIBE b a"),
    ("a a a a", "PING", "SUBSCRIBE a", "PSUBSCRIBE *"),
    ("a b a b", "PING", "SUBSCRIBE a", "SUBSCRIBE b"),
    ("a a a a", "SUBSCRIBE a", "SUBSCRIBE a", "SSUBSCRIBE a"),
]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pipeline_of_messages_reaches_all_in_order(
    godis: GodisProcess, redis_server: RedisProcess, protocol: int
) -> None:
    received: list[list[bytes]] = []
    for server in (redis_server, godis):
        received.append([])
        for channels, *requests in PIPELINES:
            with contextlib.ExitStack() as stack:
                raws = [stack.enter_context(server.raw()) for _ in requests]
                for raw, request in zip(raws, requests, strict=True):
                    raw.ask("HELLO", protocol)
                    raw.ask(*request.split())
                texts = ["", "x" * 5000, "y", "\r\n"]
                published = [encode("PUBLISH", *each) for each in zip(channels.split(), texts, strict=True)]
                for raw, sent in zip(raws, (published, [], []), strict=True):
                    raw.send(b"".join(sent) + encode("QUIT"))
                    received[-1].append(raw.read_all())
    assert received[0] == received[1]


def test_a_person_at_telnet_can_subscribe_and_watch(godis: GodisProcess) -> None:
    with godis.raw() as person, godis.raw() as other:
        person.send(b"SUBSCRIBE news sport\r\n")
        assert person.read_line() == b"subscribe news 1"
        assert person.read_line() == b"subscribe sport 2"
        assert other.ask("PUBLISH", "news", "hello\nworld") == b":1\r\n"
        assert person.read_line() == rb"message news hello\nworld"
        other.send(encode("PUBLISH", "news", "1") + encode("PUBLISH", "news", "2"))
        assert [person.read_line() for _ in range(2)] == [b"message news 1", b"message news 2"]
        person.send(b"RESET\r\nMULTI\r\nSUBSCRIBE news sport\r\nEXEC\r\n")
        assert [person.read_line() for _ in range(5)][-2:] == [b"subscribe news 1", b"subscribe sport 2"]
        other.read_exactly(len(b":1\r\n") * 2)
        assert other.ask("PUBLISH", "news", "hello") == b":1\r\n"
        assert person.read_line() == b"message news hello"
        person.send(b"GET k\r\n")
        assert person.read_line().startswith(b"ERR Can't execute 'get'")
        person.send(b"UNSUBSCRIBE\r\n")
        assert {person.read_line(), person.read_line()} == {b"unsubscribe news 1", b"unsubscribe sport 0"}
        person.send(b"PING\r\n")
        assert person.read_line() == b"+PONG"


def test_a_message_never_comes_amid_a_reply(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        other.ask("RPUSH", "k", *("x" * 100 for _ in range(2000)))
        client.ask("HELLO", 3)
        client.ask("SUBSCRIBE", "c")
        client.send(encode("LRANGE", "k", 0, -1) * 30)
        for number in range(300):
            other.ask("PUBLISH", "c", number)
        replies = 0
        messages: list[int] = []
        while replies < 30 or len(messages) < 300:
            told = client.read_reply()
            if told.startswith(b">"):
                messages.append(int(parse(told)[2]))
            else:
                assert len(parse(told)) == 2000
                replies += 1
        assert messages == list(range(300))


def test_a_subscriber_that_does_not_read_is_dropped_and_others_go_on(godis: GodisProcess) -> None:
    with godis.raw() as deaf, godis.raw() as other, godis.raw() as hearing:
        other.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
        for raw in (deaf, hearing):
            raw.ask("SUBSCRIBE", "c")
        message, sent = b"x" * 100_000, 0
        while parse(other.ask("PUBSUB", "NUMSUB", "c"))[1] == 2:
            other.ask("PUBLISH", "c", message)
            sent += 1
            assert parse(hearing.read_reply())[2] == message
            assert sent < 1000
        assert other.ask("PUBLISH", "c", "end") == b":1\r\n"


def test_thousands_of_names_are_confirmed_in_order_and_ended_with_their_client(godis: GodisProcess) -> None:
    names = [b"%d" % number for number in range(20_000)]
    with godis.raw() as other:
        with godis.raw() as raw:
            for kind, count in ((b"subscribe", 0), (b"psubscribe", len(names))):
                raw.send(encode(kind, *names))
                for number, name in enumerate(names):
                    assert parse(raw.read_reply()) == [kind, name, count + number + 1]
            assert parse(other.ask("PUBLISH", "7", "x")) == 2
            assert [parse(raw.read_reply())[0] for _ in range(2)] == [b"message", b"pmessage"]
            assert sorted(parse(other.ask("PUBSUB", "CHANNELS", "1999?"))) == names[19990:]
            raw.send(encode("UNSUBSCRIBE"))
            assert {parse(raw.read_reply())[1] for _ in names} == set(names)
            assert parse(other.ask("PUBSUB", "CHANNELS")) == []
        wait_until(lambda: parse(other.ask("PUBSUB", "NUMPAT")) == 0, PATIENCE_SECONDS, "its patterns are forgotten")


def test_who_leaves_has_no_subscription_left(godis: GodisProcess) -> None:
    with godis.raw() as other:
        with godis.raw() as client:
            client.ask("SUBSCRIBE", "c")
            client.ask("PSUBSCRIBE", "c*")
            client.ask("SSUBSCRIBE", "s")
            assert parse(other.ask("PUBSUB", "CHANNELS")) == [b"c"]
            assert parse(other.ask("PUBSUB", "SHARDCHANNELS", "*")) == [b"s"]
            assert b" flags=P " in parse(other.ask("CLIENT", "LIST", "TYPE", "pubsub"))
            assert b" sub=1 psub=1 ssub=1 " in parse(other.ask("CLIENT", "LIST", "TYPE", "pubsub"))
        wait_until(lambda: other.ask("PUBSUB", "NUMPAT") == b":0\r\n", PATIENCE_SECONDS, "it is gone")
        assert parse(other.ask("PUBSUB", "CHANNELS")) == parse(other.ask("PUBSUB", "SHARDCHANNELS")) == []
        assert parse(other.ask("PUBLISH", "c", "x")) == 0


def test_a_client_that_waits_for_a_key_hears_messages(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as other:
        client.ask("HELLO", 3)
        client.ask("SUBSCRIBE", "c")
        client.send(encode("BLPOP", "k", 0))
        wait_until(lambda: b" flags=Pb " in parse(other.ask("CLIENT", "LIST")), PATIENCE_SECONDS, "it waits")
        other.ask("PUBLISH", "c", "hello")
        assert parse(client.read_reply()) == [b"message", b"c", b"hello"]
        other.ask("RPUSH", "k", "a")
        assert parse(client.read_reply()) == [b"k", b"a"]


def test_redis_py_listens(godis: GodisProcess) -> None:
    with godis.client() as client, godis.client() as publisher:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe("news")
        pubsub.psubscribe("n*")
        wait_until(lambda: publisher.pubsub_numpat() == 1, PATIENCE_SECONDS, "it has subscribed")
        assert publisher.publish("news", "hello") == 2
        heard: list[Any] = []
        while len(heard) < 2:
            if message := pubsub.get_message(timeout=PATIENCE_SECONDS):
                heard.append((message["type"], message["data"]))
        assert heard == [("message", b"hello"), ("pmessage", b"hello")]
        pubsub.close()


def test_a_pattern_that_is_too_long_is_refused() -> None:
    client = Bench().connect()
    assert client.ask("PSUBSCRIBE", "x" * 2000).text == errors.PATTERN_TOO_LONG
    assert not client.session.is_subscribed
