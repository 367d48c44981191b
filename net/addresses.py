"""Make the sockets that a server listens on: TCP addresses and a Unix socket.

1. A TCP address is bound before the log is read, so that an address in use is reported at once. The server listens on
   it after recovery; until then the system refuses connections. (Redis accepts them and answers -LOADING.)
2. Addresses are written as in Redis: `*` is any IPv4 address, `::*` and `::` any IPv6 address. An address with `-` in
   front is optional: it is left out if this machine does not have it.
3. `::` accepts IPv4 clients as well, unless an IPv4 address is given beside it.
4. The Unix socket of a process that listens is never taken over, and no file but a socket is ever removed. At its end
   the server removes the socket that it made, unless another one has replaced it.
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
ACCEPTED_A_TURN = 16  # clients; accepting or refusing one blocks the loop for 0.1 ms or more, and takes a descriptor
NO_FAMILY = (errno.EAFNOSUPPORT, errno.EPFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)  # no IPv6, say
WILDCARDS = {"*": "0.0.0.0", "::*": "::"}

logger = logging.getLogger("godis")


class Listener(StreamServer):  # type: ignore[misc]
    """A StreamServer that survives running out of file descriptors or memory.

    New clients then wait in the backlog, one line is logged, and the next housekeeping accepts again. Clients that are
    connected are served meanwhile. gevent's class prints a traceback for each attempt, and waits for up to a second.
    """

    max_accept = ACCEPTED_A_TURN
    exhausted = False

    def do_read(self) -> Any:
        """Accept a client; return None if there is none, or if the system has no resources for one."""
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

    def resume_accepting(self) -> None:
        """Accept again, if accepting was stopped for lack of descriptors or memory."""
        if self.exhausted and self.started:
            self.start_accepting()


class Bound(NamedTuple):
    """A TCP socket that is bound and does not listen yet; `flag` is the option that set its port."""

    socket: Any
    place: str
    flag: str

    @property
    def is_tls(self) -> bool:
        """Return True if its clients speak TLS."""
        return self.flag == "--tls-port"

    def listen(self) -> None:
        """Listen. Raises StartError."""
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:
            raise StartError(trouble(self.place, self.flag, error)) from None


def bind_all(config: Config) -> list[Bound]:
    """Bind the TCP addresses of the settings, and check the path of the Unix socket. Raises StartError.

    If the settings leave the port to the system, `config.port` is set to the port that it chose.
    """
    bound = []
    v6_only = any(":" not in host.name for host in config.hosts)
    # As in Redis, port 0 beside a TLS port or a Unix socket means no port; otherwise it means any free port.
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
    """Bind an address; return None if it is left out. Raises StartError, which names the flag."""
    family = socket.AF_INET6 if ":" in host.name else socket.AF_INET
    name = WILDCARDS.get(host.name, host.name)
    try:
        # For a name Python imports its codec for other alphabets, which takes 3 ms; not for bytes.
        encoded = name.encode() if name.replace(".", "").isdigit() else name
        address = socket.getaddrinfo(encoded, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][4]
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
    """Log that an address is left out, or raise StartError if it may not be left out."""
    place = show_place(host.name, port)
    number = error.errno if isinstance(error, OSError) else None
    if number in NO_FAMILY or (host.optional and number == errno.EADDRNOTAVAIL):
        logger.warning("not listening on %s: %s", place, reason_of(error))
        return
    raise StartError(trouble(place, flag, error)) from None


def check_unix(path: str) -> None:
    """Remove a Unix socket on which no process listens. Raises StartError if the path is in use otherwise."""
    if not hasattr(socket, "AF_UNIX"):
        raise StartError("--unixsocket: Python has no Unix sockets on this system")
    try:
        _remove_stale(path)
    except OSError as error:
        raise StartError(trouble(path, "--unixsocket", error)) from None


def listen_unix(path: str, mode: int) -> tuple[Any, os.stat_result]:
    """Bind a Unix socket and listen; return it and its status, for `remove_unix`. Raises StartError.

    It is not bound earlier, because a socket that is bound and does not listen looks like one whose owner is gone.
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
    """Remove a Unix socket on which no process listens. Raises OSError if the path is in use otherwise."""
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
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_address(host: str) -> str:
    """Return the IPv4 address for an IPv4-mapped IPv6 address, and any other address as it is."""
    return host.removeprefix("::ffff:") if "." in host else host


def trouble(place: str, flag: str, error: OSError | UnicodeError) -> str:
    """Return the message of an error on listening: its reason, and what to do."""
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
    """Return the reason of an error as text."""
    if isinstance(error, UnicodeError):
        return "this is no name of a host"
    return error.strerror or str(error)
