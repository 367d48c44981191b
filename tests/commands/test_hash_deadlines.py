"""Deadlines of fields: what the commands answer and log, and how fields end, in an instance and in a pool.

The redis-server of the tests does not know these commands. The cases follow Redis's documentation and source.
"""

from __future__ import annotations

from typing import Any

import pytest
from canonical import all_of
from fakes import Dialogue, answers_and_logs
from instances import START_MS, Bench, Replay, driven, work_of
from pool_member import START_MS as START_OF_POOL_MS
from pool_member import Member, copy_of
from tables import for_each

import commands.hashes
import errors
from commands.hash_deadlines import LATEST_MS

LATER = START_MS + 100_000
SECOND = LATER // 1000  # in whole seconds
MADE = f"HSET k a 1 b 2 c 3; HPEXPIREAT k {LATER} FIELDS 1 a"

CASES = [
    # before, command, reply, effects
    (MADE, "HEXPIRE k 10 FIELDS 3 a b x", [1, 1, -2], [f"HPEXPIREAT k {START_MS + 10_000} FIELDS 2 a b"]),
    (MADE, "HPEXPIRE k 10 FIELDS 1 b", [1], [f"HPEXPIREAT k {START_MS + 10} FIELDS 1 b"]),
    (MADE, f"HEXPIREAT k {SECOND} FIELDS 1 b", [1], [f"HPEXPIREAT k {SECOND * 1000} FIELDS 1 b"]),
    (MADE, f"HPEXPIREAT k {LATER} FIELDS 2 b b", [1, 1], [f"HPEXPIREAT k {LATER} FIELDS 1 b"]),
    ("", "HEXPIRE k 10 FIELDS 2 a b", [-2, -2], []),
    (MADE, "HEXPIRE k 10 NX FIELDS 2 a b", [0, 1], [f"HPEXPIREAT k {START_MS + 10_000} FIELDS 1 b"]),
    (MADE, "HEXPIRE k 10 xx FIELDS 2 a b", [1, 0], [f"HPEXPIREAT k {START_MS + 10_000} FIELDS 1 a"]),
    (MADE, "HEXPIRE k 10 GT FIELDS 2 a b", [0, 0], []),
    (MADE, "HEXPIRE k 200 GT FIELDS 2 a b", [1, 0], [f"HPEXPIREAT k {START_MS + 200_000} FIELDS 1 a"]),
    (MADE, "HEXPIRE k 200 LT FIELDS 2 a b", [0, 1], [f"HPEXPIREAT k {START_MS + 200_000} FIELDS 1 b"]),
    (MADE, "HEXPIRE k 10 LT FIELDS 2 a b", [1, 1], [f"HPEXPIREAT k {START_MS + 10_000} FIELDS 2 a b"]),
    (MADE, "HEXPIRE k 0 FIELDS 3 a x a", [2, -2, -2], ["HDEL k a"]),
    (MADE, "HPEXPIREAT k 1 FIELDS 3 a b c", [2, 2, 2], ["DEL k"]),
    (MADE, "HPEXPIREAT k 1 NX FIELDS 2 a b", [0, 2], ["HDEL k b"]),
    (MADE, "HEXPIRE k -1 FIELDS 1 a", errors.EXPIRE_NEGATIVE, []),
    (MADE, "HEXPIRE k x FIELDS 1 a", errors.NOT_AN_INTEGER, []),
    (MADE, f"HPEXPIREAT k {LATEST_MS + 1} FIELDS 1 a", errors.INVALID_EXPIRE % b"hpexpireat", []),
    (MADE, f"HEXPIRE k {LATEST_MS // 1000} FIELDS 1 a", errors.INVALID_EXPIRE % b"hexpire", []),
    (MADE, "HEXPIRE k 10 FIELDS 2 a", errors.NUMFIELDS_DIFFERS, []),
    (MADE, "HEXPIRE k 10 FIELDS 0 a", errors.NUMFIELDS_NOT_POSITIVE, []),
    (MADE, "HEXPIRE k 10 FIELDS x a", errors.NUMFIELDS_NOT_POSITIVE, []),
    (MADE, "HEXPIRE k 10 junk FIELDS 1 a", errors.NO_FIELDS_WORD, []),
    (MADE, "HEXPIRE k 10 NX XX FIELDS 1 a", errors.NO_FIELDS_WORD, []),
    ("SET k v", "HEXPIRE k x FIELDS 1 a", errors.WRONG_TYPE, []),
    (MADE, "HTTL k FIELDS 3 a b x", [100, -1, -2], []),
    ("HSET k a 1; HPEXPIRE k 1001 FIELDS 1 a", "HTTL k FIELDS 1 a", [2], []),
    (MADE, "HPTTL k FIELDS 3 a b x", [100_000, -1, -2], []),
    (MADE, "HEXPIRETIME k FIELDS 1 a", [SECOND + 1], []),
    (MADE, "HPEXPIRETIME k FIELDS 1 a", [LATER], []),
    ("", "HTTL k FIELDS 2 a b", [-2, -2], []),
    (MADE, "HTTL k FIELDS 0 a", errors.FIELDS_NOT_POSITIVE, []),
    (MADE, "HTTL k 1 a a", errors.NO_FIELDS_WORD, []),
    ("SET k v", "HTTL k FIELDS 1 a", errors.WRONG_TYPE, []),
    (MADE, "HPERSIST k FIELDS 3 a b x", [1, -1, -2], ["HPERSIST k FIELDS 1 a"]),
    (MADE, "HPERSIST k FIELDS 2 a a", [1, -1], ["HPERSIST k FIELDS 1 a"]),
    (f"{MADE}; HPERSIST k FIELDS 1 a", "HPTTL k FIELDS 1 a", [-1], []),
    ("", "HPERSIST k FIELDS 1 a", [-2], []),
    (MADE, "HGETDEL k FIELDS 3 a x a", [b"1", None, None], ["HDEL k a"]),
    (MADE, "HGETDEL k FIELDS 3 a b c", [b"1", b"2", b"3"], ["DEL k"]),
    (MADE, "HGETDEL k FIELDS 1 x", [None], []),
    ("", "HGETDEL k FIELDS 1 x", [None], []),
    (MADE, "HGETEX k FIELDS 2 a x", [b"1", None], []),
    (MADE, "HGETEX k PERSIST FIELDS 3 a b x", [b"1", b"2", None], ["HPERSIST k FIELDS 1 a"]),
    (MADE, "HGETEX k EX 10 FIELDS 2 b x", [b"2", None], [f"HPEXPIREAT k {START_MS + 10_000} FIELDS 1 b"]),
    (MADE, f"HGETEX k pxat {LATER} FIELDS 1 b", [b"2"], [f"HPEXPIREAT k {LATER} FIELDS 1 b"]),
    (MADE, "HGETEX k PX 0 FIELDS 2 b b", [b"2", b"2"], ["HDEL k b"]),
    (MADE, "HGETEX k EX 10 PERSIST FIELDS 1 b", errors.NO_FIELDS_WORD, []),
    (MADE, "HGETEX k EX 10 FIELDS", errors.WRONG_ARITY % b"hgetex", []),
    (MADE, "HGETEX k EX x FIELDS 1 b", errors.NOT_AN_INTEGER, []),
    ("", "HGETEX k EX 10 FIELDS 2 b a", [None, None], []),
    ("", "HSETEX k FIELDS 2 a 1 b 2", 1, ["HSET k a 1 b 2"]),
    ("", "HSETEX k EX 10 FIELDS 1 a 1", 1, ["HSET k a 1", f"HPEXPIREAT k {START_MS + 10_000} FIELDS 1 a"]),
    (MADE, "HSETEX k FIELDS 1 a 5", 1, ["HSET k a 5"]),
    (f"{MADE}; HSETEX k FIELDS 1 a 5", "HPTTL k FIELDS 1 a", [-1], []),
    (MADE, "HSETEX k KEEPTTL FIELDS 2 a 5 b 6", 1, ["HSET k a 5 b 6", f"HPEXPIREAT k {LATER} FIELDS 1 a"]),
    (f"{MADE}; HSETEX k KEEPTTL FIELDS 1 a 5", "HPTTL k FIELDS 1 a", [100_000], []),
    (MADE, "HSETEX k FNX FIELDS 2 x 5 a 6", 0, []),
    (MADE, "HSETEX k FNX FIELDS 2 x 5 y 6", 1, ["HSET k x 5 y 6"]),
    (MADE, "HSETEX k FXX FIELDS 2 x 5 a 6", 0, []),
    (MADE, "HSETEX k PXAT 1 FXX FIELDS 1 a 6", 1, ["HDEL k a"]),
    (MADE, "HSETEX k PX 0 FIELDS 2 x 5 a 6", 1, ["HDEL k a"]),
    ("", "HSETEX k PX 0 FIELDS 1 x 5", 1, []),
    ("", "HSETEX k FXX FIELDS 1 x 5", 0, []),
    ("", "HSETEX k EX 1 KEEPTTL FIELDS 1 x 5", errors.ONE_EXPIRY, []),
    ("", "HSETEX k FNX FXX FIELDS 1 x 5", errors.ONE_CONDITION, []),
    ("", "HSETEX k FIELDS 2 x 5 y", errors.WRONG_ARITY % b"hsetex", []),
    ("", "HSETEX k FIELDS 0 x 5", errors.FIELDS_INVALID, []),
    ("", "HSETEX k junk FIELDS 1 x 5", errors.UNKNOWN_ARGUMENT % b"junk", []),
    ("", "HSETEX k FNX KEEPTTL a EX", errors.UNKNOWN_ARGUMENT % b"a", []),
    ("", "HSETEX k FNX KEEPTTL FNX EX", errors.ONE_CONDITION, []),
    ("SET k v", "HSETEX k FIELDS 1 x 5", errors.WRONG_TYPE, []),
    # what other commands do to deadlines
    (f"{MADE}; HSET k a 9", "HPTTL k FIELDS 1 a", [-1], []),
    (f"{MADE}; HSET k a 9 b 8", "HPTTL k FIELDS 1 a", [-1], []),
    (MADE, "HINCRBY k a 2", 3, ["HINCRBY k a 2"]),
    (f"{MADE}; HINCRBY k a 2", "HPTTL k FIELDS 1 a", [100_000], []),
    (MADE, "HINCRBYFLOAT k a 0.5", b"1.5", ["HSET k a 1.5", f"HPEXPIREAT k {LATER} FIELDS 1 a"]),
    (f"{MADE}; HDEL k a; HSET k a 1", "HPTTL k FIELDS 1 a", [-1], []),
    (f"{MADE}; COPY k j", "HPEXPIRETIME j FIELDS 1 a", [LATER], []),
    (f"{MADE}; COPY k j; HPERSIST j FIELDS 1 a", "HPEXPIRETIME k FIELDS 1 a", [LATER], []),
    (f"{MADE}; RENAME k j", "HPEXPIRETIME j FIELDS 1 a", [LATER], []),
    (f"{MADE}; MOVE k 1; SELECT 1", "HPEXPIRETIME k FIELDS 1 a", [LATER], []),
    (f"{MADE}; SWAPDB 0 1; SELECT 1", "HPEXPIRETIME k FIELDS 1 a", [LATER], []),
    (f"{MADE}; SET k v; DEL k; HSET k a 1", "HPTTL k FIELDS 1 a", [-1], []),
    (MADE, "OBJECT ENCODING k", b"listpackex", []),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects, START_MS)


