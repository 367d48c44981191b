"""The client of etcd against a real etcd: calls, watches, refusals, silence, TLS, passwords."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from etcd_access import etcd_at, jwt_flag, lock_with_password, make_certificates
from rig.etcd_cluster import EtcdNode, require_etcd
from servers import HOST, free_port
from tables import for_each

from config import Config, SettingError, parse_pool, show_pool
from pool.etcd import Channel, Compacted, Etcd, Refused, Unreachable, after_prefix, text64, tls_context

SECONDS = 60.0
Connect = Callable[..., Channel]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Make channels, to whichever endpoints; they are closed at the end."""
    monkeypatch.setattr("pool.etcd.CONNECT_SECONDS", SECONDS)  # a busy machine accepts and shakes hands slowly
    channels: list[Channel] = []

    def make(*endpoints: str, etcd: Etcd | None = None, **options: Any) -> Channel:
        channels.append((etcd or etcd_at(*endpoints, **options)).channel())
        return channels[-1]

    yield make
    for channel in channels:
        channel.close()


@pytest.fixture
def channel(node: EtcdNode, connect: Connect) -> Channel:
    return connect(node.endpoint)


# ---- the address


@pytest.mark.parametrize(
    ("text", "endpoints", "prefix", "login"),
    [
        ("etcd://h", [("h", 2379)], "/godis", ("", "")),
        ("etcd://a:1,b:2,[::1]:3/x/y/", [("a", 1), ("b", 2), ("::1", 3)], "/x/y", ("", "")),
        ("etcds://u:p%40w@h:1/%C3%A9", [("h", 1)], "/é", ("u", "p@w")),
        ("etcd://127.0.0.1:2379,[::1]:2379", [("127.0.0.1", 2379), ("::1", 2379)], "/godis", ("", "")),
        ("etcd://[::1],[FE80::1%eth0]:3,h:/p", [("::1", 2379), ("fe80::1%eth0", 3), ("h", 2379)], "/p", ("", "")),
        ("ETCD://u:p@w,[x]@H_1/", [("h_1", 2379)], "/godis", ("u", "p@w,[x]")),
    ],
)
def test_an_address_is_read(text: str, endpoints: list[Any], prefix: str, login: tuple[str, str]) -> None:
    address = parse_pool(text)
    assert address is not None
    assert (list(address.endpoints), address.prefix, (address.user, address.password)) == (endpoints, prefix, login)
    assert address.tls == text.startswith("etcds")


NO_ADDRESSES = [
    "h:1",
    "http://h:1",
    "etcd://",
    "etcd://a,,b",
    "etcd://h:x",
    "etcd://h:65536",
    "etcd://h:1?q",
    "etcd://u:p[w@h#f",
    "etcd:h",
    "etcd://::1",
    "etcd://[::1",
    "etcd://[::1]x",
    "etcd://[h]:1",
]


