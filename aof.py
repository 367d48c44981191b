"""The log's writer: what a turn changed, framed as one batch, written, synced; and the lock that makes it the only one.

It owns the log's file and its lock. It knows no clock, no threads and no fsync policy: the server says when to write
and when to sync. The format is log_reader's; log_replay's `replay` and `ReplayReport` are passed on here.

    command -> append_set() -> pieces -> write() once a turn -> file -> fsync() in a thread
                                           |  fails: back to the       |  fails: read back, check,
                                           |  batch's start, kept      |  write again, sync

**Two threads, no lock.** The loop calls append, append_set, write, close; one thread at a time calls fsync.
    the loop writes   pieces, written_bytes, write_failure, _writing
    fsync writes      synced_bytes, fsync_failure
    both write        failure, which is the one or the other
While fsync_failure is set the file belongs to fsync(): write() keeps its pieces and returns False. A write already on
its way when fsync_failure was set is seen by `_writing`; then fsync() leaves the repair to its next call. Each side
raises its own flag before it looks at the other's, so both cannot go ahead.

**After a failed fsync** the kernel may have dropped the pages and call them clean, so syncing again proves nothing.
All since the last good fsync is read back, checked, cut off and written anew. Refused: to exit, as PostgreSQL does.
It relies on a replay of its log; here the memory is right, and readers can still be served.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress

from errors import LogError
from log_reader import SELECT_0, Fault, Kind, frame, units
from log_replay import ReplayReport, cannot_use, not_regular, replay, sync_directory
from protocol import HEADERS, TABLED, encode_command

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["AppendOnlyLog", "LogLock", "NullLog", "ReplayReport", "claim_directory", "replay"]

CRLF = b"\r\n"
SET = b"*3\r\n$3\r\nSET\r\n"
SET_PXAT = b"*5\r\n$3\r\nSET\r\n"
SET_HEADS = [SET + header for header in HEADERS]  # up to and with the header of the key
SET_PXAT_HEADS = [SET_PXAT + header for header in HEADERS]
BETWEEN = [CRLF + header for header in HEADERS]  # from the end of the key to the value
NO_DATABASE = -1
MOST_DIRECTORIES = 10_000
READ_BACK_FAILED = b"fsync failed, and what was written since does not read back right: check the disk, then restart"
_sync = getattr(os, "fdatasync", os.fsync)  # the file's times need not be on the disk


def _lock_descriptor(descriptor: int) -> bool:
    """Take the lock of an open file, which ends with the process; False if another has it."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the text, which others must be able to read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


class LogLock:
    """Who holds `<log>.lock` owns the log. A file of its own, so that the log may be renamed; it is never removed."""

    def __init__(self, log_path: str, instance_id: str = "") -> None:
        self.log_path = log_path
        self._path = os.path.realpath(log_path) + ".lock"
        self._instance_id = instance_id
        self._descriptor = -1

    def try_take(self) -> bool:
        """Take the lock, and note in it who has it; False if another holds it."""
        descriptor = -1
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640)
            taken = _lock_descriptor(descriptor)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise cannot_use(self._path, error) from error
        if not taken:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with suppress(OSError):  # a full disk: the lock is held all the same, only its owner's name is missing
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()} {platform.node()} {self._instance_id}\n".encode())
        return True

    def take(self) -> None:
        """Take the lock, or raise LogError with the name of who holds it."""
        if not self.try_take():
            raise LogError(
                f"the log {self.log_path} is in use by {self._holder()}: stop that one, or give this one another log"
            )

    def _holder(self) -> str:
        with suppress(OSError), open(self._path, "rb") as file:
            pid, host, instance = (file.read(1000).decode("utf-8", "replace").strip("\n") + "  ").split(" ", 2)
            if pid:
                return f"process {pid} on host {host or '?'}" + (
                    f", instance {instance.strip()}" * bool(instance.strip())
                )
        return "another process"

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def claim_directory(root: str, instance_id: str = "") -> LogLock:
    """Claim the first of root/1, root/2, … that nobody holds, for instances that share one volume.

    The lock is held from here on: pass it to AppendOnlyLog with its `log_path`.
    """
    for number in range(1, MOST_DIRECTORIES + 1):
        directory = os.path.join(root, str(number))
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise cannot_use(directory, error) from error
        lock = LogLock(os.path.join(directory, "log.txt"), instance_id)
        if lock.try_take():
            return lock
    raise LogError(f"all of {root}/1 to {root}/{MOST_DIRECTORIES} are in use")


