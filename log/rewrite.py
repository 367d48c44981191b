"""The rewrite of the log without fork: the keyspace as it is at one moment, then what was logged since.

It owns the way from `log.txt` to a shorter one that says the same. It knows neither sockets nor greenlets: the server
calls `step` in slices, and hands in how a job runs in a thread. The files are the AppendOnlyLog's.

    begin   at the end of a turn: X is the log's position; each database gets a snapshot
    walk    in the loop, in slices of a millisecond: each key as the commands that rebuild it, in batches, which a
            thread writes to `<log>.rewrite` and syncs every few megabytes
    copy    in a thread: fsync, then the log's tail from X, again and again until little is left
    settle  in a thread, in an fsync's place: fsync the log, copy what is left, fsync the copy; again where much came
            meanwhile
    end     in the loop: copy the little that is left, rename over the log, go on in the new file; the next fsync
            syncs it and its directory before anything more counts as synced

**The loop does not wait for the disk.** It hands over the records of batches, large values as they are; the thread
joins, checks and writes them, a megabyte at a time. The loop makes no more while QUEUE_BYTES of them are not
written. The thread syncs as it goes, so that no fsync has much to write: a long one holds up whoever writes, the log
itself among them.

**The snapshot is the keyspace exactly at X.** It is a view of each database (`point_in_time.py`) that writes a key
before its first change, instead of keeping it; the walk writes the others. The walk goes over the key order
from its end, as SCAN does, so it meets every key that stays, in whatever way the places of deleted ones are given
back. A key that changes after the walk has met it is written twice, both times as it was at X, which does no harm:
whoever knew which keys were met would need memory for each of them. So the memory is that of the keys which change
meanwhile, about 100 bytes each. A large value is written by the walk alone, in steps. It is shared until then.

Until the rename the old log is the log, and it is whole; after it the new one is. Whatever fails before it, or the
log itself, ends the rewrite, and the old log goes on. Refused: fork, which doubles the memory under writes, stalls the
process while it copies the page tables, and is not there on Windows; a copy of the dicts, which stalls and doubles.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from aof import AppendOnlyLog
from keyspace.point_in_time import SHARDS, PointInTimeView
from log.kept import keep
from store import Keyspace, Store
from values import is_large, rebuild
from values.entry import Entry, deadline_of, value_of

STEP_KEYS = 64  # between two looks at the time
STEP_BYTES = 1 << 18  # the same, where values are long; also the largest batch, but for one of a single key
BLOCK_BYTES = 1 << 20
QUEUE_BYTES = 1 << 22  # batches that wait to be written
SYNC_BYTES = 1 << 22  # as Redis's aof-rewrite-incremental-fsync
LITTLE_BYTES = 1 << 18  # a tail that the last fsync's place has time for
FINAL_BYTES = 1 << 16  # a tail that the loop has time for
COPY_ROUNDS = SETTLE_ROUNDS = 8  # a disk that does not keep up with the writers must not make it endless

logger = logging.getLogger("godis")


Write = Callable[[int, bytes, Any, int], None]  # database, key, value, deadline
WriteInSteps = Callable[[int, bytes, Any, int], Iterator[None]]


class RewriteView(PointInTimeView):
    """One database as it was at the start; a key that changes is written at once, and not kept."""

    def __init__(self, db: Keyspace, write: Write, write_in_steps: WriteInSteps) -> None:
        super().__init__(db)
        self.index = db.index
        self._order = db.key_order.places
        self.places = len(self._order)  # still to be visited
        self._kept: deque[tuple[bytes, Any, int]] = deque()  # large values that changed before: key, value, deadline
        self._write = write
        self._write_in_steps = write_in_steps

    def keep(self, key: bytes, entry: Entry | None) -> None:
        """Write a key that is about to change, unless it is new; keep only a large value."""
        if entry is None:
            return
        value, deadline_ms = value_of(entry), deadline_of(entry)
        if is_large(value):
            self.share(value)
            self._kept.append((key, value, deadline_ms))
        else:
            self._write(self.index, key, value, deadline_ms)

    def walk(self) -> Iterator[None]:
        """Write a key that did not change, or a part of a large value, again and again until all are written."""
        while self.places or self._kept:
            while self._kept:
                yield from self._write_large(*self._kept.popleft())
            end = min(self.places, len(self._order))  # what was behind has moved to the front
            self.places = max(0, end - STEP_KEYS)
            for key in self._order[self.places : end]:
                if key is None or key in self._changed[hash(key) % SHARDS]:
                    continue
                entry = self._entries.get(key)
                if entry is None:
                    continue
                value, deadline_ms = value_of(entry), deadline_of(entry)
                if is_large(value):
                    yield from self._write_large(key, value, deadline_ms)
                else:
                    self._write(self.index, key, value, deadline_ms)
                    yield

    def _write_large(self, key: bytes, value: Any, deadline_ms: int) -> Iterator[None]:
        return self.sharing(key, value, self._write_in_steps(self.index, key, value, deadline_ms))


class Phase(Enum):
    """What a rewrite is at."""

    WALK = "walk"
    COPY = "copy"
    SETTLE = "settle"


class Rewrite:
    """One rewrite. Raises OSError from its start on where a file fails."""

    def __init__(self, log: AppendOnlyLog, store: Store) -> None:
        self.phase = Phase.WALK
        self.walked = False  # all keys are in batches
        self.writing = False  # a thread is at `write_out`
        self.settled = False
        self.abandoned = False
        self.error: Exception | None = None  # of a job in a thread
        self.keys_written = 0
        self._log = log
        self.damage = log.damage  # which this rewrite mends
        self._store = store
        self._now_ms = store.now_ms  # the time of all its batches, whenever they are written
        self._copied_bytes = log.written_bytes  # a position of the log
        self._link = log.link  # what the first batch of the tail, behind that position, gives as its `previous`
        self._buffered_bytes = 0
        # The records and the link of batches to be written: the loop puts them in, a thread takes them out.
        self._queue: deque[tuple[list[bytes], bytes]] = deque()
        self._queued_bytes = 0  # that were ever put in
        self._taken_bytes = 0  # of these, were written
        self._settle_rounds = 0
        self._reader = log.open_to_read()
        try:
            self.successor = log.start_successor()
        except BaseException:
            self._reader.close()
            raise
        self._snapshots = [RewriteView(db, self._write, self._write_in_steps) for db in store.databases if db.entries]
        self._walk = self._walking()

    # ---- in the loop: the snapshot

    def _write(self, db: int, key: bytes, value: Any, deadline_ms: int) -> None:
        if type(value) is bytes:  # what `rebuild` would say, at a third of its price: most keys are strings
            self.successor.append_set(db, key, value, deadline_ms)
            self._buffered_bytes += len(key) + len(value)
        else:
            for argv in rebuild(key, value, deadline_ms):
                self._append(db, argv)
        self.keys_written += 1
        if self._buffered_bytes >= STEP_BYTES:
            self._flush()

    def _write_in_steps(self, db: int, key: bytes, value: Any, deadline_ms: int) -> Iterator[None]:
        """`_write` of a large value, a command a step; in batches of the usual size."""
        for argv in rebuild(key, value, deadline_ms):
            self._append(db, argv)
            if self._buffered_bytes >= STEP_BYTES:
                self._flush()
            yield
        self.keys_written += 1

    def _append(self, db: int, argv: Sequence[bytes]) -> None:
        self.successor.append(db, argv)
        self._buffered_bytes += len(self.successor.pieces[-1])

    def _flush(self, link: bytes = b"") -> None:
        """Put what is buffered on the queue, as a batch. `link`: the last one, which the log's tail follows."""
        if self.successor.pieces or link:
            records = self.successor.take_records()
            self._queue.append((records, link))
            self._queued_bytes += sum(map(len, records))
        self._buffered_bytes = 0

    @property
    def full(self) -> bool:
        """Return True if so much waits to be written that the walk has to wait, too."""
        return self._queued_bytes - self._taken_bytes > QUEUE_BYTES

    @property
    def has_batches(self) -> bool:
        """Return True if something waits to be written."""
        return bool(self._queue)

    def _walking(self) -> Iterator[None]:
        while self._snapshots:
            snapshot = self._snapshots[-1]
            met, queued_bytes = 0, self._queued_bytes
            for _ in snapshot.walk():
                met += 1
                if met >= STEP_KEYS or self._queued_bytes != queued_bytes:
                    yield
                    met, queued_bytes = 0, self._queued_bytes
            snapshot.detach()
            self._snapshots.pop()
            yield

    def walk(self, out_of_time: Callable[[], bool]) -> bool:
        """Make batches of the keys of the next slice; return whether it was the last. Raises OSError."""
        self.check()
        if not self.full and not self.walked:
            self.walked = all(not out_of_time() for _ in self._walk)
            self._flush(self._link if self.walked else b"")
        return self.walked

    def check(self) -> None:
        """Raise OSError if anything has failed so far, the log itself included."""
        failure = self._log.disk_failure or self.successor.failure
        if failure is not None:
            raise OSError(failure.decode(errors="replace"))
        if self._log.damage != self.damage:
            raise OSError(f"somebody changed the log meanwhile: {self._log.damage}")
        if self.error is not None:
            raise OSError(reason_of(self.error)) from self.error

    # ---- in a thread

    def write_out(self) -> None:
        """Write the batches that wait, and sync where that became much."""
        with _Caught(self):
            self._write_out()

    def _write_out(self) -> None:
        while self._queue and not self.abandoned:
            records, link = self._queue[0]
            for _ in self.successor.write_records(records, self._now_ms, link):
                self._sync_now_and_then()
                if self.abandoned:
                    return
            self._taken_bytes += sum(map(len, records))
            self._queue.popleft()

    def _sync_now_and_then(self) -> None:
        if self.successor.written_bytes - self.successor.synced_bytes >= SYNC_BYTES:
            self.successor.fsync()
            self.check()

    def copy_tail(self) -> None:
        """Sync the snapshot, and copy and sync what was logged since, until little is left."""
        with _Caught(self):
            self._write_out()
            for _ in range(COPY_ROUNDS):
                self.successor.fsync()
                self.check()
                if self._log.written_bytes - self._copied_bytes <= LITTLE_BYTES:
                    break
                self._copy_until(self._log.written_bytes)

    def settle(self) -> None:
        """Sync the log, and copy and sync what is left. No other fsync of the log may run meanwhile."""
        self._log.fsync()
        with _Caught(self):
            self.check()
            self._copy_until(self._log.written_bytes)
            self.successor.fsync()
            self._settle_rounds += 1
            if self._log.written_bytes - self._copied_bytes > FINAL_BYTES and self._settle_rounds < SETTLE_ROUNDS:
                return
        self.settled = True

    def _copy_until(self, end_bytes: int, in_thread: bool = True) -> None:
        while self._copied_bytes < end_bytes and not self.abandoned:
            size = min(BLOCK_BYTES, end_bytes - self._copied_bytes)
            self.successor.copy_in(self._log.read_at(self._reader, self._copied_bytes, size))
            self._copied_bytes += size
            if in_thread:
                self._sync_now_and_then()

    # ---- in the loop: the end

    def replace_log(self, keeps: bool) -> None:
        """Copy the last bytes and go on in the new file; `keeps`: the old one stays, renamed. Raises OSError."""
        self._log.inspect()
        self.check()
        self._copy_until(self._log.written_bytes, in_thread=False)
        kept = self._keep_log() if keeps and not self.damage else ""
        try:
            self._log.succeed(self.successor, self._reader)
        except OSError:
            if kept:
                os.unlink(kept)
            raise

    def _keep_log(self) -> str:
        try:
            return keep(self._log.real_path, self._store.now_ms)
        except OSError as error:  # a file system without links, for one
            logger.warning("the log that the rewrite replaces is not kept: %s", reason_of(error))
            return ""

    def abandon(self) -> None:
        """Leave the old log as it is; `close` is still due."""
        self.abandoned = True
        for snapshot in self._snapshots:
            snapshot.detach()
        self._snapshots.clear()
        self.successor.remove_file()

    def close(self) -> None:
        """Close the files that are nobody's log any more. For a thread: the system frees their blocks."""
        self._reader.close()
        self.successor.close_removed()


class _Caught:
    """Keeps an error of a thread for the loop to see."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, Exception):
            self._rewrite.error = error
            return True
        return False


def reason_of(error: Exception) -> str:
    """Say what went wrong, for the operator."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
