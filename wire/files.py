"""Open files whose names come from a user or a client.

Only regular files are opened. To open a FIFO blocks until it has a writer, and to read a device such as /dev/zero never
ends. Either would stall the whole process.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import BinaryIO

MAX_PEM_BYTES = 16 << 20
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has neither the flag nor FIFOs in directories


class NotRegular(OSError):
    """The path names a FIFO, a socket or a device, not a regular file."""

    def __init__(self) -> None:
        super().__init__(None, "it is not a regular file")


def open_regular(path: str, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, for a directory IsADirectoryError, for a FIFO NotRegular."""
    _check_regular(os.stat(path))  # before the file is opened, because opening a device may have an effect
    file = open(path, "rb", buffering, opener=lambda name, flags: os.open(name, flags | NONBLOCK))  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def check_pem(path: str) -> None:
    """Raise OSError unless the path names a regular file of a size that a certificate or a key may have.

    OpenSSL opens the file by its name and reads all of it. A file of /proc has size 0, and to read it may block.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if not 0 < size <= MAX_PEM_BYTES:
        raise OSError(None, f"it has {size} bytes; a PEM file has some, and at most {MAX_PEM_BYTES}")


def host_name() -> str:
    """Return the name of this machine."""
    if sys.platform != "win32":
        return os.uname().nodename
    import platform  # noqa: PLC0415 - the import takes a millisecond

    return platform.node()


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular
