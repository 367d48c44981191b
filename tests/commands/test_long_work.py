"""A command that is done in slices, interleaved with any requests, does what it does in one go.

The commands are those of the table: whatever takes any number of words, and whatever writes, as a request of many
megabytes is run. The limits from which a command is done in slices are made small, so that ten words are many and a
hundred bytes are huge. Between the slices come requests of others, ends of turns, fsyncs, housekeeping, a rewrite, and
failures of the disk.

A command that writes takes effect when it ends, as one that reads does when it begins: the requests that were answered
meanwhile come before it or behind it, and those that were held back come after it. A plain instance runs the same
requests in that order. What walks over a whole keyspace promises less: see test_keyspace_walk.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from instances import Harness, State, run_one, state_of
from log_model import IN_MEMORY
from program_files import PROGRAM
from random_commands import FAMILIES, Command, fill, random_command, templates
from rewrite_rig import replayed
from soak import THOROUGHNESS
from stepped_turn import DATABASES, Rig

from aof import NullLog
from commands import BLOCKING, READONLY, TABLE, WRITE, fold
from commands.keyspace_walk import at_once
from errors import CommandError
from keyspace.key_locks import KeyLock
from replies import HELD_BACK, Deleted, LongArray, Work
from session import Session

FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SMALL = {
    "AT_ONCE_WORDS": 8,
    "PART_WORDS": 4,
    "HUGE_BYTES": 60,
    "LONG_BATCH_BYTES": 300,
    "STEP_BYTES": 200,
}
HOMES = {path.parent for path in PROGRAM}
MAKING = {  # family -> a command that makes a value, and what follows its key
    "hashes": "HSET value value value value",
    "sets": "SADD value value value value",
    "hyperloglog": "PFADD value value",
    **dict.fromkeys(
        ("sorted_sets", "sorted_set_ranges", "sorted_set_pops", "sorted_set_algebra", "geo"),
        "ZADD number value number value",
    ),
}
MOST_SLICES = 10_000
POLICIES = "always", "everysec"
REPEATED = re.compile(r"([a-z]+ )*\[(?P<group>([a-z]+ )+)\.\.\.\]")  # such as `key value [key value ...]`
# Others may ask anything that works on keys, is answered at once, and has no chance or clock in its answer.
NOT_ASKED = b"SCAN RANDOMKEY OBJECT MEMORY APPEND SETRANGE FLUSHDB GETRANGE SUBSTR BITCOUNT BITPOS BITOP".split()


@cache
def limits() -> list[tuple[ModuleType, str]]:
    """Return where a limit stands: each module of the program has its own copy."""
    modules = [
        module for module in sys.modules.values() if Path(getattr(module, "__file__", None) or "/").parent in HOMES
    ]
    return [(module, name) for module in modules for name in SMALL.keys() & vars(module).keys()]


def of_many_words() -> list[bytes]:
    """Name the commands that take any number of words."""
    rows = [row for row in TABLE.values() if row.flags & (READONLY | WRITE) and REPEATED.fullmatch(row.syntax)]
    return sorted(row.name for row in rows)


def with_many_words(name: bytes, random: Random) -> Command:
    """Make a request that is done in slices."""
    found = REPEATED.fullmatch(TABLE[name].syntax)
    assert found
    group = found["group"].split()
    fixed = TABLE[name].syntax[: found.start("group") - 1].split()
    times = random.randint(SMALL["AT_ONCE_WORDS"], 5 * SMALL["AT_ONCE_WORDS"]) // len(group)
    words = [word for slot in [*fixed, *group * times] for word in word_for(slot, random)]
    if "numkeys" in fixed:
        words[fixed.index("numkeys")] = b"%d" % (times + fixed.count("key"))
    return [name, *words]


def word_for(slot: str, random: Random) -> Iterable[bytes]:
    """Make a word for an argument of this name."""
    if slot == "id":
        return [b"50-%d" % random.randrange(9)]
    return fill({"key": "key", "score": "number"}.get(slot, "value"), random)


def asked_by_others(random: Random, begun: Command) -> Command:
    """Make a request that is answered at once, often for a key of the command that has begun."""
    if random.random() < 0.3:
        keys = TABLE[fold(begun[0])].key_arguments(begun) or [b"none"]
        return [random.choice([b"DEL", b"TYPE", b"TOUCH"]), random.choice(keys)]
    while True:
        argv = random_command(random, random.choice(FAMILIES))
        row = TABLE.get(fold(argv[0]))
        wanted = row is not None and row.flags & (READONLY | WRITE) and row.name not in NOT_ASKED
        if wanted and len(argv) <= SMALL["AT_ONCE_WORDS"] and sum(map(len, argv)) < SMALL["LONG_BATCH_BYTES"]:
            return argv


def that_write() -> list[bytes]:
    """Name the commands that write keys, but for those that wait for a key, which are in no grammar."""
    rows = [row for row in TABLE.values() if row.flags & WRITE and row.has_keys]
    return sorted(row.name for row in rows if not row.flags & BLOCKING or templates(row.name.decode()))


def with_huge_values(name: bytes, random: Random) -> Command:
    """Make a request of a command, most values of which are huge."""
    found = templates(name.decode())
    family, template = random.choice([each for each in found if "value" in each[1]] or found)
    return [
        word for slot in template for word in (huge_value(random) if slot == "value" else fill(slot, random, family))
    ]


def has_values(name: bytes) -> bool:
    """Return True if a request of a command may have huge words, and logs them."""
    return name != b"DELIFEQ" and any("value" in template for _, template in templates(name.decode()))


def huge_value(random: Random) -> Iterable[bytes]:
    return [random.randbytes(random.choice([70, 201, 400, 1000]))] if random.random() < 0.7 else fill("value", random)


def plain(argv: Command, reply: Any) -> Any:
    """Return a reply as a value that can be compared."""
    if isinstance(reply, CommandError):
        return reply.text
    if isinstance(reply, LongArray):
        return reply.members()
    if isinstance(reply, Deleted):
        return int(reply), reply.values
    if fold(argv[0]) == b"KEYS" and isinstance(reply, list):
        return sorted(reply)
    return bytes(reply) if isinstance(reply, memoryview) else reply


def live_state(harness: Harness[Any]) -> State:
    """Return what has not expired."""
    now_ms = harness.store.now_ms
    return {place: entry for place, entry in state_of(harness.store).items() if not 0 <= entry[1] <= now_ms}


def is_refused(reply: Any) -> bool:
    """Return True if a request did not run since the log cannot be written."""
    return isinstance(reply, CommandError) and reply.text.startswith(b"MISCONF")


class Interleaved:
    """A command that is done in slices on an instance with a log, and what others ask between its slices."""

    def __init__(self, rig: Rig, random: Random, begun: Command, as_huge: bool) -> None:
        self.rig, self.random, self.begun, self.as_huge = rig, random, begun, as_huge
        self.sessions = sessions_of(rig)
        self.asked: list[tuple[int, Command]] = []  # by which session, in the order in which it took effect
        self.replies: list[Any] = []
        self.held_back: list[tuple[int, Command]] = []
        self.place: int | None = None  # among them of the command itself; None: behind what was asked so far
        self.slices = 0
        self.fails = random.random() < 0.5  # the disk, now and then

    def run(self) -> None:
        """Do the command, and then what was held back."""
        reply = self._done()
        place = len(self.asked) if self.place is None else self.place
        if not is_refused(reply):
            self.asked.insert(place, (0, self.begun))
            self.replies.insert(place, plain(self.begun, reply))
        self._mend()
        waited, self.held_back = self.held_back, []
        self.was_held_back = len(waited)
        for number, argv in waited:
            self._ask(number, argv)
        assert not self.held_back, "nothing holds anybody back any more"
        self.rig.settle()

    def _done(self) -> Any:
        argv, engine = self.begun.copy(), self.rig.engine
        work = engine.run_huge(self.sessions[0], argv) if self.as_huge else run_one(engine, self.sessions[0], argv)
        if not isinstance(work, Generator):
            return work
        self._between()
        if not TABLE[fold(argv[0])].flags & WRITE:
            self.place = len(self.asked)
        for _ in range(MOST_SLICES):
            locks = self.rig.store.key_lock is not None
            try:
                next(work)
            except StopIteration as end:
                return end.value
            except CommandError as error:
                return error
            if locks and self.rig.store.key_lock is None:  # what is left to do is to free the words
                self.place = len(self.asked)
            self.slices += 1
            self._between()
        return pytest.fail("it does not end")

    def _mend(self) -> None:
        """Let the disk be whole again, and write and sync what was not."""
        rig = self.rig
        rig.failing_writes, rig.failing_syncs = False, 0
        for _ in range(5):
            rig.settle()
            rig.turn.each_second()
            while rig.turn.writes_again:
                rig.turn.write_again(lambda: True)
        assert rig.log.failure is None
        assert not rig.log.pieces

    def _between(self) -> None:
        rig, random = self.rig, self.random
        match random.randrange(9):
            case 0:
                rig.turn.end()
            case 1 if rig.jobs:
                rig.fsync()
            case 2:
                rig.turn.rewriter.step(lambda: False)
            case 3 if rig.log.failure is None:
                rig.store.expire_cycle(lambda: False)
            case 6:
                rig.turn.each_second()
            case 7 if rig.turn.writes_again:
                rig.turn.write_again(lambda: True)
            case 8 if self.fails:
                rig.failing_writes = random.random() < 0.3
                rig.failing_syncs = random.random() < 0.3
            case 4 | 5:
                self._ask(random.choice([1, 2]), asked_by_others(random, self.begun))

    def _ask(self, number: int, argv: Command) -> None:
        reply = run_one(self.rig.engine, self.sessions[number], argv.copy())
        if reply is HELD_BACK:
            self.held_back.append((number, argv))
        elif not is_refused(reply):
            self.asked.append((number, argv))
            self.replies.append(plain(argv, reply))


def sessions_of(harness: Harness[Any]) -> list[Session]:
    """Connect the one who begins, and two others; one of them is in another database."""
    sessions = [harness.new_session() for _ in range(3)]
    for session, db in zip(sessions, (1, 1, 0), strict=True):
        session.db = harness.store.databases[db]
    return sessions


def fill_some(harness: Harness[Any], random: Random, name: bytes) -> None:
    """Make some keys, of which some have expired: mostly of the type that a command works on, else strings."""
    session = harness.new_session()
    making = MAKING.get(TABLE[name].group, "SET") if random.random() < 0.8 else "SET"
    for _ in range(random.randrange(12)):
        session.db = harness.store.databases[random.randrange(2)]
        (key,) = fill("key", random)
        command, *slots = making.split()
        words = [word for slot in slots for word in fill(slot, random)] or huge_value(random)
        run_one(harness.engine, session, [command.encode(), key, *words])
        if life := random.choice([b"", b"5", b"1000000"]):
            run_one(harness.engine, session, [b"PEXPIRE", key, life])
    harness.advance(0.01)


def done(work: Work) -> Any:
    """Do a work without a pause, and return its reply or error."""
    try:
        return at_once(work)
    except CommandError as error:
        return error


def in_one_go(requests: list[tuple[int, Command]], seed: int, name: bytes) -> tuple[list[Any], State]:
    """Run requests one after another on a plain instance; return their replies, and what is there then."""
    plainly = Harness(NullLog(), databases=str(DATABASES), default_ttl="0")
    fill_some(plainly, Random(seed), name)
    sessions = sessions_of(plainly)
    replies = []
    for number, argv in requests:
        reply = run_one(plainly.engine, sessions[number], argv.copy())
        replies.append(plain(argv, done(reply) if isinstance(reply, Generator) else reply))
    return replies, live_state(plainly)


def interleaved(directory: str, seed: int, begun: Command, as_huge: bool) -> Interleaved:
    """Do a command in slices, among requests of others; assert what is said above, and return it."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limit in limits():
            patch.setattr(module, limit, SMALL[limit])
        rig = Rig(Path(directory), patch, POLICIES[seed % 2])
        fill_some(rig, Random(seed), begun[0])
        rig.settle()
        done = Interleaved(rig, Random(seed), begun, as_huge)
        if done.random.random() < 0.3:
            run_one(rig.engine, done.sessions[1], [b"BGREWRITEAOF"])
            rig.turn.end()
        done.run()
        for db in rig.store.databases:
            db.check()
            assert db.views == () or rig.instance.rewrite.in_progress
        assert rig.store.key_lock is None
        while rig.store.garbage and not rig.instance.rewrite.in_progress:
            rig.store.expire_cycle(lambda: False)
        found = live_state(rig)
        while rig.instance.rewrite.in_progress:
            rig.turn.rewriter.step(lambda: False)
            rig.settle()
        assert replayed(rig.log.path) == state_of(rig.store)
        rig.close()
    replies, expected = in_one_go(done.asked, seed, begun[0])
    for (number, argv), reply, wanted in zip(done.asked, done.replies, replies, strict=True):
        assert reply == wanted, (number, argv)
    assert found == expected
    return done


