"""The lock that makes a process the only owner of a log, and the claim of a log among several.

It owns `<log>.lock` and nothing of the log itself: a file of its own, so that the log may be renamed under the lock.
The lock ends with the process, however that ends. Refused: a pid in a file without a lock, which outlives its process.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from contextlib import suppress

from errors import LogError
from files import open_regular
from log_replay import cannot_use, sync_directory

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MOST_DIRECTORIES = 10_000


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
        with suppress(OSError), open_regular(self._path) as file:
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
            _make_directory(directory)
        except OSError as error:
            raise cannot_use(directory, error) from error
        lock = LogLock(os.path.join(directory, "log.txt"), instance_id)
        if lock.try_take():
            return lock
    raise LogError(f"all of {root}/1 to {root}/{MOST_DIRECTORIES} are in use")


def _make_directory(path: str) -> None:
    """Make a directory, and those above that are missing, so that their names outlive a loss of power."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        _make_directory(parent)
    os.makedirs(path, exist_ok=True)  # another instance may have been faster
    sync_directory(path)
