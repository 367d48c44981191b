"""The rewrite of the log: a shorter log with the same effects, made without fork while clients are served.

1. The new log holds the keyspace exactly as it was at position X of the old log, and then the old log's tail from X.
2. The loop never waits for the disk.
3. Until the rename the old log is complete and in use; after the rename the new one is. A failure before it ends the
   rewrite, and the old log stays in use.
4. It knows no sockets and no greenlets: `net/rewriter.py` runs the steps in the loop and the jobs in a thread. The
   files are AppendOnlyLogs.

    begin   at the end of a turn: X is the log's position; each database gets a view
    walk    in the loop, in slices of a millisecond: the libraries of functions, and each key, as the commands that
            rebuild it, in batches, which a thread writes to `<log>.rewrite` and syncs every few megabytes
    copy    in a thread: fsync, then copy the log's tail from X, repeatedly until little is left
    settle  in a thread, in the place of an fsync: fsync the log, copy the rest, fsync the copy; repeated if much was
            logged meanwhile
    end     in the loop: copy the little that is left, rename the file to the log's name, continue in it; the next fsync
            syncs it and its directory before any more bytes count as synced

**Batches.** The loop puts the records of batches on a queue, large values without a copy. The thread joins, checksums
and writes them, a megabyte at a time. The walk pauses while more than QUEUE_BYTES are queued. The thread syncs every
few megabytes, so that no fsync has much to write: a long fsync delays all other writes, those of the log included.

**The view.** Each database has a point-in-time view (`keyspace/point_in_time.py`) that writes a key before its first
change instead of keeping it. The walk writes the other keys. It visits the key order from the end, as SCAN does, so it
visits every key that is not deleted, even if a compaction moves places. A key that changes after its visit is written
twice, both times as it was at X, which is harmless: to avoid it would need memory for each visited key. So the memory
of a rewrite is that of the keys that change meanwhile, about 100 bytes each. A large value is written by the walk only,
in steps, and is shared until then.

(Refused: fork. It doubles the memory under writes, stalls the process while it copies the page tables, and does not
exist on Windows. A copy of the dicts, which also stalls and doubles the memory.)
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

STEP_KEYS = 64  # between two checks of the time
STEP_BYTES = 1 << 18  # the same for long values; also the largest batch, except for a batch of one key
BLOCK_BYTES = 1 << 20
QUEUE_BYTES = 1 << 22  # batches that wait to be written
SYNC_BYTES = 1 << 22  # as Redis's aof-rewrite-incremental-fsync
LITTLE_BYTES = 1 << 18  # a tail that `settle` may copy
FINAL_BYTES = 1 << 16  # a tail that the loop may copy
COPY_ROUNDS = SETTLE_ROUNDS = 8  # a limit, because a disk may be slower than the writers

logger = logging.getLogger("godis")


Write = Callable[[int, bytes, Any, int], None]  # database, key, value, deadline
WriteInSteps = Callable[[int, bytes, Any, int], Iterator[None]]


class RewriteView(PointInTimeView):
    """A view of one database that writes a key before its first change, instead of keeping it."""

    def __init__(self, db: Keyspace, write: Write, write_in_steps: WriteInSteps) -> None:
        super().__init__(db)
        self.index = db.index
        self._order = db.key_order.places
        self.places = len(self._order)  # still to be visited
        self._kept: deque[tuple[bytes, Any, int]] = deque()  # changed large values to write: key, value, deadline
        self._write = write
        self._write_in_steps = write_in_steps

    def keep(self, key: bytes, entry: Entry | None) -> None:
        """Write a key that is about to change, unless it is new. Keep a large value for `walk`."""
        if entry is None:
            return
        value, deadline_ms = value_of(entry), deadline_of(entry)
        if is_large(value):
            self.share(value)
            self._kept.append((key, value, deadline_ms))
        else:
            self._write(self.index, key, value, deadline_ms)

    def walk(self) -> Iterator[None]:
        """Write all keys that have not changed, in steps: a key, or a part of a large value."""
        while self.places or self._kept:
            while self._kept:
                yield from self._write_large(*self._kept.popleft())
            end = min(self.places, len(self._order))  # a compaction moves keys to the front and cuts the end
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
    """The phase of a rewrite."""

    WALK = "walk"
    COPY = "copy"
    SETTLE = "settle"


class Rewrite:
    """One rewrite. Raises OSError if a file fails."""

    def __init__(self, log: AppendOnlyLog, store: Store) -> None:
        self.phase = Phase.WALK
        self.walked = False  # all keys are in batches
        self.writing = False  # a thread runs `write_out`
        self.settled = False
        self.abandoned = False
        self.error: Exception | None = None  # of a job in a thread
        self.keys_written = 0
        self._log = log
        self.damage = log.damage  # which this rewrite repairs
        self._store = store
        self._now_ms = store.now_ms  # the time of all its batches
        self._copied_bytes = log.written_bytes  # the position in the log up to which it is copied; at first X
        self._link = log.link  # the `previous` of the first batch of the tail
        self._buffered_bytes = 0
        # The records and the link of batches to be written: the loop appends, a thread removes.
        self._queue: deque[tuple[list[bytes], bytes]] = deque()
        self._queued_bytes = 0  # in total since the start
        self._taken_bytes = 0  # of these, the bytes that are written
        self._settle_rounds = 0
        self._reader = log.open_to_read()
        try:
            self.successor = log.start_successor()
        except BaseException:
            self._reader.close()
            raise
        self._views = [RewriteView(db, self._write, self._write_in_steps) for db in store.databases if db.entries]
        self._libraries = store.library_commands()
        self._walk = self._walking()

    # ---- in the loop: the views

    def _write(self, db: int, key: bytes, value: Any, deadline_ms: int) -> None:
        if type(value) is bytes:  # the same as `rebuild` in a third of its time: most keys are strings
            self.successor.append_set(db, key, value, deadline_ms)
            self._buffered_bytes += len(key) + len(value)
        else:
            for argv in rebuild(key, value, deadline_ms):
                self._append(db, argv)
        self.keys_written += 1
        if self._buffered_bytes >= STEP_BYTES:
            self._flush()

    def _write_in_steps(self, db: int, key: bytes, value: Any, deadline_ms: int) -> Iterator[None]:
        """Do what `_write` does for a large value, a command a step, in batches of the usual size."""
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
        """Put the buffered records on the queue as a batch. The last batch gets the `link` that the tail follows."""
        if self.successor.pieces or link:
            records = self.successor.take_records()
            self._queue.append((records, link))
            self._queued_bytes += sum(map(len, records))
        self._buffered_bytes = 0

    @property
    def full(self) -> bool:
        """Return True if so many bytes are queued that the walk must wait."""
        return self._queued_bytes - self._taken_bytes > QUEUE_BYTES

    @property
    def has_batches(self) -> bool:
        """Return True if a batch waits to be written."""
        return bool(self._queue)

    def _walking(self) -> Iterator[None]:
        for argv in self._libraries:
            self._append(0, argv)
        while self._views:
            view = self._views[-1]
            visited, queued_bytes = 0, self._queued_bytes
            for _ in view.walk():
                visited += 1
                if visited >= STEP_KEYS or self._queued_bytes != queued_bytes:
                    yield
                    visited, queued_bytes = 0, self._queued_bytes
            view.detach()
            self._views.pop()
            yield

    def walk(self, out_of_time: Callable[[], bool]) -> bool:
        """Make batches of the keys of the next slice. Return True if it was the last. Raises OSError."""
        self.check()
        if not self.full and not self.walked:
            self.walked = all(not out_of_time() for _ in self._walk)
            self._flush(self._link if self.walked else b"")
        return self.walked

    def check(self) -> None:
        """Raise OSError if the rewrite or the log itself has failed."""
        failure = self._log.disk_failure or self.successor.failure
        if failure is not None:
            raise OSError(failure.decode(errors="replace"))
        if self._log.damage != self.damage:
            raise OSError(f"somebody changed the log meanwhile: {self._log.damage}")
        if self.error is not None:
            raise OSError(reason_of(self.error)) from self.error

    # ---- in a thread

    def write_out(self) -> None:
        """Write the queued batches, and sync every SYNC_BYTES."""
        with _Caught(self):
            self._write_out()

    def _write_out(self) -> None:
        while self._queue and not self.abandoned:
            records, link = self._queue[0]
            for _ in self.successor.write_records(records, self._now_ms, link):
                self._sync_if_due()
                if self.abandoned:
                    return
            self._taken_bytes += sum(map(len, records))
            self._queue.popleft()

    def _sync_if_due(self) -> None:
        if self.successor.written_bytes - self.successor.synced_bytes >= SYNC_BYTES:
            self.successor.fsync()
            self.check()

    def copy_tail(self) -> None:
        """Sync the new file, then copy and sync the log's tail until little is left."""
        with _Caught(self):
            self._write_out()
            for _ in range(COPY_ROUNDS):
                self.successor.fsync()
                self.check()
                if self._log.written_bytes - self._copied_bytes <= LITTLE_BYTES:
                    break
                self._copy_until(self._log.written_bytes)

    def settle(self) -> None:
        """Sync the log, then copy and sync the rest of its tail. No other fsync of the log may run meanwhile."""
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
                self._sync_if_due()

    # ---- in the loop: the end

    def replace_log(self, keeps: bool) -> None:
        """Copy the last bytes and continue in the new file. `keeps`: the old one gets another name. Raises OSError."""
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
        except OSError as error:  # for example, the file system has no links
            logger.warning("the log that the rewrite replaces is not kept: %s", reason_of(error))
            return ""

    def abandon(self) -> None:
        """End the rewrite without a change of the log. The caller must still call `close`."""
        self.abandoned = True
        for view in self._views:
            view.detach()
        self._views.clear()
        self.successor.remove_file()

    def close(self) -> None:
        """Close the files that are no longer in use. For a thread, because the system frees their blocks."""
        self._reader.close()
        self.successor.close_removed()


class _Caught:
    """A context manager that stores an error of a thread in `Rewrite.error`, which the loop checks."""

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
    """Return the text of an error for the operator."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
