"""The client of etcd: calls and watches over its documented JSON gateway, by HTTP/1.1 on gevent's sockets.

It owns addresses, sockets, TLS, the password and what an answer means to a caller; it must not know what the pool
keeps in etcd. One `Channel` is one connection for one call at a time; it stays with an endpoint while that answers, and
when it does not, goes to the one that last answered any of the channels. It tries nothing twice by itself: only the
caller knows what may be repeated.

    Etcd       where the members are, how to greet them, the token; which of them answer, and what time they have
      Channel  call(path, body) -> answer        put, range, txn, compaction, lease, ...
               watch(key, revision) -> events    a stream: one JSON object a line

What goes wrong is one of two things. `Refused`: etcd answered no, and nothing was done. `Unreachable`: no answer, or an
answer that leaves open what was done (no leader, time is over); another endpoint may know more.

Facts of the gateway: integers are JSON strings, fields that are zero are left out, keys and values are base64, a piece
of a stream may end in the middle of a line.

Refused: gRPC (3 times the client's CPU, and grpc fights gevent); etcd3gw (5 times, and half the puts); geventhttpclient
(0.20 ms CPU for a put of 2 kB, measured against 0.11 for what is below). To prefer the leader's endpoint: a put takes
10 % less there than at a follower, which hands it on, but of all that a SET takes it is 8 %, and 2 % with 50 clients.

It is a little long since calls and watches share the connection, and what its failures mean.
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
BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # of what reads such an answer
MOST_LOGINS = 3  # for one call: users may change again meanwhile
CLOCK_SECONDS = 60  # for so long an endpoint's clock is believed to go as ours does

# gRPC's numbers in an answer that is an error
DEADLINE_EXCEEDED, PERMISSION_DENIED, UNAVAILABLE, UNAUTHENTICATED = 4, 7, 14, 16
OPEN_OUTCOMES = {1, 2, DEADLINE_EXCEEDED, 10, 13, UNAVAILABLE}  # cancelled, unknown, aborted, internal: who knows
# Texts of all answers that another token may change. The code tells less: it is 16, 3, 9 or 7, and in 3.5.0 and 3.5.1
# 2 (unknown) for the third one. Whatever was asked for was not done.
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
    """No answer that says what was done."""


class Refused(Exception):
    """etcd said no, and did nothing."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_full(self) -> bool:
        """Return True if its quota of space is used up."""
        return "space exceeded" in str(self)

    @property
    def is_about_login(self) -> bool:
        """Return True if etcd did not accept the token, or there was none."""
        return _is_about_login(str(self))

    @property
    def is_too_large(self) -> bool:
        """Return True if the request was larger than it takes."""
        return "too large" in str(self)


def _is_about_login(text: str) -> bool:
    return any(reason in text for reason in LOGIN_REASONS)


