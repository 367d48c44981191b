"""Commands on hashes: what they answer and what they log. That Redis answers the same is tested elsewhere for random
commands; here stand the cases that a random command hardly meets: RESP3, text, chance, and thousands of fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import pytest
from canonical import all_of
from fakes import answers_and_logs
from instances import Bench, Client, Replay, driven, listed, work_of
from tables import for_each

import commands.hashes
import errors
from commands.hashes import AT_ONCE_FIELDS, MOST_REPEATED
from keyspace.point_in_time import PointInTimeView
from protocol import text_pieces
from replies import FlatMap, LongArray, LongMap, LongPairs, Pairs
from values.hashes import HASH

MAX = 2**63 - 1
HIGH = str(MAX)

CASES = [
    # before, command, reply, effects
    ("", "HSET k f v", 1, ["HSET k f v"]),
    ("HSET k f v", "HSET k f w g x", 1, ["HSET k f w g x"]),
    ("", "HSET k f 1 f 2", 1, ["HSET k f 1 f 2"]),
    ("HSET k f 1 f 2", "HGETALL k", [b"f", b"2"], []),
    ("HSET k f 1 g 2; HSET k f 3", "HGETALL k", [b"f", b"3", b"g", b"2"], []),
    ("HSET k f 1 g 2; HDEL k f; HSET k f 3", "HGETALL k", [b"g", b"2", b"f", b"3"], []),
    ("", "HSET k f v g", errors.WRONG_ARITY % b"hset", []),
    ("SET k v", "HSET k f v g", errors.WRONG_ARITY % b"hset", []),
    ("SET k v", "HSET k f v", errors.WRONG_TYPE, []),
    ("HSET k f v; PEXPIREAT k 1800000000000; HSET k g w", "PEXPIRETIME k", 1_800_000_000_000, []),
    ("", "HMSET k f v g w", b"OK", ["HSET k f v g w"]),
    ("", "HMSET k f v g", errors.WRONG_ARITY % b"hmset", []),
    ("", "HSETNX k f v", 1, ["HSET k f v"]),
    ("HSET k f v", "HSETNX k f w", 0, []),
    ("HSET k f v", "HSETNX k g w", 1, ["HSET k g w"]),
    ("HSET k f v", "HGET k f", b"v", []),
    ("HSET k f v", "HGET k g", None, []),
    ("", "HGET k f", None, []),
    ("SET k v", "HGET k f", errors.WRONG_TYPE, []),
    ("HSET k f v g w", "HMGET k g x f g", [b"w", None, b"v", b"w"], []),
    ("", "HMGET k f g", [None, None], []),
    ("HSET k f v", "HEXISTS k f", 1, []),
    ("HSET k f v", "HEXISTS k g", 0, []),
    ("HSET k f word", "HSTRLEN k f", 4, []),
    ("HSET k f word", "HSTRLEN k g", 0, []),
    ("HSET k f v g w", "HLEN k", 2, []),
    ("", "HLEN k", 0, []),
    ("HSET k f v g w", "HKEYS k", [b"f", b"g"], []),
    ("HSET k f v g w", "HVALS k", [b"v", b"w"], []),
    ("", "HKEYS k", [], []),
    ("HSET k f v g w h x", "HDEL k g x f g", 2, ["HDEL k g f"]),
    ("HSET k f v g w", "HDEL k g f", 2, ["DEL k"]),
    ("HSET k f v; HDEL k f", "EXISTS k", 0, []),
    ("HSET k f v", "HDEL k g", 0, []),
    ("", "HDEL k g", 0, []),
    ("", "HINCRBY k f 5", 5, ["HINCRBY k f 5"]),
    ("HSET k f 5", "HINCRBY k f -7", -2, ["HINCRBY k f -7"]),
    ("HSET k f 5", "HINCRBY k f 0", 5, []),
    ("", "HINCRBY k f 0", 0, ["HINCRBY k f 0"]),
    ("HSET k f v", "HINCRBY k f 1", errors.HASH_NOT_AN_INTEGER, []),
    ("HSET k f 1", "HINCRBY k f 1.5", errors.NOT_AN_INTEGER, []),
    (f"HSET k f {HIGH}", "HINCRBY k f 1", errors.OVERFLOW, []),
    ("SET k v", "HINCRBY k f x", errors.NOT_AN_INTEGER, []),
    ("", "HINCRBYFLOAT k f 0.1", b"0.1", ["HSET k f 0.1"]),
    ("HSET k f 0.1", "HINCRBYFLOAT k f 0.2", b"0.3", ["HSET k f 0.3"]),
    ("HSET k f 3", "HINCRBYFLOAT k f 0", b"3", []),
    ("HSET k f 3.0e3", "HINCRBYFLOAT k f 0", b"3000", ["HSET k f 3000"]),
    ("HSET k f v", "HINCRBYFLOAT k f 1", errors.HASH_NOT_A_FLOAT, []),
    ("HSET k f inf", "HINCRBYFLOAT k f 1", errors.NAN_OR_INFINITY, []),
    ("HSET k f 1", "HINCRBYFLOAT k f inf", errors.IS_NAN_OR_INFINITY, []),
    ("SET k v", "HINCRBYFLOAT k f x", errors.NOT_A_FLOAT, []),
    ("HSET k f v", "HRANDFIELD k", b"f", []),
    ("", "HRANDFIELD k", None, []),
    ("", "HRANDFIELD k 3", [], []),
    ("HSET k f v", "HRANDFIELD k 3", [b"f"], []),
    ("HSET k f v", "HRANDFIELD k -3", [b"f", b"f", b"f"], []),
    ("HSET k f v", "HRANDFIELD k -2 withvalues", [b"f", b"v", b"f", b"v"], []),
    ("HSET k f v g w", "HRANDFIELD k 2 WITHVALUES", [b"f", b"v", b"g", b"w"], []),
    ("HSET k f v", "HRANDFIELD k 0", [], []),
    ("HSET k f v", "HRANDFIELD k x", errors.NOT_AN_INTEGER, []),
    ("HSET k f v", "HRANDFIELD k 1 x", errors.SYNTAX, []),
    ("", "HRANDFIELD k 1 WITHVALUES x", errors.SYNTAX, []),
    ("", f"HRANDFIELD k -{MAX + 1}", errors.COUNT_OUT_OF_RANGE, []),
    ("", f"HRANDFIELD k {MAX // 2 + 1} WITHVALUES", errors.OUT_OF_RANGE, []),
    ("HSET k f v", f"HRANDFIELD k -{MOST_REPEATED + 1}", errors.TOO_MANY_REPEATED % MOST_REPEATED, []),
    ("SET k v", "HRANDFIELD k", errors.WRONG_TYPE, []),
    ("HSET k a 1 b 2 ab 3", "HSCAN k 0", [b"0", [b"a", b"1", b"b", b"2", b"ab", b"3"]], []),
    ("HSET k a 1 b 2 ab 3", "HSCAN k 0 MATCH a* COUNT 1", [b"0", [b"a", b"1", b"ab", b"3"]], []),
    ("HSET k a 1 b 2 ab 3", "HSCAN k 0 NOVALUES MATCH a*", [b"0", [b"a", b"ab"]], []),
    ("HSET k a 1", "HSCAN k 0 NOVALUES COUNT", errors.SYNTAX, []),
    ("", "HSCAN k 0 nonsense", [b"0", []], []),
    ("SET k v", "HSCAN k x", errors.INVALID_CURSOR, []),
    ("SET k v", "HSCAN k 0", errors.WRONG_TYPE, []),
    ("HSET k f v", "HSCAN k 0 TYPE hash", errors.SYNTAX, []),
    ("HSET k f v", "TYPE k", b"hash", []),
    ("HSET k f v", "OBJECT ENCODING k", b"listpack", []),
    ("HSET k f " + "x" * 65, "OBJECT ENCODING k", b"hashtable", []),
    ("HSET k f v", "SCAN 0 TYPE hash", [b"0", [b"k"]], []),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


WIRES = [  # command, RESP3, RESP2
    ("HGETALL k", b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n", b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"),
    ("HGETALL none", b"%0\r\n", b"*0\r\n"),
    ("HRANDFIELD k 1", b"*1\r\n$1\r\nf\r\n", b"*1\r\n$1\r\nf\r\n"),
    ("HRANDFIELD k 1 WITHVALUES", b"*1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n", b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"),
    ("HRANDFIELD none 1 WITHVALUES", b"*0\r\n", b"*0\r\n"),
    ("HRANDFIELD none", b"_\r\n", b"$-1\r\n"),
    ("HKEYS k", b"*1\r\n$1\r\nf\r\n", b"*1\r\n$1\r\nf\r\n"),
    ("HMGET none f", b"*1\r\n_\r\n", b"*1\r\n$-1\r\n"),
    ("HSET k f w", b":0\r\n", b":0\r\n"),
    ("HSET k g w", b":1\r\n", b":1\r\n"),
    ("HEXISTS k f", b":1\r\n", b":1\r\n"),
    ("HSETNX k f x", b":0\r\n", b":0\r\n"),
    ("HSCAN k 0", b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n", b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"),
]


@for_each(("line", "resp3", "resp2"), WIRES)
def test_the_types_of_replies_are_those_of_redis(line: str, resp3: bytes, resp2: bytes) -> None:
    for protocol, expected in ((3, resp3), (2, resp2)):
        client = Bench().connect()
        client.wire("HELLO", protocol)
        client.ask("HSET", "k", "f", "v")
        assert client.wire(*line.split()) == expected


def test_a_hash_is_a_line_for_each_field_in_the_text_dialect() -> None:
    client = Bench().connect()
    client.ask("HSET", "k", "name", "Ada Lovelace", "born", "1815")
    assert b"".join(text_pieces(client.ask("HGETALL", "k"))) == b"name Ada Lovelace\r\nborn 1815\r\n"
    assert b"".join(text_pieces(client.ask("HGETALL", "none"))) == b"(empty array)\r\n"


# ---- chance


def test_all_fields_are_chosen_alike() -> None:
    client = client_with(k=range(6))
    chosen = Counter(client.ask("HRANDFIELD", "k") for _ in range(600))
    assert sum((count - 100) ** 2 / 100 for count in chosen.values()) < 20.5  # chi-squared, 5 degrees: 0.1 %
    assert len(chosen) == 6
    left_out = Counter((set(chosen) - set(client.ask("HRANDFIELD", "k", 5))).pop() for _ in range(600))
    assert sum((count - 100) ** 2 / 100 for count in left_out.values()) < 20.5
    assert len(left_out) == 6


# ---- hashes of thousands of fields

FEW = 20  # fields at once, in these tests


@pytest.fixture
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.hashes, "AT_ONCE_FIELDS", FEW)
    monkeypatch.setattr(commands.hashes, "FEW_FIELDS", 5)
    monkeypatch.setattr(commands.hashes, "PART_FIELDS", 7)


def client_with(**keys: range) -> Client:
    client = Bench(default_ttl="0").connect()
    for key, numbers in keys.items():
        for start in range(numbers.start, numbers.stop, 1000):
            part = range(start, min(numbers.stop, start + 1000))
            client.ask("HSET", key, *(word for number in part for word in (f"f{number}", f"v{number}")))
    return client


FIELDS = [b"f%d" % number for number in range(60)]
VALUES = [b"v%d" % number for number in range(60)]
FLAT = [word for item in zip(FIELDS, VALUES, strict=True) for word in item]
LONG_READS: list[tuple[str, type[LongArray], list[bytes]]] = [
    ("HGETALL k", LongMap, FLAT),
    ("HKEYS k", LongArray, FIELDS),
    ("HVALS k", LongArray, VALUES),
    ("HRANDFIELD k 60", LongArray, FIELDS),
    ("HRANDFIELD k 1000 WITHVALUES", LongPairs, FLAT),
]


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize(("line", "kind", "words"), LONG_READS)
def test_a_read_of_many_fields_is_of_the_moment_when_it_was_asked(
    line: str, kind: type[LongArray], words: list[bytes]
) -> None:
    client = client_with(k=range(60))
    changes = iter(["HDEL k f3 f31 f40", "HSET k new 1 f5 changed", "HDEL k f5", "HSET k f3 x", "DEL k"] * 99)
    reply, steps = driven(work_of(client.ask(*line.split())), lambda: client.ask(*next(changes).split()))
    assert steps >= 1
    assert type(reply) is kind
    assert sorted(listed(reply)) == sorted(words)
    if kind is not LongArray:
        assert set(zip(listed(reply)[::2], listed(reply)[1::2], strict=True)) == set(zip(FIELDS, VALUES, strict=True))


def test_many_values_are_of_the_moment_when_they_were_asked() -> None:
    client = client_with(k=range(60))
    reply, steps = driven(
        work_of(client.ask("HMGET", "k", *["f1", "none", "f59"] * 1000)), lambda: client.ask("HSET", "k", "f1", "new")
    )
    assert steps > 1
    assert listed(reply) == [b"v1", None, b"v59"] * 1000


@pytest.mark.usefixtures("_few_at_once")
@for_each("count", [1, 19, 40, 59, -40, -1000])
@for_each("words", [[], ["WITHVALUES"]])
def test_many_random_fields_are_fields(count: int, words: list[str]) -> None:
    client = client_with(k=range(60))
    reply = client.ask("HRANDFIELD", "k", count, *words)
    reply = driven(reply)[0] if isinstance(reply, Generator) else reply
    assert isinstance(reply, (LongPairs, Pairs)) == bool(words)
    found = listed(reply)
    if words:
        assert set(zip(found[::2], found[1::2], strict=True)) <= set(zip(FIELDS, VALUES, strict=True))
        found = found[::2]
    assert len(found) == abs(count)
    assert set(FIELDS).issuperset(found)
    if count > 0:
        assert len(set(found)) == count


@pytest.mark.parametrize("name", ["HSET", "HMSET"])
def test_thousands_of_fields_are_set_and_deleted_at_one_moment(name: str) -> None:
    client = client_with(k=range(3), other=range(1))
    words = [word for number in range(3000) for word in (f"f{number}", f"new{number}")]
    reply, steps = driven(work_of(client.ask(name, "k", *words)))
    assert reply == (2997 if name == "HSET" else b"OK")
    assert steps > 10
    assert client.ask("HGET", "k", "f2999") == b"new2999"
    replay = Replay()
    for argv in client.bench.log.records:
        replay.engine.apply(0, argv)
    assert all_of(replay.store) == all_of(client.bench.store)
    assert driven(work_of(client.ask("HDEL", "k", *words)))[0] == 3000
    assert client.ask("EXISTS", "k") == 0
    assert client.bench.log.records[-1] == [b"DEL", b"k"]


def test_an_odd_number_of_thousands_of_words_is_refused_at_once() -> None:
    client = client_with(k=range(3))
    assert client.ask("HSET", "k", *["f"] * 3001).text == errors.WRONG_ARITY % b"hset"


def test_a_large_hash_is_scanned_whole_though_it_changes() -> None:
    client = client_with(k=range(3000))
    cursor, found, calls = b"0", dict[bytes, bytes](), 0
    while True:
        cursor, items = client.ask("HSCAN", "k", cursor, "COUNT", 100)
        found.update(zip(items[::2], items[1::2], strict=True))
        calls += 1
        client.ask("HSET", "k", *(word for number in range(50) for word in (f"new{calls}-{number}", "x")))
        client.ask("HDEL", "k", *(f"new{calls - 2}-{number}" for number in range(50)))
        if cursor == b"0":
            break
    assert all(found[b"f%d" % number] == b"v%d" % number for number in range(3000))
    assert 10 < calls < 100


def test_fields_of_a_small_hash_are_one_plain_reply() -> None:
    client = client_with(k=range(AT_ONCE_FIELDS))
    assert type(client.ask("HGETALL", "k")) is FlatMap
    client.ask("HSET", "k", "one", "more")
    assert isinstance(client.ask("HGETALL", "k"), Generator)
    assert HASH.is_large(client.bench.store.databases[0].peek(b"k"))


@for_each("line", ["DEL k", "UNLINK k", "FLUSHALL", "FLUSHDB", "RENAME small k", "COPY small k REPLACE", "PEXPIRE k 1"])
@for_each("is_viewed", [False, True])
def test_a_large_hash_is_freed_in_slices_whatever_removes_it(line: str, is_viewed: bool) -> None:
    client = client_with(k=range(2500), small=range(2), other=range(2500))
    bench = client.bench
    value = bench.store.databases[0].peek(b"k")
    view = PointInTimeView(bench.store.databases[0]) if is_viewed else None
    client.ask(*line.split())
    bench.advance(3)
    for _ in range(100):
        bench.store.expire_cycle(lambda: True)
        if view is not None:
            assert len(value) == 2500, "a view may read it"
    if view is not None:
        view.detach()
    known, steps = len(value), 0
    while not bench.store.expire_cycle(lambda: True):
        assert known - len(value) <= 1000
        known, steps = len(value), steps + 1
        assert steps < 1000
    assert len(value) == 0
    assert all(client.ask("HLEN", key) in (0, 2, 2500) for key in ("k", "small", "other"))
