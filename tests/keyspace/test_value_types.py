"""What a type of values is promised for its row, tried with strings and lists; the contract of every row."""

from __future__ import annotations

import gc
import io
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from sys import getsizeof
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import START_MS, Bench, Client, state_of
from log_model import IN_MEMORY
from pool_member import Member, copy_of, make
from rewrite_rig import Rig, do, replayed
from servers import GodisProcess
from tables import for_each

import errors
import values
from cli.log_tools import WHOLE, check
from config import Config
from errors import CommandError
from keyspace import gc_policy as collector
from keyspace.accounting import DEADLINE_BYTES
from keyspace.expiry import SLICE
from log.export import export
from log.rewrite import Rewrite
from replies import Deleted
from store import Keyspace
from values import LIST, TYPES, LongString, ValueType
from values.chunks import MOST_LOOSE
from values.consumer_groups import Pending
from values.entry import NO_DEADLINE, deadline_of, value_of
from values.hashes import Hash
from values.lists import LARGE, PART, List
from values.sets import Set
from values.sorted_sets import SortedSet
from values.stream_chunks import SEQUENCE_BITS
from values.streams import Stream


def scored(names: Iterable[bytes]) -> SortedSet:
    """Make a sorted set of these members."""
    members = SortedSet()
    for name in names:
        members.put(name, len(name) / 8, None)
    return members


LONG = b" ".join(b"%d" % number for number in range(LARGE + 1)).decode()


