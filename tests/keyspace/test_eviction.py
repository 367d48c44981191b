"""The limit on memory: what goes, what stays, what is refused, and that the account is right."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from instances import Bench, Client, driven, work_of
from servers import GodisProcess, Raw, RedisProcess, encode, parse, wait_until

import errors
from commands.keyspace_walk import at_once
from config import POLICIES
from errors import CommandError
from keyspace.accounting import DEADLINE_BYTES, MOST_COUNT, NEW_COUNT
from keyspace.eviction import AT_ONCE_PLACES, DRAWS, MOST_KEYS, POOL_KEYS
from keyspace.expiry import FEW_STALE, SLICE
from replies import HELD_BACK, OK
from store import Keyspace
from values.entry import NO_DEADLINE, Entry

EVICTING = [policy for policy in POLICIES if policy != "noeviction"]
LIMIT = 20_000  # some fifty small keys


def limited(policy: str, limit_bytes: int = LIMIT, **others: str) -> tuple[Bench, Client]:
    others = {"databases": "2", **others}  # a change of a limit is for each of them: sixteen take their time
    bench = Bench(maxmemory=str(limit_bytes), maxmemory_policy=policy, **others)
    return bench, bench.connect()


def used_bytes(bench: Bench) -> int:
    memory = bench.instance.eviction.memory
    assert memory is not None
    return memory.used_bytes


def never() -> bool:
    return False


def evicted(bench: Bench) -> list[bytes]:
    """Return the keys that were logged as deleted, in order."""
    return [argv[1] for argv in bench.log.records if argv[0] == b"DEL"]


# ---- the account, and the limit


class LimitMachine(RuleBasedStateMachine):
    """Random commands under a limit whose size and policy change: it holds, and the account is that of a recount."""

    @initialize(policy=st.sampled_from(POLICIES))
    def start(self, policy: str) -> None:
        self.bench, self.client = limited(policy)

    @rule(
        words=st.sampled_from(
            [
                "SET {k} {v}",
                "SET {k} {v}",
                "SET {k} {v} EX 100",
                "SET {k} {v} KEEPTTL",
                "SETNX {k} {v}",
                "MSET {k} {v} {j} {v}",
                "APPEND {k} {v}",
                "INCR {k}",
                "GETDEL {k}",
                "GET {k}",
                "DEL {k} {j}",
                "RENAME {k} {j}",
                "EXPIRE {k} 50",
                "EXPIRE {k} -1",
                "PERSIST {k}",
                "MOVE {k} 1",
                "SWAPDB 0 1",
                "SELECT 0",
                "SELECT 1",
                "FLUSHDB",
                "OBJECT IDLETIME {k}",
                "OBJECT FREQ {k}",
            ]
        ),
        k=st.integers(0, 150),
        j=st.integers(0, 150),
        size=st.sampled_from([1, 1, 10, 10, 300, 3000, 30_000]),
    )
    def ask(self, words: str, k: int, j: int, size: int) -> None:
        before = used_bytes(self.bench)
        reply = self.client.ask(*words.format(k=f"key:{k}", j=f"key:{j}", v="x" * size).split())
        out_of_memory = isinstance(reply, CommandError) and reply.text == errors.OUT_OF_MEMORY
        # EXPIRE and RENAME are not refused, and may take a little
        little = DEADLINE_BYTES + 10 if words.startswith(("EXPIRE", "RENAME")) else 0
        assert used_bytes(self.bench) <= max(LIMIT, before + little)
        if out_of_memory and size < 3000:
            databases = self.bench.store.databases
            assert self.policy == "noeviction" or not any(
                db.expiry.volatile_count if self.policy.startswith("volatile") else len(db) for db in databases
            )

    @rule(policy=st.sampled_from(POLICIES))
    def change_policy(self, policy: str) -> None:
        assert self.client.ask("CONFIG", "SET", "maxmemory-policy", policy) == b"OK"

    @rule()
    def forget_the_limit_and_set_it_again(self) -> None:
        self.client.ask("CONFIG", "SET", "maxmemory", "0")
        self.client.ask("SET", "without", "limit")
        self.client.ask("CONFIG", "SET", "maxmemory", str(LIMIT))
        self.bench.instance.eviction.step(never)

    @rule(seconds=st.integers(1, 200))
    def let_time_pass(self, seconds: int) -> None:
        self.bench.advance(seconds)
        self.bench.store.expire_cycle(never)

    @property
    def policy(self) -> str:
        return self.bench.instance.config.maxmemory_policy

    @invariant()
    def the_account_is_that_of_a_recount(self) -> None:
        databases = self.bench.store.databases
        for db in databases:
            db.check()
        assert used_bytes(self.bench) == sum(db.usage.held_bytes for db in databases if db.usage is not None)


TestLimit = LimitMachine.TestCase
TestLimit.settings = settings(max_examples=30, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])


def test_nothing_is_noted_without_a_limit() -> None:
    bench = Bench(maxmemory_policy="allkeys-lru")
    assert all(db.usage is None for db in bench.store.databases)
    assert not bench.instance.needs_checks
    client = bench.connect()
    client.ask("CONFIG", "SET", "maxmemory", "1mb")
    assert bench.instance.needs_checks
    client.ask("CONFIG", "SET", "maxmemory", "0")
    assert all(db.usage is None or db.usage.memory is None for db in bench.store.databases)
    assert not bench.instance.needs_checks


@pytest.mark.parametrize("words", ["SET key:100 {v} EX 100", "MSET key:100 {v} key:101 {v}"])
@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "noeviction"])
def test_what_is_let_in_stays_within_the_limit_to_the_byte(policy: str, words: str) -> None:
    bench, client = limited(policy, 1_000_000)
    before = used_bytes(bench)
    replies = set()
    for room in range(400, 2000):
        client.ask("CONFIG", "SET", "maxmemory", str(before + room))
        reply = client.ask(*words.format(v="x" * 300).split())
        replies.add(type(reply))
        assert used_bytes(bench) <= before + room
        client.ask("DEL", "key:100", "key:101")
    assert len(replies) == 2, "some fit and some do not"


def test_a_value_that_can_never_fit_evicts_nothing() -> None:
    bench, client = limited("allkeys-lru")
    client.ask("SET", "a", "1")
    reply = client.ask("SET", "b", "x" * LIMIT)
    assert reply.text == errors.OUT_OF_MEMORY
    assert client.ask("EXISTS", "a") == 1
    assert evicted(bench) == []


def test_the_work_for_one_command_is_bounded_and_the_rest_is_done_in_slices() -> None:
    bench, client = limited("allkeys-random", 1_000_000)
    for number in range(1000):
        client.ask("SET", f"key:{number}", "x")
    client.ask("CONFIG", "SET", "maxmemory", "100000")
    assert client.ask("SET", "key:0", "y") == b"OK"
    assert bench.store.evicted_keys == MOST_KEYS
    slices = count()
    while not bench.instance.eviction.step(lambda: True):
        next(slices)
    assert used_bytes(bench) <= 100_000
    assert next(slices) > 10


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl"])
def test_who_needs_much_room_waits_until_it_is_made_in_slices(policy: str) -> None:
    bench, client = limited(policy, 2_000_000)
    other = bench.connect()
    for number in range(3000):
        client.ask("SET", f"key:{number}", "x")
    wanted = used_bytes(bench) // 2
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) + 1000))
    work = work_of(client.ask("SET", "large", "x" * wanted))
    assert bench.store.evicted_keys == MOST_KEYS + 1
    assert work is not None
    reply, steps = driven(work, lambda: other.ask("SET", "other", "1"))
    assert (reply, steps) == (HELD_BACK, bench.store.evicted_keys - MOST_KEYS - 1)
    assert steps > 1000
    assert client.ask("SET", "large", "x" * wanted) is OK
    assert used_bytes(bench) <= bench.instance.eviction.limit_bytes
    assert client.ask("STRLEN", "large") == wanted


def test_where_the_room_that_is_made_in_slices_is_not_enough_the_request_is_refused() -> None:
    bench, client = limited("volatile-lru", 2_000_000, default_ttl="0")
    for number in range(3000):
        client.ask("SET", f"key:{number}", "x", *(["EX", "1000"] if number < 500 else []))
    wanted = used_bytes(bench) // 2
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) + 1000))
    work = work_of(client.ask("SET", "large", "x" * wanted))
    with pytest.raises(errors.CommandError) as refused:
        at_once(work)
    assert refused.value.text == errors.OUT_OF_MEMORY
    assert bench.store.evicted_keys == 500


def test_room_is_not_made_any_further_when_the_limit_is_gone() -> None:
    bench, client = limited("allkeys-random", 2_000_000)
    for number in range(3000):
        client.ask("SET", f"key:{number}", "x")
    wanted = used_bytes(bench) // 2
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) + 1000))
    work = work_of(client.ask("SET", "large", "x" * wanted))
    client.ask("CONFIG", "SET", "maxmemory", "0")
    assert at_once(work) is HELD_BACK
    assert bench.store.evicted_keys == MOST_KEYS + 1


def info(raw: Raw, name: str) -> int:
    return next(
        int(line[len(name) + 1 :]) for line in parse(raw.ask("INFO")).decode().split() if line.startswith(name + ":")
    )


def test_others_are_served_while_room_is_made(tmp_path: Path) -> None:
    value = "x" * 5_000_000
    flags = ("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-random")
    with GodisProcess(tmp_path, *flags) as godis, godis.raw() as busy, godis.raw() as other:
        for start in range(0, 20_000, 1000):
            words = [word for number in range(start, start + 1000) for word in (f"key:{number}", "x" * 100)]
            assert busy.ask("MSET", *words) == b"+OK\r\n"
        limit = info(other, "used_memory") + 100_000
        busy.ask("CONFIG", "SET", "maxmemory", limit)
        busy.send(encode("SET", "large", value))
        busy.sock.setblocking(False)
        served, reply = 0, b""
        while not reply:
            try:
                reply = busy.sock.recv(10)
            except BlockingIOError:
                assert other.ask("PING") == b"+PONG\r\n"
                served += 1
        assert reply == b"+OK\r\n"
        assert info(other, "evicted_keys") > 5000
        assert info(other, "used_memory") <= limit
        assert served >= 20
        left = parse(other.ask("DBSIZE"))
        godis.kill9()
        godis.start()
        with godis.raw() as again:
            assert parse(again.ask("DBSIZE")) == left
            assert parse(again.ask("STRLEN", "large")) == len(value)


# ---- who goes


@pytest.mark.parametrize("policy", EVICTING)
def test_only_keys_with_an_end_are_volatile(policy: str) -> None:
    bench, client = limited(policy, default_ttl="0")
    for number in range(20):
        client.ask("SET", f"stays:{number}", "x")
    for number in range(500):
        reply = client.ask("SET", f"goes:{number}", "x", "EX", 1000)
        assert reply == b"OK"
    gone = evicted(bench)
    assert len(gone) > 400
    assert client.ask("DBSIZE") == 520 - len(gone)
    assert any(key.startswith(b"stays") for key in gone) == policy.startswith("allkeys")


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_without_volatile_keys_writes_are_refused_and_reads_are_not(policy: str) -> None:
    _, client = limited(policy, default_ttl="0")
    replies = [client.ask("SET", f"key:{number}", "x") for number in range(100)]
    assert replies[0] == b"OK"
    assert replies[-1].text == errors.OUT_OF_MEMORY
    assert client.ask("GET", "key:0") == b"x"
    assert client.ask("DEL", "key:0") == 1
    assert client.ask("EXPIRE", "key:1", 1000) == 1
    assert [client.ask("SET", f"other:{number}", "x") for number in range(2)][-1] == b"OK"


def test_the_few_keys_with_an_end_among_many_are_found() -> None:
    bench, client = limited("volatile-ttl", 3_000_000, default_ttl="0")
    for number in range(5000):
        client.ask("SET", f"stays:{number}", "x")
    for number in range(3):
        client.ask("SET", f"goes:{number}", "x", "EX", 1000 + number)
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) - 800))
    assert bench.instance.eviction.step(never)
    assert sorted(evicted(bench)) == [b"goes:0", b"goes:1", b"goes:2"]


class CountedEntries(dict[bytes, Entry]):
    """Entries that count how many of them are looked at."""

    looks = 0

    def get(self, key: bytes, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def items(self) -> Any:
        self.looks += len(self)
        return super().items()


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_the_last_keys_with_an_end_are_found_without_a_look_at_all_others(policy: str) -> None:
    bench, client = limited(policy, 100_000_000, default_ttl="0")
    db = bench.store.databases[0]
    db.entries = db.expiry.entries = entries = CountedEntries()
    for number in range(50_000):
        db.put(b"stays:%d" % number, b"x", NO_DEADLINE)
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) + 1500))
    entries.looks = 0
    most_due = 0
    for number in range(300):
        assert client.ask("SET", f"goes:{number}", "x" * 100, "EX", 1000) == b"OK"
        most_due = max(most_due, sum(map(len, db.expiry.due.values())))
    assert len(evicted(bench)) > 290
    # Of each key that goes: some hundred draws, and once in a while all of the index.
    assert entries.looks < 300 * (10 * DRAWS + most_due)
    assert most_due < 2 * FEW_STALE


def rank_of_the_evicted(bench: Bench, order: list[bytes]) -> float:
    """Return the average place, from 0 to 1, of the evicted in the order in which they should go."""
    place = {key: index for index, key in enumerate(order)}
    gone = evicted(bench)
    assert len(gone) > 100
    return sum(place[key] for key in gone) / len(gone) / len(order)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_who_was_used_longest_ago_or_ends_first_goes_first(policy: str) -> None:
    bench, client = limited(policy, 1_000_000)
    names = [b"key:%d" % number for number in range(1000)]
    Random(3).shuffle(names)
    for number, key in enumerate(names):
        bench.advance(0.01)
        client.ask(
            "SET",
            key,
            "x",
            "PXAT",
            bench.store.now_ms + 10**7 - number if policy[-3:] == "lru" else 4 * 10**12 + number,
        )
    if policy.endswith("lru"):
        names.reverse()
        for key in names:
            bench.advance(0.01)
            assert client.ask("GET", key) == b"x"
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) * 7 // 10))
    assert bench.instance.eviction.step(never)
    assert 0.14 < rank_of_the_evicted(bench, names) < 0.22  # 0.15 would be perfect, 0.5 chance


@pytest.mark.parametrize("policy", ["allkeys-lfu", "volatile-lfu"])
def test_who_is_used_seldom_goes_first(policy: str) -> None:
    bench, client = limited(policy, 1_000_000)
    names = [b"key:%d" % number for number in range(600)]
    for key in names:
        client.ask("SET", key, "x")
    for key in names[300:]:
        for _ in range(30):
            client.ask("GET", key)
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) * 7 // 10))
    assert bench.instance.eviction.step(never)
    assert len(set(evicted(bench)) & set(names[300:])) < 5
    assert client.ask("OBJECT", "FREQ", "key:599") > NEW_COUNT


def test_a_key_of_the_pool_that_was_used_since_stays() -> None:
    bench, client = limited("allkeys-lru", 30_000, maxmemory_samples="300")
    numbers = count()

    def add_until_evicted(keys: int) -> None:
        while len(evicted(bench)) < keys:
            bench.advance(0.01)
            client.ask("SET", f"key:{next(numbers)}", "x")

    add_until_evicted(1)
    assert evicted(bench) == [b"key:0"]
    pool = [f"key:{number}" for number in range(1, POOL_KEYS)]  # the next ones
    bench.advance(0.01)
    for key in pool:
        client.ask("GET", key)
    add_until_evicted(3)
    assert not {key.encode() for key in pool} & set(evicted(bench))


def test_counters_of_use_grow_by_chance_and_shrink_by_the_minute() -> None:
    bench, client = limited("allkeys-lfu", 1_000_000)
    client.ask("SET", "key", "x")
    assert client.ask("OBJECT", "FREQ", "key") == NEW_COUNT
    for _ in range(1000):
        client.ask("GET", "key")
    grown = client.ask("OBJECT", "FREQ", "key")
    assert 10 < grown < 30
    bench.advance(180)
    assert client.ask("OBJECT", "FREQ", "key") == grown - 3
    client.ask("CONFIG", "SET", "lfu-decay-time", "0", "lfu-log-factor", "0")
    assert client.ask("OBJECT", "FREQ", "key") == grown
    for _ in range(300):
        client.ask("GET", "key")
    assert client.ask("OBJECT", "FREQ", "key") == MOST_COUNT


def test_a_client_that_asked_for_no_touch_uses_no_key() -> None:
    bench, client = limited("allkeys-lru", 1_000_000)
    quiet = bench.connect()
    assert quiet.ask("CLIENT", "NO-TOUCH", "ON") == b"OK"
    client.ask("SET", "key", "x")
    bench.advance(100)
    quiet.ask("GET", "key")
    assert client.ask("OBJECT", "IDLETIME", "key") == 100
    quiet.ask("TOUCH", "key")
    assert client.ask("OBJECT", "IDLETIME", "key") == 0
    bench.advance(50)
    client.ask("GET", "key")
    assert client.ask("OBJECT", "IDLETIME", "key") == 0


def test_no_touch_holds_for_its_client_alone() -> None:
    bench = Bench()
    client, quiet = bench.connect(), bench.connect()
    quiet.ask("CLIENT", "NO-TOUCH", "ON")
    keys = [b"key:%d" % number for number in range(3000)]  # so many are read in slices
    client.ask("SET", keys[0], "x")
    client.ask("OBJECT", "IDLETIME", keys[0])
    requests: list[tuple[int, Client, list[str | bytes], int]] = [
        (10, quiet, ["GET", keys[0]], 10),
        (10, quiet, ["MGET", *keys], 20),
        (10, client, ["MGET", *keys], 0),
        (10, quiet, ["SET", keys[0], "y"], 10),
        (10, client, ["SET", keys[0], "y"], 0),
        (10, quiet, ["TOUCH", *keys], 0),
        (10, quiet, ["TOUCH", keys[0]], 0),
        (10, client, ["EXISTS", keys[0]], 10),
    ]
    for seconds, asking, words, expected in requests:
        bench.advance(seconds)
        reply = asking.ask(*words)
        if isinstance(reply, Generator):
            client.ask("PING")  # another's command in between
            reply, _ = driven(reply)
        assert client.ask("OBJECT", "IDLETIME", keys[0]) == expected, words[0]
    bench.advance(10)
    quiet.ask("RESET")
    quiet.ask("GET", keys[0])
    assert client.ask("OBJECT", "IDLETIME", keys[0]) == 0
    client.ask("SET", "new", "x")
    assert client.ask("OBJECT", "IDLETIME", "new") == 0


def test_no_touch_holds_without_a_limit() -> None:
    bench = Bench()
    quiet = bench.connect()
    quiet.ask("SET", "key", "x")
    quiet.ask("OBJECT", "IDLETIME", "key")
    quiet.ask("CLIENT", "NO-TOUCH", "ON")
    bench.advance(9)
    quiet.ask("GET", "key")
    assert quiet.ask("OBJECT", "IDLETIME", "key") == 9
    quiet.ask("CLIENT", "NO-TOUCH", "OFF")
    quiet.ask("GET", "key")
    assert quiet.ask("OBJECT", "IDLETIME", "key") == 0


@pytest.mark.parametrize("samples", ["0", "1001", "2147483647", "99999999999"])
def test_no_samples_and_more_than_can_be_drawn_in_one_go_are_refused(samples: str) -> None:
    _, client = limited("allkeys-lru", 30_000)
    refusal = client.wire("CONFIG", "SET", "maxmemory-samples", samples)
    assert refusal.endswith(b"- argument must be between 1 and 1000 inclusive\r\n")


# ---- the real server


SETTINGS_ASKED = [
    ("maxmemory", "abc"),
    ("maxmemory", "-1"),
    ("maxmemory-policy", "foo"),
    ("lfu-log-factor", "-1"),
    ("lfu-decay-time", "1.5"),
    ("maxmemory-policy", "ALLKEYS-LFU"),
]


def test_settings_and_what_is_known_of_uses_as_redis_answers(
    shared_godis: GodisProcess, redis_server: RedisProcess
) -> None:
    def answers(server: GodisProcess | RedisProcess) -> list[bytes]:
        with server.raw() as raw:
            found = [raw.ask("SET", "words", "some words")]
            found += [raw.ask("CONFIG", "SET", name, value) for name, value in SETTINGS_ASKED]
            for policy in ("allkeys-lfu", "noeviction"):
                found.append(raw.ask("CONFIG", "SET", "maxmemory-policy", policy))
                found += [raw.ask("DEL", "words"), raw.ask("SET", "words", "some words")]
                for question in ("FREQ", "IDLETIME"):
                    # redis-server's clock of uses may be a second ahead
                    known = [raw.ask("OBJECT", question, key)[:40] for key in ("words", "nosuchkey")]
                    found += [reply.replace(b":1\r\n", b":0\r\n") for reply in known]
            found += [raw.ask("CONFIG", "SET", "maxmemory", "1"), raw.ask("SET", "key", "x"), raw.ask("GET", "nokey")]
            found += [raw.ask("CONFIG", "SET", "maxmemory", "0"), raw.ask("DEL", "words")]
            return found

    assert answers(shared_godis) == answers(redis_server)


def fill(raw: Raw, keys: range, size: int) -> None:
    for key in keys:
        assert raw.ask("SET", f"key:{key}", b"x" * size) == b"+OK\r\n"


def test_what_was_evicted_does_not_come_back_after_a_kill(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--maxmemory-policy", "allkeys-lru") as godis, godis.client() as client:
        client.config_set("maxmemory", client.info()["used_memory_startup"] + 1_000_000)
        with godis.raw() as raw:
            fill(raw, range(300), 10_000)
        held = set(client.keys())
        info = client.info()
        assert info["evicted_keys"] == 300 - len(held) > 150
        assert info["used_memory"] <= info["maxmemory"]
        godis.kill9()
        godis.start()
        with godis.client() as again:
            assert set(again.keys()) == held  # no limit now


def test_a_log_above_the_limit_is_replayed_whole_and_then_evicted_from(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis:
        with godis.raw() as raw, godis.client() as client:
            fill(raw, range(1000), 10_000)
            limit_bytes = client.info()["used_memory_startup"] + 3_000_000
        godis.kill9()
        godis.args = ("--maxmemory", str(limit_bytes), "--maxmemory-policy", "volatile-ttl")
        godis.start()
        assert "1000 keys recovered" in godis.stderr()
        with godis.client() as client:
            wait_until(lambda: client.info()["used_memory"] <= limit_bytes, what="evicted after the start")
            held = client.dbsize()
            assert 0 < held == 1000 - client.info()["evicted_keys"]
        assert godis.terminate() == 0
        godis.args = ()
        godis.start()
        with godis.client() as client:
            assert client.dbsize() == held


def test_random_keys_of_all_databases_go() -> None:
    bench, client = limited("allkeys-random", 100_000)
    for number in range(1000):
        client.ask("SELECT", number % 2)
        client.ask("SET", f"key:{number}", "x")
    databases: list[Keyspace] = bench.store.databases
    assert abs(len(databases[0]) - len(databases[1])) < 20
    assert len(set(bench.log.databases)) == 2


# ---- a limit that is new


KEYS = 3 * AT_ONCE_PLACES


def filled() -> tuple[Bench, Client]:
    """Return an instance without a limit, with more keys than are counted at once."""
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for number in range(KEYS):
        client.ask("SET", f"key:{number}", "x" * (number % 50), *([] if number % 3 else ["EX", "1000"]))
    return bench, client


def test_a_new_limit_holds_when_all_keys_are_counted_in_slices() -> None:
    bench, client = filled()
    client.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    eviction, db = bench.instance.eviction, bench.store.databases[0]
    steps = 0
    before = used_bytes(bench)
    while not eviction.step(lambda: True):
        steps += 1
        assert used_bytes(bench) >= before
        before = used_bytes(bench)
    assert steps >= KEYS // SLICE
    db.check()
    assert used_bytes(bench) > KEYS * 100
    assert not db.key_order.walks
    client.ask("CONFIG", "SET", "maxmemory", str(used_bytes(bench) // 2))
    while not eviction.step(lambda: True):
        pass
    assert len(db) < KEYS


def change(random: Random, client: Client) -> None:
    """Change something, whether it is counted already or not."""
    key, other = (f"key:{random.randrange(KEYS + 500)}" for _ in "ab")
    choices: list[list[Any]] = [
        ["SET", key, "y" * random.randrange(100)],
        ["SET", key, "y" * random.randrange(100), "KEEPTTL"],
        ["SET", key, "y", "PX", random.choice([1, 10**6])],
        ["DEL", key, other],
        ["APPEND", key, "more"],
        ["EXPIRE", key, 500],
        ["PERSIST", key],
        ["RENAME", key, other],
        ["GET", key],
        ["SELECT", random.randrange(2)],
        ["COPY", key, other, "DB", random.randrange(2), "REPLACE"],
        ["SWAPDB", 0, 1],
        ["FLUSHDB"],
        ["CONFIG", "SET", "maxmemory-policy", random.choice(POLICIES)],
        ["CONFIG", "SET", "maxmemory", random.choice(["0", "100mb", "100mb"])],
    ]
    (words,) = random.choices(choices, [*[20] * 11, 1, 0.03, 1, 0.3])
    reply = client.ask(*words)
    assert not isinstance(reply, CommandError) or reply.text != errors.INTERNAL


def test_the_account_is_right_at_the_end_whatever_is_changed_while_keys_are_counted() -> None:
    random = Random(9)
    for _ in range(15):
        bench, client = filled()
        for _ in range(random.randrange(2000)):
            client.ask("DEL", f"key:{random.randrange(KEYS)}")  # so that a compaction may be under way
        client.ask("CONFIG", "SET", "maxmemory", "100mb")
        slices = 0
        while not bench.instance.eviction.step(lambda: True) or slices < 5:
            slices += 1
            bench.advance(0.001)
            for _ in range(random.randrange(30)):
                change(random, client)
        client.ask("CONFIG", "SET", "maxmemory", "100mb")
        bench.instance.eviction.step(never)
        for db in bench.store.databases:
            db.check()
            assert not db.key_order.walks
            assert db.usage is not None
            assert db.usage.memory is bench.instance.eviction.memory
        assert used_bytes(bench) == sum(db.usage.held_bytes for db in bench.store.databases if db.usage)
