"""A member of a pool without a network: its store and replica, and the entries that are applied to it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from instances import WHOLE_SECOND_MS, Harness, run_one

from aof import NullLog
from errors import CommandError
from pool.entry import Body, pack
from pool.replica import Replica
from protocol import encode_command

START_MS = WHOLE_SECOND_MS
US, THEM = 7, 8
Commands = Sequence[Sequence[bytes]]


class Member(Harness[NullLog]):
    """A store and its replica, without a network; `entry` makes the next entry and applies it.

    `paused`: what happens in each pause that there can be while an entry is applied.
    """

    def __init__(self, databases: str = "4", paused: Callable[[Member], None] | None = None) -> None:
        self.paused = paused
        super().__init__(NullLog(), databases=databases)
        self.replica = Replica(self.store, self.engine)
        self.replica.tick(START_MS)
        self.seq = 0

    def apply(self, data: bytes) -> Any:
        """Apply an entry as the next one."""
        return self.apply_at(self.replica.index + 3, self.replica.version + 1, data)

    def apply_at(self, index: int, version: int, data: bytes) -> Any:
        """Apply what comes, as the next entry or not."""
        steps = self.replica.apply(index, version, data, lambda: self.paused is not None)
        applied = outcome_of(steps, lambda: self.paused(self) if self.paused else None)
        for _ in self.replica.expire():
            pass
        return applied

    def entry(self, *commands: bytes, now_ms: int = START_MS, ttl_ms: int = 0, db: int = 0) -> list[Any]:
        """Apply lines as one entry; return the replies, of errors the texts."""
        self.seq += 1
        [data] = make(self.seq, [line.split() for line in commands], now_ms=now_ms, ttl_ms=ttl_ms, db=db)
        replies = self.apply(data).replies
        return [reply.text if isinstance(reply, CommandError) else reply for reply in replies]

    def ask(self, line: bytes) -> Any:
        """Read, as a client of this instance does."""
        return run_one(self.engine, self.replica._engine.replaying, line.split())


def outcome_of(steps: Generator[None, None, Any], paused: Callable[[], object] = lambda: None) -> Any:
    """Go through steps, and return what comes out."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        paused()


def add(body: Body, db: int, requests: Commands) -> None:
    body.add(db, len(requests), [encode_command(argv) for argv in requests])


def make(
    seq: int, requests: Commands, instance: int = US, now_ms: int = START_MS, ttl_ms: int = 0, db: int = 0
) -> list[bytes]:
    body = Body()
    add(body, db, requests)
    return list(pack(instance, seq, now_ms, ttl_ms, body))


def copy_of(member: Member, piece: int = 1000) -> Member:
    """Start another member from a snapshot of this one, read in pieces."""
    other = Member(paused=member.paused)
    described = member.replica.describe()
    loader = other.replica.loader(described["clock_ms"])
    data = member.replica.dump()
    for start in range(0, len(data), piece):
        loader.feed(data[start : start + piece])
    other.replica.restore(described, loader)
    other.replica.tick(START_MS)
    return other