class Compacted(Exception):
    """A watch asked for what is no longer there; `revision` is the first that still is."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"revisions before {revision} are gone")
        self.revision = revision


class KeyValue(NamedTuple):
    """A key as etcd holds it; `version` counts its puts since it was made."""

    key: bytes
    value: bytes
    mod_revision: int
    version: int
    create_revision: int


def tls_context(ca_file: str, cert_file: str, key_file: str) -> Any:
    """Make what TLS needs: whom to trust (else the system's authorities), and who we are. Raises StartError."""
    # gevent's own class: create_default_context makes the standard library's, whose sockets hold up the whole loop
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
    """Spell bytes as the gateway wants them."""
    return b64encode(data).decode()


def key_value(found: dict[str, Any]) -> KeyValue:
    """Read a key of an answer."""
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
    """Return the end of the range of all keys that begin so."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Etcd:
    """The members of a cluster, and what all channels to them share."""

    def __init__(self, address: PoolAddress, context: Any = None) -> None:
        self.address = address
        self.context = context  # of TLS
        self.token: str | None = None  # None: not logged in; empty: etcd has authentication switched off
        self._next = 0
        # when each endpoint last answered; less than 0: when it last failed to
        self._standing = [0.0] * len(address.endpoints)
        # how far each endpoint's clock is from our monotonic one, and when it was last heard of
        self._clocks: dict[int, tuple[float, float]] = {}

    def channel(self) -> Channel:
        """Make a channel; each begins with another endpoint."""
        self._next += 1
        return Channel(self, self._next % len(self.address.endpoints))

    def note(self, place: int, answered: bool) -> None:
        """Note whether an endpoint did what it was asked for, which takes a majority of the members."""
        self._standing[place] = monotonic() if answered else -monotonic()

    def note_date(self, place: int, date: bytes) -> None:
        """Note the date of an endpoint's answer, which is that second's beginning."""
        now = monotonic()
        with suppress(ValueError):
            self._clocks[place] = parsedate_to_datetime(date.decode()).timestamp() + 1 - now, now

    def time(self) -> float | None:
        """Say what time it is for etcd's members: the middle one of those lately heard of; None if there is none."""
        now = monotonic()
        offsets = sorted(offset for offset, at in self._clocks.values() if now - at < CLOCK_SECONDS)
        return now + offsets[len(offsets) // 2] if offsets else None

    def best_after(self, place: int, avoid: Collection[Endpoint] = ()) -> int:
        """Choose another endpoint: the one that answered last, or else failed the longest ago."""
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
        self.connections = 0  # that were made so far

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked, or will be."""
        return self._etcd.address.endpoints[self._place]

    @property
    def local_host(self) -> str:
        """The address of this machine that etcd is spoken to from; empty without a connection."""
        return self._sock.getsockname()[0] if self._sock is not None else ""

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        sock, self._sock, self._buffer, self._date = self._sock, None, b"", b""
        if sock is not None:
            sock.close()

    def move(self, avoid: Collection[Endpoint] = ()) -> None:
        """Leave this member for another."""
        self.close()
        self._place = self._etcd.best_after(self._place, avoid)

    def _give_up(self, reason: object) -> Unreachable:
        """Leave a member that does not answer; return what to raise."""
        failure = Unreachable(f"{self.endpoint}: {reason}")
        self._etcd.note(self._place, answered=False)
        self.move()
        return failure

    # ---- calls

    def call(self, path: str, body: dict[str, Any] | bytes, timeout: float) -> dict[str, Any]:
        """Return etcd's answer. Raises Refused, or Unreachable after it moved on to another endpoint."""
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
        """Make one call, with this token. Raises as `call` does."""
        try:
            self._send(path, data, timeout, token)
            status, length = self._read_head()
            answer = b"".join(self._chunks()) if length < 0 else self._read(length)
            found = _answer_of(json.loads(answer))
        except OSError as error:
            raise self._give_up(error) from None
        except BROKEN:  # as good as none
            raise self._give_up(NOT_ETCD) from None
        except BaseException:  # a greenlet killed in the middle leaves no channel that could be used
            self.close()
            raise
        if status != 200:
            self._fail(found)
        if not isinstance(found.get("header", found.get("result")), dict):
            raise self._give_up(NOT_ETCD)
        self._etcd.note(self._place, answered=True)
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
        """Return a key, or those from `key` to before `end`. Linearizable."""
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
        """Set a key if all conditions hold; return whether they did."""
        put = {"key": text64(key), "value": text64(value), **({"lease": lease} if lease else {})}
        body = {"compare": conditions, "success": [{"request_put": put}]}
        return bool(self.call("kv/txn", body, timeout).get("succeeded", False))

    def delete(self, key: bytes, timeout: float, end: bytes = b"") -> None:
        """Delete a key, or those from `key` to before `end`."""
        self.call("kv/deleterange", {"key": text64(key), **({"range_end": text64(end)} if end else {})}, timeout)

    def delete_if(self, conditions: list[dict[str, Any]], key: bytes, timeout: float) -> bool:
        """Delete a key if all conditions hold; return whether they did."""
        body = {"compare": conditions, "success": [{"request_delete_range": {"key": text64(key)}}]}
        return bool(self.call("kv/txn", body, timeout).get("succeeded", False))

    def compact(self, revision: int, timeout: float) -> None:
        """Forget what was before a revision."""
        self.call("kv/compaction", {"revision": revision}, timeout)

    def grant_lease(self, seconds: int, timeout: float) -> int:
        """Make a lease, whose keys vanish when it is not kept alive for so long."""
        return int(self.call("lease/grant", {"TTL": seconds}, timeout)["ID"])

    def keep_alive(self, lease: int, timeout: float) -> bool:
        """Keep a lease alive; return whether there still is one."""
        answer = self.call("lease/keepalive", {"ID": lease}, timeout)
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    def revoke_lease(self, lease: int, timeout: float) -> None:
        """End a lease, and its keys."""
        self.call("lease/revoke", {"ID": lease}, timeout)

    # ---- streams

    def watch(
        self, key: bytes, revision: int, timeout: float, silence: Callable[[], float | None]
    ) -> Iterator[KeyValue]:
        """Yield each state of a key from a revision on, as long as the connection holds; a deleted one has version 0.

        `silence` says for how long to wait for bytes before each wait (None: as long as it takes). Raises Unreachable,
        Compacted, Refused.
        """
        # In fragments: else a watch that begins far back gets a thousand states in one line, which may be 500 MB
        request = {"create_request": {"key": text64(key), "start_revision": revision, "fragment": True}}
        if self._etcd.address.user:
            self._etcd.log_in(self, timeout)  # a watch's token is looked at when it begins, and only then
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
        with gevent.Timeout(seconds, TimeoutError("timed out")):  # it includes the look for the address
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
        """Return the status, and the length of the body: -1 where it comes in chunks."""
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
                self._etcd.note_date(self._place, value)
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
        while self._line():  # trailers, which the gateway has where it answers with an error
            pass

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._buffer += self._receive()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line
