"""Reads of a whole keyspace that are made in slices: what they answer, and who is served in between."""

from __future__ import annotations

import socket
from collections.abc import Generator, Iterator
from random import Random

import pytest
from instances import Bench, driven, work_of
from servers import PATIENCE_SECONDS, GodisProcess, Raw, encode, parse, served_meanwhile, wait_until

from commands.keyspace_walk import AT_ONCE_PLACES, at_once
from replies import LongArray
from store import Keyspace
from values.entry import NO_DEADLINE

KEYS = 30_000


def fill(raw: Raw, keys: int, prefix: str = "key:") -> None:
    """Set keys that are named by their numbers."""
    for start in range(0, keys, 1000):
        words = [word for number in range(start, start + 1000) for word in (f"{prefix}{number}", "")]
        assert raw.ask("MSET", *words) == b"+OK\r\n"


@pytest.fixture
def full_godis(shared_godis: GodisProcess) -> Iterator[GodisProcess]:
    """A server with more keys than are listed at once."""
    with shared_godis.raw() as raw:
        raw.ask("FLUSHALL")
        fill(raw, KEYS)
    yield shared_godis
    with shared_godis.raw() as raw:
        raw.ask("FLUSHALL")


# ---- the walk


def test_a_walk_meets_what_stays_once_and_nothing_twice_whatever_comes_and_goes() -> None:
    random = Random(6)
    for _ in range(30):
        keyspace: Keyspace = Bench().store.databases[0]
        owed = {b"stays:%d" % number for number in range(500)}
        passing = [b"passes:%d" % number for number in range(1500)]
        for key in random.sample([*owed, *passing], 2000):
            keyspace.put(key, b"", NO_DEADLINE)
        for key in random.sample(passing, random.randrange(700)):
            keyspace.remove(key)  # so that a compaction may be under way
        met: list[bytes] = []
        for keys in keyspace.walk():
            met += keys
            for key in random.sample(passing, 40):
                if random.random() < 0.3:
                    keyspace.put(key, b"", NO_DEADLINE)
                else:
                    keyspace.remove(key)
        assert len(met) == len(set(met))
        assert owed <= set(met)
        keyspace.check()
        for key in passing:
            keyspace.put(key, b"", NO_DEADLINE)
            keyspace.remove(key)
        assert len(keyspace.key_order) < 1500, "places are given back again after the walk"


@pytest.mark.parametrize("end", ["FLUSHALL", "FLUSHDB", "SWAPDB"])
def test_a_flush_or_a_swap_ends_a_walk(end: str) -> None:
    bench = Bench()
    client = bench.connect()
    keyspace = bench.store.databases[0]
    for number in range(1000):
        keyspace.put(b"%d" % number, b"", NO_DEADLINE)
    walk = keyspace.walk()
    assert len(next(walk)) > 1
    client.ask(end, *(["0", "1"] if end == "SWAPDB" else []))
    assert list(walk) == []
    assert not any(database.key_order.walks for database in bench.store.databases)


def test_a_walk_that_is_given_up_holds_nothing_back() -> None:
    keyspace = Bench().store.databases[0]
    for number in range(1000):
        keyspace.put(b"%d" % number, b"", NO_DEADLINE)
    walk = keyspace.walk()
    next(walk)
    assert keyspace.key_order.walks
    walk.close()
    assert not keyspace.key_order.walks


# ---- the commands


def test_a_small_keyspace_is_listed_at_once_and_a_large_one_in_slices() -> None:
    bench = Bench()
    client = bench.connect()
    for number in range(AT_ONCE_PLACES):
        client.ask("SET", f"key:{number}", "")
    assert len(client.ask("KEYS", "*")) == AT_ONCE_PLACES
    client.ask("SET", "one more", "")
    work = work_of(client.ask("KEYS", "*"))
    reply, _ = driven(work)
    assert type(reply) is LongArray
    assert reply.size == len(set(reply.members())) == AT_ONCE_PLACES + 1
    work = work_of(client.ask("KEYS", "*[37]"))
    expected = {b"key:%d" % number for number in range(AT_ONCE_PLACES) if number % 10 in (3, 7)}
    listed = at_once(work)
    assert isinstance(listed, list)
    assert len(listed) == len(expected)
    assert set(listed) == expected


