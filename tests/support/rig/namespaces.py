"""Hosts of a test network, each a network namespace, without names and so without traces.

A namespace lives as long as something holds it. Here that is an open file of the test process, never a name under
/run/netns: runs cannot collide, and however the tests end, the kernel clears up. For the same reason each process
that is started in a namespace is to be killed when its parent dies (`servers.dies_with_parent`).

A thread may change its namespace, and a socket stays for ever in the one that it was made in. So a test needs no
helper process to talk to another host: it enters, connects, leaves, and keeps the socket.

    with host.entered():
        sock = socket.create_connection(("127.0.0.1", 6379))
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
OWN_NAMESPACE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    """Run `ip` in the namespace that the thread is in."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class NetworkNamespace:
    """A host of its own: its interfaces, addresses and ports are apart from the machine's. Needs root."""

    def __init__(self) -> None:
        with _back_to_where_it_was():
            _check(_libc.unshare(CLONE_NEWNET))
            self._file = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            ip("link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """The namespace as a path, for programs that take one."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be on this host: sockets that are made, and processes that are started meanwhile, belong to it."""
        with _back_to_where_it_was():
            _check(_libc.setns(self._file, CLONE_NEWNET))
            yield

    def close(self) -> None:
        """Let the namespace go; it ends with the last process and socket in it."""
        os.close(self._file)


@contextmanager
def _back_to_where_it_was() -> Iterator[None]:
    before = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _check(_libc.setns(before, CLONE_NEWNET))
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
