"""The log's writer: it frames the effects of one or more turns as a batch, writes the batch and syncs it.

1. It owns the log's file and holds its lock (`log/lock.py`).
2. It knows no clock, no threads and no fsync policy: the server decides when to write and when to sync.
3. `write` appends all effects so far as one batch. A batch that cannot be written whole is cut off again and kept in
   memory for the next attempt.
4. `fsync` returns when all that was written before is on the disk, or sets `fsync_failure`.

The format is in `log/reader.py`. `replay` and `ReplayReport` of `log/replay.py` are re-exported here.

    command -> append_set() -> pieces -> write() once a turn -> file -> fsync() in a thread
                                           |  fails: cut back to the   |  fails: read back, verify,
                                           |  batch's start, kept      |  write again, sync

**Two threads, no lock.** The loop calls append, append_set, write, close; one thread at a time calls fsync.
    the loop writes   pieces, written_bytes, write_failure, _writing
    fsync writes      synced_bytes, fsync_failure
    both write        failure: write_failure, fsync_failure or damage_failure, the first that is set
While fsync_failure is set, the file belongs to fsync(): write() keeps its pieces and returns False. If a write is
running when fsync_failure is set, `_writing` shows it, and fsync() leaves the repair to its next call. Each side sets
its own flag before it reads the other's, so at least one of them sees the other's flag.

**After a failed fsync** the kernel may have dropped the pages and marked them clean, so another fsync proves nothing.
All bytes since the last good fsync are read back, verified, cut off and written again. (Refused: to exit, as PostgreSQL
does. It relies on a replay of its log; here the memory is right, and reads can still be served.)

**Changes of the file by other processes** are found by `inspect`. A missing name and a wrong size are `damage`: the
memory is complete, and a rewrite makes a whole file of it. If the rewrite fails, as in a directory that was removed,
the damage is a failure until a rewrite succeeds. Another file in the log's place is a failure, because no start would
find what is written now. It is not overwritten, because it may be wanted.

NullLog is in this module, which makes it long, because both classes have the same interface and change together.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO
from zlib import crc32

from log.effects import Now, Records, Steps
from log.lock import LogLock, claim_directory, in_use, open_log_locked
from log.reader import FIRST_LINK, SELECT_0, Fault, Kind, frame, frame_head, link_of, units
from log.replay import ReplayReport, cannot_use, not_regular, replay, sync_directory
from protocol import blocks
from wire.files import open_regular

__all__ = ["AppendOnlyLog", "LogLock", "NullLog", "ReplayReport", "claim_directory", "replay"]

CLOSED_TO_RENAME = os.name == "nt"  # Windows renames no open file, and none over one
FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
LONG_BATCH_BYTES = 4 << 20  # a batch of this size is written in steps
STEP_BYTES = 1 << 20
MOST_JOINED = 1 << 16  # pieces of a batch that become one, which is a copy
READ_BACK_FAILED = b"fsync failed, and what was written since does not read back right: check the disk, then restart"
UNFINISHED = (".rewrite", ".repairing", ".repairing-again")  # suffixes of files that a killed process left
REPLACED = b"another file stands in the place of the log: move it away, or restart to use it"
_sync = getattr(os, "fdatasync", os.fsync)  # the file's times need not be on the disk


class AppendOnlyLog(Records):
    """The log of one process. Call `open`, replay, then append and write. `failure` is the reason why writes fail."""

    __slots__ = (
        "_descriptor",
        "_last_ms",
        "_lock",
        "_locked",
        "_measured",
        "_origin",
        "_renamed",
        "_rewrite_path",
        "_torn",
        "_unsynced",
        "_writing",
        "damage",
        "damage_failure",
        "failure",
        "fsync_failure",
        "in_steps",
        "is_busy",
        "link",
        "noted",
        "path",
        "real_path",
        "synced_bytes",
        "write_failure",
        "written_bytes",
    )

    def __init__(self, path: str, instance_id: str = "", lock: LogLock | None = None) -> None:
        super().__init__()  # this turn's records
        self.path = path
        self.failure: bytes | None = None
        self.write_failure: bytes | None = None
        self.fsync_failure: bytes | None = None
        self.damage = ""  # damage to the file by other processes, which only a rewrite repairs
        self.damage_failure: bytes | None = None  # why the rewrite failed
        self.written_bytes = 0
        self.synced_bytes = 0
        self.link = FIRST_LINK  # the `previous` of the next batch; set after a replay

        self.real_path = os.path.realpath(path)  # a symbolic link to the log stays one
        self._rewrite_path = self.real_path + ".rewrite"
        self._lock = lock or LogLock(path, instance_id)
        self._locked = lock is not None
        self._descriptor = -1
        self._origin = 0  # the position of the file's first byte
        self._renamed = False  # a new file has taken the log's name, and the directory is not synced yet
        self._measured = False  # replay may cut the file after `open`, so its size is read at the first write
        self._writing = False
        self._torn = False  # bytes of a failed write may follow written_bytes
        self.is_busy = False  # a long batch is being committed in steps; no command may change a key meanwhile
        self.in_steps = False  # that batch is being written, so nothing else may write to the file
        self._last_ms = 0
        # Which of the records are a client's: from, to, the client. None: they are not to be noted.
        self.noted: list[tuple[int, int, bytes]] | None = None
        self._unsynced: bytes | None = None  # bytes that a repair has cut off and must write again

    def open(self) -> None:
        """Take the lock, unless the caller passed it, then open and fsync the file. Raises LogError."""
        if not self._locked:
            self._lock.take()
            self._locked = True
        try:
            self._open_file()
        except BaseException:
            self._unlock()
            raise

    def _open_file(self) -> None:
        try:
            for suffix in UNFINISHED:
                with suppress(FileNotFoundError):
                    os.unlink(self.real_path + suffix)
            descriptor = open_log_locked(self.path, FLAGS)
            if descriptor is None:
                raise in_use(self.path, f"another process, whose {self.path}.lock was removed")
            self._descriptor = descriptor
            regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            if regular:
                os.fsync(self._descriptor)
                sync_directory(self.real_path)
        except OSError as error:
            self._close_file()
            raise cannot_use(self.path, error) from error
        if not regular:
            self._close_file()
            raise not_regular(self.path)
        self.written_bytes = self.synced_bytes = os.fstat(self._descriptor).st_size

    def measure(self) -> None:
        """Read the file's size before the first write, because a replay after `open` may have cut the file."""
        if not self._measured:
            self.written_bytes = self.synced_bytes = os.fstat(self._descriptor).st_size
            self._measured = True

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.written_bytes - self._origin

    @property
    def disk_failure(self) -> bytes | None:
        """The reason why the disk rejects writes; None also if only the file's name or size is wrong."""
        return self.write_failure or self.fsync_failure

    def _update_failure(self) -> None:
        self.failure = self.write_failure or self.fsync_failure or self.damage_failure

    def fail_damaged(self, reason: str) -> None:
        """Make the damage a failure. `reason` says why the file cannot be written anew."""
        self.damage_failure = f"{self.damage}, and it cannot be written anew: {reason}".encode()
        self._update_failure()

    def write(self, now_ms: int) -> bool:
        """Write the records as one batch. Return False while the log fails; the records are then kept for later.

        The records are also kept while a long batch is written in steps.
        """
        if not self.pieces or self.in_steps:
            return self.failure is None
        self.end_in_0()
        self._last_ms = now_ms
        self._writing = True
        try:
            if self.fsync_failure is None and self.write_failure is not REPLACED:
                self._write_batch(*self._batch(now_ms))
        finally:
            self._writing = False
        self._update_failure()
        return not self.pieces

    def note_clients(self, wanted: bool) -> None:
        """Note from now on which client asked for which records, or do not."""
        if wanted != (self.noted is not None):
            self.noted = [] if wanted else None

    def begin_client(self) -> None:
        """Begin the records of a client, which will be a batch of their own if they are noted."""
        if self._database > 0:
            self.end_in_0()

    def end_client(self, start: int, client: bytes) -> None:
        """Note who asked for the records from `start` on, but for those that are noted already."""
        assert self.noted is not None
        self.begin_client()  # what follows is a batch of its own, too
        if self.noted:
            start = max(start, self.noted[-1][1])
            if self.noted[-1][1:] == (start, client):
                start = self.noted.pop()[0]
        if start < len(self.pieces):
            self.noted.append((start, len(self.pieces), client))

    def commit_in_slices(self, effects: Records, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """Do what `commit` does. Write effects of many megabytes as a batch of their own, a megabyte a step.

        While `is_busy`, no command may change a key, because its effects would come after this batch. If the batch
        cannot be written, it is left to the next `write`.
        """
        if sum(map(len, effects.pieces)) < LONG_BATCH_BYTES:
            self.commit(effects, keys, garbage)
            return
        pieces, checksum = yield from _checked(effects.pieces)
        known = len(effects.pieces)
        effects.end_in_0()
        for piece in effects.pieces[known:]:
            pieces.append(piece)
            checksum = crc32(piece, checksum)
        known = len(effects.pieces)
        self.is_busy = True
        try:
            while self.pieces and self.failure is None:
                yield  # the turn decides when the earlier records may be written
            if self.failure is None:
                self._last_ms = now()
                head = frame_head(pieces, self._last_ms, self.link, checksum)
                if (yield from self._write_in_steps(head, pieces)):
                    self._append_late(effects, known)
                    garbage += [*keys, effects.pieces, pieces]
                    return
        finally:
            self.is_busy = False
        self.commit(effects, keys, garbage)

    def _append_late(self, effects: Records, known: int) -> None:
        """Append the pieces after the first `known` ones, which end in database 0: DELs of keys expired since then."""
        late = effects.pieces[known:]
        if late:
            self.end_in_0()
            self.pieces += late
            self._database = effects._database

    def write_again(self, garbage: list[Any], now: Now) -> Steps:
        """Retry a failed write, a megabyte a step if it is large. No one may call `write` until it is done."""
        failure = self.write_failure
        if not self.has_large or failure is None or failure is REPLACED:
            self.write(now())
            return
        self.end_in_0()
        known = len(self.pieces)
        pieces, checksum = yield from _checked(self.pieces[:known])
        if self.write_failure is not failure or self.fsync_failure is not None:
            return  # the failure is another one by now
        self._last_ms = now()
        head = frame_head(pieces, self._last_ms, self.link, checksum)
        if (yield from self._write_in_steps(head, pieces)):
            garbage += [self.pieces[:known], pieces]
            del self.pieces[:known]
            self._forget_clients()

    def _write_in_steps(self, head: bytes, payload: Sequence[bytes | memoryview]) -> Generator[None, None, bool]:
        """Write a batch, a piece a step. Return True if it is in the file. Nothing else is written meanwhile."""
        self.measure()
        self.in_steps = self._writing = True
        try:
            self._cut_torn_end()
            self._torn = True
            for piece in (head, *payload):
                self._write_all(piece)
                yield
            self._torn = False
            self.written_bytes += len(head) + sum(map(len, payload))
            self.link = link_of(head)
            self.write_failure = None
        except OSError as error:
            self.write_failure = _text(error)
            with suppress(OSError):
                self._cut_torn_end()
        finally:
            self.in_steps = self._writing = False
            self._update_failure()
        return self.write_failure is None

    def _batch(self, now_ms: int) -> tuple[list[bytes], bytes]:
        """Frame the records: in one piece, or without a copy if they are large or memory is short.

        Return the pieces, and the `previous` of the next batch. Records of clients that are noted are batches of their
        own, unless they are large.
        """
        if not self.has_large and len(self.pieces) < MOST_JOINED:
            with suppress(MemoryError):
                if self.noted:
                    return self._batches_of_clients(self.noted, now_ms)
                batch = frame(b"".join(self.pieces), now_ms, self.link)
                return [batch], link_of(batch)
        payload = list(blocks(self.pieces))
        head = frame_head(payload, now_ms, self.link)
        return [head, *payload], link_of(head)

    def _batches_of_clients(self, noted: Sequence[tuple[int, int, bytes]], now_ms: int) -> tuple[list[bytes], bytes]:
        batches: list[bytes] = []
        position, link = 0, self.link
        ends = [end for start, last, client in noted for end in ((start, b""), (last, client))]
        for end, client in (*ends, (len(self.pieces), b"")):  # what no client has asked for is between and behind them
            if position < end:
                batches.append(frame(b"".join(self.pieces[position:end]), now_ms, link, client=client))
                link = link_of(batches[-1])
                position = end
        return [b"".join(batches)], link

    def _write_batch(self, batch: list[bytes], link: bytes) -> None:
        self.measure()
        try:
            self._cut_torn_end()
            self._torn = True
            for piece in batch:
                self._write_all(piece)
        except OSError as error:
            self.write_failure = _text(error)
            with suppress(OSError):  # the next attempt repeats it
                self._cut_torn_end()
            return
        self._torn = False
        self.written_bytes += sum(map(len, batch))
        self.link = link
        self.write_failure = None
        self.pieces.clear()
        self._forget_clients()
        self.has_large = False

    def _forget_clients(self) -> None:
        if self.noted:
            self.noted.clear()

    def _cut_torn_end(self) -> None:
        if self._torn:
            os.ftruncate(self._descriptor, self.written_bytes - self._origin)
            self._torn = False

    def _write_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def fsync(self) -> None:
        """Wait until all bytes written so far are on the disk, or repair after a failure. For one thread at a time."""
        if self.fsync_failure is not None:
            self._repair()
            return
        written_bytes = self.written_bytes  # later batches may be written while this waits
        if written_bytes == self.synced_bytes and not self._renamed:
            return
        try:
            self._sync()
        except OSError as error:
            self._fail_fsync(_text(error))
        else:
            self.synced_bytes = written_bytes

    def _sync(self) -> None:
        _sync(self._descriptor)
        if self._renamed:
            sync_directory(self.real_path)
            self._renamed = False

    def _fail_fsync(self, text: bytes) -> None:
        self.fsync_failure = self.failure = text

    def _repair(self) -> None:
        """Write all bytes since the last good fsync again; see the module's docstring."""
        if self._writing:
            return
        try:
            if self._unsynced is None:
                self._unsynced = self._read_back()
            if self._unsynced is None:
                self._fail_fsync(READ_BACK_FAILED)
                return
            os.ftruncate(self._descriptor, self.synced_bytes - self._origin)
            self._write_all(self._unsynced)
            self._sync()
        except OSError as error:
            self._fail_fsync(_text(error))
            return
        self.synced_bytes = self.written_bytes
        self._unsynced = None
        self.fsync_failure = None
        self._update_failure()

    def _read_back(self) -> bytes | None:
        """Read the bytes written since the last good fsync; None if they are not whole batches."""
        size = self.written_bytes - self.synced_bytes
        os.lseek(self._descriptor, self.synced_bytes - self._origin, os.SEEK_SET)  # no effect on writes: O_APPEND
        data = b""
        while len(data) < size and (block := os.read(self._descriptor, size - len(data))):
            data += block
        try:
            whole = all(unit.kind is Kind.BATCH for unit in units(io.BytesIO(data), size))
        except Fault:
            return None
        return data if whole else None

    # ---- changes of the file by other processes

    def inspect(self) -> None:
        """Check the file's name and size; see the module's docstring. Does nothing while an fsync fails."""
        if self.fsync_failure is not None or self._torn or self._descriptor < 0:
            return
        replaced = False
        try:
            mine = os.fstat(self._descriptor)
            replaced = not os.path.samestat(os.stat(self.real_path), mine)
        except (FileNotFoundError, NotADirectoryError):
            self.damage = "its name is gone"
        except OSError:  # the file system cannot be read now
            return
        if replaced != (self.write_failure is REPLACED):
            self.write_failure = REPLACED if replaced else None
            self._update_failure()
        if mine.st_size != self.size_bytes:
            self.damage = f"it has {mine.st_size} bytes and should have {self.size_bytes}"
            self._origin = self.written_bytes - mine.st_size  # positions of later writes are right again

    # ---- for a rewrite

    def start_successor(self) -> AppendOnlyLog:
        """Open an empty log beside this one, for `succeed`. Raises OSError."""
        successor = AppendOnlyLog(self._rewrite_path, lock=LogLock(self._rewrite_path))  # the lock is never taken
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        descriptor = open_log_locked(successor.path, FLAGS | os.O_TRUNC, mode)
        if descriptor is None:
            raise OSError(f"another process has {successor.path} open")
        successor._descriptor = descriptor
        if hasattr(os, "fchmod"):
            os.fchmod(successor._descriptor, mode)  # because `open` applies the umask
        successor._measured = True
        return successor

    def open_to_read(self) -> BinaryIO:
        """Open the log's file again, for `read_at`. Raises OSError, also if the file was replaced."""
        try:
            file = open_regular(self.real_path, buffering=0)
        except FileNotFoundError:  # the name was removed; a rewrite makes a new file
            file = open(f"/dev/fd/{self._descriptor}", "rb", buffering=0)  # noqa: SIM115
        if not os.path.samestat(os.fstat(file.fileno()), os.fstat(self._descriptor)):
            file.close()
            raise OSError("the log was moved away while it was in use")
        return file

    def read_at(self, file: BinaryIO, position: int, size: int) -> bytes:
        """Read `size` bytes of the log from a file of `open_to_read`. Raises OSError if some are missing."""
        file.seek(position - self._origin)
        data = b""
        while len(data) < size:
            block = file.read(size - len(data))
            if not block:
                raise OSError("the log became shorter while it was in use")
            data += block
        return data

    def take_records(self) -> list[bytes]:
        """Return the records so far, for `write_records`, and start a new list. O(1): nothing is copied."""
        self.end_in_0()
        records = self.pieces or [SELECT_0]
        self.pieces = []
        self.has_large = False
        return records

    def write_records(self, records: list[bytes], now_ms: int, link: bytes) -> Steps:
        """Write records as one batch, a megabyte a step. Raises OSError.

        For a thread: the checksum and the write release the GIL. `link` is the `previous` of the batch after this one,
        if it is not this one's checksum.
        """
        payload = list(_cut(blocks(records)))
        head = frame_head(payload, now_ms, self.link, link=link)
        self.link = link_of(head)
        for piece in (head, *payload):
            self.copy_in(piece)
            yield

    def copy_in(self, data: bytes | memoryview) -> None:
        """Append bytes as they are: whole batches of another log. Raises OSError."""
        self._write_all(data)
        self.written_bytes += len(data)

    def succeed(self, successor: AppendOnlyLog, reader: BinaryIO) -> None:
        """Continue in the file of `successor`, which has the same effects. If it raises OSError, nothing has changed.

        `synced_bytes` stays: later bytes are on the disk only after the next fsync, which also syncs the directory.
        Until then a crash may bring back the old file, which is whole up to that position.
        """
        if self.disk_failure is not None or os.fstat(successor._descriptor).st_size != successor.written_bytes:
            raise OSError("the log or its rewrite is not whole")
        if CLOSED_TO_RENAME:
            reader.close()
            successor._close_file()
            self._close_file()
            try:
                os.replace(successor.path, self.real_path)
            finally:
                self._descriptor = os.open(self.real_path, FLAGS, 0o640)
        else:
            os.replace(successor.path, self.real_path)
            with suppress(OSError):
                self._close_file()
            self._descriptor, successor._descriptor = successor._descriptor, -1
        self._origin = self.written_bytes - successor.written_bytes
        self.damage, self.damage_failure = "", None
        self._update_failure()
        self._renamed = True

    def remove_file(self) -> None:
        """Remove the name of an abandoned file. Where an open file cannot be removed, `close_removed` does it."""
        with suppress(OSError):
            os.unlink(self.path)

    def close_removed(self) -> None:
        """Close a file that was removed. For a thread, because the system frees its blocks, which may take long."""
        self._close_file()
        if CLOSED_TO_RENAME:
            self.remove_file()

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Write and sync the remaining records, inspect the file, and unlock. `failure` is set if records were lost."""
        if self._descriptor < 0:
            return
        if self.fsync_failure is not None:
            self.fsync()
        self.in_steps = False  # a batch that is half written is cut off
        with suppress(OSError):
            self._cut_torn_end()
        self.write(self._last_ms)
        self.fsync()
        if self._measured:
            self.inspect()
        if self.damage and self.damage_failure is None:
            self.fail_damaged("the process ends")
        self._close_file()
        self._unlock()

    def _unlock(self) -> None:
        self._lock.release()
        self._locked = False


class NullLog:
    """A log that stores nothing: for a server without a log, and during replay."""

    noted = None
    failure: bytes | None = None
    write_failure: bytes | None = None
    fsync_failure: bytes | None = None
    damage_failure: bytes | None = None
    disk_failure: bytes | None = None
    damage = ""
    is_busy = False
    in_steps = False
    written_bytes = 0
    synced_bytes = 0
    size_bytes = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def open(self) -> None:
        """Do nothing."""

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        """Drop a command."""

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Drop a SET."""

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
        """Drop many SETs."""

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None:
        """Drop many commands."""

    def note_clients(self, wanted: bool) -> None:
        """Do nothing."""

    def begin_client(self) -> None:
        """Do nothing."""

    def end_client(self, start: int, client: bytes) -> None:
        """Do nothing."""

    def begin(self) -> NullLog:
        """Return an EffectLog that stores nothing either: this one."""
        return self

    def position(self) -> None:
        """Return nothing: no effect is kept."""

    def cut(self, position: None) -> NullLog:
        """Return the log itself."""
        return self

    def commit_in_slices(self, effects: NullLog, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """Drop the collected effects."""
        garbage += keys
        yield from ()

    def commit(self, effects: NullLog, keys: list[set[bytes]], garbage: list[Any]) -> None:
        """Drop the collected effects."""
        garbage += keys

    def write(self, now_ms: int) -> bool:
        """Return True: no record is left to write."""
        return True

    def write_again(self, garbage: list[Any], now: Now) -> Steps:
        """Do nothing, in no steps."""
        yield from ()

    def fsync(self) -> None:
        """Do nothing."""

    def inspect(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _checked(pieces: Iterable[bytes]) -> Generator[None, None, tuple[list[bytes | memoryview], int]]:
    """Join pieces in blocks of at most a megabyte, a step each. Return the blocks and their checksum."""
    joined, checksum = [], 0
    for piece in _cut(blocks(pieces)):
        joined.append(piece)
        checksum = crc32(piece, checksum)
        yield
    return joined, checksum


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Cut long pieces, without a copy, into parts that take about a millisecond to write."""
    for piece in pieces:
        if len(piece) <= STEP_BYTES:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(piece), STEP_BYTES):
                yield view[start : start + STEP_BYTES]


def _text(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()