@for_each("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="etcd://host1:2379"):
        Config({"--pool": text}, {})


def test_an_address_is_shown_without_its_password() -> None:
    assert show_pool(parse_pool("etcds://user:secret@a:1,b:2/p")) == "etcds://a:1,b:2/p"


def test_a_password_is_not_shown_when_the_address_is_refused() -> None:
    with pytest.raises(SettingError) as refusal:
        Config({"--pool": "etcd://user:secret@h:x"}, {})
    assert "secret" not in str(refusal.value)


# ---- calls


def test_keys_are_put_and_found(channel: Channel) -> None:
    assert channel.range(b"none", SECONDS) == []
    for value in (b"", b"v", bytes(range(256))):
        channel.put(b"k\xff/1", value, SECONDS)
        [found] = channel.range(b"k\xff/1", SECONDS)
        assert (found.key, found.value) == (b"k\xff/1", value)
    assert found.version == 3
    assert found.mod_revision > found.create_revision
    channel.put(b"k\xff/2", b"2", SECONDS)
    assert [each.key for each in channel.range(b"k\xff/", SECONDS, after_prefix(b"k\xff/"))] == [b"k\xff/1", b"k\xff/2"]
    channel.delete(b"k\xff/", SECONDS, after_prefix(b"k\xff/"))
    assert channel.range(b"k\xff/1", SECONDS) == []


def test_a_put_may_depend_on_what_is_there(channel: Channel) -> None:
    absent = {"key": text64(b"once"), "target": "CREATE", "create_revision": 0}
    assert channel.put_if([absent], b"once", b"1", SECONDS)
    assert not channel.put_if([absent], b"once", b"2", SECONDS)
    assert channel.range(b"once", SECONDS)[0].value == b"1"


def test_values_up_to_a_megabyte_and_more_go_through_and_larger_ones_are_refused(channel: Channel) -> None:
    value = bytes(1_100_000)
    channel.put(b"large", value, SECONDS)
    assert channel.range(b"large", SECONDS)[0].value == value
    with pytest.raises(Refused) as refusal:
        channel.put(b"large", bytes(2_000_000), SECONDS)
    assert refusal.value.is_too_large
    assert channel.range(b"large", SECONDS)[0].version == 1


def test_a_lease_takes_its_keys_along(channel: Channel) -> None:
    lease = channel.grant_lease(60, SECONDS)
    channel.put(b"leased", b"1", SECONDS, lease)
    assert channel.keep_alive(lease, SECONDS)
    channel.revoke_lease(lease, SECONDS)
    assert channel.range(b"leased", SECONDS) == []
    assert not channel.keep_alive(lease, SECONDS)


# ---- watches


def test_a_watch_shows_the_past_and_then_the_present(channel: Channel, node: EtcdNode, connect: Connect) -> None:
    for number in range(3):
        channel.put(b"seen", b"%d" % number, SECONDS)
    first = channel.range(b"seen", SECONDS)[0].create_revision
    watching = connect(node.endpoint)
    events = watching.watch(b"seen", first, SECONDS, lambda: SECONDS)
    assert [event.value for event in islice(events, 3)] == [b"0", b"1", b"2"]
    gevent.spawn(channel.put, b"seen", bytes(1_000_000), SECONDS)
    event = next(events)
    assert (event.version, len(event.value)) == (4, 1_000_000)
    gevent.spawn(channel.delete, b"seen", SECONDS)
    assert next(events).version == 0
    events.close()  # type: ignore[attr-defined]


def test_a_watch_that_begins_far_back_gets_the_past_in_pieces(
    channel: Channel, node: EtcdNode, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        channel.put(b"far", b"%02d" % number + bytes(700_000), SECONDS)
    first = channel.range(b"far", SECONDS, keys_only=True)[0].create_revision
    lines: list[bytes] = []
    loads = json.loads

    def keeping_loads(line: bytes) -> Any:
        lines.append(line)
        return loads(line)

    monkeypatch.setattr("pool.etcd.json.loads", keeping_loads)
    watching = connect(node.endpoint)
    events = watching.watch(b"far", first, SECONDS, lambda: SECONDS)
    assert [event.value[:2] for event in islice(events, 12)] == [b"%02d" % number for number in range(12)]
    assert max(map(len, lines)) < 4_000_000
    events.close()  # type: ignore[attr-defined]


def test_a_watch_that_is_closed_while_a_state_is_looked_at_ends(node: EtcdNode, connect: Connect) -> None:
    connect(node.endpoint).put(b"seen once", b"v", SECONDS)
    watching = connect(node.endpoint)
    events = watching.watch(b"seen once", 1, SECONDS, lambda: SECONDS)
    assert next(events).value == b"v"
    watching.close()
    with pytest.raises(Unreachable, match="ended"):
        next(events)


def test_a_watch_from_before_a_compaction_is_told_so(channel: Channel) -> None:
    for _ in range(3):
        channel.put(b"compacted", b"v", SECONDS)
    last = channel.range(b"compacted", SECONDS)[0].mod_revision
    channel.compact(last, SECONDS)
    with pytest.raises(Refused, match="compacted"):
        channel.compact(last, SECONDS)
    with pytest.raises(Compacted) as gone:
        next(channel.watch(b"compacted", last - 1, SECONDS, lambda: SECONDS))
    assert gone.value.revision == last


def test_a_watch_that_is_closed_elsewhere_ends(node: EtcdNode, connect: Connect) -> None:
    watching = connect(node.endpoint)
    waits = gevent.event.Event()
    watcher = gevent.spawn(lambda: next(watching.watch(b"silent", 1, SECONDS, waits.set), None))
    assert waits.wait(SECONDS)
    watching.close()
    with pytest.raises(Unreachable):
        watcher.get(timeout=SECONDS)


# ---- no answer


def test_the_next_endpoint_is_asked_after_one_that_does_not_answer(node: EtcdNode, connect: Connect) -> None:
    channel = connect(node.endpoint, f"{HOST}:{free_port()}")  # it begins with the second
    with pytest.raises(Unreachable, match="refused"):
        channel.put(b"k", b"v", SECONDS)
    channel.put(b"k", b"v", SECONDS)


def test_a_silent_member_is_left_in_time(connect: Connect) -> None:
    with socket.create_server((HOST, 0)) as silent:
        channel = connect("{}:{}".format(*silent.getsockname()))
        with pytest.raises(Unreachable, match="timed out"):
            channel.put(b"k", b"v", 0.05)


NO_ANSWERS = ["end", "short", "nonsense", "no-json", "bad-chunk", "no-leader"]
NO_ANSWERS += ["list", "other", "header", "deep", "null", "text-code", "http-code"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b'HTTP/1.1 503 No\r\nContent-Length: 48\r\n\r\n{"code": 14, "message": "etcdserver: no leader"}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"header":1}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnull",
        b'HTTP/1.1 404 No\r\nContent-Length: 15\r\n\r\n{"code":"gone"}',
        b'HTTP/1.1 404 No\r\nContent-Length: 12\r\n\r\n{"code":404}',
    ],
    ids=NO_ANSWERS,
)
def test_an_answer_that_says_nothing_leaves_the_outcome_open(answer: bytes, connect: Connect) -> None:
    with socket.create_server((HOST, 0)) as listener:
        channel = connect("{}:{}".format(*listener.getsockname()))

        def serve() -> None:
            peer, _ = listener.accept()
            peer.recv(10_000)
            peer.sendall(answer)
            peer.close()

        thread = gevent.get_hub().threadpool.spawn(serve)
        with pytest.raises(Unreachable):
            channel.put(b"k", b"v", SECONDS)
        thread.get()


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"result": 1}', b'{"error": "no"}', b'{"result": {"events": [{}]}}'])
def test_a_watch_of_what_is_no_etcd_ends(line: bytes, connect: Connect) -> None:
    with socket.create_server((HOST, 0)) as listener:
        channel = connect("{}:{}".format(*listener.getsockname()))

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(10_000)
                chunk = line + b"\n"
                peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(chunk), chunk))

        thread = gevent.get_hub().threadpool.spawn(serve)
        with pytest.raises(Unreachable, match="no etcd"):
            next(channel.watch(b"k", 1, SECONDS, lambda: SECONDS))
        thread.get()