# ---- the end of a field

EXPIRED = [  # command, reply, effects: of a hash whose field a has expired, and is not deleted yet
    ("HGET k a", None, []),
    ("HMGET k a b", [None, b"2"], []),
    ("HEXISTS k a", 0, []),
    ("HSTRLEN k a", 0, []),
    ("HLEN k", 2, []),
    ("HGETALL k", [b"b", b"2", b"c", b"3"], []),
    ("HKEYS k", [b"b", b"c"], []),
    ("HVALS k", [b"2", b"3"], []),
    ("HSCAN k 0", [b"0", [b"b", b"2", b"c", b"3"]], []),
    ("HRANDFIELD k 9", [b"b", b"c"], []),
    ("HPTTL k FIELDS 1 a", [-2], []),
    ("HPEXPIRETIME k FIELDS 1 a", [-2], []),
    ("HSET k a 5", 1, ["HSET k a 5"]),
    ("HSET k a 5 b 6 a 7", 1, ["HSET k a 5 b 6 a 7"]),
    ("HSETNX k a 5", 1, ["HSET k a 5"]),
    ("HSETEX k FNX KEEPTTL FIELDS 1 a 5", 1, ["HSET k a 5"]),
    ("HSETEX k FXX FIELDS 1 a 5", 0, []),
    ("HINCRBY k a 5", 5, ["HSET k a 5"]),
    ("HINCRBYFLOAT k a 5", b"5", ["HSET k a 5"]),
    ("HDEL k a b", 1, ["HDEL k a b"]),
    ("HGETDEL k FIELDS 2 a b", [None, b"2"], ["HDEL k b"]),
    ("HEXPIRE k 10 FIELDS 1 a", [-2], []),
    ("HPERSIST k FIELDS 1 a", [-2], []),
    ("HGETEX k PERSIST FIELDS 1 a", [None], []),
]


