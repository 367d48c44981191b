"""The lock that makes one process the owner of a log, and the choice of a free log among several.

Two files are locked. Both locks end with the process, however it ends:

1. `<log>.lock` stays the same file when the log is renamed. It holds the name of the owner, for the error message of a
   process that finds the lock taken.
2. The log itself is locked, too, because `<log>.lock` can be removed while it is locked. A rewrite locks its new file
   before that file becomes the log.

(Refused: a pid in a file without a lock, because the file outlives its process.)
"""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress

from errors import LogError
from log.replay import cannot_use, sync_directory
from wire.files import host_name, open_regular

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MOST_DIRECTORIES = 10_000


def open_locked(path: str, flags: int, mode: int = 0o640) -> int | None:
    """Open a file and lock it until it is closed; None if another process has locked it. Raises OSError.

    When it returns, `path` leads to the locked file.
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
        os.close(descriptor)  # the last owner has removed or replaced it meanwhile


def lock_log(descriptor: int) -> bool:
    """Lock the file of an open log until it is closed. Return False if another process has locked it.

    On Windows it locks nothing: `<log>.lock` is enough, because an open file cannot be removed there, and a locked part
    of the log could not be read by other processes.
    """
    return sys.platform == "win32" or _lock(descriptor)


def open_log_locked(path: str, flags: int, mode: int = 0o640) -> int | None:
    """Open a log and lock its file as `lock_log` does; None if another process has locked it. Raises OSError."""
    return os.open(path, flags, mode) if sys.platform == "win32" else open_locked(path, flags, mode)


def in_use(log_path: str, holder: str) -> LogError:
    """Return the error that says that a log has another owner."""
    return LogError(f"the log {log_path} is in use by {holder}: stop that one, or give this one another log")


def is_at(descriptor: int, path: str) -> bool:
    """Return True if a path leads to the file of a descriptor."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock an open file; the lock ends with the process. Return False if another process has locked it."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the text, which other processes must be able to read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


class LogLock:
    """The lock on `<log>.lock`; its owner owns the log. `release` removes the file."""

    def __init__(self, log_path: str, instance_id: str = "") -> None:
        self.log_path = log_path
        self._path = os.path.realpath(log_path) + ".lock"
        self._instance_id = instance_id
        self._descriptor = -1

    def try_take(self) -> bool:
        """Take the lock and write the owner into it. Return False if another process has it. Raises LogError."""
        try:
            descriptor = open_locked(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_use(self.log_path, error) from error
        if descriptor is None:
            return False
        self._descriptor = descriptor
        with suppress(OSError):  # on a full disk only the owner's name is missing
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()} {host_name()} {self._instance_id}\n".encode())
        return True

    def take(self) -> None:
        """Take the lock. Raises LogError with the name of the owner if another process has it."""
        if not self.try_take():
            raise in_use(self.log_path, self._owner())

    def _owner(self) -> str:
        with suppress(OSError), open_regular(self._path) as file:
            pid, host, instance = (file.read(1000).decode("utf-8", "replace").strip("\n") + "  ").split(" ", 2)
            if pid:
                return f"process {pid} on host {host or '?'}" + (
                    f", instance {instance.strip()}" * bool(instance.strip())
                )
        return "another process"

    def release(self) -> None:
        """Release the lock and remove its file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with suppress(OSError):
            if is_at(descriptor, self._path):  # else it was removed, and the name may be another process's lock
                os.unlink(self._path)  # before the close, so that the next owner sees that the name is gone
        os.close(descriptor)
        if sys.platform == "win32":  # where an open file cannot be removed
            with suppress(OSError):
                os.unlink(self._path)


def claim_directory(root: str, instance_id: str = "") -> LogLock:
    """Lock the log in the first free one of root/1, root/2, …, for instances that share one volume. Raises LogError.

    The caller passes the lock to AppendOnlyLog, with its `log_path`.
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
    """Return the path and time of the log in root/1, root/2, … that was written last; "" if all are empty.

    The time is the file's, in Unix seconds. It raises no error; a log that cannot be read is skipped.
    """
    newest, written = "", 0.0
    with suppress(OSError):
        for name in os.listdir(root or "."):
            path = os.path.join(root, name, "log.txt")
            if re.fullmatch("[1-9][0-9]*", name) and (time := written_at(path)) > written:
                newest, written = path, time
    return newest, written


def written_at(path: str) -> float:
    """Return the time of a log's last write, in Unix seconds; 0 if it is empty or cannot be read."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_mtime if status.st_size else 0.0
    return 0.0


def _make_directory(path: str) -> None:
    """Make a directory and its missing parents, and sync their names to the disk."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        _make_directory(parent)
    os.makedirs(path, exist_ok=True)  # another instance may make it at the same time
    sync_directory(path)
