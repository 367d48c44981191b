"""TLS: contexts made from the settings, and a socket that a connection uses like a plain one.

1. `TlsSocket` has the two calls of a plain non-blocking socket that a connection makes, with the same meaning:

    recv_into   decrypts one TLS record; BlockingIOError if no whole record is there; 0 at the client's close_notify
    send        sends as many records as the socket accepts now; returns how many bytes of the data they hold

2. No data are ever decrypted and pending while the loop sleeps: data that were not read lie in the system's buffer,
   where the read watcher sees them. The receive buffer holds any record.
3. A change of the settings applies to later handshakes. Settings that cannot be loaded change nothing.
4. Renegotiation is refused. OpenSSL answers a KeyUpdate with the next write. Records that a read makes OpenSSL send,
   such as an alert, are sent at once; a client that does not read them is closed.
5. The module does not know the event loop: the server limits the time of a handshake.

OpenSSL reads from memory buffers, one record at a time, and one call reads at most MOST_RECORDS without data.

Refused: to let OpenSSL read from the socket. It then reads until there are data or the socket is empty. A KeyUpdate of
27 bytes makes it compute new keys, so a flood of them blocked all clients for seconds.

`import ssl` takes 10 ms, so this module is imported only if there is a TLS port.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any

from config import Config, SettingError
from errors import TLS_REFUSED, StartError
from wire.files import check_pem

RECORD_BYTES = 16384  # the largest record's data; `turn.RECEIVE_BYTES` must not be less
SEND_BYTES = 64 * RECORD_BYTES  # at most in one call, because a client may read as fast as the server encrypts
HEAD_BYTES = 5  # header of a record: type, version, size
MOST_RECORDS = 32  # records without data that one call reads; each takes some 0.03 ms
READ, WRITE, DONE = 1, 2, 0  # what a handshake waits for; DONE: for nothing
CLIENT_CERTIFICATE = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

logger = logging.getLogger("godis")


class TlsSocket(socket.socket):
    """The server's end of a TLS connection over a non-blocking socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._head = b""  # the incomplete header of the record that is being received
        self._missing_bytes = 0  # size of the part of its body that has not been received
        self._unsent = b""  # encrypted records that the socket has not accepted
        self._sealed_bytes = 0  # size of the caller's data that are encrypted, but not yet counted as sent

    def shake_hands(self) -> int:
        """Continue the handshake; return whether it waits for READ or WRITE, or is DONE. Raises OSError if it fails."""
        while True:
            try:
                self._tls.do_handshake()
                wanted = DONE
            except ssl.SSLWantReadError:
                wanted = READ
            finally:  # an alert is sent as well
                flushed = self._flush()
            if not flushed:
                return WRITE
            if wanted == DONE:
                return DONE
            try:
                self._receive_some()
            except BlockingIOError:
                return READ

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read one record into the buffer; return its size, 0 at the end. Raises BlockingIOError if there is none."""
        for _ in range(MOST_RECORDS):
            while not self._receive_some():
                pass
            try:
                return self._tls.read(len(buffer), buffer)  # type: ignore[return-value]
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLEOFError:
                return 0
            finally:
                if self._outgoing.pending and not self._flush() and len(self._unsent) > RECORD_BYTES:
                    raise ConnectionAbortedError("does not take the answers of TLS")
        raise BlockingIOError

    def _receive_some(self) -> bool:
        """Pass received bytes of one record to OpenSSL; return True if the record is whole. Raises BlockingIOError."""
        data = self.recv(self._missing_bytes or HEAD_BYTES - len(self._head))
        if not data:
            self._incoming.write_eof()
            return True
        self._incoming.write(data)
        if self._missing_bytes:
            self._missing_bytes -= len(data)
            return not self._missing_bytes
        self._head += data
        if len(self._head) == HEAD_BYTES:
            self._missing_bytes, self._head = int.from_bytes(self._head[3:], "big"), b""
            return not self._missing_bytes
        return False

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the socket accepts now, in records; return how many bytes. Raises BlockingIOError if none.

        A record that was sent in part does not count: the caller passes its data again, and then its rest is sent.
        """
        view, sent, size = memoryview(data), 0, min(len(data), SEND_BYTES)
        while sent < size:
            if not self._sealed_bytes:
                self._sealed_bytes = self._tls.write(view[sent : min(sent + RECORD_BYTES, size)])
            if not self._flush():
                break
            sent += self._sealed_bytes
            self._sealed_bytes = 0
        if not sent and size:
            raise BlockingIOError
        return sent

    def _flush(self) -> bool:
        """Send the records that OpenSSL has made; return True if the socket accepted them all."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                self._unsent = self._unsent[super().send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def close(self) -> None:
        """Send close_notify if the socket accepts it at once, and close."""
        with contextlib.suppress(OSError, ValueError):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._flush()
        super().close()


class ServerTls:
    """The TLS context of the server's port, made from the settings as they are now."""

    def __init__(self, config: Config) -> None:
        """Load the certificates. Raises StartError."""
        try:
            self.context = _server_context(config)
        except _Unusable as error:
            raise StartError(f"no TLS: {error}") from None
        config.before_change.append(self._follow)

    def accept(self, sock: socket.socket) -> TlsSocket:
        """Wrap a client's socket, and detach the plain one. Raises OSError if the client is gone."""
        return TlsSocket(sock, self.context)

    def report(self, address: str, error: OSError) -> None:
        """Log a handshake that failed, unless the client closed the connection, as port scanners do."""
        if not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
            logger.warning("closed %s: TLS handshake failed: %s", address, _reason(error))

    def _follow(self, config: Config, names: Collection[str]) -> None:
        """Reload the certificates if CONFIG SET names one of their settings, even if its value is the same.

        Raises SettingError, and then changes nothing.
        """
        changed = [name for name in names if name.startswith("tls-")]
        if not changed:
            return
        try:
            self.context = _server_context(config)
        except _Unusable as error:
            logger.warning("TLS stays as it was: %s", error)
            raise SettingError(changed[0], TLS_REFUSED.decode()) from None


