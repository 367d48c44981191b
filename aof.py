"""The log's writer: what a turn or a few changed, framed as one batch, written, synced.

It owns the log's file, and holds its lock (log.lock's). It knows no clock, no threads and no fsync policy: the server
says when to write and when to sync. The format is log.reader's; log.replay's `replay` and `ReplayReport` are passed on
here.

    command -> append_set() -> pieces -> write() once a turn -> file -> fsync() in a thread
                                           |  fails: back to the       |  fails: read back, check,
                                           |  batch's start, kept      |  write again, sync

**Two threads, no lock.** The loop calls append, append_set, write, close; one thread at a time calls fsync.
    the loop writes   pieces, written_bytes, write_failure, _writing
    fsync writes      synced_bytes, fsync_failure
    both write        failure, which is the one or the other, or else damage_failure
While fsync_failure is set the file belongs to fsync(): write() keeps its pieces and returns False. A write already on
its way when fsync_failure was set is seen by `_writing`; then fsync() leaves the repair to its next call. Each side
raises its own flag before it looks at the other's, so both cannot go ahead.

**After a failed fsync** the kernel may have dropped the pages and call them clean, so syncing again proves nothing.
All since the last good fsync is read back, checked, cut off and written anew. Refused: to exit, as PostgreSQL does.
It relies on a replay of its log; here the memory is right, and readers can still be served.

**What others do to the file** while it is in use, `inspect` finds. A name that is gone and a size that is not what was
written are `damage`: the memory has it all, and a rewrite makes a whole file of it. Where it cannot, as in a directory
that is gone, the damage is a failure, until a rewrite succeeds. Another file in the log's place is a failure, because
no start would find what is written now; it is not overwritten, because somebody wanted it there.

NullLog stands here, though it makes the module long: it is the same interface, and a change of one is one of the other.
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
READ_BACK_FAILED = b"fsync failed, and what was written since does not read back right: check the disk, then restart"
LONG_BATCH_BYTES = 4 << 20
STEP_BYTES = 1 << 20
UNFINISHED = (".rewrite", ".repairing", ".repairing-again")
REPLACED = b"another file stands in the place of the log: move it away, or restart to use it"
_sync = getattr(os, "fdatasync", os.fsync)  # the file's times need not be on the disk


class AppendOnlyLog(Records):
    """One process's log. Open it, replay, then append and write; `failure` says why it cannot be written now."""

    def __init__(self, path: str, instance_id: str = "", lock: LogLock | None = None) -> None:
        super().__init__()  # this turn's records
        self.path = path
        self.failure: bytes | None = None
        self.write_failure: bytes | None = None
        self.fsync_failure: bytes | None = None
        self.damage = ""  # what others did to the file, so that only a rewrite makes a whole one
        self.damage_failure: bytes | None = None  # why none could
        self.written_bytes = 0
        self.synced_bytes = 0
        self.link = FIRST_LINK  # what the next batch gives as its `previous`; a replay says it

        self.real_path = os.path.realpath(path)  # a link to the log stays one
        self._rewrite_path = self.real_path + ".rewrite"
        self._lock = lock or LogLock(path, instance_id)
        self._locked = lock is not None
        self._descriptor = -1
        self._origin = 0  # the position of the file's first byte
        self._renamed = False  # a new file has taken the log's name, and the directory is not synced yet
        self._measured = False  # replay may cut the file after open: its size counts at the first write
        self._writing = False
        self._torn = False  # bytes of a failed write may stand after written_bytes
        self.is_busy = False  # a long batch is on its way, between whose steps others are served
        self.in_steps = False  # it is being written, and the file must stay what it is
        self._last_ms = 0
        self._unsynced: bytes | None = None  # what a repair has cut off and must write again

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
            for left in UNFINISHED:  # by a process that was killed while it wrote it
                with suppress(FileNotFoundError):
                    os.unlink(self.real_path + left)
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
        """Take the file's size, which a replay after `open` may have cut; only before the first write."""
        if not self._measured:
            self.written_bytes = self.synced_bytes = os.fstat(self._descriptor).st_size
            self._measured = True

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self.written_bytes - self._origin

    @property
    def disk_failure(self) -> bytes | None:
        """Why the disk does not take what is written; None also where only the file's name or size is wrong."""
        return self.write_failure or self.fsync_failure

    def _judge(self) -> None:
        self.failure = self.write_failure or self.fsync_failure or self.damage_failure

    def fail_damaged(self, reason: str) -> None:
        """Count the damage as a failure: the file cannot be written anew, for this reason."""
        self.damage_failure = f"{self.damage}, and it cannot be written anew: {reason}".encode()
        self._judge()

    def write(self, now_ms: int) -> bool:
        """Write this turn's records as one batch; False while the log fails: then they are kept for the next try.

        They are kept, too, while a long batch is written in steps.
        """
        if not self.pieces or self.in_steps:
            return self.failure is None
        self.end_in_0()
        self._last_ms = now_ms
        self._writing = True
        try:
            if self.fsync_failure is None and self.write_failure is not REPLACED:
                self._write_batch(self._batch(now_ms))
        finally:
            self._writing = False
        self._judge()
        return not self.pieces

    def commit_in_slices(self, effects: Records, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """`commit`; many megabytes are written here, as a batch of their own, a megabyte a step.

        While `is_busy`, nobody may change anything, for all that is logged then comes behind it. Where it cannot be
        written, it is left to the next `write`, as any other.
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
                yield  # the turn knows when these may be written
            if self.failure is None:
                self._last_ms = now()
                head = frame_head(pieces, self._last_ms, self.link, checksum)
                if (yield from self._write_in_steps(head, pieces)):
                    self._take_late(effects, known)
                    garbage += [*keys, effects.pieces, pieces]
                    return
        finally:
            self.is_busy = False
        self.commit(effects, keys, garbage)

    def _take_late(self, effects: Records, known: int) -> None:
        """Take over what came behind the `known` pieces, which end in database 0: keys that expired since."""
        late = effects.pieces[known:]
        if late:
            self.end_in_0()
            self.pieces += late
            self._database = effects._database

    def write_again(self, garbage: list[Any], now: Now) -> Steps:
        """Try once more to write what could not be written; where that may be much, a megabyte a step.

        Nobody else may call `write` until it is done.
        """
        failure = self.write_failure
        if not self.has_large or failure is None or failure is REPLACED:
            self.write(now())
            return
        self.end_in_0()
        known = len(self.pieces)
        pieces, checksum = yield from _checked(self.pieces[:known])
        if self.write_failure is not failure or self.fsync_failure is not None:
            return  # what is wrong is something else by now
        self._last_ms = now()
        head = frame_head(pieces, self._last_ms, self.link, checksum)
        if (yield from self._write_in_steps(head, pieces)):
            garbage += [self.pieces[:known], pieces]
            del self.pieces[:known]

    def _write_in_steps(self, head: bytes, payload: Sequence[bytes | memoryview]) -> Generator[None, None, bool]:
        """Write a batch, a piece a step, and nothing else meanwhile; return whether it is in the file."""
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
            self._judge()
        return self.write_failure is None

    def _batch(self, now_ms: int) -> list[bytes]:
        """Frame this turn's records: in one piece, or, where they are large or the memory is short, without a copy."""
        if not self.has_large:
            with suppress(MemoryError):
                return [frame(b"".join(self.pieces), now_ms, self.link)]
        payload = list(blocks(self.pieces))
        return [frame_head(payload, now_ms, self.link), *payload]

    def _write_batch(self, batch: list[bytes]) -> None:
        self.measure()
        try:
            self._cut_torn_end()
            self._torn = True
            for piece in batch:
                self._write_all(piece)
        except OSError as error:
            self.write_failure = _text(error)
            with suppress(OSError):  # the next try begins with it again
                self._cut_torn_end()
            return
        self._torn = False
        self.written_bytes += sum(map(len, batch))
        self.link = link_of(batch[0])
        self.write_failure = None
        self.pieces.clear()
        self.has_large = False

    def _cut_torn_end(self) -> None:
        if self._torn:
            os.ftruncate(self._descriptor, self.written_bytes - self._origin)
            self._torn = False

    def _write_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def fsync(self) -> None:
        """Wait until all written so far is on the disk, or repair after a failure. For a thread, one at a time."""
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
        """Write all since the last good fsync once more; see the module's docstring."""
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
        self._judge()

    def _read_back(self) -> bytes | None:
        """Read what was written since the last good fsync; None if it is not the batches that were written."""
        size = self.written_bytes - self.synced_bytes
        os.lseek(self._descriptor, self.synced_bytes - self._origin, os.SEEK_SET)  # O_APPEND: writes do not mind
        data = b""
        while len(data) < size and (block := os.read(self._descriptor, size - len(data))):
            data += block
        try:
            whole = all(unit.kind is Kind.BATCH for unit in units(io.BytesIO(data), size))
        except Fault:
            return None
        return data if whole else None

    # ---- what others do to the file

    def inspect(self) -> None:
        """Look whether the file has its name and its size; see the module's docstring. Not while it is read back."""
        if self.fsync_failure is not None or self._torn or self._descriptor < 0:
            return
        replaced = False
        try:
            mine = os.fstat(self._descriptor)
            replaced = not os.path.samestat(os.stat(self.real_path), mine)
        except (FileNotFoundError, NotADirectoryError):
            self.damage = "its name is gone"
        except OSError:  # of a file system that cannot be looked at now
            return
        if replaced != (self.write_failure is REPLACED):
            self.write_failure = REPLACED if replaced else None
            self._judge()
        if mine.st_size != self.size_bytes:
            self.damage = f"it has {mine.st_size} bytes and should have {self.size_bytes}"
            self._origin = self.written_bytes - mine.st_size  # what is written from now on is found again

    # ---- for a rewrite

    def start_successor(self) -> AppendOnlyLog:
        """Open an empty log beside this one, which may take its place. Raises OSError."""
        successor = AppendOnlyLog(self._rewrite_path, lock=LogLock(self._rewrite_path))  # a lock that nobody takes
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        descriptor = open_log_locked(successor.path, FLAGS | os.O_TRUNC, mode)
        if descriptor is None:
            raise OSError(f"another process has {successor.path} open")
        successor._descriptor = descriptor
        if hasattr(os, "fchmod"):
            os.fchmod(successor._descriptor, mode)  # whatever the umask is
        successor._measured = True
        return successor

    def open_to_read(self) -> BinaryIO:
        """Open the log's file once more. Raises OSError, also if another file has been put in its place."""
        try:
            file = open_regular(self.real_path, buffering=0)  # the caller closes it
        except FileNotFoundError:  # removed, and to be written anew
            file = open(f"/dev/fd/{self._descriptor}", "rb", buffering=0)  # noqa: SIM115
        if not os.path.samestat(os.fstat(file.fileno()), os.fstat(self._descriptor)):
            file.close()
            raise OSError("the log was moved away while it was in use")
        return file

    def read_at(self, file: BinaryIO, position: int, size: int) -> bytes:
        """Read a piece of what was written, by a file of `open_to_read`. Raises OSError if it is not all there."""
        file.seek(position - self._origin)
        data = b""
        while len(data) < size:
            block = file.read(size - len(data))
            if not block:
                raise OSError("the log became shorter while it was in use")
            data += block
        return data

    def take_records(self) -> list[bytes]:
        """Hand out the records so far, for `write_records`. Nothing is copied, however large it is."""
        self.end_in_0()
        records = self.pieces or [SELECT_0]
        self.pieces = []
        self.has_large = False
        return records

    def write_records(self, records: list[bytes], now_ms: int, link: bytes) -> Steps:
        """Write records as one batch, a megabyte a step. For a thread: while it checks and writes them, others run.

        `link`: what the batch behind it gives as its `previous`, if not this one's checksum. Raises OSError.
        """
        payload = list(_cut(blocks(records)))
        head = frame_head(payload, now_ms, self.link, link=link)
        self.link = link_of(head)
        for piece in (head, *payload):
            self.copy_in(piece)
            yield

    def copy_in(self, data: bytes | memoryview) -> None:
        """Write whole batches of another log. Raises OSError."""
        self._write_all(data)
        self.written_bytes += len(data)

    def succeed(self, successor: AppendOnlyLog, reader: BinaryIO) -> None:
        """Go on in the file of `successor`, which says all that this one does. Raises OSError and stays as it was.

        `synced_bytes` stays: what comes after it is on the disk only when the next fsync has synced the directory.
        Until then a crash may bring back the old file, which is whole up to there.
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
        self._judge()
        self._renamed = True

    def remove_file(self) -> None:
        """Remove the name of a file that is nobody's log; where open files cannot be, `close_removed` does it."""
        with suppress(OSError):
            os.unlink(self.path)

    def close_removed(self) -> None:
        """Close a file that was removed. May take long, since the system frees its blocks: for a thread."""
        self._close_file()
        if CLOSED_TO_RENAME:
            self.remove_file()

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Write and sync what is left, look at the file once more, and unlock; `failure` says what is not in it."""
        if self._descriptor < 0:
            return
        if self.fsync_failure is not None:
            self.fsync()
        self.in_steps = False  # what was half written is not in the log
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
    """A log that keeps nothing: for a server without one, and while a log is replayed."""

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
        """Forget a command."""

    def append_set(self, db: int, key: bytes, value: bytes, deadline_ms: int) -> None:
        """Forget a SET."""

    def append_sets(self, db: int, keys: Sequence[bytes], values: Sequence[bytes], deadline_ms: int) -> None:
        """Forget many SETs."""

    def append_alike(self, db: int, name: bytes, keys: Sequence[bytes], *words: bytes) -> None:
        """Forget many commands."""

    def begin(self) -> NullLog:
        """Return what forgets, too."""
        return self

    def commit_in_slices(self, effects: NullLog, keys: list[set[bytes]], garbage: list[Any], now: Now) -> Steps:
        """Forget what was set aside."""
        garbage += keys
        yield from ()

    def commit(self, effects: NullLog, keys: list[set[bytes]], garbage: list[Any]) -> None:
        """Forget what was set aside."""
        garbage += keys

    def write(self, now_ms: int) -> bool:
        """Return that nothing is left to write."""
        return True

    def write_again(self, garbage: list[Any], now: Now) -> Steps:
        """Return that nothing is left to write."""
        yield from ()

    def fsync(self) -> None:
        """Do nothing."""

    def inspect(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _checked(pieces: Iterable[bytes]) -> Generator[None, None, tuple[list[bytes | memoryview], int]]:
    """Gather pieces in blocks of at most a megabyte, a step each; return them with their checksum."""
    gathered, checksum = [], 0
    for piece in _cut(blocks(pieces)):
        gathered.append(piece)
        checksum = crc32(piece, checksum)
        yield
    return gathered, checksum


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Cut what is long into pieces that take about a millisecond to be written, without a copy."""
    for piece in pieces:
        if len(piece) <= STEP_BYTES:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(piece), STEP_BYTES):
                yield view[start : start + STEP_BYTES]


def _text(error: OSError) -> bytes:
    return (error.strerror or str(error)).encode()
