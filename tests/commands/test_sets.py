"""Commands on sets: what they answer and what they log. That Redis answers the same is tested elsewhere for random
commands; here stand the cases that a random command hardly meets: RESP3, chance, and sets of thousands of members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import pytest
from canonical import all_of
from fakes import Dialogue, answers_and_logs
from instances import Bench, Client, Replay, driven, listed, run_all, work_of
from tables import for_each

import commands.sets
import errors
from commands.sets import AT_ONCE_MEMBERS, MOST_REPEATED
from errors import CommandError
from keyspace.point_in_time import PointInTimeView
from replies import HELD_BACK, LongArray, LongSet, Members
from values import TYPES
from values.entry import value_of
from values.sets import SET_TYPE, Set
from values.table import Table

MAX = 2**63 - 1
LONG_NAME = "a-key-whose-name-is-longer-than-a-record"

CASES = [
    # before, command, reply, effects
    ("", "SADD k a b a", 2, ["SADD k a b"]),
    ("SADD k a", "SADD k a b", 1, ["SADD k b"]),
    ("SADD k a", "SADD k a", 0, []),
    ("SADD k a", "SADD k a a", 0, []),
    ("SET k v", "SADD k a", errors.WRONG_TYPE, []),
    ("SADD k a; PEXPIREAT k 1800000000000", "SADD k b", 1, ["SADD k b"]),
    ("SADD k a; PEXPIREAT k 1800000000000; SADD k b", "PEXPIRETIME k", 1_800_000_000_000, []),
    ("SADD k a b c", "SREM k b x b c", 2, ["SREM k b c"]),
    ("SADD k a b", "SREM k a b x", 2, ["DEL k"]),
    ("SADD k a", "SREM k x", 0, []),
    ("", "SREM k x", 0, []),
    ("SADD k a b", "SMOVE k d a", 1, ["SMOVE k d a"]),
    ("SADD k a", "SMOVE k d a", 1, ["SMOVE k d a"]),
    ("SADD k a; SMOVE k d a", "EXISTS k d", 1, []),
    ("SADD k a b; SADD d a", "SMOVE k d a", 1, ["SMOVE k d a"]),
    ("SADD k a", "SMOVE k d x", 0, []),
    ("SADD k a", "SMOVE k k a", 1, []),
    ("SADD k a", "SMOVE k k x", 0, []),
    ("SET d v", "SMOVE k d a", 0, []),
    ("SADD k a; SET d v", "SMOVE k d a", errors.WRONG_TYPE, []),
    ("SADD k a; SET d v", "SMOVE k d x", errors.WRONG_TYPE, []),
    ("SADD k a", "SISMEMBER k a", 1, []),
    ("SADD k a", "SISMEMBER k x", 0, []),
    ("", "SISMEMBER k x", 0, []),
    ("SADD k a", "SMISMEMBER k x a x", [0, 1, 0], []),
    ("", "SMISMEMBER k x", [0], []),
    ("SADD k a b", "SCARD k", 2, []),
    ("", "SCARD k", 0, []),
    ("SADD k a b", "SMEMBERS k", [b"a", b"b"], []),
    ("", "SMEMBERS k", [], []),
    ("SADD k a", "SPOP k", b"a", ["DEL k"]),
    ("", "SPOP k", None, []),
    ("", "SPOP k 1", [], []),
    ("SADD k a b", "SPOP k 2", [b"a", b"b"], ["DEL k"]),
    ("SADD k a b", f"SPOP k {MAX}", [b"a", b"b"], ["DEL k"]),
    ("SADD k a b", "SPOP k 0", [], []),
    ("SET k v", "SPOP k 0", errors.WRONG_TYPE, []),
    ("", "SPOP k -1", errors.COUNT_NEGATIVE, []),
    ("", "SPOP k x", errors.COUNT_NEGATIVE, []),
    ("SADD k a", "SPOP k 1 2", errors.SYNTAX, []),
    ("SADD k a", "SRANDMEMBER k", b"a", []),
    ("", "SRANDMEMBER k", None, []),
    ("", "SRANDMEMBER k 3", [], []),
    ("SADD k a", "SRANDMEMBER k 3", [b"a"], []),
    ("SADD k a", "SRANDMEMBER k -3", [b"a", b"a", b"a"], []),
    ("SADD k a", "SRANDMEMBER k 0", [], []),
    ("SADD k a", "SRANDMEMBER k x", errors.NOT_AN_INTEGER, []),
    ("", f"SRANDMEMBER k -{MAX + 1}", errors.COUNT_OUT_OF_RANGE, []),
    ("", f"SRANDMEMBER k -{MOST_REPEATED + 1}", errors.TOO_MANY_REPEATED % MOST_REPEATED, []),
    ("SET k v", "SRANDMEMBER k 1", errors.WRONG_TYPE, []),
    ("SADD k a", "SRANDMEMBER k 1 2", errors.SYNTAX, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTER a b", [b"2", b"3"], []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTER a b none", [], []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SUNION a b none", [b"1", b"2", b"3", b"4"], []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SDIFF a b none", [b"1"], []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SDIFF none a", [], []),
    ("SADD a 1", "SUNION a a", [b"1"], []),
    ("SADD a 1", "SDIFF a a", [], []),
    ("SET s v", "SINTER none s", errors.WRONG_TYPE, []),
    ("SADD a 1; SET s v", "SUNION a s", errors.WRONG_TYPE, []),
    ("SET s v", "SDIFF none s", errors.WRONG_TYPE, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SUNIONSTORE d a b", 4, ["SUNIONSTORE d a b"]),
    ("SADD a 1 2 3; SADD b 2 3 4", "sInterStore d a b", 2, ["SINTERSTORE d a b"]),
    ("SADD long 1 2 3; SADD longer 3 4", "SINTERSTORE d long longer", 1, ["SADD d 3"]),
    ("SADD long 1 2 3; SADD longer 3 4; SET d v", "SINTERSTORE d long longer", 1, ["SINTERSTORE d long longer"]),
    (f"SADD {LONG_NAME} 1 2; SET d v", f"SDIFFSTORE d {LONG_NAME} b", 2, ["DEL d", "SADD d 1 2"]),
    ("SADD a 1; SADD b 2; SET d v", "SINTERSTORE d a b", 0, ["DEL d"]),
    ("SADD a 1; SADD b 2", "SINTERSTORE d a b", 0, []),
    ("SADD a 1; SADD d x; PEXPIREAT d 1800000000000; SUNIONSTORE d a a", "PTTL d", -1, []),
    ("SADD a 1; SADD b 1 2", "SDIFFSTORE b b a", 1, ["SDIFFSTORE b b a"]),
    ("SADD a 1; SET d v", "SUNIONSTORE d a d", errors.WRONG_TYPE, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTERCARD 2 a b", 2, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTERCARD 2 a b LIMIT 1", 1, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTERCARD 2 a b LIMIT 0", 2, []),
    ("SADD a 1 2 3; SADD b 2 3 4", "SINTERCARD 2 a b limit 1 limit 9", 2, []),
    ("SADD a 1 2 3", "SINTERCARD 1 a LIMIT 2", 2, []),
    ("", "SINTERCARD 1 a", 0, []),
    ("", "SINTERCARD 0 a", errors.NUMKEYS_NOT_POSITIVE, []),
    ("", "SINTERCARD x a", errors.NUMKEYS_NOT_POSITIVE, []),
    ("", "SINTERCARD 2 a", errors.NUMKEYS_TOO_LARGE, []),
    ("", "SINTERCARD 1 a b", errors.SYNTAX, []),
    ("", "SINTERCARD 1 a LIMIT", errors.SYNTAX, []),
    ("", "SINTERCARD 1 a LIMIT -1", errors.LIMIT_NEGATIVE, []),
    ("", "SINTERCARD 1 a LIMIT x", errors.LIMIT_NEGATIVE, []),
    ("SADD k a b ab", "SSCAN k 0", [b"0", [b"a", b"b", b"ab"]], []),
    ("SADD k a b ab", "SSCAN k 0 MATCH a* COUNT 1", [b"0", [b"a", b"ab"]], []),
    ("", "SSCAN k 0 nonsense", [b"0", []], []),
    ("", "SSCAN k x", errors.INVALID_CURSOR, []),
    ("SET k v", "SSCAN k x", errors.INVALID_CURSOR, []),
    ("SET k v", "SSCAN k 0", errors.WRONG_TYPE, []),
    ("SADD k a", "SSCAN k 0 TYPE set", errors.SYNTAX, []),
    ("SADD k a", "SSCAN k 0 COUNT 0", errors.SYNTAX, []),
    ("SADD k a", "SSCAN k 0 COUNT x", errors.NOT_AN_INTEGER, []),
    ("SADD k a", "TYPE k", b"set", []),
    ("SADD k a 1", "OBJECT ENCODING k", b"listpack", []),
    ("SADD k 2 1", "OBJECT ENCODING k", b"intset", []),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


RESP3 = [
    ("SMEMBERS k", b"~1\r\n$1\r\na\r\n"),
    ("SMEMBERS none", b"~0\r\n"),
    ("SINTER k k", b"~1\r\n$1\r\na\r\n"),
    ("SUNION none", b"~0\r\n"),
    ("SDIFF k none", b"~1\r\n$1\r\na\r\n"),
    ("SRANDMEMBER k 1", b"*1\r\n$1\r\na\r\n"),
    ("SRANDMEMBER none 1", b"*0\r\n"),
    ("SRANDMEMBER none", b"_\r\n"),
    ("SMISMEMBER k a", b"*1\r\n:1\r\n"),
    ("SISMEMBER k a", b":1\r\n"),
    ("SSCAN k 0", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"),
    ("SPOP none", b"_\r\n"),
    ("SPOP none 1", b"~0\r\n"),
    ("SPOP k 0", b"~0\r\n"),
    ("SPOP k 1", b"~1\r\n$1\r\na\r\n"),
]


@for_each(("line", "wire"), RESP3)
def test_a_set_is_a_set_in_resp3_and_an_array_in_resp2(line: str, wire: bytes) -> None:
    for protocol, expected in ((3, wire), (2, wire.replace(b"~", b"*").replace(b"_\r\n", b"$-1\r\n"))):
        client = Bench().connect()
        client.wire("HELLO", protocol)
        client.ask("SADD", "k", "a")
        assert client.wire(*line.split()) == expected


# ---- chance


def test_spop_logs_what_it_removed_and_chooses_all_members_alike() -> None:
    dialogue = Dialogue()
    first: Counter[bytes] = Counter()
    for _ in range(600):
        dialogue.ask("SADD k a b c d e f")
        dialogue.effects()
        member = dialogue.ask("SPOP k")
        assert dialogue.effects() == [f"SREM k {member.decode()}"]
        assert dialogue.ask("SISMEMBER k " + member.decode()) == 0
        first[member] += 1
    assert len(first) == 6
    assert sum((count - 100) ** 2 / 100 for count in first.values()) < 20.5  # chi-squared, 5 degrees: 0.1 %


def test_spop_of_several_members_logs_them_in_one_effect() -> None:
    dialogue = Dialogue()
    dialogue.ask("SADD k " + " ".join(f"m{number}" for number in range(100)))
    dialogue.effects()
    popped = dialogue.ask("SPOP k 60")
    assert len(set(popped)) == 60
    assert dialogue.effects() == ["SREM k " + b" ".join(popped).decode()]
    assert dialogue.ask("SCARD k") == 40


# ---- pipelines

PIPELINES = [
    "SADD k a; SADD k b; SADD k a",
    "SADD k a; SADD k a",
    "SADD k a b; SADD k c d",
    "SADD k x; SADD other x",
    "SADD s a; SADD s b",
    "SREM k a; SREM k b; SREM k a; SREM k x",
    "SREM one a; SREM one b",
    "SREM s a; SREM s a",
    "SPOP k; SPOP k; SPOP k; SPOP k; SPOP k",
    "SPOP one; SPOP one",
    "SPOP none; SPOP none",
    "SPOP s; SPOP s",
    "SPOP k 1; SPOP k 1",
    "SREM dated a; SREM dated b",
    "SADD dated a; SADD dated b",
    "SPOP dated; SPOP dated",
]


@for_each("lines", PIPELINES)
@for_each("is_late", [False, True])
def test_a_pipeline_on_one_set_does_what_its_commands_do_one_by_one(lines: str, is_late: bool) -> None:
    ways = []
    for is_piped in (True, False):
        client = Bench(default_ttl="0").connect()
        for each in ("SADD k a b c d", "SADD one a", "SET s v", "SADD dated a b c", "PEXPIRE dated 1000"):
            client.ask(*each.split())
        client.bench.advance(5 if is_late else 0)
        requests = [line.encode().split() for line in lines.split("; ")]
        if is_piped:
            replies = run_all(client.bench.engine, client.session, requests)
        else:
            replies = [client.ask(*argv) for argv in requests]
        replay = Replay()
        for argv in client.bench.log.records:
            replay.engine.apply(0, argv)
        assert all_of(replay.store) == all_of(client.bench.store)
        store = client.bench.store
        texts = [reply.text if isinstance(reply, CommandError) else reply for reply in replies]
        ways.append((texts, all_of(store), list(store.databases[0].entries), store.random.getstate()))
    assert ways[0] == ways[1]


def test_a_pipeline_on_one_set_logs_one_effect() -> None:
    client = Bench(default_ttl="0").connect()
    records = client.bench.log.records
    run_all(client.bench.engine, client.session, [[b"SADD", b"k", b"%c" % letter] for letter in b"abcdb"])
    assert records == [[b"SADD", b"k", b"a", b"b", b"c", b"d"]]
    popped = run_all(client.bench.engine, client.session, [[b"SPOP", b"k"]] * 3)
    assert records[1:] == [[b"SREM", b"k", *popped]]
    run_all(client.bench.engine, client.session, [[b"SPOP", b"k"]] * 3)
    assert records[2:] == [[b"DEL", b"k"]]


# ---- sets of thousands of members

FEW = 20  # members at once, in these tests


@pytest.fixture
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.sets, "AT_ONCE_MEMBERS", FEW)
    monkeypatch.setattr(commands.sets, "PART_WORDS", 7)
    monkeypatch.setattr(commands.sets, "PART_POPPED", 7)


def client_with(**keys: range) -> Client:
    client = Bench(default_ttl="0").connect()
    for key, numbers in keys.items():
        for start in range(numbers.start, numbers.stop, 2000):
            client.ask("SADD", key, *(f"m{number}" for number in range(start, min(numbers.stop, start + 2000))))
    return client


LONG_READS = [
    ("SMEMBERS a", range(60)),
    ("SUNION a b", range(90)),
    ("SINTER a b", range(30, 60)),
    ("SINTER a b a b a", range(30, 60)),
    ("SDIFF a b", range(30)),
    ("SDIFF a none b", range(30)),
    ("SRANDMEMBER a 60", range(60)),
    ("SRANDMEMBER a 1000", range(60)),
]


@pytest.mark.usefixtures("_few_at_once")
@for_each(("line", "numbers"), LONG_READS)
def test_a_read_of_many_members_is_of_the_moment_when_it_was_asked(line: str, numbers: range) -> None:
    client = client_with(a=range(60), b=range(30, 90))
    changes = iter(["SREM a m3 m31 m40", "SADD a new", "SADD b m2", "DEL b", "SPOP a 50", "SADD a x", "DEL a"] * 99)
    reply, steps = driven(work_of(client.ask(*line.split())), lambda: client.ask(*next(changes).split()))
    assert steps >= 1
    assert isinstance(reply, LongArray)
    assert isinstance(reply, LongSet) == (not line.startswith("SRANDMEMBER"))
    assert sorted(listed(reply)) == sorted(b"m%d" % number for number in numbers)


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize("count", [1, 19, 40, 59, -40, -1000])
def test_many_random_members_are_members(count: int) -> None:
    client = client_with(a=range(60))
    reply = client.ask("SRANDMEMBER", "a", count)
    found = listed(driven(reply)[0] if isinstance(reply, Generator) else reply)
    assert len(found) == abs(count)
    assert {b"m%d" % number for number in range(60)}.issuperset(found)
    if count > 0:
        assert len(set(found)) == count


@pytest.mark.usefixtures("_few_at_once")
def test_sintercard_of_many_members_stops_at_the_limit() -> None:
    client = client_with(a=range(6000), b=range(6000))
    assert driven(work_of(client.ask("SINTERCARD", 2, "a", "b")))[0] == 6000
    count, steps = driven(work_of(client.ask("SINTERCARD", 2, "a", "b", "LIMIT", 700)))
    assert (count, steps) == (700, 2)


STORES = [
    ("SUNIONSTORE d a b", range(90)),
    ("SINTERSTORE d a b", range(30, 60)),
    ("SDIFFSTORE d a b", range(30)),
    ("SUNIONSTORE a a b", range(90)),
    ("SINTERSTORE b a b", range(30, 60)),
]


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize(("line", "numbers"), STORES)
def test_a_store_of_many_members_locks_its_keys_and_logs_itself(line: str, numbers: range) -> None:
    client = client_with(a=range(60), b=range(30, 90), d=range(5))
    records = client.bench.log.records
    known = len(records)
    held_back: list[Any] = []
    destination = line.split()[1]

    def ask_others() -> None:
        if client.bench.store.key_lock is not None:
            held_back.append(client.ask("SADD", "a", "new"))
            assert client.ask("SCARD", destination) is HELD_BACK
            assert client.ask("SADD", "other", "x") == 1
            client.ask("DEL", "other")

    reply, steps = driven(work_of(client.ask(*line.split())), ask_others)
    assert reply == len(numbers)
    assert steps > 1
    assert set(held_back) == {HELD_BACK}
    assert [argv for argv in records[known:] if argv[1] != b"other"] == [line.encode().split()]
    assert sorted(listed(driven(work_of(client.ask("SMEMBERS", destination)))[0])) == sorted(
        b"m%d" % number for number in numbers
    )
    replay = Replay()
    for argv in records:
        replay.engine.apply(0, argv)
    assert all_of(replay.store) == all_of(client.bench.store)


@pytest.mark.usefixtures("_few_at_once")
@for_each("line", ["SUNIONSTORE d a b", "SINTERSTORE d a b", "SDIFFSTORE d a b"])
@for_each("when", range(1, 20, 3))
@for_each("which", ["a", "b"])
def test_what_a_store_logs_is_true_though_a_locked_key_expires(line: str, when: int, which: str) -> None:
    client = client_with(a=range(60), b=range(30, 90), d=range(5))
    client.ask("PEXPIRE", which, 1000)
    steps = iter(range(1000))

    def expire() -> None:
        if next(steps) == when:
            client.bench.advance(2)
            client.bench.store.expire_cycle(lambda: False)

    reply, _ = driven(work_of(client.ask(*line.split())), expire)
    assert reply == len(client.bench.store.databases[0].peek(b"d") or ())
    replay = Replay()
    for argv in client.bench.log.records:
        replay.engine.apply(0, argv)
    held = all_of(client.bench.store)
    assert {place: value for place, value in all_of(replay.store).items() if place in held} == held


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize("count", [30, 59, 60, 100])
def test_spop_of_many_members_logs_all_that_it_removed(count: int) -> None:
    client = client_with(a=range(60))
    records = client.bench.log.records
    known = len(records)
    reply, _ = driven(work_of(client.ask("SPOP", "a", count)))
    popped = listed(reply)
    assert type(reply) is LongSet
    assert len(set(popped)) == len(popped) == min(count, 60)
    logged = records[known:]
    if count < 60:
        assert [word for argv in logged for word in argv[2:]] == popped
        assert all(argv[:2] == [b"SREM", b"a"] and len(argv) <= 2 + 7 for argv in logged)
    else:
        assert logged == [[b"DEL", b"a"]]
    assert client.ask("SCARD", "a") == 60 - len(popped)
    client.bench.store.databases[0].check()


@pytest.mark.parametrize("name", ["SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE", "SUNION", "SINTER", "SDIFF"])
def test_thousands_of_keys_of_which_one_is_no_set_are_refused_and_nothing_is_logged(name: str) -> None:
    client = client_with(k=range(10))
    client.ask("SET", "s", "v")
    known = len(client.bench.log.records)
    work = work_of(client.ask(name, *["k"] * 3000, "s"))
    with pytest.raises(CommandError, match="WRONGTYPE"):
        driven(work)
    assert len(client.bench.log.records) == known
    assert client.bench.store.key_lock is None


def test_a_store_of_thousands_of_keys_logs_the_members() -> None:
    client = client_with(k=range(3), j=range(2, 5), d=range(9))
    known = len(client.bench.log.records)
    reply, _ = driven(work_of(client.ask("SUNIONSTORE", "d", *["k", "j"] * 1500)))
    assert reply == 5
    assert client.bench.log.records[known:] == [[b"DEL", b"d"], [b"SADD", b"d", b"m0", b"m1", b"m2", b"m3", b"m4"]]


def test_a_large_set_is_scanned_whole_though_it_changes() -> None:
    client = client_with(k=range(3000))
    cursor, found, calls = b"0", [], 0
    while True:
        cursor, members = client.ask("SSCAN", "k", cursor, "COUNT", 100)
        found += members
        calls += 1
        client.ask("SADD", "k", *(f"new{calls}-{number}" for number in range(50)))
        client.ask("SREM", "k", *(f"new{calls - 2}-{number}" for number in range(50)))
        if cursor == b"0":
            break
    assert {b"m%d" % number for number in range(3000)}.issubset(found)
    assert 10 < calls < 100


def test_members_of_a_small_set_are_one_plain_reply() -> None:
    client = client_with(k=range(AT_ONCE_MEMBERS))
    assert type(client.ask("SMEMBERS", "k")) is Members
    client.ask("SADD", "k", "one more")
    assert isinstance(client.ask("SMEMBERS", "k"), Generator)
    assert SET_TYPE.is_large(client.bench.store.databases[0].peek(b"k"))


def test_a_large_set_of_a_flushed_database_is_freed_in_slices() -> None:
    client = client_with(k=range(3000), small=range(3))
    store = client.bench.store
    found = store.databases[0].peek(b"k")
    client.ask("FLUSHALL")
    lengths = []
    while store.garbage:
        store.expire_cycle(lambda: True)
        lengths.append(len(found))
    assert lengths[-1] == 0
    assert max(before - after for before, after in pairwise([3000, *lengths])) < 400


def test_a_large_set_that_a_rewrite_reads_outlives_a_flush() -> None:
    client = client_with(k=range(3000))
    db = client.bench.store.databases[0]
    with PointInTimeView(db) as view:
        client.ask("RENAME", "k", "j")
        client.ask("FLUSHALL")
        while client.bench.store.garbage:
            client.bench.store.expire_cycle(lambda: False)
        [entry] = view.live_entries([b"k"])
        assert entry is not None
        assert len(value_of(entry)) == 3000
    while client.bench.store.garbage:
        client.bench.store.expire_cycle(lambda: False)
    assert len(value_of(entry)) == 0


@pytest.mark.parametrize("name", ["SUNION", "SINTER", "SDIFF", "SUNIONSTORE d", "SINTERSTORE d", "SDIFFSTORE d"])
@pytest.mark.parametrize("times", [1000, 4000])
def test_a_large_set_that_is_named_a_thousand_times_is_copied_and_read_once(
    name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_with(a=range(3000), b=range(1500, 4500))
    copies: list[int] = []

    def copy(members: Set) -> Any:
        copies.append(len(members))
        return Table.copy(members)

    monkeypatch.setattr(Set, "copy", copy)
    row = SET_TYPE._replace(copy=copy)
    monkeypatch.setitem(TYPES, Set, row)
    monkeypatch.setattr(commands.sets, "SET_TYPE", row)
    _, steps = driven(work_of(client.ask(*name.split(), *["a", "b"] * (times // 2))))
    assert 2 <= len([size for size in copies if size >= 1500]) <= 5
    assert steps < 2 * times + 200
