"""The lock that makes a process the only owner of a log, and the claim of a log among several.

Two files are locked, and each lock ends with the process, however that ends:

- `<log>.lock` outlives each rename of the log, and holds the name of its owner for whoever is refused.
- the file of the log itself, because `<log>.lock` can be removed while it is held. A rewrite locks its new file before
  that becomes the log.

Refused: a pid in a file without a lock, which outlives its process.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
from contextlib import suppress

from errors import LogError
from log.replay import cannot_use, sync_directory
from wire.files import open_regular

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MOST_DIRECTORIES = 10_000


def open_locked(path: str, flags: int, mode: int = 0o640) -> int | None:
    """Open a file and lock it, until it is closed; None if another process has it locked. Raises OSError.

    The file that is locked is the one that has the name afterwards.
    """
    while True:
        descriptor = os.open(path, flags, mode)
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            if is_at(descriptor, path):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who had it locked has removed or replaced it meanwhile


def lock_log(descriptor: int) -> bool:
    """Lock the file of a log that is open, until it is closed; False if another process has it locked.

    On Windows `<log>.lock` is enough, since nobody can remove it while it is open; and whoever has a part of the log
    locked there keeps others from reading it.
    """
    return sys.platform == "win32" or _lock(descriptor)


def open_log_locked(path: str, flags: int, mode: int = 0o640) -> int | None:
    """Open a log and lock its file as `lock_log` does; None if another process has it locked. Raises OSError."""
    return os.open(path, flags, mode) if sys.platform == "win32" else open_locked(path, flags, mode)


def in_use(log_path: str, holder: str) -> LogError:
    """Return that a log has another owner."""
    return LogError(f"the log {log_path} is in use by {holder}: stop that one, or give this one another log")


def is_at(descriptor: int, path: str) -> bool:
    """Return True if a path leads to the file of a descriptor."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
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
    """Who has `<log>.lock` locked owns the log. The file is removed when it is given back."""

    def __init__(self, log_path: str, instance_id: str = "") -> None:
        self.log_path = log_path
        self._path = os.path.realpath(log_path) + ".lock"
        self._instance_id = instance_id
        self._descriptor = -1

    def try_take(self) -> bool:
        """Take the lock, and note in it who has it; False if another holds it. Raises LogError."""
        try:
            descriptor = open_locked(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_use(self.log_path, error) from error
        if descriptor is None:
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
            raise in_use(self.log_path, self._holder())

    def _holder(self) -> str:
        with suppress(OSError), open_regular(self._path) as file:
            pid, host, instance = (file.read(1000).decode("utf-8", "replace").strip("\n") + "  ").split(" ", 2)
            if pid:
                return f"process {pid} on host {host or '?'}" + (
                    f", instance {instance.strip()}" * bool(instance.strip())
                )
        return "another process"

    def release(self) -> None:
        """Give the lock back, and remove its file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with suppress(OSError):
            if is_at(descriptor, self._path):  # else somebody has removed it, and it may be another's by now
                os.unlink(self._path)  # first, so that whoever takes the lock next sees that the name is gone
        os.close(descriptor)
        if sys.platform == "win32":  # which removes no open file
            with suppress(OSError):
                os.unlink(self._path)


def claim_directory(root: str, instance_id: str = "") -> LogLock:
    """KeyLock the first of root/1, root/2, … that nobody holds, for instances that share one volume.

    The lock is held from here on: pass it to AppendOnlyLog with its `log_path`.
    """
    for number in range(1, MOST_DIRECTORIES + 1):
        directory = os.path.join(root, str(number))
        try:
            _make_directory(directory)
        except OSError as error:
            raise cannot_use(directory, error) from error
        lock = LogLock(os.path.join(directory, "log.txt"), instance_id)
        if lock.try_take():
            return lock
    raise LogError(f"all of {root}/1 to {root}/{MOST_DIRECTORIES} are in use")


def newest_claimed(root: str) -> tuple[str, float]:
    """Return the log in root/1, root/2, … that was written last, and when; no path if none of them holds anything.

    The time is that of the file, in Unix seconds. Raises no error: what cannot be looked at is passed over.
    """
    newest, written = "", 0.0
    with suppress(OSError):
        for name in os.listdir(root or "."):
            path = os.path.join(root, name, "log.txt")
            if re.fullmatch("[1-9][0-9]*", name) and (time := written_at(path)) > written:
                newest, written = path, time
    return newest, written


def written_at(path: str) -> float:
    """Return when a log was last written, in Unix seconds; 0 if it holds nothing or cannot be looked at."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_mtime if status.st_size else 0.0
    return 0.0


def _make_directory(path: str) -> None:
    """Make a directory, and those above that are missing, so that their names outlive a loss of power."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        _make_directory(parent)
    os.makedirs(path, exist_ok=True)  # another instance may have been faster
    sync_directory(path)
