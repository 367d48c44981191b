"""The client of etcd: calls and watches over its documented JSON gateway, with HTTP/1.1 on gevent's sockets.

1. A `Channel` is one connection for one call, or one watch, at a time.
2. A channel stays with an endpoint while that answers. Then it moves to the endpoint that last answered any channel.
3. A call is never repeated here, except with a new token: only the caller knows what may be repeated.
4. A failure is one of two. `Refused`: etcd answered no, and nothing was done. `Unreachable`: there is no answer, or the
   answer leaves the outcome open (no leader, a timeout).

It owns addresses, sockets, TLS, the password and the meaning of an answer. It must not know what the pool keeps there.

    Etcd       endpoints, TLS, the token; which endpoints answer, and the time of their clocks
      Channel  call(path, body) -> answer        put, range, txn, compaction, lease, ...
               watch(key, revision) -> events    a stream: one JSON object a line

Facts of the gateway: integers are JSON strings; fields that are zero are left out; keys and values are base64; a chunk
of a stream may end in the middle of a line.

Refused: gRPC (3 times the client's CPU, and grpc conflicts with gevent); etcd3gw (5 times the CPU, and half the puts);
geventhttpclient (0.20 ms of CPU for a put of 2 kB, measured against 0.11 for this module). To prefer the leader's
endpoint: a put takes 10 % less time there than at a follower, which forwards it, but that is 8 % of a SET, and 2 % with
50 clients.

The module is long because calls and watches share the connection and the meaning of its failures.
"""

from __future__ import annotations

import json
import logging
import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, NamedTuple

import gevent
import gevent.socket
import gevent.ssl

from config import Endpoint, PoolAddress
from errors import StartError
from wire.files import check_pem

logger = logging.getLogger("godis")

CONNECT_SECONDS = 0.5  # twice as much after each time in a row that it was not enough
MOST_CONNECT_SECONDS = 4.0
RECEIVE_BYTES = 1 << 18
NOT_ETCD = "what answers there is no etcd, or one without its JSON gateway"
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # raised when such an answer is read
MOST_LOGINS = 3  # in one call: etcd's users may change again meanwhile
CLOCK_SECONDS = 60  # the age up to which an endpoint's time is used, advanced by our monotonic clock

# gRPC's status codes in an error answer
DEADLINE_EXCEEDED, PERMISSION_DENIED, UNAVAILABLE, UNAUTHENTICATED = 4, 7, 14, 16
OPEN_OUTCOMES = {1, 2, DEADLINE_EXCEEDED, 10, 13, UNAVAILABLE}  # and cancelled, unknown, aborted, internal
# Texts of all refusals that a new token may change. Their code is no criterion: it is 16, 3, 9 or 7, and in 3.5.0 and
# 3.5.1 it is 2 (unknown) for the third text. The call was not executed.
LOGIN_REASONS = (
    "invalid auth token",
    "revision of auth store is old",
    "revision in header is old",
    "user name is empty",
    "user name not found",
    "authentication is not enabled",
    "authentication failed",
    "permission denied",
)


class Unreachable(Exception):
    """No answer, or one that leaves the outcome of the call open."""


class Refused(Exception):
    """etcd refused the call, and did nothing; but see `is_full`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_full(self) -> bool:
        """Return True if etcd's space quota is used up. etcd may find that out when it has written already."""
        return "space exceeded" in str(self)

    @property
    def is_about_login(self) -> bool:
        """Return True if etcd did not accept the token, or there was none."""
        return _is_about_login(str(self))

    @property
    def is_too_large(self) -> bool:
        """Return True if the request was larger than etcd's limit."""
        return "too large" in str(self)


def _is_about_login(text: str) -> bool:
    return any(reason in text for reason in LOGIN_REASONS)


