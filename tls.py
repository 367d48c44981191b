"""TLS: certificates and rules as the settings name them, and a socket that a connection uses like a plain one.

It owns what a handshake asks for and when a change of that holds. It must not know the event loop: who waits for
a handshake, and for how long, is the server's business.

`TlsSocket` has the two calls of a plain non-blocking socket that a connection makes, with the same meaning, so a
connection does not know which one it has, and the turn is the same:

    recv_into   one TLS record, decrypted; BlockingIOError while there is no whole one; 0 at the client's close_notify
    send        records of what the client takes now; how many bytes that was

OpenSSL reads from the socket itself, one record at a time and never more, and a record is never more than the
receive buffer holds. So what is not read yet lies in the system's buffer, where the read watcher sees it: no data is
ever decrypted and pending while the loop sleeps. (Two memory buffers in between, `ssl.MemoryBIO`, save a system call
a record, but need a look at what is pending after each read, and hold a second copy of all that is sent.)

After the handshake a read never waits for a write, nor a write for a read: renegotiation is refused, and OpenSSL sends
its part of a KeyUpdate with the next write. Were it to happen all the same, the connection would end, as by any other
OSError.

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
from files import check_pem

RECORD_BYTES = 16384  # the most that a record holds; `turn.RECEIVE_BYTES` must not be less
SEND_BYTES = 64 * RECORD_BYTES  # at most in one call: a client that reads as fast as we encrypt must not hold a turn
READ, WRITE, DONE = 1, 2, 0  # what a handshake waits for
CLIENT_CERTIFICATE = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

logger = logging.getLogger("godis")


class TlsSocket(ssl.SSLSocket):
    """A client's end of TLS over a non-blocking socket."""

    def shake_hands(self) -> int:
        """Do what can be done of the handshake now; say whether it waits for READ or WRITE, or is DONE."""
        try:
            self.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        return DONE

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read one record into the buffer; raise BlockingIOError if there is none."""
        try:
            return self.read(len(buffer), buffer)  # type: ignore[return-value]
        except ssl.SSLWantReadError:
            raise BlockingIOError from None

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the client takes now, by records; raise BlockingIOError if that is nothing.

        OpenSSL wants the same bytes again for a record that it could send only in part. So it gets them: what was not
        sent is sent next, and is cut in the same places.
        """
        sent, size = 0, min(len(data), SEND_BYTES)
        try:
            if size <= RECORD_BYTES:
                return super().send(data)
            view = memoryview(data)
            while sent < size:
                sent += super().send(view[sent : sent + RECORD_BYTES])
        except ssl.SSLWantWriteError:
            if not sent:
                raise BlockingIOError from None
        return sent

    def close(self) -> None:
        """Say close_notify if that can be said at once, and close."""
        with contextlib.suppress(OSError, ValueError):
            self.unwrap()
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
        tls_sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        assert isinstance(tls_sock, TlsSocket)
        return tls_sock

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
    context.sslsocket_class = TlsSocket
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
