"""What every type is promised beside its commands: counted, evicted, rewritten, checked, exported, cut off in time.

The commands are those of the grammars, family by family where one must show what it does, and all at once where types
could get into each other's way. `test_value_types.py` has the contract of a type's row.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from canonical import Held, all_of, answer, canonical, check
from instances import Bench, Harness
from log_model import IN_MEMORY
from random_commands import FAMILIES, Command, of_any_family, random_command
from rewrite_rig import Rig, replayed
from soak import THOROUGHNESS

from cli import log_tools
from commands import READONLY, TABLE, WRITE, fold
from config import Config
from log.export import copy_until, export
from log.rewrite import Rewrite
from values import TYPES

FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 3 * THOROUGHNESS)
# A command that makes a value of each type, of some 400 bytes.
MAKERS = {
    b"string": b"SET {} {v}",
    b"list": b"RPUSH {} {v} {v}",
    b"hash": b"HSET {} f {v} g {v}",
    b"set": b"SADD {} a{v} b{v}",
    b"zset": b"ZADD {} 1 a{v} 2 b{v}",
    b"stream": b"XADD {} 1-1 f {v} g {v}",
}
LONG = b"x" * 200


def on_keys(argv: Command) -> bool:
    """Return True for a command that reads or writes keys."""
    row = TABLE.get(fold(argv[0]))
    return row is not None and bool(row.flags & (READONLY | WRITE))


def commands(random: Random, count: int, family: str = "") -> Iterator[Command]:
    """Make up commands on keys, of one family or of all."""
    made = 0
    while made < count:
        argv = random_command(random, family) if family else of_any_family(random)
        if on_keys(argv):
            made += 1
            yield argv


def run(harness: Harness[Any], argv: Command) -> None:
    if not harness.instance.clients:
        harness.new_session()
    answer(harness.engine, next(iter(harness.instance.clients.values())), argv.copy())


def maker(kind: bytes, key: bytes) -> Command:
    return [word.replace(b"{}", key).replace(b"{v}", LONG) for word in MAKERS[kind].split()]


def test_every_type_has_a_command_that_makes_it() -> None:
    assert {row.name for row in TYPES.values()} <= MAKERS.keys()
    for row in TYPES.values():
        bench = Bench()
        run(bench, maker(row.name, b"k"))
        [(name, _, _)] = all_of(bench.store).values()
        assert name == row.name


# ---- memory


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_account_is_that_of_a_recount_whatever_is_done(family: str, seed: int) -> None:
    random = Random(seed)
    policy = random.choice(["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru"])
    bench = Bench(maxmemory=random.choice(["20000", "100mb"]), maxmemory_policy=policy, default_ttl="0")
    for number, argv in enumerate(commands(random, 400, family)):
        run(bench, argv)
        if number % 8 == 0:
            check(bench.store)
        if random.random() < 0.02:
            bench.advance(random.choice([1, 10**6, 10**8]))
            bench.store.expire_cycle(lambda: False)
    check(bench.store)


@pytest.mark.parametrize("kind", sorted(row.name for row in TYPES.values()))
def test_values_of_each_type_are_evicted_until_there_is_room(kind: bytes) -> None:
    bench = Bench(maxmemory="60000", maxmemory_policy="allkeys-lru")
    memory = bench.instance.eviction.memory
    assert memory is not None
    for number in range(400):
        run(bench, maker(kind, b"k%d" % number))
        assert memory.used_bytes <= 60_000 + 2000
    check(bench.store)
    assert bench.store.evicted_keys > 200
    assert {name for name, _, _ in all_of(bench.store).values()} == {kind}
    assert [argv[0] for argv in bench.log.records].count(b"DEL") == bench.store.evicted_keys


# ---- the rewrite


class AllTypes:
    """An instance with a log, whose clients run commands of all families."""

    def __init__(self, directory: str, random: Random) -> None:
        self.rig, self.random = Rig(directory, maxmemory="100mb"), random  # so that there is an account
        self.change(150)
        self.rig.end_turn()

    def change(self, count: int) -> None:
        for argv in commands(self.random, count):
            if fold(argv[0]) != b"FLUSHDB" or self.random.random() < 0.2:
                answer(self.rig.engine, self.rig.session, argv)

    def held(self) -> dict[tuple[int, bytes], Held]:
        return all_of(self.rig.store)

    def replayed(self) -> dict[tuple[int, bytes], Held]:
        return canonical(replayed(self.rig.path))


@pytest.fixture(params=["as the types say", "3", "0"], ids=["", "from 3 elements", "all"])
def _large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let values count as large of more elements than usual ones have, of more than 3, and all of them."""
    if request.param.isdigit():
        elements = int(request.param)
        for kind, row in TYPES.items():
            if kind is not bytes:
                monkeypatch.setitem(TYPES, kind, row._replace(is_large=lambda value: len(value) > elements))


