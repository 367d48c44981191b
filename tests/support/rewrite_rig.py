"""An instance with a real log and a rewriter: each job of a thread, and each step of the walk, is the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from instances import Harness, Replay, State, run_all, run_one, state_of

from aof import AppendOnlyLog, replay
from errors import CommandError
from net.rewriter import Rewriter

DATABASES = 3


def replayed(path: str) -> State:
    copy = Replay(DATABASES)
    report = replay(path, copy.engine.apply, copy.store.now_ms, 0)
    assert not report.torn_bytes
    return state_of(copy.store)


class Rig(Harness[AppendOnlyLog]):
    """An instance with a real log and a rewriter, whose threads run when they are told to."""

    def __init__(self, directory: str, **flags: str) -> None:
        self.path = os.path.join(directory, "log.txt")
        log = AppendOnlyLog(self.path)
        log.open()
        super().__init__(log, **{"databases": str(DATABASES), "default_ttl": "0"} | flags)
        self.session = self.new_session()
        self.jobs: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self.rewriter = Rewriter(self.log, self.instance, lambda job, done: self.jobs.append((job, done)), self.sync)
        self.syncing = False

    def sync(self) -> None:
        if not self.syncing:
            self.syncing = True
            self.jobs.append((self.rewriter.fsync, self.synced))

    def synced(self) -> None:
        self.syncing = False
        self.rewriter.follow_fsync()
        if self.rewriter.needs_fsync:
            self.sync()

    def ask(self, *words: object) -> Any:
        reply = run_one(self.engine, self.session, [str(word).encode() for word in words])
        return reply.text if isinstance(reply, CommandError) else reply

    def end_turn(self) -> None:
        self.log.write(self.store.now_ms)
        if self.instance.rewrite.requested:
            self.rewriter.begin()

    def step(self) -> None:
        """Go on by one small step: a slice of the walk, or one job."""
        if self.jobs:
            job, done = self.jobs.pop(0)
            job()
            done()
        else:
            self.rewriter.step(lambda: True)

    def finish(self) -> None:
        """End the turn, and see the rewrite through."""
        self.end_turn()
        for _ in range(100_000):
            if not self.instance.rewrite.in_progress and not self.jobs:
                return
            self.step()
        pytest.fail("the rewrite does not end")


def do(rig: Rig, action: tuple[Any, ...]) -> None:
    match action:
        case ("step",):
            rig.step()
        case ("walk",):
            rig.rewriter.step(lambda: True)  # though a thread may be at work
        case ("turn",):
            rig.end_turn()
        case ("rewrite",):
            rig.ask("BGREWRITEAOF")
            rig.end_turn()
        case ("wait", milliseconds):
            rig.end_turn()
            rig.store.tick(rig.store.now_ms + milliseconds)
        case ("many", line, keys):
            requests = [line.format(key).encode().split() for key in keys]
            run_all(rig.engine, rig.session, requests)
        case ("housekeeping",):
            rig.store.expire_cycle(lambda: False)
        case _:
            rig.ask(*action)