class Compacted(Exception):
    """A watch asked for revisions that were compacted; `revision` is the first one that is still there."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"revisions before {revision} are gone")
        self.revision = revision


class KeyValue(NamedTuple):
    """A key in etcd; `version` counts its puts since it was created."""

    key: bytes
    value: bytes
    mod_revision: int
    version: int
    create_revision: int


def tls_context(ca_file: str, cert_file: str, key_file: str) -> Any:
    """Return a TLS context: the CA file (or the system's authorities) and our certificate. Raises StartError."""
    # gevent's class: create_default_context returns the standard library's, whose sockets block the event loop
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        for path in filter(None, (ca_file, cert_file, key_file)):
            check_pem(path)
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
        if cert_file:
            context.load_cert_chain(cert_file, key_file or None)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(filter(None, (ca_file, cert_file, key_file)))
        raise StartError(f"cannot use the certificates for etcd ({names}): {error.strerror or error}") from None
    return context


def text64(data: bytes) -> str:
    """Return bytes in base64, as the gateway expects them."""
    return b64encode(data).decode()


def key_value(found: dict[str, Any]) -> KeyValue:
    """Return the key that an answer describes."""
    return KeyValue(
        b64decode(found["key"]),
        b64decode(found.get("value", "")),
        int(found.get("mod_revision", 0)),
        int(found.get("version", 0)),
        int(found.get("create_revision", 0)),
    )


def _answer_of(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(type(found))
    return found


def after_prefix(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with this prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Etcd:
    """The endpoints of a cluster, and the state that all channels to them share."""

    def __init__(self, address: PoolAddress, context: Any = None) -> None:
        self.address = address
        self.context = context  # a TLS context, or None
        self.token: str | None = None  # None: not logged in; empty: etcd has authentication switched off
        self._next = 0
        # the time at which each endpoint last answered; negative: the time of its last failure
        self._standing = [0.0] * len(address.endpoints)
        # each endpoint's clock minus our monotonic clock, and the time at which it was read, in seconds
        self._clocks: dict[int, tuple[float, float]] = {}

    def channel(self) -> Channel:
        """Return a new channel; each begins with another endpoint."""
        self._next += 1
        return Channel(self, self._next % len(self.address.endpoints))

    def record(self, place: int, answered: bool) -> None:
        """Record whether an endpoint executed a call, which takes a majority of the members."""
        self._standing[place] = monotonic() if answered else -monotonic()

    def record_date(self, place: int, date: bytes) -> None:
        """Record the date of an endpoint's answer, which is truncated to a second."""
        now = monotonic()
        with suppress(ValueError):
            self._clocks[place] = parsedate_to_datetime(date.decode()).timestamp() + 1 - now, now

    def time(self) -> float | None:
        """Return the median time of the endpoints that answered lately, in seconds; None if none did."""
        now = monotonic()
        offsets = sorted(offset for offset, at in self._clocks.values() if now - at < CLOCK_SECONDS)
        return now + offsets[len(offsets) // 2] if offsets else None

    def best_after(self, place: int, avoid: Collection[Endpoint] = ()) -> int:
        """Return another endpoint's place: the last one that answered, or else the one that failed the longest ago."""
        endpoints = self.address.endpoints
        others = [each % len(endpoints) for each in range(place + 1, place + len(endpoints))] or [place]
        free = [each for each in others if endpoints[each] not in avoid]
        return max(free or others, key=self._standing.__getitem__)

    def log_in(self, channel: Channel, timeout: float) -> None:
        """Get a new token for all channels. Raises Refused, Unreachable."""
        name_and_password = {"name": self.address.user, "password": self.address.password}
        try:
            answer = channel.exchange("auth/authenticate", json.dumps(name_and_password).encode(), timeout, "")
        except Refused as error:
            if "not enabled" not in str(error):
                raise
            if self.token != "":
                logger.warning("etcd has authentication switched off: anybody who reaches it may change the pool")
            answer = {"token": ""}
        self.token = answer["token"]


class Channel:
    """One connection, for one call or one watch at a time."""

    def __init__(self, etcd: Etcd, first: int) -> None:
        self._etcd = etcd
        self._place = first
        self._sock: Any = None
        self._buffer = b""
        self._date = b""  # of the last answer
        self._connect_seconds = CONNECT_SECONDS
        self.connections = 0  # made so far

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of this or the next call."""
        return self._etcd.address.endpoints[self._place]

    @property
    def local_host(self) -> str:
        """The local address of the connection; empty if there is none."""
        return self._sock.getsockname()[0] if self._sock is not None else ""

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        sock, self._sock, self._buffer, self._date = self._sock, None, b"", b""
        if sock is not None:
            sock.close()

    def move(self, avoid: Collection[Endpoint] = ()) -> None:
        """Close the connection; the next call goes to another endpoint."""
        self.close()
        self._place = self._etcd.best_after(self._place, avoid)

    def _give_up(self, reason: object) -> Unreachable:
        """Move away from an endpoint that does not answer; return the exception to raise."""
        failure = Unreachable(f"{self.endpoint}: {reason}")
        self._etcd.record(self._place, answered=False)
        self.move()
        return failure

    # ---- calls

    def call(self, path: str, body: dict[str, Any] | bytes, timeout: float) -> dict[str, Any]:
        """Return etcd's answer within `timeout` seconds for each wait on the socket.

        It logs in again if etcd does not accept the token. Raises Refused, or Unreachable after it moved to another
        endpoint.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        etcd = self._etcd
        if not etcd.address.user:
            return self.exchange(path, data, timeout, "")
        for _ in range(MOST_LOGINS):
            token = etcd.token
            if token is None:
                etcd.log_in(self, timeout)
                token = etcd.token
            try:
                return self.exchange(path, data, timeout, token or "")
            except Refused as error:  # nothing was done
                if not error.is_about_login:
                    raise
                refusal = error
            if etcd.token is token:  # no other channel was faster
                etcd.token = None
        raise refusal

    def exchange(self, path: str, data: bytes, timeout: float, token: str) -> dict[str, Any]:
        """Make one call with this token. Raises the same exceptions as `call`."""
        try:
            self._send(path, data, timeout, token)
            status, length = self._read_head()
            answer = b"".join(self._chunks()) if length < 0 else self._read(length)
            found = _answer_of(json.loads(answer))
        except OSError as error:
            raise self._give_up(error) from None
        except BROKEN:  # an answer that cannot be read counts as none
            raise self._give_up(NOT_ETCD) from None
        except BaseException:  # of a greenlet that is killed: half an answer is left in the connection
            self.close()
            raise
        if status != 200:
            self._fail(found)
        if not isinstance(found.get("header", found.get("result")), dict):
            raise self._give_up(NOT_ETCD)
        self._etcd.record(self._place, answered=True)
        return found

    def _fail(self, found: dict[str, Any]) -> None:
        code = found.get("code", found.get("grpc_code"))
        if not isinstance(code, int) or not 0 < code <= UNAUTHENTICATED:
            raise self._give_up(NOT_ETCD)
        text = str(found.get("message") or found.get("error") or found)
        if _is_about_login(text):
            raise Refused(code, text)
        if code in OPEN_OUTCOMES or "no leader" in text or "too many requests" in text:
            raise self._give_up(text)
        raise Refused(code, text)

    def range(self, key: bytes, timeout: float, end: bytes = b"", **options: Any) -> list[KeyValue]:
        """Return a key, or the keys from `key` to before `end`. Linearizable."""
        body = {"key": text64(key), **({"range_end": text64(end)} if end else {}), **options}
        return [key_value(found) for found in self.call("kv/range", body, timeout).get("kvs", [])]

    def put(self, key: bytes, value: bytes, timeout: float, lease: int = 0) -> None:
        """Set a key."""
        self.call(
            "kv/put", {"key": text64(key), "value": text64(value), **({"lease": lease} if lease else {})}, timeout
        )

    def put_if(
        self, conditions: list[dict[str, Any]], key: bytes, value: bytes, timeout: float, lease: int = 0
    ) -> bool:
        """Set a key if all conditions hold; return True if they did."""
        put = {"key": text64(key), "value": text64(value), **({"lease": lease} if lease else {})}
        body = {"compare": conditions, "success": [{"request_put": put}]}
        return bool(self.call("kv/txn", body, timeout).get("succeeded", False))

    def delete(self, key: bytes, timeout: float, end: bytes = b"") -> None:
        """Delete a key, or the keys from `key` to before `end`."""
        self.call("kv/deleterange", {"key": text64(key), **({"range_end": text64(end)} if end else {})}, timeout)

    def delete_if(self, conditions: list[dict[str, Any]], key: bytes, timeout: float) -> bool:
        """Delete a key if all conditions hold; return True if they did."""
        body = {"compare": conditions, "success": [{"request_delete_range": {"key": text64(key)}}]}
        return bool(self.call("kv/txn", body, timeout).get("succeeded", False))

    def compact(self, revision: int, timeout: float) -> None:
        """Compact the history before a revision."""
        self.call("kv/compaction", {"revision": revision}, timeout)

    def grant_lease(self, seconds: int, timeout: float) -> int:
        """Return a new lease. Its keys are deleted when it is not kept alive for so many seconds."""
        return int(self.call("lease/grant", {"TTL": seconds}, timeout)["ID"])

    def keep_alive(self, lease: int, timeout: float) -> bool:
        """Keep a lease alive; return False if it has expired."""
        answer = self.call("lease/keepalive", {"ID": lease}, timeout)
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    def revoke_lease(self, lease: int, timeout: float) -> None:
        """End a lease, and delete its keys."""
        self.call("lease/revoke", {"ID": lease}, timeout)

    # ---- streams

    def watch(
        self, key: bytes, revision: int, timeout: float, silence: Callable[[], float | None]
    ) -> Iterator[KeyValue]:
        """Yield each state of a key from a revision on, as long as the connection lasts; a deleted key has version 0.

        `silence` is called before each wait, and returns for how many seconds to wait for bytes (None: no limit).
        Raises Unreachable, Compacted, Refused.
        """
        # Without fragments, a watch that begins far back gets a thousand states in one line, which may be 500 MB.
        request = {"create_request": {"key": text64(key), "start_revision": revision, "fragment": True}}
        if self._etcd.address.user:
            self._etcd.log_in(self, timeout)  # etcd checks a watch's token only when the watch begins
        try:
            self._send("watch", json.dumps(request).encode(), timeout, self._etcd.token or "")
            status, length = self._read_head()
            if status != 200:
                self._fail(_answer_of(json.loads(b"".join(self._chunks()) if length < 0 else self._read(length))))
            yield from self._events(silence)
        except OSError as error:
            raise self._give_up(error) from None
        except BROKEN:
            raise self._give_up(NOT_ETCD) from None
        finally:
            self.close()

    def _events(self, silence: Callable[[], float | None]) -> Iterator[KeyValue]:
        pieces: list[bytes] = []
        self._sock.settimeout(silence())
        for chunk in self._chunks():
            pieces.append(chunk)
            if b"\n" in chunk:
                *lines, rest = b"".join(pieces).split(b"\n")
                pieces = [rest]
                for line in lines:
                    yield from self._read_events(json.loads(line))
                if self._sock is None:  # closed while the caller had an event
                    break
                self._sock.settimeout(silence())
        raise ConnectionResetError("the watch ended")

    def _read_events(self, message: dict[str, Any]) -> Iterator[KeyValue]:
        if "error" in message:
            self._fail(message["error"])
        result = message["result"]
        if result.get("compact_revision"):
            raise Compacted(int(result["compact_revision"]))
        if result.get("canceled"):
            reason = result.get("cancel_reason") or "the watch was canceled"
            raise Refused(PERMISSION_DENIED, reason) if _is_about_login(reason) else self._give_up(reason)
        for event in result.get("events", ()):
            found = key_value(event["kv"])
            yield found._replace(version=0) if event.get("type") == "DELETE" else found

    # ---- HTTP

    def _send(self, path: str, data: bytes, timeout: float, token: str) -> None:
        if self._sock is None:
            self._connect()
        login = f"Authorization: {token}\r\n" if token else ""
        head = f"POST /v3/{path} HTTP/1.1\r\nHost: {self.endpoint}\r\n{login}Content-Length: {len(data)}\r\n\r\n"
        self._sock.settimeout(timeout)
        self._sock.sendall(head.encode() + data)

    def _connect(self) -> None:
        seconds = self._connect_seconds
        self._connect_seconds = min(2 * seconds, MOST_CONNECT_SECONDS)
        with gevent.Timeout(
            seconds, TimeoutError("timed out")
        ):  # create_connection's own limit excludes the DNS lookup
            self._buffer = b""
            self._sock = gevent.socket.create_connection(self.endpoint, seconds)
            self._sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            if self._etcd.context is not None:
                self._sock = self._etcd.context.wrap_socket(self._sock, server_hostname=self.endpoint.host)
        self._connect_seconds = CONNECT_SECONDS
        self.connections += 1

    def _receive(self) -> bytes:
        data: bytes = self._sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("connection closed")
        return data

    def _read_head(self) -> tuple[int, int]:
        """Return the status and the length of the body in bytes; -1 if it is chunked."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._buffer += self._receive()
        head, self._buffer = self._buffer[:end].lower(), self._buffer[end + 4 :]
        status, *fields = head.split(b"\r\n")
        length = -1
        for field in fields:
            name, _, value = field.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"date" and value != self._date:
                self._date = value
                self._etcd.record_date(self._place, value)
        return int(status.split()[1]), length

    def _read(self, size: int) -> bytes:
        pieces, missing = [self._buffer], size - len(self._buffer)
        while missing > 0:
            pieces.append(self._receive())
            missing -= len(pieces[-1])
        data = b"".join(pieces)
        self._buffer = data[size:]
        return data[:size]

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().split(b";")[0], 16):
            yield self._read(size + 2)[:-2]
        while self._line():  # trailers, which the gateway sends behind an error
            pass

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._buffer += self._receive()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line