def small_stream(entries: int = 5) -> Stream:
    """Make a stream with a group, whose entries are pending, some deleted; with holes, and without its first entry."""
    stream = Stream()
    for number in range(1, entries + 1):
        stream.append(number << SEQUENCE_BITS, (b"f", b"%d" % number, b"" if number % 7 else b"g", b"v"))
    for name in (b"g", b"h"):
        group = stream.add_group(name, (entries - 1) << SEQUENCE_BITS, entries - 1)
        for consumer in (b"c", b"idle"):
            group.consumer(consumer, 5)
        for number in range(1, entries, 2):
            group.deliver(number << SEQUENCE_BITS, Pending(b"c", 1000 + number % 2, 1 + number // 50))
    stream.delete([3 << SEQUENCE_BITS, 4 << SEQUENCE_BITS])
    stream.trim(1)
    stream.last_id += 5
    return stream


EXAMPLES: dict[bytes, list[Any]] = {  # name of a type -> values: the smallest, common ones, one that is large or long
    b"string": [b"", b"12", b"hello", bytes(5000), LongString(bytes(3 << 20) + b"x"), LongString(bytes(70_000))],
    b"hash": [
        Hash([(b"f", b"v")]),
        Hash([(b"", b""), (b"f", b"v" * 5000)]),
        Hash((b"%d" % number, b"v%d" % number) for number in range(3 * LARGE)),
    ],
    b"set": [Set.of([b"a"]), Set.of([b"", b"b" * 5000]), Set.of(b"%d" % number for number in range(3 * LARGE))],
    b"zset": [scored([b"a"]), scored([b"", b"b" * 5000]), scored(b"%d" % number for number in range(3 * LARGE))],
    b"list": [List([b"a"]), List([b"", b"b" * 5000]), List(b"%d" % number for number in range(3 * LARGE))],
    b"stream": [Stream(), small_stream(), small_stream(3000)],
}
# A command that always changes the value.
CHANGES = {
    b"string": "APPEND k tail",
    b"list": "RPUSH k tail",
    b"set": "SADD k tail",
    b"hash": "HSET k tail v",
    b"zset": "ZADD k 7 tail",
    b"stream": "XADD k * f v",
}


@pytest.fixture(params=[False, True], ids=["", "all are large"])
def _large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        large_from(monkeypatch, 0)


def large_from(patch: pytest.MonkeyPatch, elements: int) -> None:
    """Let a list of more elements count as large."""
    patch.setitem(TYPES, List, LIST._replace(is_large=lambda items: len(items) > elements))


def rows_and_examples() -> list[tuple[ValueType, Any]]:
    rows = TYPES.values()
    return [(row, example) for row in rows for example in EXAMPLES[row.name] if type(example) is row.python_type]


def asking(client: Client) -> Callable[[str], Any]:
    """Return what runs a line and returns its reply, of an error the text."""

    def ask(line: str) -> Any:
        reply = client.ask(*line.split())
        return reply.text if isinstance(reply, CommandError) else reply

    return ask


# ---- what the row brings to each command


CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    ("", "RPUSH k a b", 2, ["RPUSH k a b"]),
    ("RPUSH k a", "LPUSH k b c", 3, ["LPUSH k b c"]),
    ("RPUSH k a b c", "LRANGE k 0 -1", [b"a", b"b", b"c"], []),
    ("", "LPOP k", None, []),
    ("RPUSH k a b", "LPOP k", b"a", ["LPOP k"]),
    ("RPUSH k a; LPOP k", "EXISTS k", 0, []),
    ("RPUSH k a; LPOP k", "SCAN 0", [b"0", []], []),
    ("SET k v", "RPUSH k a", errors.WRONG_TYPE, []),
    ("SET k v", "LPOP k", errors.WRONG_TYPE, []),
    ("SET k v", "LLEN k", errors.WRONG_TYPE, []),
    ("RPUSH k a", "APPEND k v", errors.WRONG_TYPE, []),
    ("RPUSH k a", "INCR k", errors.WRONG_TYPE, []),
    ("RPUSH k a", "GET k", errors.WRONG_TYPE, []),
    ("RPUSH k a", "GETDEL k", errors.WRONG_TYPE, []),
    ("RPUSH k a", "LCS k k", errors.LCS_NOT_STRINGS, []),
    ("RPUSH k a; SET s v", "MGET k s", [None, b"v"], []),
    ("RPUSH k a", "SETNX k v", 0, []),
    ("RPUSH k a", "SET k v", b"OK", ["SET k v"]),
    ("RPUSH k a; SET k v", "TYPE k", b"string", []),
    ("RPUSH k a", "TYPE k", b"list", []),
    ("RPUSH k a", "OBJECT ENCODING k", b"quicklist", []),
    ("RPUSH k a", "OBJECT REFCOUNT k", 1, []),
    ("RPUSH k a", "OBJECT IDLETIME k", 0, []),
    ("RPUSH k a; SET s v", "SCAN 0 TYPE list", [b"0", [b"k"]], []),
    ("RPUSH k a; SET s v", "SCAN 0 TYPE string", [b"0", [b"s"]], []),
    ("RPUSH k a; SET s v", "KEYS *", [b"k", b"s"], []),
    ("RPUSH k a", "EXISTS k k", 2, []),
    ("RPUSH k a", "TOUCH k", 1, []),
    ("RPUSH k a", "DEL k", 1, ["DEL k"]),
    ("RPUSH k a", "UNLINK k", 1, ["DEL k"]),
    ("RPUSH k a", "COPY k c", 1, ["COPY k c REPLACE"]),
    ("RPUSH k a; COPY k c; RPUSH c b; LPUSH k x", "LRANGE k 0 -1", [b"x", b"a"], []),
    ("RPUSH k a; COPY k c; RPUSH c b; LPUSH k x", "LRANGE c 0 -1", [b"a", b"b"], []),
    ("RPUSH k a; COPY k k DB 1; RPUSH k b; SELECT 1", "LRANGE k 0 -1", [b"a"], []),
    ("RPUSH k a; EXPIRE k 10; RENAME k n", "TTL n", 10, []),
    ("RPUSH k a; RENAME k n; RPUSH n b", "LRANGE n 0 -1", [b"a", b"b"], []),
    ("RPUSH k a; SET n v", "RENAME k n", b"OK", ["RENAME k n"]),
    ("RPUSH k a; EXPIRE k 10", "MOVE k 1", 1, ["MOVE k 1"]),
    ("RPUSH k a; MOVE k 1; SELECT 1; RPUSH k b", "LRANGE k 0 -1", [b"a", b"b"], []),
    ("RPUSH k a; SWAPDB 0 1; SELECT 1", "LLEN k", 1, []),
    ("RPUSH k a; EXPIRE k 10; RPUSH k b", "TTL k", 10, []),
    ("RPUSH k a; EXPIRE k 10", "PERSIST k", 1, ["PERSIST k"]),
    ("RPUSH k a", "EXPIRE k -1", 1, ["DEL k"]),
    ("RPUSH k a; FLUSHALL", "LLEN k", 0, []),
]


@pytest.mark.usefixtures("_large")
@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs_for_a_list(before: str, line: str, reply: Any, effects: list[str]) -> None:
    bench = Bench(default_ttl="0")
    ask = asking(bench.connect())
    for each in filter(None, before.split("; ")):
        ask(each)
    known = len(bench.log.records)
    answered = ask(line)
    assert (sorted(answered) if line == "KEYS *" else answered) == reply
    assert [b" ".join(argv).decode() for argv in bench.log.records[known:]] == effects
    for db in bench.store.databases:
        db.check()


def test_a_line_of_text_is_answered_1_for_a_deleted_list(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        for line, answer in ((b"RPUSH k a", b"1"), (b"SET s v", b"OK"), (b"DEL k s", b"1"), (b"PING", b"v")):
            assert raw.ask_line(line) == answer  # DEL answers a line for each key


def test_deleted_values_stay_those_of_the_keys() -> None:
    ask = asking(Bench().connect())
    ask("RPUSH k a")
    reply = ask("DEL k")
    assert isinstance(reply, Deleted)
    assert reply.values == [List([b"a"])]


@pytest.mark.parametrize("whose", ["client", "cycle"])
def test_a_list_expires(whose: str) -> None:
    bench = Bench()
    ask = asking(bench.connect())
    ask("RPUSH k a")
    ask("PEXPIRE k 1500")
    bench.advance(3)
    if whose == "cycle":
        bench.store.expire_cycle(lambda: False)
    assert ask("LLEN k") == 0
    assert bench.log.records[-1] == [b"DEL", b"k"]


# ---- the contract of a row


def test_every_row_has_its_examples_and_a_class_of_its_own() -> None:
    assert {row.name for row in TYPES.values()} <= EXAMPLES.keys() & CHANGES.keys()
    assert all(kind is row.python_type for kind, row in TYPES.items())
    assert len({row.name for row in TYPES.values()} - {b"string"}) == len(TYPES) - 2  # strings have two classes


@for_each("deadline_ms", [NO_DEADLINE, START_MS + 5000])
@for_each(("row", "value"), rows_and_examples())
def test_what_is_rebuilt_equals_the_value_whatever_was_there(row: ValueType, value: Any, deadline_ms: int) -> None:
    for before in ([], [b"SET", b"k", b"old", b"PX", b"900"], [b"RPUSH", b"k", b"old", b"older"]):
        bench = Bench(default_ttl="0")
        if before:
            bench.engine.apply(1, before)
        for argv in values.rebuild(b"k", value, deadline_ms):
            assert len(argv) <= PART + 2
            bench.engine.apply(1, list(argv))
        [(key, entry)] = bench.store.databases[1].entries.items()
        assert (key, value_of(entry), deadline_of(entry)) == (b"k", value, deadline_ms)
        assert type(value_of(entry)) is row.python_type


@for_each(("row", "value"), rows_and_examples())
def test_a_copy_is_independent(row: ValueType, value: Any) -> None:
    bench = Bench(default_ttl="0")
    ask = asking(bench.connect())
    db = bench.store.databases[0]
    db.put(b"k", row.copy(value), NO_DEADLINE)
    changing = CHANGES[row.name]
    for copied, changed in (("c", "k"), ("d", "d")):
        assert ask(f"COPY k {copied}") == 1
        before = {key: rebuilt(db, key) for key in (b"k", copied.encode())}
        ask(changing.replace(" k ", f" {changed} ").replace("tail", f"tail-{changed}"))
        after = {key: rebuilt(db, key) for key in before}
        assert {key.decode() for key in before if before[key] != after[key]} == {changed}


def rebuilt(db: Keyspace, key: bytes) -> list[tuple[bytes, ...]]:
    """Return the commands that make the value of a key."""
    return [tuple(argv) for argv in values.rebuild(key, db.get(key), NO_DEADLINE)]


@for_each(("row", "value"), rows_and_examples())
def test_the_size_is_that_of_all_parts(row: ValueType, value: Any) -> None:
    sizes = sizes_of_parts(value)
    rounded = sum(size + 15 & -16 for size in sizes)  # as malloc does
    if row.python_type not in (LongString, Stream):  # their own tests have their sizes
        assert 0.9 * sum(sizes) <= row.size_bytes(value) <= 1.1 * rounded + 100
    assert row.size_bytes(row.copy(value)) == pytest.approx(row.size_bytes(value), rel=0.05, abs=1100)


def sizes_of_parts(value: Any) -> list[int]:
    """Return the bytes of a value, and those of each object that it refers to and that Python does not share."""
    found, rest = dict[int, int](), [value]
    while rest:
        each = rest.pop()
        is_shared = isinstance(each, type) or each is None or (type(each) is int and -5 <= each <= 256)
        if id(each) not in found and not is_shared:
            found[id(each)] = getsizeof(each)
            rest += gc.get_referents(each)
    return list(found.values())


@for_each(("row", "value"), rows_and_examples())
def test_memory_usage_counts_the_value(row: ValueType, value: Any) -> None:
    bench = Bench()
    ask = asking(bench.connect())
    bench.store.databases[0].put(b"k", value, NO_DEADLINE)
    assert row.size_bytes(value) < ask("MEMORY USAGE k") < row.size_bytes(value) + 500


# ---- memory


@settings(max_examples=40)
@given(st.data(), st.integers(0, 2**32))
def test_the_account_is_that_of_a_recount_whatever_lists_do(data: st.DataObject, seed: int) -> None:
    bench = Bench(maxmemory="100000", maxmemory_policy="allkeys-lru")
    ask = asking(bench.connect())
    chance = random.Random(seed)
    for _ in range(data.draw(st.integers(1, 120))):
        before = used_bytes(bench)
        line = chance.choice(LINES).format(k=f"k{chance.randrange(20)}", j=f"k{chance.randrange(20)}", v="x" * 99)
        ask(line)
        for db in bench.store.databases:
            db.check()
        little = DEADLINE_BYTES + 1200  # of what does not have to have room, and a list that is copied as it grows
        assert used_bytes(bench) <= max(100_000, before) + little
        if chance.random() < 0.1:
            bench.advance(chance.randrange(20))
            bench.store.expire_cycle(lambda: False)


def used_bytes(bench: Bench) -> int:
    memory = bench.instance.eviction.memory
    assert memory is not None
    return memory.used_bytes


LINES = [
    *["RPUSH {k} {v} {v}", "LPUSH {k} {v}", "LPUSH {k} {v} {v} {v}", "RPUSH {k} a"] * 3,
    *["LPOP {k}"] * 5,
    "LRANGE {k} 0 5",
    "SET {k} {v}",
    "APPEND {k} {v}",
    "INCR {k}",
    "DEL {k}",
    "RENAME {k} {j}",
    "COPY {k} {j} REPLACE",
    "MOVE {k} 1",
    "SELECT 0",
    "SELECT 1",
    "SWAPDB 0 1",
    "EXPIRE {k} 20",
    "PERSIST {k}",
    "OBJECT IDLETIME {k}",
]


def test_lists_are_evicted_until_a_push_has_room() -> None:
    bench = Bench(maxmemory="60000", maxmemory_policy="allkeys-random")
    ask = asking(bench.connect())
    for number in range(400):
        assert ask(f"RPUSH k{number % 40} {'x' * 100} {'y' * 100}") > 0
    assert used_bytes(bench) <= 60_000
    assert bench.store.evicted_keys > 10
    bench.store.databases[0].check()


def test_the_collector_is_told_of_containers_though_there_are_few_keys() -> None:
    bench = Bench()
    client = bench.connect()
    client.ask("SET", "s", "v")
    assert not bench.store.has_containers
    client.ask("RPUSH", "k", "a")
    before = gc.get_freeze_count()
    collector.keep_off(2, bench.store.has_containers)
    assert gc.get_freeze_count() > before
    gc.unfreeze()


def test_a_large_list_is_freed_in_slices() -> None:
    bench = Bench(default_ttl="0")
    ask = asking(bench.connect())
    for _ in range(10):
        ask(f"RPUSH k {LONG}")
    for line, count in (("DEL k", 0), ("DEL copy", 0), ("PEXPIRE last 1", 1)):
        ask("COPY k copy")
        ask("RENAME copy last") if count else None
        ask(line)
        bench.advance(0.002)
        ask("LLEN last")
        garbage = bench.store.garbage
        assert [type(each) for each in garbage] == [List]
        known = len(garbage[0])
        bench.store.expire_cycle(lambda: True)
        assert 0 < known - len(garbage[0]) <= SLICE * MOST_LOOSE
        while not bench.store.expire_cycle(lambda: False):
            pass
        assert garbage == []
        for _ in range(0 if count else 10):
            ask(f"RPUSH k {LONG}")


# ---- the log, and its rewrite


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(str(tmp_path))
    yield made
    for job, _ in made.jobs:
        job()
    made.log.close()


KEYS = st.integers(0, 30).map(lambda number: f"k{number}")
PUSHES = st.one_of(
    st.tuples(st.sampled_from(["RPUSH", "LPUSH"]), KEYS, st.integers(0, 999), st.integers(0, 9)),
    st.tuples(st.just("RPUSH"), KEYS, *(st.just(number) for number in range(PART + 5))),
    st.tuples(st.just("LPOP"), KEYS),
)
OTHERS = st.one_of(
    st.tuples(st.just("SET"), KEYS, st.integers(0, 999)),
    st.tuples(st.just("DEL"), KEYS, KEYS),
    st.tuples(st.just("PEXPIRE"), KEYS, st.integers(-1, 3000)),
    st.tuples(st.just("PERSIST"), KEYS),
    st.tuples(st.just("RENAME"), KEYS, KEYS),
    st.tuples(st.just("MOVE"), KEYS, st.integers(0, 2)),
    st.tuples(st.just("COPY"), KEYS, KEYS, st.just("REPLACE")),
    st.tuples(st.just("COPY"), KEYS, KEYS, st.just("DB"), st.integers(0, 2), st.just("REPLACE")),
    st.tuples(st.just("SELECT"), st.integers(0, 2)),
    st.tuples(st.just("SWAPDB"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.sampled_from(["FLUSHDB", "FLUSHALL"])),
    st.tuples(st.just("turn")),
    st.tuples(st.just("rewrite")),
    st.tuples(st.just("wait"), st.integers(1, 1500)),
    st.tuples(st.just("housekeeping")),
)
STEPS = st.tuples(st.sampled_from(["step", "walk"]))


@pytest.mark.parametrize("large_elements", [LARGE, 3, 0], ids=["none is large", "some are", "all are"])
@settings(max_examples=40)
@given(actions=st.lists(st.one_of(PUSHES, PUSHES, OTHERS, STEPS), max_size=120))
def test_a_log_that_is_rewritten_while_lists_change_says_what_the_keyspace_holds(
    large_elements: int, actions: list[tuple[Any, ...]]
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        large_from(patch, large_elements)
        rig = filled_rig(directory)
        rig.ask("BGREWRITEAOF")
        rig.end_turn()
        for action in actions:
            do(rig, action)
        rig.finish()
        assert rig.instance.rewrite.last_failure == ""
        rig.log.close()
        for db in rig.store.databases:
            db.check()
        assert replayed(rig.path) == state_of(rig.store)
        assert_nothing_is_shared(rig)


@settings(max_examples=30)
@given(st.lists(st.one_of(PUSHES, PUSHES, OTHERS.filter(lambda action: action[0].isupper()), STEPS), max_size=100))
def test_the_snapshot_of_lists_is_that_of_the_start(actions: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        large_from(patch, 3)
        rig = filled_rig(directory)
        rig.end_turn()
        rig.log.close()
        before = replayed(rig.path)
        assert before == state_of(rig.store)
        rig.log.open()
        run = Rewrite(rig.log, rig.store)
        for action in actions:
            if action[0].islower():
                next(run._walk, None)  # the smallest step there is
            else:
                rig.ask(*action)
        while not run.walk(lambda: True):
            pass
        run.write_out()
        assert replayed(run.successor.path) == before
        assert_nothing_is_shared(rig)
        run.abandon()
        run.close()
        rig.log.close()


def filled_rig(directory: str) -> Rig:
    rig = Rig(directory, maxmemory="100mb")  # so that there is an account
    for number in range(60):
        rig.ask("SELECT", number % 3)
        rig.ask("RPUSH", f"k{number % 31}", *range(number % 7 + 1))
    rig.ask("SELECT", 0)
    return rig


def assert_nothing_is_shared(rig: Rig) -> None:
    assert rig.store.shared.readers == {}
    assert rig.store.shared._dropped == set()


def test_the_account_knows_that_a_copy_may_be_of_another_size(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TYPES, List, LIST._replace(copy=List))  # a list of other chunks
    rig.ask("CONFIG", "SET", "maxmemory", "100mb")
    rig.ask("RPUSH", "k", *LONG.split(), *LONG.split())
    for _ in range(LARGE // 2):
        rig.ask("LPOP", "k")
    rig.end_turn()
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    db = rig.store.databases[0]
    known = db.get(b"k")
    items = db.change(b"k", LIST)  # for a command that then changes nothing
    assert items is not known
    assert LIST.size_bytes(items) != LIST.size_bytes(known), "else this shows nothing"
    db.check()
    rig.ask("RPUSH", "k", "a")
    db.check()


def test_a_rewrite_that_is_given_up_shares_nothing_any_more(rig: Rig) -> None:
    for _ in range(10):
        rig.ask("RPUSH", "k", *LONG.split())
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    rig.ask("LPOP", "k")
    rig.step()
    assert len(rig.store.shared.readers) == 1
    rig.rewriter.abandon()
    assert_nothing_is_shared(rig)
    [copied] = [each for each in rig.store.garbage if type(each) is List]
    assert len(copied) == 10 * (LARGE + 1)


class Counted:
    """Counts what the row of lists is asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.copies = self.commands = 0
        assert List in TYPES
        patch.setitem(TYPES, List, LIST._replace(copy=self.copy, rebuild=self.rebuild))

    def copy(self, items: List) -> List:
        self.copies += 1
        return LIST.copy(items)  # type: ignore[no-any-return]

    def rebuild(self, key: bytes, items: List, deadline_ms: int) -> Iterator[Any]:
        for argv in LIST.rebuild(key, items, deadline_ms):
            self.commands += 1
            yield argv


@pytest.mark.parametrize("begun", [False, True], ids=["before the walk meets it", "amid its walk"])
def test_a_push_to_a_large_list_amid_a_rewrite_writes_nothing_and_copies_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """So what it costs others is one copy at C's speed: `python -m bench.large_value` says how long that takes."""
    counted = Counted(monkeypatch)
    for _ in range(50):
        rig.ask("RPUSH", "k", *LONG.split())
    rig.ask("RPUSH", "small", "a")
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    if begun:
        rig.step()
        assert 0 < counted.commands < 100
    for number in range(5):
        known = counted.commands
        assert rig.ask("RPUSH", "k", number) == 50 * (LARGE + 1) + number + 1
        assert counted.commands == known
        assert counted.copies == 1
        rig.step()
        assert counted.commands - known < 100
    rig.finish()
    assert counted.commands == pytest.approx(50 * (LARGE + 1) / PART, rel=0.1), "it was written once"
    rig.ask("RPUSH", "k", "after")
    assert counted.copies == 1
    rig.end_turn()
    assert replayed(rig.path) == state_of(rig.store)


def test_check_and_export_know_a_log_with_lists(rig: Rig) -> None:
    rig.ask("RPUSH", "k", "a", "b")
    rig.ask("SELECT", 1)
    rig.ask("LPUSH", "k", *range(100))
    rig.ask("COPY", "k", "c", "DB", 2)
    rig.ask("PEXPIRE", "k", 10_000)
    rig.ask("LPOP", "k")
    rig.ask("BGREWRITEAOF")
    rig.finish()
    rig.ask("RPUSH", "k", "after")
    rig.end_turn()
    rig.log.close()
    output = io.BytesIO()
    assert export(rig.path, output.write, START_MS, 0) == 0
    copy = Path(rig.path).with_name("exported")
    copy.write_bytes(output.getvalue())
    assert replayed(str(copy)) == replayed(rig.path) == state_of(rig.store)
    assert check(Config({}, {}), rig.path, do_repair=False) == WHOLE
    rig.log.open()


def test_a_list_survives_kill_and_rewrite_in_a_real_process(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as raw:
            for _ in range(30):
                raw.ask("RPUSH", "k", *LONG.split())
            raw.ask("BGREWRITEAOF")
            raw.ask("LPOP", "k")
            raw.ask("RPUSH", "k", "last")
            length = raw.ask("LLEN", "k")
        godis.kill9()
        godis.start()
        with godis.raw() as raw:
            assert raw.ask("LLEN", "k") == length
            assert raw.ask("LRANGE", "k", "0", "0") == b"*1\r\n$1\r\n1\r\n"
        assert os.path.getsize(tmp_path / "log.txt") > 0


# ---- the pool's snapshots


@pytest.mark.parametrize("large_elements", [LARGE, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_of_a_pool_is_that_of_its_entry_while_lists_change(
    monkeypatch: pytest.MonkeyPatch, seed: int, large_elements: int
) -> None:
    large_from(monkeypatch, large_elements)
    chance = random.Random(seed)
    member = Member()
    for number in range(150):
        member.apply(entry(chance, number))
    expected = member.replica.dump()
    snapshot = member.replica.snapshot()
    for _ in snapshot.begin():
        pass
    pieces, walk = [], snapshot.walk()
    for number in range(150, 300):
        pieces.append(next(walk, b""))
        member.apply(entry(chance, number))
    pieces += walk
    snapshot.end()
    assert b"".join(pieces) == expected
    assert member.store.shared.readers == {}
    other = copy_of(member)
    assert other.replica.dump() == member.replica.dump()
    for mine, theirs in zip(member.store.databases, other.store.databases, strict=True):
        assert mine.entries == theirs.entries
        assert mine.key_order.places == theirs.key_order.places
        theirs.check()


def test_a_list_that_a_snapshot_has_written_is_not_copied_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    member = Member()
    member.entry(*[f"RPUSH k{number} {LONG}".encode() for number in range(2)])
    snapshot = member.replica.snapshot()
    for _ in snapshot.begin():
        pass
    pieces = [piece for piece, _ in zip(snapshot.walk(), range(30), strict=False)]
    assert counted.commands > LARGE / PART, "the first list is written"
    member.entry(b"RPUSH k0 x", b"RPUSH k0 y")
    assert counted.copies == 0
    member.entry(b"RPUSH k1 x", b"RPUSH k1 y")
    assert counted.copies == 1
    snapshot.end()
    assert len(pieces) == 30


def entry(chance: random.Random, number: int) -> bytes:
    """Make an entry of random commands."""
    requests = []
    for _ in range(chance.randrange(1, 4)):
        line = chance.choice(LINES).format(k=f"k{chance.randrange(40)}", j=f"k{chance.randrange(40)}", v=number)
        if not line.startswith(("OBJECT", "SELECT", "LRANGE")):
            requests.append(line.encode().split())
    [data] = make(number + 1, requests or [[b"LPOP", b"none"]])
    return data


# ---- who listens


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def changed(self, db: Keyspace, key: bytes) -> None:
        self.keys.append(key)

    def all_changed(self, db: Keyspace) -> None:
        self.keys.append(b"all-of-%d" % db.index)

    def event(self, db: Keyspace, key: bytes, name: bytes) -> None:
        pass


@for_each(
    ("line", "heard"),
    [
        ("SET a 1", "a"),
        ("MSET a 1 n 2", "a n"),
        ("SETRANGE a 1 x", "a"),
        ("INCR n", "n"),
        ("RPUSH l x", "l"),
        ("RPUSH new x", "new"),
        ("LPOP l", "l"),
        ("LPOP one", "one"),
        ("LPOP none", ""),
        ("RPUSH a x", ""),
        ("GET a", ""),
        ("LRANGE l 0 -1", ""),
        ("DEL a l none", "a l"),
        ("EXPIRE l 10", "l"),
        ("EXPIRE l -1", "l"),
        ("PERSIST dated", "dated"),
        ("PERSIST l", ""),
        ("RENAME l a", "a l"),
        ("COPY l new", "new"),
        ("MOVE l 1", "l l"),
        ("GETDEL a", "a"),
        ("SWAPDB 0 1", "all-of-0 all-of-1"),
        ("FLUSHDB", "all-of-0"),
    ],
)
def test_a_listener_hears_of_each_key_that_changes(line: str, heard: str) -> None:
    bench = Bench(default_ttl="0")
    ask = asking(bench.connect())
    for each in ("SET a 5", "SET n 1", "RPUSH l a b", "RPUSH one a", "SET dated v EX 10"):
        ask(each)
    listener = Heard()
    bench.instance.key_listeners.listen_to_all([listener])
    ask(line)
    assert sorted(listener.keys) == heard.encode().split()
    bench.instance.key_listeners.listen_to_all([])
    ask("SET a 1")
    assert sorted(listener.keys) == heard.encode().split()


@pytest.mark.parametrize("line", ["SET {} 1", "SETEX {} 10 v", "INCR {}", "EXPIRE {} 10", "DEL {}"])
def test_a_listener_hears_of_each_key_of_a_pipeline(line: str) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("MSET", "a", 1, "b", 2)
    listener = Heard()
    bench.instance.key_listeners.listen_to_all([listener])
    bench.engine.run(client.session, [line.format(key).encode().split() for key in "ab"])
    assert listener.keys == [b"a", b"b"]