def test_the_one_live_key_among_expired_ones_is_found() -> None:
    bench = Bench()
    client = bench.connect()
    for number in range(AT_ONCE_PLACES + 10):
        client.ask("SET", f"key:{number}", "", "PX", "1")
    client.ask("SET", "live", "")
    bench.advance(0.001)
    for expected in (b"live", None):
        work = work_of(client.ask("RANDOMKEY"))
        assert at_once(work) == expected
        client.ask("DEL", "live")
    bench.store.expire_cycle(lambda: False)
    bench.advance(2)
    bench.store.expire_cycle(lambda: False)
    assert client.ask("RANDOMKEY") is None


def test_expired_keys_are_not_counted_but_where_there_are_thousands() -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("SET", "live", "")
    for number in range(3000):
        client.ask("SET", f"key:{number}", "", "PX", "1" if number < 1000 else "1001")
    bench.advance(0.002)
    assert client.ask("DBSIZE") == 2001
    bench.advance(1)
    assert client.ask("DBSIZE") == 3001
    assert b"keys=3001," in client.ask("INFO", "keyspace")
    bench.advance(2)
    bench.store.expire_cycle(lambda: False)
    assert client.ask("DBSIZE") == 1


def test_a_scan_of_all_at_once_is_answered_in_part() -> None:
    client = Bench().connect()
    for number in range(2 * AT_ONCE_PLACES):
        client.ask("SET", f"key:{number}", "")
    cursor, keys = client.ask("SCAN", 0, "COUNT", 10**12)
    assert len(keys) == AT_ONCE_PLACES
    following, rest = client.ask("SCAN", cursor, "COUNT", 10**12)
    assert following == b"0"
    assert len({*keys, *rest}) == 2 * AT_ONCE_PLACES


def test_a_long_pattern_is_matched_with_fewer_keys_at_once() -> None:
    client = Bench().connect()
    for number in range(1000):
        client.ask("SET", f"key:{number}", "")
    pattern = "*" + "?" * 200 + "*"
    work = work_of(client.ask("KEYS", pattern))
    assert at_once(work) == []
    client.session.db.put(b"k" * 300, b"", NO_DEADLINE)
    assert at_once(work_of(client.ask("KEYS", pattern))) == [b"k" * 300]
    cursor, found, calls = b"0", [], 0
    while not calls or cursor != b"0":
        reply = client.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        cursor, some = driven(reply)[0] if isinstance(reply, Generator) else reply
        found += some
        calls += 1
    assert found == [b"k" * 300]
    assert calls > 1


@pytest.mark.parametrize("words", [["KEYS", "*?x*"], ["SCAN", 0, "MATCH", "*?x*", "COUNT", 1000, "TYPE", "string"]])
def test_long_keys_are_matched_in_slices_however_few_they_are(words: list[str | int]) -> None:
    client = Bench().connect()
    wanted = {b"k" * 16_000 + b"x%d" % number for number in range(4)}
    for number in range(8):
        client.ask("SET", b"k" * 16_000 + b"%b%d" % (b"x" if number < 4 else b"y", number), "")
    work = work_of(client.ask(*words))
    reply, steps = driven(work, lambda: client.ask("DEL", *wanted))
    assert set(reply.members() if words[0] == "KEYS" else reply[1]) == wanted
    assert steps >= 8


# ---- the server


def test_others_are_served_while_keys_are_listed(full_godis: GodisProcess) -> None:
    """One request may be answered in the round in which KEYS came; the next is sent after that round."""
    with full_godis.raw() as lister, full_godis.raw() as other:
        request = encode("KEYS", "nothing like it"), b"*0\r\n", "SET", "a", "1"
        assert any(served_meanwhile(lister, other, *request) >= 2 for _ in range(50))


def test_a_pipeline_is_answered_in_order_in_each_dialect(full_godis: GodisProcess) -> None:
    with full_godis.raw() as raw:
        raw.send(encode("SET", "new", "1") + encode("KEYS", "key:1234*") + encode("RANDOMKEY") + encode("ECHO", "end"))
        assert raw.read_reply() == b"+OK\r\n"
        assert len(parse(raw.read_reply())) == 11
        assert parse(raw.read_reply()) != b""
        assert raw.read_reply() == b"$3\r\nend\r\n"
        raw.send(b"KEYS key:2345?\nKEYS nothing\nPING\nKEYS *\nPING\n")
        assert {raw.read_line() for _ in range(10)} == {b"key:2345%d" % digit for digit in range(10)}
        assert [raw.read_line(), raw.read_line()] == [b"(empty array)", b"+PONG"]
        assert {raw.read_line() for _ in range(KEYS + 1)} == {b"new", *(b"key:%d" % number for number in range(KEYS))}
        assert raw.read_line() == b"+PONG"
        raw.send(encode("CLIENT", "REPLY", "SKIP") + encode("KEYS", "*") + encode("ECHO", "end"))
        assert raw.read_reply() == b"$3\r\nend\r\n"


