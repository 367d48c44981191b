"""A state machine: any order of requests, ends of turns, fsyncs, failures, rewrites and policies on a stepped turn.

It asserts that each reply that is sent under `always` is true of what is synced at that moment.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from instances import Replay, State, run_one, state_of
from log_model import IN_MEMORY
from stepped_turn import DATABASES, MISCONF, Client, Rig

KEYS = st.sampled_from("abc")
READS = st.one_of(
    st.tuples(st.sampled_from(["GET", "EXISTS", "STRLEN", "PEXPIRETIME"]), KEYS),
    st.tuples(st.just("MGET"), KEYS, KEYS),
    st.tuples(st.sampled_from(["DBSIZE", "KEYS *", "PING"])),
    st.tuples(st.just("EVAL_RO return(redis.call('GET',KEYS[1])) 1"), KEYS),
)
CHANGES = st.one_of(
    st.tuples(st.just("SET"), KEYS, st.sampled_from("123")),
    st.tuples(st.just("SET"), KEYS, st.just("4 NX")),
    st.tuples(st.just("SET"), KEYS, st.just("5 PX"), st.sampled_from(["10", "1500"])),
    st.tuples(st.just("MSET"), KEYS, st.just("6"), KEYS, st.just("7")),
    st.tuples(st.just("DEL"), KEYS),
    st.tuples(st.just("RENAMENX"), KEYS, KEYS),
    st.tuples(st.just("MOVE"), KEYS, st.just("1")),
    st.tuples(st.just("COPY"), KEYS, KEYS, st.just("DB 2")),
    st.tuples(st.just("PERSIST"), KEYS),
    st.tuples(st.just("EVAL redis.call('DEL',KEYS[1])return(redis.call('SET',KEYS[2],'8')) 2"), KEYS, KEYS),
    st.tuples(st.sampled_from(["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "SWAPDB 1 2"])),
)


def answer(state: State, db: int, now_ms: int, words: list[str]) -> bytes:
    """Answer a request as an instance does whose keyspace is this state."""
    model = Replay(DATABASES)
    for (index, key), (value, deadline_ms) in state.items():
        model.store.databases[index].put(key, value, deadline_ms)
    model.store.tick(now_ms)
    session = model.new_session()
    session.db = model.store.databases[db]
    return wire_of(run_one(model.engine, session, [word.encode() for word in words]))


def wire_of(reply: Any) -> bytes:
    return b"".join(Client.wire([sorted(reply) if type(reply) is list and None not in reply else reply]))


class Asked:
    """A request, its reply, and the log's position at which the reply is true."""

    def __init__(self, words: list[str], db: int, now_ms: int, reply: bytes, wrote: bool) -> None:
        self.words, self.db, self.now_ms, self.reply, self.wrote = words, db, now_ms, reply, wrote
        self.end_bytes = sys.maxsize  # of its turn


class Watched(Client):
    """A client that looks at each reply when it is sent."""

    machine: NothingUnsyncedIsShown
    expected: list[Asked]
    was_refused = False

    def send(self, pieces: list[bytes]) -> None:
        super().send(pieces)
        sent = self.take()
        while sent and sent != MISCONF:
            asked = self.expected.pop(0)
            assert sent.startswith(asked.reply), "the replies are in order"
            sent = sent.removeprefix(asked.reply)
            self.machine.look_at(asked)
        self.was_refused |= bool(sent)

    def abort(self) -> None:
        super().abort()
        assert self.was_refused
        self.expected.clear()