@for_each(("line", "reply", "effects"), EXPIRED)
def test_a_field_that_has_expired_counts_as_absent(line: str, reply: object, effects: list[str]) -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1 b 2 c 3", "HPEXPIRE k 10 FIELDS 1 a")
    dialogue.let_pass(10)
    dialogue.effects()
    assert dialogue.ask(line) == reply
    assert dialogue.effects() == effects
    if effects and not line.startswith(("HDEL", "HGETDEL")):
        assert dialogue.ask("HPTTL k FIELDS 1 a") == [-1]
    dialogue.store.databases[0].check()


@pytest.mark.parametrize("count", [1, 64, 200])
def test_expired_fields_are_deleted_in_slices_and_logged(count: int) -> None:
    dialogue = Dialogue()
    names = " ".join(f"f{number}" for number in range(count))
    dialogue.ask("HSET k last 1 " + " ".join(f"f{number} v" for number in range(count)))
    dialogue.ask(f"HPEXPIRE k 10 FIELDS {count} {names}")
    dialogue.let_pass(2000)
    dialogue.effects()
    calls = 0
    while not dialogue.store.expire_cycle(lambda: True):
        calls += 1
        dialogue.store.databases[0].check()
    assert calls >= count // 64
    logged = dialogue.effects()
    assert all(effect.startswith("HDEL k f") and len(effect.split()) <= 66 for effect in logged)
    assert sorted(word for effect in logged for word in effect.split()[2:]) == sorted(names.split())
    assert dialogue.ask("HGETALL k") == [b"last", b"1"]
    assert dialogue.store.expired_fields == count


