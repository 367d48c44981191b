"""Deadlines: how they are set and read, that the expired is absent for every command, and that a log restores them."""

from __future__ import annotations

import pytest
from fakes import START_MS, START_S, Dialogue, answers_and_logs
from tables import for_each

import errors
from keyspace.expiry import ExpiryIndex
from values.entry import Entry, entry_of

MAX = 2**63 - 1
HOUR_MS = 3_600_000

CASES = [
    # before, command, reply, effects
    ("SET key v", "EXPIRE key 10", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v", "PEXPIRE key 10", 1, [f"PEXPIREAT key {START_MS + 10}"]),
    ("SET key v", "EXPIREAT key 1800000000", 1, ["PEXPIREAT key 1800000000000"]),
    ("SET key v", "PEXPIREAT key 1800000000001", 1, ["PEXPIREAT key 1800000000001"]),
    ("SET key v", "EXPIRE key 0", 1, ["DEL key"]),
    ("SET key v", "EXPIRE key -1", 1, ["DEL key"]),
    ("SET key v", f"PEXPIREAT key {START_MS}", 1, ["DEL key"]),
    ("SET key v", f"PEXPIREAT key {START_MS + 1}", 1, [f"PEXPIREAT key {START_MS + 1}"]),
    ("SET key v", f"PEXPIREAT key {-MAX}", 1, ["DEL key"]),
    ("SET other v", "EXPIRE key 10", 0, []),
    ("SET key v", "EXPIRE key ten", errors.NOT_AN_INTEGER, []),
    ("SET key v", f"EXPIRE key {MAX}", errors.INVALID_EXPIRE % b"expire", []),
    ("SET key v", f"EXPIRE key {-MAX}", errors.INVALID_EXPIRE % b"expire", []),
    ("SET key v", f"PEXPIRE key {MAX}", errors.INVALID_EXPIRE % b"pexpire", []),
    ("SET key v", f"EXPIREAT key {MAX}", errors.INVALID_EXPIRE % b"expireat", []),
    ("SET key v", f"EXPIREAT key {MAX // 1000}", 1, [f"PEXPIREAT key {MAX // 1000 * 1000}"]),
    ("SET key v", "EXPIRE key 10 SOON", errors.UNSUPPORTED_OPTION % b"SOON", []),
    ("SET key v", "EXPIRE key ten SOON", errors.UNSUPPORTED_OPTION % b"SOON", []),
    ("SET key v", "EXPIRE key 10 NX GT", errors.NX_AND_OTHERS, []),
    ("SET key v", "EXPIRE key 10 LT GT", errors.GT_AND_LT, []),
    ("SET key v", "EXPIRE key 10 nx", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v EX 5", "EXPIRE key 10 NX", 0, []),
    ("SET key v", "EXPIRE key 10 XX", 0, []),
    ("SET key v EX 5", "EXPIRE key 10 XX", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v", "EXPIRE key 10 GT", 0, []),
    ("SET key v EX 10", "EXPIRE key 10 GT", 0, []),
    ("SET key v EX 9", "EXPIRE key 10 GT", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v", "EXPIRE key 10 LT", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v EX 10", "EXPIRE key 10 LT", 0, []),
    ("SET key v EX 11", "EXPIRE key 10 XX LT", 1, [f"PEXPIREAT key {START_MS + 10_000}"]),
    ("SET key v", "EXPIRE key 10 XX LT", 0, []),
    ("SET key v EX 5", "EXPIRE key -1 LT", 1, ["DEL key"]),
    ("SET key v EX 5", "PERSIST key", 1, ["PERSIST key"]),
    ("SET key v", "PERSIST key", 0, []),
    ("SET other v", "PERSIST key", 0, []),
    ("SET key v", "TTL key", -1, []),
    ("SET other v", "TTL key", -2, []),
    ("SET key v", "PEXPIRETIME key", -1, []),
    ("SET other v", "EXPIRETIME key", -2, []),
    ("SET key v PX 1499", "TTL key", 1, []),
    ("SET key v PX 1500", "TTL key", 2, []),
    ("SET key v PX 1500", "PTTL key", 1500, []),
    ("SET key v PX 1500", "EXPIRETIME key", START_S + 2, []),
    ("SET key v PX 1500", "PEXPIRETIME key", START_MS + 1500, []),
    (f"SET key v PXAT {MAX}", "PEXPIRETIME key", MAX, []),
]


@for_each(("before", "line", "reply", "effects"), CASES)
def test_what_a_command_answers_and_logs(before: str, line: str, reply: object, effects: list[str]) -> None:
    answers_and_logs(before, line, reply, effects)


# ---- the default life


@pytest.mark.parametrize(
    "line",
    ["SET key v", "SET key v XX", "SET key v GET", "MSET key v other v", "GETSET key v", "SETNX new v", "MSETNX new v"],
)
def test_whole_strings_get_the_default_life(line: str) -> None:
    dialogue = Dialogue(default_ttl="6h")
    if "new" not in line:
        dialogue.ask("SET key old EX 1")
    dialogue.effects()
    dialogue.ask(line)
    deadline_ms = START_MS + 6 * HOUR_MS
    assert dialogue.ask(f"PEXPIRETIME {'new' if 'new' in line else 'key'}") == deadline_ms
    assert all(effect.endswith(f" PXAT {deadline_ms}") for effect in dialogue.effects())


@pytest.mark.parametrize(
    "line", ["APPEND key v", "INCR key", "SETRANGE key 0 v", "INCRBYFLOAT key 1", "SET key v KEEPTTL"]
)
def test_keys_made_by_other_commands_have_no_end(line: str) -> None:
    dialogue = Dialogue(default_ttl="6h")
    dialogue.ask(line)
    assert dialogue.ask("TTL key") == -1


@pytest.mark.parametrize(
    "line",
    [
        "APPEND key 1",
        "INCR key",
        "DECRBY key 2",
        "SETRANGE key 0 2",
        "INCRBYFLOAT key 1",
        "SET key v KEEPTTL",
        "GETEX key",
    ],
)
def test_a_changed_value_keeps_its_deadline(line: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key 5 PX 5000", line)
    assert dialogue.ask("PTTL key") == 5000


def test_the_default_life_can_be_changed_and_switched_off() -> None:
    dialogue = Dialogue(default_ttl="10")
    assert dialogue.ask("SET key v", "TTL key") == 10
    dialogue.store.default_ttl_ms = 0
    dialogue.let_pass(0)
    assert dialogue.ask("SET key v", "TTL key") == -1


def test_renamed_and_copied_keys_take_no_default_life() -> None:
    dialogue = Dialogue(default_ttl="6h")
    dialogue.ask("SET key v EX 10", "RENAME key new", "COPY new copy", "COPY new new DB 1")
    assert dialogue.ask("TTL new") == dialogue.ask("TTL copy") == dialogue.ask("SELECT 1", "TTL new") == 10


# ---- expired is absent


ABSENT = [
    ("GET key", None),
    ("GETEX key", None),
    ("GETDEL key", None),
    ("GETSET key v", None),
    ("SET key v XX", None),
    ("SET key v NX", b"OK"),
    ("SET key v GET", None),
    ("SETNX key v", 1),
    ("MSETNX key v", 1),
    ("MGET key", [None]),
    ("STRLEN key", 0),
    ("GETRANGE key 0 -1", b""),
    ("APPEND key v", 1),
    ("SETRANGE key 1 v", 2),
    ("INCR key", 1),
    ("INCRBYFLOAT key 1.5", b"1.5"),
    ("LCS key key", b""),
    ("DEL key", 0),
    ("UNLINK key", 0),
    ("EXISTS key", 0),
    ("TOUCH key", 0),
    ("TYPE key", b"none"),
    ("TTL key", -2),
    ("PTTL key", -2),
    ("EXPIRETIME key", -2),
    ("PEXPIRETIME key", -2),
    ("EXPIRE key 10", 0),
    ("PERSIST key", 0),
    ("KEYS *", []),
    ("SCAN 0", [b"0", []]),
    ("RANDOMKEY", None),
    ("DBSIZE", 0),
    ("RENAME key new", errors.NO_SUCH_KEY),
    ("RENAMENX key new", errors.NO_SUCH_KEY),
    ("COPY key new", 0),
    ("MOVE key 1", 0),
    ("OBJECT ENCODING key", None),
    ("OBJECT IDLETIME key", None),
    ("OBJECT REFCOUNT key", None),
]


@for_each(("line", "reply"), ABSENT)
def test_the_expired_is_absent_for(line: str, reply: object) -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key 12345 PX 1000")
    dialogue.let_pass(999)
    assert dialogue.ask("GET key") == b"12345"
    dialogue.let_pass(1)
    assert dialogue.ask(line) == reply


def test_del_hands_out_no_expired_value() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key v PX 1000")
    dialogue.let_pass(1000)
    assert dialogue.ask("DEL key").values == [None]


@pytest.mark.parametrize("line", ["RENAMENX key gone", "COPY key gone", "MOVE other 1"])
def test_an_expired_key_stands_in_nobodys_way(line: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("SELECT 1", "SET other old PX 1000", "SELECT 0", "MSET key v other v", "SET gone old PX 1000")
    dialogue.let_pass(1000)
    assert dialogue.ask(line) == 1


@pytest.mark.parametrize("line", ["GET key", "EXISTS key", "TTL key", "DEL key", "INCR key"])
def test_whoever_meets_an_expired_key_logs_its_deletion_once(line: str) -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key 1 PX 1000")
    dialogue.let_pass(1000)
    dialogue.effects()
    dialogue.ask(line, line)
    dialogue.store.expire_cycle(lambda: False)
    assert dialogue.effects().count("DEL key") == 1
    assert dialogue.store.expired_keys == 1


def test_the_active_cycle_finds_what_nobody_asks_for() -> None:
    dialogue = Dialogue()
    dialogue.ask("SET key 1 PX 1000", "SET other 1 PX 5000", "SET stays 1")
    dialogue.let_pass(2000)
    dialogue.effects()
    assert dialogue.store.expire_cycle(lambda: False)
    assert dialogue.effects() == ["DEL key"]
    assert len(dialogue.store.databases[0]) == 2


def test_a_deadline_in_the_past_makes_a_key_absent_at_once() -> None:
    dialogue = Dialogue()
    assert dialogue.ask("SET key v PXAT 1") == b"OK"
    assert dialogue.ask("GET key") is None
    assert dialogue.effects() == ["SET key v PXAT 1", "DEL key"]


# ---- what a log restores


def restarted(before: Dialogue, down_ms: int) -> Dialogue:
    """Return a fresh instance that applied the other one's log and came up so much later."""
    after = Dialogue()
    after.store.begin_replay(before.store.now_ms + down_ms)
    for db, argv in zip(before.bench.log.databases, before.bench.log.records, strict=True):
        after.bench.engine.apply(db, argv)
    after.store.tick(before.store.now_ms + down_ms)
    after.effects()
    return after


def test_a_key_that_expired_before_the_log_ends_stays_gone() -> None:
    before = Dialogue()
    before.ask("SET key 41 PX 1000")
    before.let_pass(1000)
    before.ask("INCR key")
    after = restarted(before, down_ms=0)
    assert after.ask("GET key") == b"1"
    assert after.ask("TTL key") == -1


def test_a_key_that_expired_unseen_stays_gone() -> None:
    before = Dialogue()
    before.ask("SET key v PX 1000")
    before.let_pass(1000)
    after = restarted(before, down_ms=0)
    assert after.ask("GET key") is None
    assert after.effects() == ["DEL key"]


def test_a_key_made_again_after_it_expired_has_its_new_life() -> None:
    before = Dialogue()
    before.ask("SET key old PX 1000")
    before.let_pass(1500)
    before.ask("SET key new EX 100")
    after = restarted(before, down_ms=1000)
    assert after.ask("GET key") == b"new"
    assert after.ask("TTL key") == 99


def test_a_key_that_expires_while_the_server_is_down_is_gone() -> None:
    before = Dialogue()
    before.ask("SET key v EX 10", "APPEND key w", "SET stays v EX 100")
    after = restarted(before, down_ms=50_000)
    assert after.ask("GET key") is None
    assert after.ask("TTL stays") == 50
    assert after.ask("DBSIZE") == 1


def test_replay_gives_no_default_life() -> None:
    before = Dialogue()
    before.ask("SET key v")
    after = Dialogue(default_ttl="6h")
    after.store.begin_replay(START_MS)
    after.bench.engine.apply(0, before.bench.log.records[0])
    after.store.tick(START_MS)
    assert after.ask("TTL key") == -1


def test_keys_whose_deletion_finds_no_memory_are_looked_at_again() -> None:
    entries: dict[bytes, Entry] = {}
    index = ExpiryIndex(entries, 0)
    for number in range(10):
        key = b"k%d" % number
        entries[key] = entry_of(b"v", 500)
        index.add(key, 500)

    def delete_some(key: bytes) -> None:
        if len(entries) < 6:
            raise MemoryError
        del entries[key]

    with pytest.raises(MemoryError):
        index.expire(2000, delete_some, lambda: False)
    index.check(0)
    assert index.expire(2000, entries.__delitem__, lambda: False)
    index.check(2000)
    assert not entries
