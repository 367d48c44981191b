"""TLS: certificates and rules as the settings name them, and a socket that a connection uses like a plain one.

It owns what a handshake asks for and when a change of that holds. It must not know the event loop: who waits for
a handshake, and for how long, is the server's business.

`TlsSocket` has the two calls of a plain non-blocking socket that a connection makes, with the same meaning, so a
connection does not know which one it has, and the turn is the same:

    recv_into   one TLS record, decrypted; BlockingIOError while there is no whole one; 0 at the client's close_notify
    send        records of what the client takes now; how many bytes that was

OpenSSL gets what is received by memory buffers, a record at a time, and in one call no more than MOST_RECORDS without
data. (Where it reads from the socket itself, it goes on until there are data or the socket is empty. A KeyUpdate of 27
bytes makes it compute new keys, so a flood of them held up all clients for seconds.) What is not read yet lies in the
system's buffer, where the read watcher sees it: no data is ever decrypted and pending while the loop sleeps. The
receive buffer holds any record.

Renegotiation is refused, and OpenSSL sends its part of a KeyUpdate with the next write. What a read makes OpenSSL say,
such as an alert, is sent at once; a client that does not take it is closed.

Python loads `ssl` in 10 ms; so this module is imported only where there is a TLS port.
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

RECORD_BYTES = 16384  # the most that a record holds; `turn.RECEIVE_BYTES` must not be less
SEND_BYTES = 64 * RECORD_BYTES  # at most in one call: a client that reads as fast as we encrypt must not hold a turn
HEAD_BYTES = 5  # of a record: type, version, size
MOST_RECORDS = 32  # that are read in one call without any data in them; some 0.03 ms each
READ, WRITE, DONE = 1, 2, 0  # what a handshake waits for
CLIENT_CERTIFICATE = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

logger = logging.getLogger("godis")


class TlsSocket(socket.socket):
    """A client's end of TLS over a non-blocking socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._head = b""  # of the record that is being received, while that is incomplete
        self._missing_bytes = 0  # of its body
        self._unsent = b""  # records, or the rest of one
        self._sealed_bytes = 0  # of the caller's data that are in records, but are not yet counted as sent

    def shake_hands(self) -> int:
        """Do what can be done of the handshake now; say whether it waits for READ or WRITE, or is DONE."""
        while True:
            try:
                self._tls.do_handshake()
                wanted = DONE
            except ssl.SSLWantReadError:
                wanted = READ
            finally:  # an alert, too
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
        """Read one record into the buffer; raise BlockingIOError if there is none."""
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
        """Hand OpenSSL what has come of one record; say whether it has all of it. Raises BlockingIOError."""
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
        """Send what the client takes now, by records; raise BlockingIOError if that is nothing.

        A record that is sent only in part does not count. The caller gives its data again, and the rest is sent.
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
        """Send the records that OpenSSL has made; say whether the client took them all."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                self._unsent = self._unsent[super().send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def close(self) -> None:
        """Say close_notify if that can be said at once, and close."""
        with contextlib.suppress(OSError, ValueError):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            self._flush()
        super().close()


class ServerTls:
    """What clients of the TLS port meet: the certificate of the settings as they are now."""

    def __init__(self, config: Config) -> None:
        """Load the certificates. Raises StartError."""
        try:
            self.context = _server_context(config)
        except _Unusable as error:
            raise StartError(f"no TLS: {error}") from None
        config.before_change.append(self._follow)

    def accept(self, sock: socket.socket) -> TlsSocket:
        """Take over a client's socket, before the handshake. Raises OSError if the client is gone."""
        return TlsSocket(sock, self.context)

    def report(self, address: str, error: OSError) -> None:
        """Tell the operator of a handshake that failed; not of one whose client left, as who looks for a port does."""
        if not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
            logger.warning("closed %s: TLS handshake failed: %s", address, _reason(error))

    def _follow(self, config: Config, names: Collection[str]) -> None:
        """Load the certificates anew, for the clients to come, if one of their settings is set, be it to the same.

        Raises SettingError, and all stays as it was.
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
    """These settings make no TLS; the message says which one and why."""


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
    """Make what `ping` needs. Raises StartError.

    It trusts the certificate of these settings and whoever signed it, and asks for no name: the server that it looks
    for has these settings, but is asked by an address that its certificate need not know. Without a certificate and
    an authority, it is a client like others: it trusts whom the system trusts.
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
    """Load a certificate and its key: those of the settings `tls-…`, or of `tls-client-…`."""
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
        _load(os.listdir, "--tls-ca-cert-dir", config.tls_ca_cert_dir)  # OpenSSL looks into it only when it has to
        context.load_verify_locations(capath=config.tls_ca_cert_dir)


def _load_pem(load: Callable[[str], object], flag: str, path: str) -> None:
    def check_and_load(path: str) -> None:
        check_pem(path)  # names what is missing, too; the errors of `ssl` do not
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
    """Say in words why a file or a handshake is no good."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate of the client refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        # None is what is left of "PEM lib"
        words = error.reason or "no PEM, or another password than that of --tls-key-file-pass"
        return words.replace("_", " ").lower() if words.isupper() else words
    return error.strerror or str(error)