def test_a_hash_is_deleted_with_its_last_field() -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1", "HPEXPIRE k 10 FIELDS 1 a")
    dialogue.let_pass(2000)
    dialogue.effects()
    assert dialogue.store.expire_cycle(lambda: False)
    assert dialogue.effects() == ["HDEL k a"]
    assert dialogue.ask("EXISTS k") == 0
    dialogue.store.databases[0].check()


@pytest.mark.parametrize(
    "change",
    ["RENAME k j", "COPY k j", "MOVE k 1", "SWAPDB 0 1", "HPEXPIRE k 5 FIELDS 1 a", "HSET k other x", "EXPIRE k 100"],
)
def test_fields_expire_wherever_their_hash_has_gone(change: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1 b 2", "HPEXPIRE k 10 FIELDS 1 a", change)
    dialogue.let_pass(2000)
    assert dialogue.store.expire_cycle(lambda: False)
    for db in dialogue.store.databases:
        db.check()
        for key in db.entries:
            assert db.peek(key).deadlines is None
            assert db.peek(key).get(b"a") is None
            assert db.peek(key).get(b"b") == b"2"


@pytest.mark.parametrize("change", ["HPEXPIRE k 9000 FIELDS 1 a", "HPERSIST k FIELDS 1 a", "HSET k a 1"])
def test_a_field_whose_deadline_was_put_off_lives_on(change: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1", "HPEXPIRE k 10 FIELDS 1 a", change)
    dialogue.let_pass(2000)
    dialogue.effects()
    assert dialogue.store.expire_cycle(lambda: False)
    assert dialogue.effects() == []
    assert dialogue.ask("HGET k a") == b"1"
    dialogue.store.databases[0].check()


@pytest.mark.parametrize("gone", ["DEL k", "SET k v", "FLUSHALL", "PEXPIRE k 1", "UNLINK k"])
def test_a_hash_that_is_gone_leaves_nothing_to_expire(gone: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1", "HPEXPIRE k 10 FIELDS 1 a", gone)
    dialogue.let_pass(2000)
    assert dialogue.store.expire_cycle(lambda: False)
    assert dialogue.store.expired_fields == 0
    fields = dialogue.store.databases[0].fields
    assert fields is not None
    assert fields._second_of == {}
    dialogue.store.databases[0].check()


def test_replay_deletes_no_field_by_the_clock() -> None:
    dialogue = Dialogue()
    dialogue.ask("HSET k a 1 b 2", "HPEXPIRE k 10 FIELDS 1 a", "HPEXPIREAT k 99999999999 FIELDS 1 b")
    replay = Replay()
    for argv in dialogue.bench.log.records:
        replay.engine.apply(0, argv)
    assert all_of(replay.store) == all_of(dialogue.store)


def test_a_locked_hash_keeps_its_expired_fields_until_it_is_free() -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("HSET", "k", "old", "1", "keep", "2")
    client.ask("HPEXPIRE", "k", "10", "FIELDS", "1", "old")
    words = [word for number in range(2000) for word in (f"f{number}", "v")]
    known = len(bench.log.records)
    steps = iter(range(10_000))

    def pass_time() -> None:
        if next(steps) == 3:
            bench.advance(5)
        bench.store.expire_cycle(lambda: False)
        if bench.store.key_lock is not None:
            assert bench.store.expired_fields == 0

    driven(work_of(client.ask("HSET", "k", *words)), pass_time)
    bench.advance(2)
    bench.store.expire_cycle(lambda: False)
    assert bench.store.expired_fields == 1
    assert bench.log.records[-1] == [b"HDEL", b"k", b"old"]
    assert all(argv[0] == b"HSET" for argv in bench.log.records[known:-1])
    bench.store.databases[0].check()


# ---- thousands of fields

LONG: list[tuple[str, Any]] = [
    ("HPEXPIRE k 1000 FIELDS {names}", 1),
    ("HPTTL k FIELDS {names}", -1),
    ("HPERSIST k FIELDS {names}", -1),
    ("HGETDEL k FIELDS {names}", b"v"),
    ("HGETEX k PX 1000 FIELDS {names}", b"v"),
]


@pytest.mark.parametrize(("line", "each"), LONG)
def test_thousands_of_fields_are_done_in_slices(line: str, each: object) -> None:
    client = Bench(default_ttl="0").connect()
    names = [f"f{number}" for number in range(3000)]
    for start in range(0, 3000, 500):
        client.ask("HSET", "k", *(word for name in names[start : start + 500] for word in (name, "v")))
    words = line.format(names=f"3000 {' '.join(names)}").split()
    reply, steps = driven(work_of(client.ask(*words)))
    assert steps > 10
    assert reply.members() == [each] * 3000
    client.bench.store.databases[0].check()
    replay = Replay()
    for argv in client.bench.log.records:
        replay.engine.apply(0, argv)
    assert all_of(replay.store) == all_of(client.bench.store)


@pytest.mark.parametrize(("condition", "reply"), [([], 1), (["FNX"], 0), (["FXX"], 0)])
def test_hsetex_of_thousands_of_fields_sets_all_or_none(condition: list[str], reply: int) -> None:
    client = Bench(default_ttl="0").connect()
    client.ask("HSET", "k", "f2999", "old")
    words = [word for number in range(3000) for word in (f"f{number}", "v")]
    known = len(client.bench.log.records)
    answer, steps = driven(work_of(client.ask("HSETEX", "k", *condition, "EX", "10", "FIELDS", "3000", *words)))
    assert answer == reply
    assert steps > 5 or condition == ["FXX"]
    assert client.ask("HLEN", "k") == (3000 if reply else 1)
    assert (len(client.bench.log.records) > known) == bool(reply)
    client.bench.store.databases[0].check()


@pytest.mark.parametrize("line", ["HGETALL k", "HKEYS k", "HRANDFIELD k 5", "HLEN k", "HSCAN k 0 COUNT 1000"])
def test_a_read_leaves_out_thousands_of_expired_fields_in_slices(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(commands.hashes, "AT_ONCE_FIELDS", 20)
    client = Bench(default_ttl="0").connect()
    client.ask("HSET", "k", *(word for number in range(500) for word in (f"f{number}", "v")))
    names = [f"f{number}" for number in range(480)]
    client.ask("HPEXPIRE", "k", "10", "FIELDS", len(names), *names)
    client.bench.advance(0.02)
    reply = client.ask(*line.split())
    if hasattr(reply, "send"):
        reply, _ = driven(reply)
    left = {b"f%d" % number for number in range(480, 500)}
    if line.startswith("HLEN"):
        assert reply == 20
    elif line.startswith("HSCAN"):
        assert set(reply[1][::2]) <= left
    else:
        found = reply.members() if hasattr(reply, "members") else reply
        assert left.issuperset(found[:: 2 if line.startswith("HGETALL") else 1])
        assert len(found) == {"HGETALL k": 40, "HKEYS k": 20}.get(line, 5)


# ---- a pool


def test_a_pool_deletes_fields_by_the_clock_of_its_log_and_reads_hide_them_before() -> None:
    member = Member()
    member.entry(b"HSET k a 1 b 2 c 3", b"HPEXPIRE k 500 FIELDS 1 a", b"HPEXPIRE k 1500 FIELDS 1 b")
    member.entry(b"HSET j a 1", b"HPEXPIRE j 1500 FIELDS 1 a")
    others = [member, copy_of(member)]
    others[1].seq = member.seq
    for each in others:
        each.replica.tick(START_OF_POOL_MS + 2500)
        assert each.ask(b"HGETALL k") == [b"c", b"3"]
        assert each.ask(b"HLEN j") == 0
        each.store.expire_cycle(lambda: False)
        assert len(each.store.databases[0].peek(b"k")) == 3, "no read and no cycle deletes"
        assert each.replica.has_due_keys(START_OF_POOL_MS + 2500)
        each.entry(b"SET other 1", now_ms=START_OF_POOL_MS + 1000)
        assert list(each.store.databases[0].peek(b"k")) == [b"b", b"c"], "the second of the first deadline is over"
        each.entry(b"SET other 1", now_ms=START_OF_POOL_MS + 2000)
        assert list(each.store.databases[0].peek(b"k")) == [b"c"]
        assert each.store.databases[0].peek(b"j") is None
        assert not each.replica.has_due_keys(START_OF_POOL_MS + 2500)
        each.store.databases[0].check()
    assert others[0].replica.dump() == others[1].replica.dump()
    assert member.store.databases[0].key_order.places == others[1].store.databases[0].key_order.places