# ---- who may


def test_a_password_is_asked_for_and_a_token_that_is_too_old_is_renewed(tmp_path: Path, connect: Connect) -> None:
    require_etcd()
    node = EtcdNode("locked", tmp_path)
    node.start()
    try:
        known = lock_with_password(node)
        stranger = connect(node.endpoint)
        with pytest.raises(Refused):
            stranger.put(b"k", b"v", SECONDS)
        with pytest.raises(Refused, match="authentication failed"):
            connect(node.endpoint, user="root", password="wrong").put(b"k", b"v", SECONDS)
        channel = connect(etcd=known)
        channel.put(b"k", b"v", SECONDS)
        known.token = "invalid.1"
        channel.put(b"k", b"w", SECONDS)
        known.token = "invalid.1"
        revision = channel.range(b"k", SECONDS)[0].create_revision
        known.token = "invalid.1"
        values = [event.value for event in islice(channel.watch(b"k", revision, SECONDS, lambda: SECONDS), 2)]
        assert values == [b"v", b"w"]
    finally:
        node.stop()


@pytest.mark.parametrize("tokens", ["simple", "jwt"])
def test_users_that_change_and_authentication_switched_off_and_on_stop_nobody(
    tmp_path: Path, connect: Connect, tokens: str
) -> None:
    require_etcd()
    node = EtcdNode(tokens, tmp_path, *([jwt_flag(tmp_path)] if tokens == "jwt" else []))
    node.start()
    try:
        admin, channel = connect(etcd=lock_with_password(node)), connect(node.endpoint, user="root", password="secret")
        lease = channel.grant_lease(60, SECONDS)
        changes: list[Any] = [
            ("user/add", {"name": "bob", "password": "x"}),
            ("user/changepw", {"name": "bob", "password": "y"}),
            ("role/add", {"name": "reader"}),
            ("disable", {}),
            ("user/delete", {"name": "bob"}),
            ("enable", {}),
            ("user/add", {"name": "eve", "password": "x"}),
        ]
        for number, (path, body) in enumerate(changes, 1):
            admin.call(f"auth/{path}", body, SECONDS)
            channel.put(b"k", b"%d" % number, SECONDS, lease)
            admin.call("auth/user/add", {"name": f"user{number}", "password": "x"}, SECONDS)
            assert channel.range(b"k", SECONDS)[0].version == number
            admin.call("auth/user/delete", {"name": f"user{number}"}, SECONDS)
            assert channel.keep_alive(lease, SECONDS)
            watching = connect(etcd=channel._etcd)
            assert next(watching.watch(b"k", 1, SECONDS, lambda: SECONDS)).value == b"1"
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (16, "etcdserver: invalid auth token"),
        (3, "etcdserver: revision of auth store is old"),
        (2, "auth: revision in header is old"),
        (3, "etcdserver: user name is empty"),
        (9, "etcdserver: user name not found"),
        (7, "etcdserver: permission denied"),
    ],
)
def test_any_answer_about_the_login_leads_to_another_login(code: int, text: str, connect: Connect) -> None:
    """The codes and texts of etcd 3.4 to 3.6, of which one is installed."""

    def answer(status: str, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(data), data)

    refusal = answer("400 Bad", {"code": code, "message": text})
    answers = [answer("200 OK", {"header": {}, "token": "old"}), refusal]
    answers += [answer("200 OK", {"header": {}, "token": "new"}), answer("200 OK", {"header": {}})]
    asked = []
    with socket.create_server((HOST, 0)) as listener:
        channel = connect("{}:{}".format(*listener.getsockname()), user="u", password="p")

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                for data in answers:
                    asked.append(peer.recv(10_000))
                    peer.sendall(data)

        thread = gevent.get_hub().threadpool.spawn(serve)
        channel.put(b"k", b"v", SECONDS)
        thread.get()
    assert [b"auth/authenticate" in each for each in asked] == [True, False, True, False]
    assert [b"Authorization: new" in each for each in asked] == [False, False, False, True]


def test_tls_with_certificates_on_both_sides(tmp_path: Path, connect: Connect) -> None:
    require_etcd()
    make_certificates(tmp_path)
    certificate = ["--cert-file=" + str(tmp_path / "node.pem"), "--key-file=" + str(tmp_path / "node.key")]
    trusted = ["--client-cert-auth", "--trusted-ca-file=" + str(tmp_path / "ca.pem")]
    node = EtcdNode("tls", tmp_path, *certificate, *trusted, scheme="https")
    node.start()
    try:
        ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "node.pem", "node.key"))
        channel = connect(node.endpoint, context=tls_context(ca, cert, key))
        channel.put(b"k", bytes(100_000), SECONDS)
        assert channel.range(b"k", SECONDS)[0].version == 1
        for context in (tls_context(ca, "", ""), tls_context("", cert, key)):
            with pytest.raises(Unreachable):
                connect(node.endpoint, context=context).put(b"k", b"v", SECONDS)
    finally:
        node.stop()
