"""Make the sockets that a server listens on: TCP addresses and a Unix socket.

An address is bound before the log is read, so that one in use is told at once. The server listens on it when all is
loaded; until then the system refuses whoever connects. (Redis lets clients in and answers -LOADING.)

1. Addresses are given as in Redis: `*` is any IPv4 address, `::*` and `::` any IPv6 address. One with `-` in front is
   optional: it is left out if this machine does not have it.
2. `::` takes the clients of IPv4, too, unless an IPv4 address is given beside it.
3. The Unix socket of a process that listens is never taken over, and no file but a socket is ever removed. The socket's
   owner removes it, and only if it is still the owner's.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from typing import Any, NamedTuple

import gevent.socket
from gevent.server import StreamServer

from config import Config, Host
from errors import StartError

BACKLOG = 511
ACCEPTED_A_TURN = 16  # clients; each takes 0.1 ms or more, while all others wait, and a descriptor, also if refused
NO_FAMILY = (errno.EAFNOSUPPORT, errno.EPFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)  # as with no IPv6
WILDCARDS = {"*": "0.0.0.0", "::*": "::"}

logger = logging.getLogger("godis")


class Listener(StreamServer):  # type: ignore[misc]
    """A StreamServer that bears it when the system has no descriptor or no memory for one more client.

    It lets them wait in the backlog, says so in one line and looks again soon; meanwhile those who are in are served.
    gevent's own prints a traceback for each attempt, and waits for up to a second.
    """

    max_accept = ACCEPTED_A_TURN
    exhausted = False

    def do_read(self) -> Any:
        """Accept a client; None if there is none, or none can be taken in now."""
        try:
            client = super().do_read()
        except OSError as error:
            if self.is_fatal_error(error):
                raise
            if not self.exhausted:
                logger.warning("cannot accept more clients now: %s", error.strerror)
            self.exhausted = True
            self.stop_accepting()  # until the next housekeeping
            return None
        if client is not None:
            self.exhausted = False
        return client

    def look_again(self) -> None:
        """Accept again, if there were no descriptors or no memory for it."""
        if self.exhausted and self.started:
            self.start_accepting()


class Bound(NamedTuple):
    """A TCP socket that has its address and does not listen yet; `flag` is the one that gave the port."""

    socket: Any
    place: str
    flag: str

    @property
    def is_tls(self) -> bool:
        """Return True if its clients speak TLS."""
        return self.flag == "--tls-port"

    def listen(self) -> None:
        """Let clients come. Raises StartError."""
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:
            raise StartError(trouble(self.place, self.flag, error)) from None


def bind_all(config: Config) -> list[Bound]:
    """Bind the TCP addresses of the settings, and see whether the Unix socket can be made. Raises StartError.

    Where the settings leave the port to the system, they name it afterwards.
    """
    bound = []
    v6_only = any(":" not in host.name for host in config.hosts)
    # as in Redis, port 0 beside a TLS port or a Unix socket is none; alone, any free one
    has_plain = config.port or not (config.tls_port or config.unixsocket)
    for host in config.hosts:
        if has_plain and (listener := _bind_tcp(host, config.port, "--port", v6_only)):
            config.port = int(listener.getsockname()[1])
            bound.append(Bound(listener, show_place(host.name, config.port), "--port"))
        if config.tls_port and (listener := _bind_tcp(host, config.tls_port, "--tls-port", v6_only)):
            bound.append(Bound(listener, show_place(host.name, config.tls_port), "--tls-port"))
    if config.unixsocket:
        check_unix(config.unixsocket)
    elif not bound:
        raise StartError("there is nothing to listen on: give --host an address of this machine, or --unixsocket")
    return bound


def _bind_tcp(host: Host, port: int, flag: str, v6_only: bool) -> Any:
    """Bind an address; return None if this machine lacks it and may. Raises StartError, which names the flag."""
    family = socket.AF_INET6 if ":" in host.name else socket.AF_INET
    name = WILDCARDS.get(host.name, host.name)
    try:
        address = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][4]
        listener = gevent.socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return _leave_out(host, port, flag, error)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        listener.bind(address)
    except OSError as error:
        listener.close()
        return _leave_out(host, port, flag, error)
    listener.setblocking(False)
    return listener


def _leave_out(host: Host, port: int, flag: str, error: OSError | UnicodeError) -> None:
    """Return that an address is left out, or raise StartError."""
    place = show_place(host.name, port)
    number = error.errno if isinstance(error, OSError) else None
    if number in NO_FAMILY or (host.optional and number == errno.EADDRNOTAVAIL):
        logger.warning("not listening on %s: %s", place, reason_of(error))
        return
    raise StartError(trouble(place, flag, error)) from None


def check_unix(path: str) -> None:
    """Remove a Unix socket that nobody listens on. Raises StartError if one cannot be made there."""
    if not hasattr(socket, "AF_UNIX"):
        raise StartError("--unixsocket: Python has no Unix sockets on this system")
    try:
        _remove_stale(path)
    except OSError as error:
        raise StartError(trouble(path, "--unixsocket", error)) from None


def listen_unix(path: str, mode: int) -> tuple[Any, os.stat_result]:
    """Listen on a Unix socket; return it and what `remove_unix` needs. Raises StartError.

    It is made at once: a socket that is bound and does not listen looks like one whose owner is gone.
    """
    check_unix(path)
    try:
        listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            if mode:
                os.chmod(path, mode)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            return listener, os.lstat(path)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise StartError(trouble(path, "--unixsocket", error)) from None


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Raises OSError if there is anything else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(None, "it is a directory" if stat.S_ISDIR(status.st_mode) else "it is a file and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog must not hold up the start
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (BlockingIOError, PermissionError):
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def remove_unix(path: str, made: os.stat_result) -> None:
    """Remove a Unix socket if it is still the one that `listen_unix` made. Call it before the socket is closed.

    While the socket is open no other file can have its inode number.
    """
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), made):
            os.unlink(path)


def show_place(host: str, port: int) -> str:
    """Write an address and a port as people do."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_address(host: str) -> str:
    """Return the IPv4 address of a client that came by IPv4 to an IPv6 socket; any other address as it is."""
    return host.removeprefix("::ffff:") if "." in host else host


def trouble(place: str, flag: str, error: OSError | UnicodeError) -> str:
    """Say why nobody can listen there, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    advice = {
        errno.EADDRINUSE: f"stop what listens there, or choose another with {flag}",
        errno.EACCES: f"choose a port above 1023 with {flag}",
        errno.EADDRNOTAVAIL: "choose an address of this machine with --host",
    }
    if flag == "--unixsocket":
        otherwise = "choose another path with --unixsocket"
    else:
        otherwise = f"check --host and {flag}" if number is None or number > 0 else "check --host"
    return f"cannot listen on {place}: {reason_of(error)}; {advice.get(number or 0, otherwise)}"


def reason_of(error: OSError | UnicodeError) -> str:
    """Say in words what went wrong."""
    if isinstance(error, UnicodeError):
        return "this is no name of a host"
    return error.strerror or str(error)