@pytest.fixture
def all_types(request: pytest.FixtureRequest) -> Iterator[AllTypes]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        made = AllTypes(directory, Random(request.node.name))
        yield made
        for job, _ in made.rig.jobs:
            job()
        made.rig.log.close()


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("seed", range(8 * THOROUGHNESS))
def test_a_log_that_is_rewritten_while_all_types_change_says_what_the_keyspace_holds(
    all_types: AllTypes, seed: int
) -> None:
    rig, random = all_types.rig, Random(seed)
    rig.ask("BGREWRITEAOF")
    rig.end_turn()
    for _ in range(120):
        all_types.change(random.randrange(4))
        match random.randrange(8):
            case 0 | 1 | 2 | 3:
                rig.step()
            case 4:
                rig.end_turn()
            case 5:
                rig.store.expire_cycle(lambda: False)
            case 6:
                rig.end_turn()
                rig.store.tick(rig.store.now_ms + random.choice([1, 1500, 10**8, 10**10]))
    rig.finish()
    assert rig.instance.rewrite.last_failure == ""
    check(rig.store)
    assert all_types.replayed() == all_types.held()
    assert rig.store.shared.readers == {}


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("seed", range(8 * THOROUGHNESS))
def test_the_snapshot_of_all_types_is_that_of_the_start(all_types: AllTypes, seed: int) -> None:
    rig, random = all_types.rig, Random(seed)
    before = all_types.held()
    assert all_types.replayed() == before
    rewrite = Rewrite(rig.log, rig.store)
    for _ in range(200):
        next(rewrite._walk, None)  # the smallest step there is
        all_types.change(random.randrange(3))
    while not rewrite.walk(lambda: True):
        pass
    rewrite.write_out()
    assert canonical(replayed(rewrite.successor.path)) == before
    rewrite.abandon()
    rewrite.close()


# ---- the tools


@pytest.mark.parametrize("seed", range(4))
def test_check_export_and_until_know_a_log_with_all_types(all_types: AllTypes, seed: int, tmp_path: Path) -> None:
    rig = all_types.rig
    moment_ms, at_moment = rig.store.now_ms + 1000, all_types.held()
    rig.store.tick(moment_ms)
    all_types.change(100)
    if seed % 2:
        rig.ask("BGREWRITEAOF")
        rig.finish()
        all_types.change(50)
    rig.end_turn()
    rig.log.close()
    assert log_tools.check(Config({}, {}), rig.path, do_repair=False) == log_tools.WHOLE
    output = io.BytesIO()
    assert export(rig.path, output.write, rig.store.now_ms, 0) == 0
    exported = tmp_path / "exported"
    exported.write_bytes(output.getvalue())
    assert canonical(replayed(str(exported))) == all_types.held()
    if not seed % 2:
        copy_until(rig.path, moment_ms, str(tmp_path / "then"))
        assert canonical(replayed(str(tmp_path / "then"))) == at_moment
    rig.log.open()
