"""A turn without a loop: its fsyncs wait until a test runs them, and its clock stands still.

It owns an instance with a real log and engine, and clients that are sessions with a list of what they were sent. Each
step is the test's: a request, the end of a turn, the fsync in its thread, the news of it in the loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from instances import WHOLE_SECOND_MS, Harness, run_all

import aof
from aof import AppendOnlyLog
from net import turn as turn_module
from net.turn import Turn
from protocol import encode
from replies import Reply
from session import Session

START_MS = WHOLE_SECOND_MS
DATABASES = 3
Job = Callable[[], None]


@dataclass
class Timer:
    """What is to be done at some time."""

    due: float
    job: Job
    closed: bool = False

    def close(self) -> None:
        self.closed = True


class SteppedTurn(Turn):
    """A turn whose thread and timers are the test's."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        super().__init__(rig.instance, rig.log)

    def _in_thread(self, job: Job, done: Job) -> None:
        self.rig.jobs.append((job, done))

    def write_log(self) -> None:
        super().write_log()
        self.rig.after_write()

    def after(self, seconds: float, job: Job, every_seconds: float = 0.0) -> Timer:
        timer = Timer(self.rig.seconds + seconds, job)
        self.rig.timers.append(timer)
        return timer


class Rig(Harness[AppendOnlyLog]):
    """An instance whose loop is the test; `sync` is what its disk does when it is synced."""

    def __init__(
        self,
        directory: Path,
        patch: pytest.MonkeyPatch,
        policy: str = "always",
        sync: Callable[[int], None] = lambda _descriptor: None,
    ) -> None:
        self._disk_sync = sync
        self.seconds = 1000.0  # of the monotonic clock
        self.jobs: list[tuple[Job, Job]] = []
        self.timers: list[Timer] = []
        self.failing_syncs = 0
        self.failing_writes = False
        self.writes_tried = 0
        self.after_write: Job = lambda: None
        self.during_sync: Job = lambda: None  # what happens while the next fsync waits for the disk
        patch.setattr(turn_module, "monotonic", lambda: self.seconds)
        patch.setattr(aof, "_sync", self._sync)
        write = AppendOnlyLog._write_all
        patch.setattr(AppendOnlyLog, "_write_all", lambda log, data: self._write(write, log, data))
        patch.setattr(os, "fsync", sync)
        log = AppendOnlyLog(str(directory / "log.txt"))
        log.open()
        super().__init__(log, databases=str(DATABASES), default_ttl="0", appendfsync=policy)
        self.turn = SteppedTurn(self)

    def _sync(self, descriptor: int) -> None:
        meanwhile, self.during_sync = self.during_sync, lambda: None
        meanwhile()
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._disk_sync(descriptor)

    def _write(self, write: Callable[[AppendOnlyLog, bytes], None], log: AppendOnlyLog, data: bytes) -> None:
        self.writes_tried += 1
        if self.failing_writes:
            write(log, data[: len(data) // 2])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(log, data)

    def connect(self) -> Client:
        return Client(self, self.new_session())

    def run_fsync(self) -> None:
        """Let the thread do its work; the loop has not heard of it yet."""
        job, done = self.jobs.pop(0)
        job()
        self.jobs.insert(0, (lambda: None, done))

    def fsync(self) -> None:
        """Let the oldest job of the thread end, and the loop hear of it in a turn in which nothing else happens."""
        job, done = self.jobs.pop(0)
        job()
        done()
        self.gather()

    def gather(self) -> None:
        """End a turn in which nothing happens, late enough that nobody is waited for any more."""
        self.seconds += 1 / 64
        self.turn.end()

    def settle(self) -> None:
        """End the turn, and let every fsync end that somebody asked for."""
        self.turn.end()
        while self.jobs:
            self.fsync()

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, second by second as housekeeping does, and let timers run."""
        end = self.seconds + seconds
        while self.seconds < end:
            second = int(self.seconds)
            self.seconds = min(end, self.seconds + 0.25)
            for timer in [timer for timer in self.timers if timer.due <= self.seconds]:
                self.timers.remove(timer)
                if not timer.closed:
                    timer.job()
            if int(self.seconds) != second:
                self.turn.each_second()

    def close(self) -> None:
        self.failing_syncs, self.failing_writes = 0, False
        for job, _ in self.jobs:
            job()
        self.log.close()


class Client:
    """A session, and what was sent to it."""

    def __init__(self, rig: Rig, session: Session) -> None:
        self.rig = rig
        self.session = session
        self.sent: list[bytes] = []  # one entry for each time that something was sent
        self.aborted = self.paused = False
        self.logged = 0

    def ask(self, *lines: str) -> Client:
        """Let requests be executed as one pipeline, as a connection does it; their replies are the turn's."""
        requests = [[word.encode() for word in line.split()] for line in lines]
        log, engine = self.rig.log, self.rig.engine
        logged = len(log.pieces)
        replies = run_all(engine, self.session, requests)
        self.rig.turn.replies.append((self, self.wire(replies), len(log.pieces) != logged))
        return self

    @staticmethod
    def wire(replies: list[Reply]) -> list[bytes]:
        pieces: list[bytes] = []
        for reply in replies:
            encode(reply, pieces.append, False)
        return pieces

    def take(self) -> bytes:
        """Return all that was sent since the last call."""
        taken = b"".join(self.sent)
        self.sent.clear()
        return taken

    # what the turn calls

    def send(self, pieces: list[bytes]) -> None:
        if not self.aborted:
            self.sent.append(b"".join(pieces))

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True

    def follow_soft_limit(self, now: float) -> None:
        raise NotImplementedError


MISCONF = b"-MISCONF Errors writing to the AOF file: Input/output error\r\n"
