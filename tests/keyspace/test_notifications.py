"""Keyspace notifications without a network; tests/against_redis compares those of each command with redis-server's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from instances import Bench, Harness, run_all, work_of
from pool_member import START_MS, Member
from tables import for_each

from commands.keyspace_walk import at_once
from keyspace.subscriptions import KINDS
from replies import NULL_ARRAY, Push
from session import Session

ALL = "KEAmn"


def heard_by(bench: Harness[Any], pattern: bytes = b"__keyevent@*") -> list[bytes]:
    """Return a list that grows with `event key` for each message of a pattern."""
    session = bench.new_session()
    found: list[bytes] = []

    def push(message: Push) -> None:
        _, _, channel, text = message
        found.append(b"%b %b" % (channel.partition(b":")[2], text))

    session.push = push
    bench.instance.subscriptions.add(KINDS[1], pattern, session)
    return found


def done(reply: Any) -> Any:
    return at_once(reply) if not isinstance(reply, (int, bytes, list)) and hasattr(reply, "send") else reply


@pytest.fixture
def bench() -> Bench:
    return Bench(default_ttl="0", notify_keyspace_events=ALL)


def test_nothing_listens_and_requests_run_by_column_until_there_is_something_to_publish() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for classes, is_on in [
        ("", False),
        ("K", False),
        ("A", False),
        ("K$", True),
        ("E", False),
        ("AKE", True),
        ("", False),
    ]:
        client.ask("CONFIG", "SET", "notify-keyspace-events", classes)
        assert (bench.instance.observer is not None) == is_on, classes
        assert (bench.store.databases[0].listener is not None) == is_on, classes


def test_a_key_receives_events_and_an_event_receives_keys(bench: Bench) -> None:
    client, by_key = bench.connect(), heard_by(bench, b"__keyspace@1__:*")
    by_event = heard_by(bench, b"__keyevent@1__:*")
    client.ask("SELECT", 1)
    client.ask("SET", "a:b", 1)
    assert by_key == [b"a:b new", b"a:b set"]
    assert by_event == [b"new a:b", b"set a:b"]


@pytest.mark.parametrize(
    ("classes", "line", "heard"),
    [
        ("E$", "SET k v EX 9", ["set k"]),
        ("Eg", "SET k v EX 9", ["expire k"]),
        ("En", "SET k v EX 9", ["new k"]),
        ("Em", "GET k", ["keymiss k"]),
        ("EA", "GET k", []),
        ("K$", "SET k v", []),
    ],
)
def test_only_the_classes_of_the_setting_are_published(classes: str, line: str, heard: list[str]) -> None:
    bench = Bench(default_ttl="0", notify_keyspace_events=classes)
    found = heard_by(bench)
    bench.connect().ask(*line.split())
    assert found == [each.encode() for each in heard]


@pytest.mark.parametrize(
    ("made", "line", "event"),
    [
        ("HSET k f 1", "HINCRBY k f 0", "hincrby"),
        ("HSET k f 1", "HINCRBYFLOAT k f 0", "hincrbyfloat"),
        ("RPUSH k v", "LSET k 0 v", "lset"),
        ("RPUSH k v", "LTRIM k 0 -1", "ltrim"),
        ("RPUSH k v", "LMOVE k k LEFT RIGHT", "rpush k lpop"),
        ("PFADD k v", "PFMERGE k", "pfadd"),
    ],
)
def test_a_write_of_what_was_there_is_an_event_and_a_change_for_watch(made: str, line: str, event: str) -> None:
    bench = Bench(default_ttl="0", notify_keyspace_events="KEA")
    client, other = bench.connect(), bench.connect()
    other.ask(*made.split())
    client.ask("WATCH", "k")
    client.ask("MULTI")
    found = heard_by(bench)
    other.ask(*line.split())
    assert b" ".join(found) == b"%b k" % event.encode()
    assert client.ask("EXEC") is NULL_ARRAY


def test_a_default_ttl_is_no_event() -> None:
    bench = Bench(default_ttl="6h", notify_keyspace_events=ALL)
    found = heard_by(bench)
    bench.connect().ask("SET", "k", "v")
    assert found == [b"new k", b"set k"]


def test_a_pipeline_publishes_what_its_requests_do(bench: Bench) -> None:
    found = heard_by(bench)
    requests = [[b"SET", b"a", b"1"], [b"SET", b"a", b"2"], [b"INCR", b"a"], [b"INCR", b"a"], [b"DEL", b"a"]]
    run_all(bench.engine, bench.new_session(), requests)
    assert found == [b"new a", b"set a", b"set a", b"incrby a", b"incrby a", b"del a"]


def test_a_transaction_publishes_in_the_order_of_its_requests(bench: Bench) -> None:
    client, found = bench.connect(), heard_by(bench)
    for line in ("MULTI", "RPUSH l 1 2", "LPOP l", "LMOVE l m LEFT LEFT", "EXEC"):
        client.ask(*line.split())
    assert found == [b"new l", b"rpush l", b"lpop l", b"new m", b"lpush m", b"lpop l", b"del l"]


@pytest.mark.parametrize("is_read", [True, False])
def test_an_expired_key_is_published_once_by_whoever_deletes_it(bench: Bench, is_read: bool) -> None:
    client = bench.connect()
    client.ask("SET", "k", "v", "PX", 10)
    found = heard_by(bench)
    bench.advance(2)
    if is_read:
        client.ask("GET", "k")
    bench.store.expire_cycle(lambda: False)
    assert found == [b"expired k"] + [b"keymiss k"] * is_read


def test_a_write_to_an_expired_key_makes_a_new_one(bench: Bench) -> None:
    client = bench.connect()
    client.ask("SET", "k", "v", "PX", 10)
    found = heard_by(bench)
    bench.advance(2)
    client.ask("SET", "k", "v")
    assert found == [b"expired k", b"new k", b"set k"]


def test_fields_that_expire_are_an_event_of_their_hash(bench: Bench) -> None:
    client = bench.connect()
    client.ask("HSET", "h", "f", "v")
    client.ask("HPEXPIRE", "h", 10, "FIELDS", 1, "f")
    found = heard_by(bench)
    bench.advance(3)
    bench.store.expire_cycle(lambda: False)
    assert found == [b"hexpired h", b"del h"]


def test_an_evicted_key_is_published_before_the_request_that_needs_room() -> None:
    bench = Bench(
        default_ttl="0", databases="2", maxmemory="20000", maxmemory_policy="allkeys-lru", notify_keyspace_events="Ee$"
    )
    client, found = bench.connect(), heard_by(bench)
    number = 0
    while not any(each.startswith(b"evicted") for each in found):
        client.ask("SET", f"k{number}", "x" * 100)
        number += 1
    assert found[-2].startswith(b"evicted k")
    assert found[-1] == b"set k%d" % (number - 1)


MEMBERS = [b"%d" % number for number in range(5000)]


@pytest.mark.parametrize(
    ("argv", "heard"),
    [
        ([b"RPUSH", b"k", *MEMBERS], [b"new k", b"rpush k"]),
        ([b"SADD", b"k", *MEMBERS], [b"new k", b"sadd k"]),
        ([b"ZADD", b"k", *(word for member in MEMBERS for word in (b"1", member))], [b"new k", b"zadd k"]),
        ([b"SREM", b"s", *MEMBERS], [b"srem s", b"del s"]),
        ([b"SUNIONSTORE", b"k", b"s", *[b"none"] * 3000], [b"new k", b"sunionstore k"]),
        ([b"SORT", b"l", b"BY", b"nosort", b"STORE", b"k"], [b"new k", b"sortstore k"]),
        ([b"LTRIM", b"l", b"1", b"0"], [b"ltrim l", b"del l"]),
        ([b"SPOP", b"s", b"4000"], [b"spop s"]),
        ([b"ZREMRANGEBYRANK", b"z", b"0", b"-1"], [b"zremrangebyrank z", b"del z"]),
    ],
    ids=lambda words: words[0].decode() if len(words) > 2 else "",
)
def test_a_command_in_slices_is_one_event_also_while_others_run(argv: Sequence[bytes], heard: list[bytes]) -> None:
    bench = Bench(default_ttl="0")
    client, other = bench.connect(), bench.connect()
    for line in ([b"SADD", b"s"], [b"RPUSH", b"l"]):
        done(client.ask(*line, *MEMBERS))
    done(client.ask("ZADD", "z", *(word for member in MEMBERS for word in (b"1", member))))
    client.ask("CONFIG", "SET", "notify-keyspace-events", "EAn")
    found = heard_by(bench)
    work = client.ask(*argv)
    if hasattr(work, "send"):
        for _ in work_of(work):
            other.ask("SET", "other", 1)
    assert [each for each in found if not each.endswith(b" other")] == heard


def test_what_a_long_transaction_does_is_published(bench: Bench) -> None:
    client, found = bench.connect(), heard_by(bench)
    client.ask("MULTI")
    for number in range(100):
        client.ask("SET", f"k{number}", "v")
    work = client.ask("EXEC")
    assert all(reply == b"OK" for reply in done(work))
    assert found == [b"%b k%d" % (event, number) for number in range(100) for event in (b"new", b"set")]


@for_each(
    "line",
    [
        "SUNIONSTORE d s m n",
        "SDIFFSTORE d s m n",
        "ZUNIONSTORE d 3 z m n",
        "ZDIFFSTORE d 3 z m n",
        "BITOP OR d string m n",
    ],
)
def test_work_in_slices_misses_a_key_once(line: str, bench: Bench) -> None:
    client = bench.connect()
    for part in range(3):
        members = [f"m{part}-{number}" for number in range(1000)]
        client.ask("SADD", "s", *members)
        client.ask("ZADD", "z", *(word for member in members for word in ("1", member)))
    client.ask("SET", "string", "x" * (5 << 20))
    client.ask("CONFIG", "SET", "notify-keyspace-events", "Em")
    found, misses = heard_by(bench), bench.store.misses
    done(client.ask(*line.split()))
    assert found == [b"keymiss m", b"keymiss n"]
    assert bench.store.misses == misses + 2


def test_in_a_pool_each_instance_publishes_what_an_entry_does() -> None:
    member = Member()
    member.config.change({"notify-keyspace-events": ALL})
    member.instance.apply_settings()
    found = heard_by(member)
    member.entry(b"SET a 1 PX 100", b"RPUSH l x")
    member.entry(b"LPOP l", now_ms=START_MS + 5000)
    member.ask(b"GET a")
    assert found == [
        b"new a",
        b"set a",
        b"expire a",
        b"new l",
        b"rpush l",
        b"lpop l",
        b"del l",
        b"expired a",
        b"keymiss a",
    ]


def test_the_event_of_a_client_that_waits_is_that_of_its_command(bench: Bench) -> None:
    session: Session = bench.new_session()
    found = heard_by(bench)
    bench.connect().ask("RPUSH", "l", "x")
    bench.engine.run(session, [[b"BLPOP", b"l", b"0"]])
    assert found == [b"new l", b"rpush l", b"lpop l", b"del l"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("", ""),
        ("KEA", "AKE"),
        ("AKEmn", "AKEm"),
        ("g$lshzxetdKE", "AKE"),
        ("nKE$", "$nKE"),
        ("xxKK", "xK"),
        ("dtmE", "tdEm"),
    ],
)
def test_the_classes_are_shown_as_in_redis(bench: Bench, given: str, shown: str) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "notify-keyspace-events", given)
    assert client.ask("CONFIG", "GET", "notify-keyspace-events") == {b"notify-keyspace-events": shown.encode()}


def test_an_unknown_class_is_refused_with_the_text_of_redis(bench: Bench) -> None:
    reply = bench.connect().ask("CONFIG", "SET", "notify-keyspace-events", "KEq")
    assert reply.text == (
        b"ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - "
        b"Invalid event class character. Use 'Ag$lshzxeKEtdmn'."
    )
