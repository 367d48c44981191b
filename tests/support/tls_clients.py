"""A Godis that listens for TLS only, and a client of TLS that hands out each byte of its side.

Python's own TLS socket sends what it likes when it likes. `Hand` keeps the two directions apart, so that a test can
cut a handshake at any byte, send it slowly, or say close_notify and go on reading.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import redis
from certificates import Certificates
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, GodisProcess, Raw

CHUNK_BYTES = 65536


class TlsGodis(GodisProcess):
    """Godis with --port 0 and a TLS port, which is its `port`. `raw` and `client` speak TLS, as "client" by default."""

    def __init__(self, directory: Path, certificates: Certificates, *args: str, **options: Any) -> None:
        self.certificates = certificates
        super().__init__(directory, *args, **options)

    def command(self) -> list[str]:
        python, program, *flags = super().command()
        return [python, program, *override(tls_flags(self.certificates, self.port), flags[2:])]

    def raw(self, timeout: float = 30, who: str | None = "client", context: ssl.SSLContext | None = None) -> Raw:
        sock = self.connect(timeout)  # first: while a server starts, this is all that is tried, again and again
        try:
            context = context or self.context(who)
            return Raw(context.wrap_socket(sock, server_hostname=HOST, suppress_ragged_eofs=False))
        except BaseException:
            sock.close()
            raise

    def context(self, who: str | None) -> ssl.SSLContext:
        return self.certificates.client_context(who)

    def connect(self, timeout: float = 30) -> socket.socket:
        """Connect by TCP and say nothing."""
        sock = socket.create_connection((HOST, self.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def client(self, who: str | None = "client", **options: Any) -> redis.Redis:
        return redis_py(self.port, self.certificates, who, **options)

    def hand(self, who: str | None = "client") -> Hand:
        return Hand(self.connect(), self.context(who))


def tls_flags(certificates: Certificates, port: int) -> list[str]:
    """Return the flags of a server, and of its ping."""
    return [
        *["--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", certificates.cert("authority")],
        *["--tls-cert-file", certificates.cert("server"), "--tls-key-file", certificates.key("server")],
    ]


def override(flags: list[str], others: list[str]) -> list[str]:
    """Put others in the place of the same flags; a command line takes none twice."""
    values = dict(zip(flags[::2], flags[1::2], strict=True)) | dict(zip(others[::2], others[1::2], strict=True))
    return [word for pair in values.items() for word in pair]


def redis_py(port: int, certificates: Certificates, who: str | None = "client", **options: Any) -> redis.Redis:
    """Make a redis-py client by its rediss:// address."""
    shown = {} if who is None else {"ssl_certfile": certificates.cert(who), "ssl_keyfile": certificates.key(who)}
    trusted = {"ssl_ca_certs": certificates.cert("authority")}
    rest = {"socket_timeout": 30, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis.from_url(f"rediss://{HOST}:{port}", **(rest | trusted | shown | options))


class Hand:
    """A client whose bytes go by hand: `flight` is what it would send now."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=HOST)

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flight(self) -> bytes:
        """Go on with the handshake as far as it goes, and return what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def finish(self) -> bytes:
        """Send the first flight, take the server's, and return the last flight, unsent."""
        self.sock.sendall(self.flight())
        while not (last := self.flight()):
            self.take()
        return last

    def take(self) -> None:
        """Take what comes next."""
        received = self.sock.recv(CHUNK_BYTES)
        if not received:
            raise ConnectionError("closed by the server")
        self.incoming.write(received)

    def sealed(self, data: bytes) -> bytes:
        """Return the records of some data, unsent."""
        self.tls.write(data)
        return self.outgoing.read()

    def end_of_input(self) -> None:
        """Say close_notify, and go on listening."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.sendall(self.outgoing.read())

    def read_exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            try:
                found += self.tls.read(size - len(found))
            except ssl.SSLWantReadError:
                self.take()
        return found
