"""A put that is repeated until its outcome is known: at a real etcd, beside members that are silent or gone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import gevent
import gevent.socket
import pytest
from etcd_access import etcd_at
from gevent.event import Event
from gevent.pool import Group
from rig.etcd_cluster import EtcdNode
from servers import HOST, free_port

from pool.appender import PATIENCE_SECONDS, Appender
from pool.etcd import text64
from session import PoolState

SECONDS = 10.0
TOO_LARGE = bytes(2_000_000)


class Silent:
    """A member that takes what it is sent, and never answers."""

    def __init__(self) -> None:
        self.listener = gevent.socket.socket()
        self.listener.bind((HOST, 0))
        self.listener.listen()
        self.endpoint = "{}:{}".format(*self.listener.getsockname())
        self.requests = 0
        self.asked = Event()
        self._taken: list[socket.socket] = []
        self._greenlet = gevent.spawn(self._take)

    def _take(self) -> None:
        while True:
            self._taken.append(self.listener.accept()[0])
            self.requests += 1
            self.asked.set()

    def close(self) -> None:
        self._greenlet.kill()
        for sock in (*self._taken, self.listener):
            sock.close()


class Full(Silent):
    """A member that has no space left, and may have found that out when it had put the entry."""

    def _take(self) -> None:
        while True:
            self._taken.append(self.listener.accept()[0])
            gevent.spawn(self._refuse, self._taken[-1])

    def _refuse(self, sock: socket.socket) -> None:
        body = b'{"error":"etcdserver: mvcc: database space exceeded","code":8}'
        while sock.recv(65536):
            self.requests += 1
            sock.sendall(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def full() -> Iterator[Full]:
    member = Full()
    yield member
    member.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    member = Silent()
    yield member
    member.close()


class Office:
    """A post whose first attempt goes to the second of the endpoints."""

    def __init__(self, *endpoints: str, read_to_end: Callable[[], bool] = lambda: True) -> None:
        etcd = etcd_at(*endpoints)
        self._attempts = Group()
        state = PoolState("1", "/test", [], stale_reads=True)
        self.post = Appender(etcd, state, lambda _at: None, self._attempts.spawn, read_to_end)

    def close(self) -> None:
        self._attempts.kill()  # which closes the channels of those that are under way
        for channel in self.post._free:
            channel.close()


MakePost = Callable[..., Appender]


@pytest.fixture
def post_at() -> Iterator[MakePost]:
    offices: list[Office] = []

    def make(*endpoints: str, read_to_end: Callable[[], bool] = lambda: True) -> Appender:
        offices.append(Office(*endpoints, read_to_end=read_to_end))
        return offices[-1].post

    yield make
    for office in offices:
        office.close()


def entry(key: bytes, value: bytes) -> bytes:
    return b'{"key":"%b","value":"%b"}' % (text64(key).encode(), text64(value).encode())


def versions(node: EtcdNode, key: bytes) -> list[int]:
    channel = etcd_at(node.endpoint).channel()
    found = [found.version for found in channel.range(key, SECONDS)]
    channel.close()
    return found


def test_an_entry_is_put_once_where_etcd_answers(node: EtcdNode, post_at: MakePost) -> None:
    post = post_at(node.endpoint)
    for seq in range(1, 6):
        assert post.put(entry(b"once", b"%d" % seq), seq) is None
    assert versions(node, b"once") == [5]


def test_another_member_is_asked_while_the_first_is_silent(node: EtcdNode, silent: Silent, post_at: MakePost) -> None:
    post = post_at(node.endpoint, silent.endpoint)
    with gevent.Timeout(SECONDS):
        assert post.put(entry(b"hedged", b"v"), 1) is None
    assert silent.requests == 1
    assert versions(node, b"hedged") == [1]
    assert post.put(entry(b"hedged", b"w"), 2) is None
    assert silent.requests == 1, "the one that answered is asked first from now on"


def test_a_member_that_is_gone_costs_no_patience(
    node: EtcdNode, post_at: MakePost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.appender.PATIENCE_SECONDS", 100 * PATIENCE_SECONDS)
    post = post_at(node.endpoint, f"{HOST}:{free_port()}")
    with gevent.Timeout(SECONDS):
        assert post.put(entry(b"gone", b"v"), 1) is None
    assert versions(node, b"gone") == [1]


def test_another_leader_makes_it_send_at_once_what_the_last_one_may_have_lost(
    node: EtcdNode, silent: Silent, post_at: MakePost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.appender.APPEND_SECONDS", 1000 * SECONDS)
    monkeypatch.setattr("pool.appender.PATIENCE_SECONDS", 1000 * SECONDS)
    post = post_at(node.endpoint, silent.endpoint)
    putting = gevent.spawn(post.put, entry(b"again", b"v"), 1)
    assert silent.asked.wait(SECONDS)
    assert post.under_way_seconds(float("inf")) > 0
    post.send_again()
    assert putting.get(timeout=SECONDS) is None
    assert versions(node, b"again") == [1]
    assert post.under_way_seconds(float("inf")) == 0


def test_an_entry_that_came_back_is_there_whatever_its_attempts_say(silent: Silent, post_at: MakePost) -> None:
    post = post_at(silent.endpoint)
    putting = gevent.spawn(post.put, entry(b"back", b"v"), 7)
    assert silent.asked.wait(SECONDS)
    gevent.spawn(post.came_back, 7)
    assert putting.get(timeout=SECONDS) is None


def test_a_refusal_counts_when_every_attempt_was_refused(node: EtcdNode, silent: Silent, post_at: MakePost) -> None:
    post = post_at(node.endpoint)
    refusal = post.put(entry(b"large", TOO_LARGE), 1)
    assert refusal is not None
    assert refusal.is_too_large
    assert versions(node, b"large") == []

    post = post_at(node.endpoint, silent.endpoint)
    putting = gevent.spawn(post.put, entry(b"large", TOO_LARGE), 1)
    with pytest.raises(gevent.Timeout):  # refused by one, but what the silent one makes of it nobody knows
        putting.get(timeout=3 * PATIENCE_SECONDS)
    gevent.spawn(post.came_back, 1)
    assert putting.get(timeout=SECONDS) is None


def test_an_etcd_that_is_full_may_have_put_the_entry(full: Full, post_at: MakePost) -> None:
    """It is not known before all that the log holds is read, which may take several tries."""
    tries: list[bool] = []

    def read_to_end() -> bool:
        tries.append(len(tries) == 2)
        if tries[-1]:
            post.came_back(1)
        return tries[-1]

    post = post_at(full.endpoint, read_to_end=read_to_end)
    with gevent.Timeout(SECONDS):
        assert post.put(entry(b"full", b"v"), 1) is None
        assert tries == [False, False, True]
        post = post_at(full.endpoint)
        refusal = post.put(entry(b"full", b"v"), 1)
    assert refusal is not None
    assert refusal.is_full
    assert full.requests == 2


def test_an_endpoint_is_left_for_the_one_that_answered_last() -> None:
    etcd = etcd_at("a:1", "b:1", "c:1", "d:1")
    endpoints = etcd.address.endpoints
    assert etcd.best_after(0) == 1, "nothing is known: the next"
    etcd.record(1, answered=False)
    assert etcd.best_after(0) == 2
    for place in (3, 2):
        etcd.record(place, answered=True)
    assert etcd.best_after(0) == 2
    assert etcd.best_after(2) == 3
    assert etcd.best_after(0, [endpoints[2]]) == 3
    for place in (2, 3, 0):
        etcd.record(place, answered=False)
    assert etcd.best_after(0) == 1, "all have failed: the one whose failure is the oldest"
    assert etcd_at("a:1").best_after(0) == 0