def test_many_who_list_at_once_all_get_each_key(full_godis: GodisProcess) -> None:
    clients = [full_godis.client(protocol=2 + number % 2) for number in range(6)]
    listers = [client.connection_pool.get_connection() for client in clients]
    for lister in listers:
        lister.send_command("KEYS", "*")  # type: ignore[no-untyped-call]
    for client, lister in zip(clients, listers, strict=True):
        reply = lister.read_response()
        assert len(reply) == len(set(reply)) == KEYS
        lister.disconnect()  # type: ignore[no-untyped-call]
        client.close()


def unread_bytes(raw: Raw, name: str) -> int:
    """Say how many bytes of replies the server holds for a client."""
    lines: list[str] = parse(raw.ask("CLIENT", "LIST")).decode().splitlines()
    fields = [dict(field.split("=", 1) for field in line.split()) for line in lines]
    return next(int(each["omem"]) for each in fields if each["name"] == name)


@pytest.mark.parametrize("way", ["kill", "close"])
def test_one_who_does_not_read_holds_up_nobody_and_may_vanish(full_godis: GodisProcess, way: str) -> None:
    with full_godis.raw() as operator, full_godis.raw() as other:
        fill(operator, KEYS, "much longer than the others, so that the reply is more than a socket takes" * 4)
        lister = Raw(socket.create_connection(("127.0.0.1", full_godis.port)))
        lister.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lister.ask("CLIENT", "SETNAME", "lister")
        lister.send(encode("KEYS", "*"))
        wait_until(lambda: unread_bytes(operator, "lister"), what="the client has more than it takes")
        assert unread_bytes(operator, "lister") < 3_000_000 < KEYS * 300
        reply = other.ask("KEYS", "key:1")
        assert reply == b"*1\r\n$5\r\nkey:1\r\n"
        if way == "kill":
            assert operator.ask("CLIENT", "KILL", "SKIPME", "no", "ID", client_id(operator, "lister")) == b":1\r\n"
        lister.close()
        wait_until(lambda: b"name=lister" not in operator.ask("CLIENT", "LIST"), what="the client is gone")
        assert other.ask("KEYS", "key:1") == reply


def client_id(raw: Raw, name: str) -> str:
    """Find the id of a client by its name."""
    line: str = next(line for line in parse(raw.ask("CLIENT", "LIST")).decode().splitlines() if f"name={name} " in line)
    return line.split(maxsplit=1)[0].removeprefix("id=")


def test_clients_that_are_killed_while_they_list_leave_the_way_free(full_godis: GodisProcess) -> None:
    with full_godis.raw() as operator:
        for _ in range(5):
            listers = [full_godis.raw() for _ in range(4)]
            for lister in listers:
                lister.ask("CLIENT", "SETNAME", "lister")
                lister.send(encode("KEYS", "nothing") * 10)
            wait_until(lambda: b"cmd=keys" in operator.ask("CLIENT", "LIST").lower(), what="one lists")
            for line in parse(operator.ask("CLIENT", "LIST")).decode().splitlines():
                if "name=lister " in line:
                    assert operator.ask("CLIENT", "KILL", "ID", line.split()[0].removeprefix("id=")) == b":1\r\n"
            for lister in listers:
                lister.close()
        assert operator.ask("KEYS", "nothing") == b"*0\r\n"


def test_a_list_that_is_under_way_is_finished_before_the_end(full_godis: GodisProcess) -> None:
    with full_godis.raw() as lister, full_godis.raw() as operator:
        lister.ask("CLIENT", "SETNAME", "lister")
        lister.send(encode("KEYS", "*"))
        wait_until(lambda: b"cmd=keys" in operator.ask("CLIENT", "LIST").lower(), what="it is under way")
        operator.send(encode("SHUTDOWN"))
        assert operator.read_all() == b""
        assert len(parse(lister.read_reply())) == KEYS
    assert full_godis.process.wait(PATIENCE_SECONDS) == 0
    full_godis.start()