ROUNDS = 10 * THOROUGHNESS


@pytest.mark.parametrize("name", of_many_words())
def test_a_command_of_many_words_in_slices_does_what_it_does_in_one_go(name: bytes) -> None:
    slices = held_back = 0
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        with TemporaryDirectory(dir=IN_MEMORY) as directory:
            done = interleaved(directory, seed, with_many_words(name, Random(seed)), as_huge=False)
        slices += done.slices
        held_back += done.was_held_back
    assert slices > 3 * ROUNDS
    assert (held_back > 0) == bool(TABLE[name].flags & WRITE)


@pytest.mark.parametrize("name", that_write())
def test_a_write_of_many_megabytes_in_slices_does_what_it_does_in_one_go(name: bytes) -> None:
    """A random request may be refused at once, so there are more rounds until enough were done in slices."""
    slices = held_back = 0
    for number in range(5 * ROUNDS):
        seed = FIRST_SEED + number
        with TemporaryDirectory(dir=IN_MEMORY) as directory:
            done = interleaved(directory, seed, with_huge_values(name, Random(seed)), as_huge=True)
        slices += done.slices
        held_back += done.was_held_back
        if number >= ROUNDS - 1 and ((slices > ROUNDS and held_back > 0) or not has_values(name)):
            break
    assert (slices > ROUNDS and held_back > 0) or not has_values(name)


def test_the_comparison_finds_what_is_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that holds of anything would pass above."""
    monkeypatch.setattr(KeyLock, "holds_any", lambda _claim, _keys: False)
    with pytest.raises(AssertionError):
        test_a_command_of_many_words_in_slices_does_what_it_does_in_one_go(b"MSET")