class AppendOnlyLog:
    """One process's log. Open it, replay, then append and write; `failure` says why it cannot be written now."""

    def __init__(self, path: str, instance_id: str = "", lock: LogLock | None = None) -> None:
        self.path = path
        self.pieces: list[bytes] = []  # this turn's records
        self.failure: bytes | None = None
        self.write_failure: bytes | None = None
        self.fsync_failure: bytes | None = None
        self.written_bytes = 0
        self.synced_bytes = 0

        self._lock = lock or LogLock(path, instance_id)
        self._locked = lock is not None
        self._descriptor = -1
        self._measured = False  # replay may cut the file after open: its size counts at the first write
        self._writing = False
        self._torn = False  # bytes of a failed write may stand after written_bytes
        self._last_ms = 0
        self._unsynced: bytes | None = None  # what a repair has cut off and must write again

        self._database = NO_DATABASE
        self._remember_deadline(-1)

    def open(self) -> None:
        """Take the lock, unless it was given, and open the file. What is in the file is on the disk afterwards."""
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
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o640)
            regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            if regular:
                os.fsync(self._descriptor)
                sync_directory(self.path)
        except OSError as error:
            raise cannot_use(self.path, error) from error
        if not regular:
            raise not_regular(self.path)
        self.written_bytes = self.synced_bytes = os.fstat(self._descriptor).st_size

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        """Put a command on this turn's batch."""
        if db != self._database:
            self._select(db)
        self.pieces.append(encode_command(argv))

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Put `SET key value PXAT deadline`, or `SET key value` for a deadline of -1, on this turn's batch.

        It is the most frequent record there is, so it extends `pieces` with ready pieces; the deadline's is made once
        a turn, when the deadline changes.
        """
        # A record, its share of the join included: 0.20 µs; one bytes made with `%` 0.26 µs; encode_command 0.93 µs.
        if db != self._database:
            self._select(db)
        if deadline_ms != self._deadline_ms:
            self._remember_deadline(deadline_ms)
        key_size = len(key)
        value_size = len(value)
        self.pieces.extend(
            (
                self._set_heads[key_size] if key_size < TABLED else self._set_head + b"$%d\r\n" % key_size,
                key,
                BETWEEN[value_size] if value_size < TABLED else b"\r\n$%d\r\n" % value_size,
                value,
                self._deadline_tail,
            )
        )

    def _select(self, db: int) -> None:
        self.pieces.append(encode_command((b"SELECT", b"%d" % db)))
        self._database = db

    def _remember_deadline(self, deadline_ms: int) -> None:
        self._deadline_ms = deadline_ms
        if deadline_ms < 0:
            self._set_head, self._set_heads, self._deadline_tail = SET, SET_HEADS, CRLF
        else:
            digits = b"%d" % deadline_ms
            self._set_head, self._set_heads = SET_PXAT, SET_PXAT_HEADS
            self._deadline_tail = b"\r\n$4\r\nPXAT\r\n$%d\r\n%b\r\n" % (len(digits), digits)

    def write(self, now_ms: int) -> bool:
        """Write this turn's records as one batch; False while the log fails: then they are kept for the next try."""
        if not self.pieces:
            return self.failure is None
        if self._database:
            self.pieces.append(SELECT_0)
            self._database = 0
        self._last_ms = now_ms
        self._writing = True
        try:
            if self.fsync_failure is None:
                self._write_batch(frame(b"".join(self.pieces), now_ms))
        finally:
            self._writing = False
        self.failure = self.write_failure or self.fsync_failure
        return not self.pieces

    def _write_batch(self, batch: bytes) -> None:
        if not self._measured:
            self.written_bytes = self.synced_bytes = os.fstat(self._descriptor).st_size
            self._measured = True
        try:
            self._cut_torn_end()
            self._torn = True
            self._write_all(batch)
        except OSError as error:
            self.write_failure = _text(error)
            with suppress(OSError):  # the next try begins with it again
                self._cut_torn_end()
            return
        self._torn = False
        self.written_bytes += len(batch)
        self.write_failure = None
        self.pieces.clear()

    def _cut_torn_end(self) -> None:
        if self._torn:
            os.ftruncate(self._descriptor, self.written_bytes)
            self._torn = False

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def fsync(self) -> None:
        """Wait until all written so far is on the disk, or repair after a failure. For a thread, one at a time."""
        if self.fsync_failure is not None:
            self._repair()
            return
        written_bytes = self.written_bytes  # later batches may be written while this waits
        if written_bytes == self.synced_bytes:
            return
        try:
            _sync(self._descriptor)
        except OSError as error:
            self._fail_fsync(_text(error))
        else:
            self.synced_bytes = written_bytes

    def _fail_fsync(self, text: bytes) -> None:
        self.fsync_failure = self.failure = text

    def _repair(self) -> None:
        """Write all since the last good fsync once more; see the module's docstring."""
        if self._writing:
            return
        try:
            if self._unsynced is None:
                self._unsynced = self._read_back()
            if self._unsynced is None:
                self._fail_fsync(READ_BACK_FAILED)
                return
            os.ftruncate(self._descriptor, self.synced_bytes)
            self._write_all(self._unsynced)
            _sync(self._descriptor)
        except OSError as error:
            self._fail_fsync(_text(error))
            return
        self.synced_bytes = self.written_bytes
        self._unsynced = None
        self.fsync_failure = None
        self.failure = self.write_failure

    def _read_back(self) -> bytes | None:
        """Read what was written since the last good fsync; None if it is not the batches that were written."""
        size = self.written_bytes - self.synced_bytes
        os.lseek(self._descriptor, self.synced_bytes, os.SEEK_SET)  # O_APPEND: writes do not mind
        data = b""
        while len(data) < size and (block := os.read(self._descriptor, size - len(data))):
            data += block
        try:
            whole = all(unit.kind is Kind.BATCH for unit in units(io.BytesIO(data), size))
        except Fault:
            return None
        return data if whole and len(data) == size else None

    def close(self) -> None:
        """Write and sync what is left, and unlock; what could not be written is told by `failure`."""
        if self._descriptor < 0:
            return
        if self.fsync_failure is not None:
            self.fsync()
        self.write(self._last_ms)
        self.fsync()
        os.close(self._descriptor)
        self._descriptor = -1
        self._unlock()

    def _unlock(self) -> None:
        self._lock.release()
        self._locked = False


class NullLog:
    """A log that keeps nothing: for a server without one, and while a log is replayed."""

    failure: bytes | None = None
    write_failure: bytes | None = None
    fsync_failure: bytes | None = None
    written_bytes = 0
    synced_bytes = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def open(self) -> None:
        """Do nothing."""

    def append(self, db: int, argv: Sequence[bytes]) -> None:
        """Forget a command."""

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Forget a SET."""

    def write(self, now_ms: int) -> bool:
        """Say that nothing is left to write."""
        return True

    def fsync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _text(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()