class NothingUnsyncedIsShown(RuleBasedStateMachine):
    """Under `always`, each reply that is sent is true of what is synced at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.patch = pytest.MonkeyPatch()
        self.rig = self.make_rig()
        self.history: list[tuple[int, State]] = [(0, {})]
        self.rig.after_write = self.note_write
        self.unwritten: list[Asked] = []  # whose turns are not in the log
        self.clients = [self.connect() for _ in range(4)]
        self.thread_ran = False

    def make_rig(self) -> Rig:
        return Rig(Path(self.directory.name), self.patch)

    def connect(self) -> Watched:
        client = Watched(self.rig, self.rig.connect().session)
        client.machine, client.expected = self, []
        return client

    def look_at(self, asked: Asked) -> None:
        """Look at a reply that is being sent: what could not be lost now, or what it would be without what could."""
        synced_bytes = self.rig.log.synced_bytes
        if self.rig.config.appendfsync != "always" or asked.end_bytes <= synced_bytes:
            return
        assert not asked.wrote, f"{asked.words} is acknowledged and not synced"
        synced = [state for end, state in self.history if end <= synced_bytes][-1]
        assert asked.reply == answer(synced, asked.db, asked.now_ms, asked.words), f"{asked.words} tells too much"

    def ask(self, number: int, lines: list[tuple[str, ...]]) -> None:
        if self.clients[number].aborted:
            self.clients[number] = self.connect()
        client, rig = self.clients[number], self.rig
        logged = len(rig.log.pieces)
        pieces: list[bytes] = []
        for line in lines:
            words = " ".join(line).split()
            before = len(rig.log.pieces)
            wire = wire_of(run_one(rig.engine, client.session, [word.encode() for word in words]))
            wrote = len(rig.log.pieces) != before
            asked = Asked(words, client.session.db.index, rig.store.now_ms, wire, wrote)
            if not wire.startswith(b"-MISCONF"):
                client.expected.append(asked)
                pieces.append(wire)
            self.unwritten.append(asked)
        if pieces:
            rig.turn.replies.append((client, pieces, len(rig.log.pieces) != logged))

    @rule(number=st.integers(0, 3), lines=st.lists(READS, min_size=1, max_size=2))
    def read(self, number: int, lines: list[tuple[str, ...]]) -> None:
        self.ask(number, lines)

    @rule(number=st.integers(0, 3), lines=st.lists(st.one_of(CHANGES, READS), min_size=1, max_size=3))
    def change(self, number: int, lines: list[tuple[str, ...]]) -> None:
        self.ask(number, lines)

    @rule()
    def end_turn(self) -> None:
        if not self.rig.log.pieces:
            self.note_positions()
        self.rig.turn.end()

    def note_write(self) -> None:
        """Remember what is true behind a batch; nothing of its turns is sent before."""
        if not self.rig.log.pieces:
            self.history.append((self.rig.log.written_bytes, state_of(self.rig.store)))
            self.note_positions()

    def note_positions(self) -> None:
        for asked in self.unwritten:
            asked.end_bytes = self.rig.log.written_bytes
        self.unwritten.clear()

    @precondition(lambda self: self.rig.jobs and not self.thread_ran)
    @rule(fails=st.sampled_from([False, False, False, True]))
    def run_thread(self, fails: bool) -> None:
        self.rig.failing_syncs = int(fails)
        self.rig.run_fsync()
        self.rig.failing_syncs = 0
        self.thread_ran = True

    @precondition(lambda self: self.thread_ran)
    @rule()
    def hear_of_it(self) -> None:
        self.thread_ran = False
        self.rig.fsync()

    @rule(seconds=st.sampled_from([0.25, 1, 3]))
    def wait(self, seconds: float) -> None:
        self.rig.pass_seconds(seconds)
        self.end_turn()  # housekeeping is never within a turn's requests
        self.rig.store.tick(self.rig.store.now_ms + int(seconds * 1000))

    @rule()
    def somebody_syncs(self) -> None:
        """Housekeeping and a rewrite do, wherever a turn stands."""
        self.rig.turn.start_fsync()

    @rule(failing=st.sampled_from([False, False, True]))
    def the_disk_is_full_or_not(self, failing: bool) -> None:
        self.rig.failing_writes = failing

    @rule()
    def keep_house(self) -> None:
        if self.rig.log.failure is None:
            self.rig.store.expire_cycle(lambda: False)

    @rule()
    def begin_a_rewrite(self) -> None:
        rewrite = self.rig.instance.rewrite
        rewrite.requested = not rewrite.in_progress and self.rig.log.failure is None

    @rule()
    def go_on_with_the_rewrite(self) -> None:
        self.rig.turn.rewriter.step(lambda: True)

    @rule(policy=st.sampled_from(["always", "always", "everysec", "no"]))
    def change_policy(self, policy: str) -> None:
        self.rig.config.change({"appendfsync": policy})
        self.rig.instance.apply_settings()

    @invariant()
    def an_fsync_is_on_its_way_for_whoever_waits(self) -> None:
        assert not self.rig.turn.pending or self.rig.jobs

    def teardown(self) -> None:
        try:
            self.rig.failing_writes = False
            for _ in range(6):
                self.thread_ran = False
                self.end_turn()
                self.rig.turn.rewriter.step(lambda: False)
                while self.rig.jobs:
                    self.rig.fsync()
                self.rig.turn.each_second()
            self.end_turn()
            assert not any(client.expected for client in self.clients if not client.aborted), "all are answered"
            assert not self.rig.instance.rewrite.in_progress
        finally:
            self.rig.close()
            self.patch.undo()
            self.directory.cleanup()