class _Unusable(Exception):
    """A setting of TLS cannot be used; the message names it and the reason."""


def _server_context(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    _set_versions(context, config.tls_protocols)
    _load_certificate(context, config, "")
    context.verify_mode = CLIENT_CERTIFICATE[config.tls_auth_clients]
    if config.tls_ca_cert_file or config.tls_ca_cert_dir:
        _load_authorities(context, config)
    elif context.verify_mode != ssl.CERT_NONE:
        raise _Unusable(
            f"--tls-auth-clients {config.tls_auth_clients} needs --tls-ca-cert-file or --tls-ca-cert-dir, which say "
            "whose clients to let in; or set --tls-auth-clients no"
        )
    return context


def client_context(config: Config) -> ssl.SSLContext:
    """Return the context of a client of a server with these settings, for `ping`. Raises StartError.

    It trusts the certificate and the authorities of these settings. It checks no name, because `ping` may use an
    address that the certificate does not contain. If the settings have neither a certificate nor an authority, it
    trusts the authorities of the system, and checks the name.
    """
    if not (config.tls_cert_file or config.tls_ca_cert_file or config.tls_ca_cert_dir):
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        _set_versions(context, config.tls_protocols)
        _load_authorities(context, config)
        if config.tls_cert_file:
            _load_pem(context.load_verify_locations, "--tls-cert-file", config.tls_cert_file)
        if config.tls_client_cert_file:
            _load_certificate(context, config, "client-")
        elif config.tls_key_file:
            _load_certificate(context, config, "")
    except _Unusable as error:
        raise StartError(f"no TLS: {error}") from None
    return context


def _set_versions(context: ssl.SSLContext, protocols: str) -> None:
    versions = [VERSIONS[word.lower()] for word in protocols.split()] or [*VERSIONS.values()]
    context.minimum_version, context.maximum_version = min(versions), max(versions)


def _load_certificate(context: ssl.SSLContext, config: Config, whose: str) -> None:
    """Load the certificate and the key of the settings `tls-…`, or of `tls-client-…` if `whose` is "client-"."""
    cert_file = config.tls_client_cert_file if whose else config.tls_cert_file
    key_file = config.tls_client_key_file if whose else config.tls_key_file
    password = config.tls_key_file_pass  # never None: OpenSSL would ask for it on the terminal

    def load_both(path: str) -> None:
        context.load_cert_chain(cert_file, path, password)

    _load_pem(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations, f"--tls-{whose}cert-file", cert_file)
    _load_pem(load_both, f"--tls-{whose}key-file", key_file)


def _load_authorities(context: ssl.SSLContext, config: Config) -> None:
    if config.tls_ca_cert_file:
        _load_pem(context.load_verify_locations, "--tls-ca-cert-file", config.tls_ca_cert_file)
    if config.tls_ca_cert_dir:
        _load(os.listdir, "--tls-ca-cert-dir", config.tls_ca_cert_dir)  # OpenSSL reads it only at a handshake
        context.load_verify_locations(capath=config.tls_ca_cert_dir)


def _load_pem(load: Callable[[str], object], flag: str, path: str) -> None:
    def check_and_load(path: str) -> None:
        check_pem(path)  # names a missing file; the errors of `ssl` do not
        load(path)

    _load(check_and_load, flag, path)


def _load(load: Callable[[str], object], flag: str, path: str) -> None:
    if not path:
        raise _Unusable(f"{flag} is not given")
    try:
        load(path)
    except OSError as error:
        raise _Unusable(f"{flag} {path}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    """Return why a file cannot be used or a handshake failed, as text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate of the client refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # the reason is None where OpenSSL says "PEM lib"
        words = error.reason or "no PEM, or another password than that of --tls-key-file-pass"
        return words.replace("_", " ").lower() if words.isupper() else words
    return error.strerror or str(error)
