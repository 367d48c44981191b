"""Ask a running server whether it serves.

1. `ping` connects to the addresses of a server with the same settings: by TLS if there is only a TLS port, to the Unix
   socket if there is no port. The first PONG is enough.
2. The module imports little, because the health check of a container runs it every few seconds.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from config import Config

if TYPE_CHECKING:
    import ssl

TIMEOUT_SECONDS = 3
OF_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1", "::*": "::1"}

Place = tuple[str, int] | str  # host and port, or the path of a Unix socket


def ping(config: Config) -> int:
    """Print PONG and return 0, or print the reasons of all failures and return 1. Raises StartError."""
    encryption = None
    if not config.port and config.tls_port:
        from net import tls  # noqa: PLC0415

        encryption = tls.client_context(config)
    failures = []
    for place in places(config):
        try:
            with connect(place, encryption) as connection:
                ask(connection, config.requirepass)
        except (OSError, ValueError) as error:  # ValueError: not a host name
            shown = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
            failures.append(f"no answer from {shown}: {error}")
        else:
            print("PONG")
            return 0
    print(f"godis: {'; '.join(failures) or 'ping needs --host, --port or --unixsocket'}", file=sys.stderr)
    return 1


def places(config: Config) -> list[Place]:
    """Return the addresses at which a server with these settings listens, optional ones last."""
    port = config.port or config.tls_port
    if config.unixsocket and not port:
        return [config.unixsocket]
    hosts = sorted(config.hosts, key=lambda host: host.optional)
    found: list[Place] = [(OF_THIS_MACHINE.get(host.name, host.name), port) for host in hosts]
    return found or [config.unixsocket] * bool(config.unixsocket)


def connect(place: Place, encryption: ssl.SSLContext | None) -> socket.socket:
    """Connect, to a TCP port with TLS if `encryption` is given. Raises OSError, ValueError."""
    if isinstance(place, str):
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError("Python has no Unix sockets on this system")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_SECONDS)
    else:
        connection = socket.create_connection(place, timeout=TIMEOUT_SECONDS)
    try:
        if isinstance(place, str):
            connection.connect(place)
        elif encryption is not None:
            return encryption.wrap_socket(connection, server_hostname=place[0])
    except (OSError, ValueError):
        connection.close()
        raise
    return connection


def ask(connection: socket.socket, password: str) -> None:
    """Authenticate, send PING, and return after the PONG. Raises OSError for any other reply."""
    request = b"*1\r\n$4\r\nPING\r\n"
    if password:
        word = password.encode("utf-8", "surrogateescape")
        request = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(word), word) + request
    connection.sendall(request)
    reply = b""
    while not reply.endswith(b"+PONG\r\n"):
        received = connection.recv(1024)
        if not received or b"-" in received:
            raise OSError(received.decode(errors="replace").split("\r\n")[0] or "connection closed")
        reply += received
