"""What commands log does again what they did: the property that replay, and later the pool, rest on.

Random commands run on one instance while time passes and the active cycle comes by. A follower that has only the
logged effects, and whose clock is a century ahead, must hold the same values and deadlines after every single step.
The first half draws commands on strings by hand, so that Hypothesis can shrink them; the second those of all families
from their grammars.
"""

from __future__ import annotations

import os
import traceback
from random import Random
from typing import Any, NamedTuple

import pytest
from canonical import all_of, answer, check, held
from grammars import ALL, grammar
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from instances import START_MS, Bench, Client, state_of
from random_commands import FAMILIES, Command, random_command
from shrinking import shortest
from soak import THOROUGHNESS

from commands import BLOCKING, MAY_REPLICATE, READONLY, SCRIPT, TABLE, WRITE, fold
from errors import CommandError
from store import Keyspace, Store
from values import rebuild
from values.entry import Entry, deadline_of, value_of

CENTURY_MS = 100 * 365 * 86_400_000

keys = st.sampled_from([b"a", b"b", b"c"])
texts = st.one_of(st.sampled_from([b"", b"hello", b"3.5", b"9223372036854775807", b" 5"]), st.binary(max_size=8))
integers = st.sampled_from([b"5", b"-3", b"0", b"41", b"10", b"9223372036854775807", b"-9223372036854775808", b"x"])
values = st.one_of(texts, integers)
floats = st.sampled_from([b"0.1", b"-2.5e3", b"5", b"inf", b"x", b"1e4000"])
indexes = st.sampled_from([b"0", b"1", b"2", b"99"])
seconds = st.sampled_from([b"1", b"10", b"100", b"100000", b"0", b"-1", b"x", b"9223372036854775807"])
milliseconds = st.sampled_from([b"1", b"500", b"1500", b"60000", b"0", b"-5"])
moments_s = st.sampled_from([b"%d" % (START_MS // 1000 + offset) for offset in (-10, 0, 1, 5, 1000)])
moments_ms = st.sampled_from([b"%d" % (START_MS + offset) for offset in (-10_000, 0, 1, 700, 5000, 1_000_000)])


def words(*parts: bytes | st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[bytes, ...]]:
    """Make a strategy of commands; a part that draws a tuple gives several words."""
    drawn = st.tuples(*(st.just(part) if isinstance(part, bytes) else part for part in parts))
    return drawn.map(lambda got: tuple(w for part in got for w in (part if isinstance(part, tuple) else (part,))))


def maybe(*options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(()), *options)


lives = [
    words(b"EX", seconds),
    words(b"px", milliseconds),
    words(b"EXAT", moments_s),
    words(b"PXAT", moments_ms),
]
conditions = maybe(*(st.just((word,)) for word in (b"NX", b"XX", b"GT", b"LT", b"nx")))
whole_strings = [
    words(b"SET", keys, values),
    words(b"SET", keys, values, maybe(*lives, st.just(b"KEEPTTL"))),
    words(b"SET", keys, values, maybe(*lives), maybe(st.just(b"NX"), st.just(b"XX")), maybe(st.just(b"GET"))),
    words(b"SETEX", keys, seconds, values),
    words(b"PSETEX", keys, milliseconds, values),
    words(b"SETNX", keys, values),
    words(b"GETSET", keys, values),
    words(b"GETDEL", keys),
    words(b"GETEX", keys, maybe(*lives, st.just(b"PERSIST"))),
    words(b"MSET", keys, values, keys, values),
    words(b"MSETNX", keys, values, keys, values),
]
parts_of_strings = [
    words(b"APPEND", keys, values),
    words(b"SETRANGE", keys, integers, values),
    words(b"INCR", keys),
    words(b"DECR", keys),
    words(b"INCRBY", keys, integers),
    words(b"DECRBY", keys, integers),
    words(b"INCRBYFLOAT", keys, floats),
]
deadlines = [
    words(b"EXPIRE", keys, seconds, conditions),
    words(b"PEXPIRE", keys, milliseconds, conditions),
    words(b"EXPIREAT", keys, moments_s, conditions),
    words(b"PEXPIREAT", keys, moments_ms, conditions),
    words(b"PERSIST", keys),
]
moves = [
    words(b"DEL", keys, keys),
    words(b"UNLINK", keys),
    words(b"RENAME", keys, keys),
    words(b"RENAMENX", keys, keys),
    words(b"COPY", keys, keys, maybe(st.just(b"REPLACE"))),
    words(b"COPY", keys, keys, b"DB", indexes, maybe(st.just(b"REPLACE"))),
    words(b"MOVE", keys, indexes),
    words(b"SWAPDB", indexes, indexes),
    words(b"SELECT", indexes),
    words(b"FLUSHDB"),
    words(b"FLUSHALL"),
]
reads = [
    *(words(name, keys) for name in (b"GET", b"TTL", b"TYPE", b"STRLEN", b"EXISTS", b"TOUCH", b"MGET")),
    *(words(name) for name in (b"RANDOMKEY", b"DBSIZE")),
    words(b"KEYS", b"?"),
    words(b"SCAN", b"0"),
    words(b"LCS", keys, keys),
    words(b"GETRANGE", keys, integers, integers),
    words(b"OBJECT", b"IDLETIME", keys),
    words(b"OBJECT", b"ENCODING", keys),
]
commands = st.one_of(*(st.one_of(*family) for family in (whole_strings, parts_of_strings, deadlines, moves, reads)))


def contents(bench: Bench) -> list[dict[bytes, Entry]]:
    """Return values and deadlines of every database, expired keys that still stand there included."""
    return [keyspace.entries for keyspace in bench.store.databases]


class Replication(RuleBasedStateMachine):
    """A leader that clients talk to, and a follower that has nothing but the leader's effects."""

    @initialize()
    def start(self) -> None:
        self.leader = Bench(databases="3")
        self.client = self.leader.connect()
        self.follower = Bench(databases="3")
        self.follower.store.begin_replay(START_MS + CENTURY_MS)
        self.logged: list[list[bytes]] = []

    def catch_up(self) -> None:
        """Apply what the leader logged since the last time."""
        log = self.leader.log
        self.logged = log.records[:]
        for db, argv in zip(log.databases, self.logged, strict=True):
            self.follower.engine.apply(db, argv)
        log.records.clear()
        log.databases.clear()
        assert contents(self.follower) == contents(self.leader)

    @rule(requests=st.lists(commands, min_size=1, max_size=10))
    def ask(self, requests: list[tuple[bytes, ...]]) -> None:
        for argv in requests:
            reply = self.client.ask(*argv)
            self.catch_up()
            if isinstance(reply, CommandError) or not TABLE[argv[0]].flags & WRITE:
                assert all(logged[0] == b"DEL" for logged in self.logged), "only what expired may be logged"

    @rule(milliseconds=st.sampled_from([1, 499, 1000, 2500, 100_000, 7 * 3_600_000]))
    def let_time_pass(self, milliseconds: int) -> None:
        self.leader.store.tick(self.leader.store.now_ms + milliseconds)

    @rule()
    def expire(self) -> None:
        self.leader.store.expire_cycle(lambda: False)
        self.catch_up()

    @rule(default_ttl_ms=st.sampled_from([0, 800, 21_600_000]))
    def change_the_default_ttl(self, default_ttl_ms: int) -> None:
        self.leader.store.default_ttl_ms = default_ttl_ms
        self.leader.store.tick(self.leader.store.now_ms)

    @invariant()
    def both_are_sound(self) -> None:
        for keyspace in self.leader.store.databases + self.follower.store.databases:
            keyspace.check()

    def teardown(self) -> None:
        """Once the follower's clock is right, it answers as the leader does."""
        self.follower.store.tick(self.leader.store.now_ms)
        assert answers(self.follower.connect()) == answers(self.leader.connect())


TestReplication = Replication.TestCase
TestReplication.settings = settings(max_examples=30, stateful_step_count=80)


def answers(client: Client) -> list[Any]:
    found = []
    for index in range(3):
        client.ask("SELECT", index)
        listed = sorted(client.ask("KEYS", "*"))
        found.append([client.ask("DBSIZE"), [(key, client.ask("GET", key), client.ask("PTTL", key)) for key in listed]])
    return found


# ---- every family, by its grammar


FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 3 * THOROUGHNESS)
STEPS = 500
# What others do to an instance is not about its keys.
LEFT_OUT = {b"CLIENT", b"CONFIG", b"DEBUG", b"HELLO", b"AUTH", b"RESET"}
SOME_WORDS = [b"1"] * 9
PAUSES_MS = [1, 499, 1000, 100_000_000, 10_000_000_000]


class Step(NamedTuple):
    """A command, or time that passes before it."""

    argv: Command
    pause_ms: int = 0
    expires: bool = False  # the active cycle comes by


class Difference(Exception):
    """A promise that was broken by the last of so many steps."""

    def __init__(self, ran: int, what: str) -> None:
        super().__init__(ran, what)
        self.ran, self.what = ran, what


def random_steps(family: str, seed: int) -> list[Step]:
    random = Random(f"{family}{seed}")
    steps: list[Step] = []
    while len(steps) < STEPS:
        argv = random_command(random, family)
        if fold(argv[0]) not in LEFT_OUT:
            pause_ms = random.choice(PAUSES_MS) if random.random() < 0.05 else 0
            steps.append(Step(argv, pause_ms, random.random() < 0.05))
    return steps


class Followed:
    """A leader whose every step is looked at, and a follower that has nothing but its effects."""

    def __init__(self, family: str) -> None:
        self.rules = grammar(family)
        self.leader, self.follower = Bench(default_ttl="0"), Bench(default_ttl="0")
        self.session = self.leader.new_session()
        self.follower.store.begin_replay(START_MS + CENTURY_MS)

    def run(self, steps: list[Step]) -> None:
        """Do all steps. Raises Difference."""
        for number, step in enumerate(steps, 1):
            try:
                self._run(number, step, is_last=number == len(steps))
            except CommandError as error:
                raise Difference(number, f"the effects cannot be applied: {error.text!r}") from None

    def _run(self, number: int, step: Step, is_last: bool) -> None:
        if step.pause_ms:
            self.leader.store.tick(self.leader.store.now_ms + step.pause_ms)
        if step.expires:
            self.leader.store.expire_cycle(lambda: False)
            self._follow()
        if what := self._ask(step.argv):
            raise Difference(number, what)
        if number % 50 == 0 or is_last:
            mine, theirs = all_of(self.leader.store), all_of(self.follower.store)
            if mine != theirs:
                places = [place for place in mine.keys() | theirs.keys() if mine.get(place) != theirs.get(place)]
                shown = [f"{place}: {mine.get(place)} became {theirs.get(place)}" for place in places]
                raise Difference(number, "\n".join(["the effects do not say what happened", *shown]))
            try:
                check(self.leader.store)
                check(self.follower.store)
                assert all_of(rebuilt(self.leader.store)) == mine, "what is rebuilt is something else"
            except (AssertionError, CommandError) as error:
                raise Difference(number, traceback.format_exc()) from error

    def _ask(self, argv: Command) -> str:
        """Run a command; return what is wrong with what it logged, or nothing."""
        row, db, now_ms = TABLE.get(fold(argv[0])), self.session.db, self.leader.store.now_ms
        row = row and row.of(argv)
        accepted = row is not None and row.accepts(len(argv)) and not row.subcommands
        keys = row.key_arguments(argv) if row and accepted else []
        before = {key: held(db, key) for key in keys}
        ended = {key for (_, key), entry in state_of(self.leader.store).items() if 0 <= entry[1] <= now_ms}
        reply = answer(self.leader.engine, self.session, argv.copy())
        logged = [each for each in self.leader.log.records if not (each[0] == b"DEL" and ended & set(each[1:]))]
        self._follow()
        if not logged:
            return ""
        if isinstance(reply, CommandError) or row is None or not row.flags & (WRITE | MAY_REPLICATE):
            return f"{reply!r}, and yet {logged}"
        # Who names a word twice may undo what he did, as LMOVE k k of a list of equal elements.
        is_same = len(set(argv)) == len(argv) and bool(keys) and all(held(db, key) == before[key] for key in keys)
        return f"nothing changed, and yet {logged}" if is_same and row.name not in self.rules.repeats else ""

    def _follow(self) -> None:
        log = self.leader.log
        for db, argv in zip(log.databases, log.records, strict=True):
            self.follower.engine.apply(db, argv)
        log.records.clear()
        log.databases.clear()


def test_every_command_on_keys_is_in_the_grammar_of_its_family() -> None:
    named = {template[0].encode() for family in FAMILIES for template in grammar(family).templates}
    rows = [row for row in TABLE.values() if row.flags & (READONLY | WRITE) and not row.flags & (BLOCKING | SCRIPT)]
    assert {row.name for row in rows if row.key_arguments(SOME_WORDS)} - named == set()


def rebuilt(store: Store) -> Store:
    """Make a store of what rebuilds each value, as a rewrite of the log and a pool's snapshot do."""
    copy = Bench(default_ttl="0")
    copy.store.begin_replay(START_MS + CENTURY_MS)
    for db in store.databases:
        for key, entry in db.entries.items():
            for argv in rebuild(key, value_of(entry), deadline_of(entry)):
                copy.engine.apply(db.index, list(argv))
    return copy.store


def first_difference(family: str, seed: int) -> tuple[list[Step], Difference] | None:
    """Follow random steps; return the shortest sequence that breaks a promise, and how."""

    def differ(steps: list[Step]) -> Difference | None:
        try:
            Followed(family).run(steps)
        except Difference as difference:
            return difference
        return None

    return shortest(random_steps(family, seed), differ, lambda difference: difference.ran)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", [*FAMILIES, ALL])
def test_the_effects_of_random_commands_make_the_same_store(family: str, seed: int) -> None:
    if found := first_difference(family, seed):
        listing = "\n".join(f"{step.pause_ms or ''} {' '.join(map(repr, step.argv))}" for step in found[0])
        pytest.fail(f"{family}, seed {seed}\n{listing}\n{found[1].what}", pytrace=False)


def test_the_comparison_notices_an_effect_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that holds of anything would pass above."""
    monkeypatch.setattr(Keyspace, "effect", lambda *_: None)
    found = first_difference("strings", 0)
    assert found
    assert len(found[0]) <= 3


REFUSED_OR_IDLE = """
DEL nokey
UNLINK nokey nokey2
SET key v NX
SET nokey v XX
SET nokey v XX GET
SETNX key v
MSETNX new v key v
GETDEL nokey
GETEX key
GETEX key PERSIST
GETEX nokey EX 10
PERSIST key
PERSIST nokey
EXPIRE nokey 10
EXPIRE key 10 XX
EXPIRE key 10 GT
EXPIRE nokey -1
RENAME key key
RENAMENX key other
COPY key other
COPY nokey other REPLACE
MOVE nokey 1
MOVE key 1
SWAPDB 0 0
SWAPDB 2 3
APPEND key ''
SETRANGE key 3 ''
SETRANGE nokey 3 ''
INCR key
INCRBYFLOAT key 1
SET key v EX 0
SETEX key nonsense v
GET key
SELECT 1
FLUSHDB
"""


@pytest.mark.parametrize("line", REFUSED_OR_IDLE.strip().splitlines())
def test_what_changes_nothing_logs_nothing(line: str) -> None:
    bench = Bench(default_ttl="0")
    client = bench.connect()
    client.ask("SELECT", 1)
    client.ask("SET", "key", "value")
    client.ask("SELECT", 0 if line != "FLUSHDB" else 5)
    client.ask("MSET", "key", "value", "other", "value") if line != "FLUSHDB" else None
    before = len(bench.log.records)
    client.ask(*(word if word != "''" else "" for word in line.split()))
    assert bench.log.records[before:] == []
