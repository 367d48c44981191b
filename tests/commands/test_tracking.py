"""Client-side caching: what is kept of clients that track keys, and redis-py's cache on it.

tests/against_redis compares what such clients are told with redis-server's messages.
"""

from __future__ import annotations

from typing import Any

import pytest
from instances import Bench, Client
from pool_member import Member
from redis.cache import CacheConfig
from servers import GodisProcess, encode, parse, wait_until

from replies import Push


class Tracker(Client):
    """A client that keeps the messages that it gets."""

    def __init__(self, bench: Any, *mode: str, resp3: bool = True) -> None:
        super().__init__(bench, bench.new_session())
        self.session.resp3 = resp3
        self.received: list[Any] = []
        self.session.push = self._receive
        if mode:
            self.ask("CLIENT", "TRACKING", *mode)

    def _receive(self, message: Push) -> None:
        self.received.append(message[-1])


@pytest.fixture
def bench() -> Bench:
    return Bench(default_ttl="0", databases="2")


def test_nothing_listens_while_nobody_tracks(bench: Bench) -> None:
    client = Tracker(bench)
    for mode, is_on in [("ON", True), ("OFF", False), ("ON", True)]:
        client.ask("CLIENT", "TRACKING", mode)
        assert (bench.instance.observer is not None) == is_on
        assert (bench.store.databases[0].listener is not None) == is_on
    client.session.end()
    assert bench.instance.observer is None
    assert bench.store.databases[0].listener is None
    assert not bench.instance.tracking.table


@pytest.mark.parametrize("end", ["RESET", "CLIENT TRACKING OFF", ""])
def test_a_client_that_ends_leaves_no_prefix(bench: Bench, end: str) -> None:
    client, other = Tracker(bench, "ON", "BCAST", "PREFIX", "a", "PREFIX", "b"), Tracker(bench, "ON", "BCAST")
    assert set(bench.instance.tracking.prefixes) == {b"a", b"b", b""}
    client.ask(*end.split()) if end else client.session.end()
    assert set(bench.instance.tracking.prefixes) == {b""}
    other.ask("SET", "a", "1")
    assert (client.received, other.received) == ([], [[b"a"]])


def prefixes(count: int) -> list[str]:
    return [word for number in range(count) for word in ("PREFIX", f"{number:06}:")]


def test_many_prefixes_take_time_in_proportion(bench: Bench) -> None:
    """Each with each other would take a minute."""
    client = Tracker(bench, "ON", "BCAST", *prefixes(20_000), "PREFIX", "x")
    assert client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "000007:1", "PREFIX", "a").text.endswith(
        b"Prefix '000007:1' overlaps with an existing prefix '000007:'. Prefixes for a single client must not overlap."
    )
    assert b"'b' overlaps" in client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b", "PREFIX", "bb").text
    client.ask("MSET", "000007:1", "v", "00000", "v", "xy", "v", "", "v")
    assert client.received == [[b"000007:1"], [b"xy"]]


@pytest.mark.parametrize("by", ["expires", "is read after its end", "is evicted"])
def test_a_key_that_goes_by_itself_is_invalid(bench: Bench, by: str) -> None:
    client, all_keys = Tracker(bench, "ON", "NOLOOP"), Tracker(bench, "ON", "BCAST")
    client.ask("SET", "k", "v", "PX", "100")
    client.ask("GET", "k")
    client.received.clear()
    all_keys.received.clear()
    if by == "is evicted":
        bench.store.databases[0].evict(b"k")
    else:
        bench.advance(2)
        bench.store.expire_cycle(lambda: False) if by == "expires" else client.ask("GET", "k")
    assert client.received == all_keys.received == [[b"k"]]


def test_a_pipeline_by_column_is_tracked_request_by_request(bench: Bench) -> None:
    client, other = Tracker(bench, "ON"), Tracker(bench)
    requests = [[b"GET", b"%d" % number] for number in range(20)]
    done = 0
    while done < len(requests):
        done += len(bench.engine.run(client.session, requests[done:]))
    assert bench.instance.tracking.items == 20
    other.ask("MSET", *(word for number in range(20) for word in (number, "v")))
    assert client.received == [[b"%d" % number] for number in range(20)]


def test_what_a_long_request_reads_is_tracked_from_its_begin(bench: Bench) -> None:
    client, other = Tracker(bench, "ON"), Tracker(bench)
    work = client.ask("MGET", *map(str, range(3000)))
    next(work)
    other.ask("SET", "2999", "v")
    assert client.received == [[b"2999"]]


@pytest.mark.parametrize("is_alone", [True, False])
def test_too_many_keys_are_invalidated_and_forgotten(bench: Bench, is_alone: bool) -> None:
    client, other = Tracker(bench, "ON"), Tracker(bench, "ON")
    client.ask("CONFIG", "SET", "tracking-table-max-keys", "10")
    for number in range(30):
        client.ask("GET", f"k{number}")
        is_alone or other.ask("GET", f"k{number}")
    assert client.received == [[b"k%d" % number] for number in range(20)]
    assert len(bench.instance.tracking.table) == 10
    assert bench.instance.tracking.items == (10 if is_alone else 20)


def test_a_flush_forgets_all_keys_and_is_one_message(bench: Bench) -> None:
    client, other = Tracker(bench, "ON"), Tracker(bench)
    client.ask("MGET", "a", "b", "c")
    other.ask("SET", "a", 1)
    other.ask("FLUSHALL")
    other.ask("SET", "b", 1)
    other.ask("SWAPDB", 0, 1)
    assert client.received == [[b"a"], None, None]
    assert bench.instance.tracking.items == 0


def test_info_counts_what_is_tracked(bench: Bench) -> None:
    client, _ = Tracker(bench, "ON"), Tracker(bench, "ON", "BCAST", "PREFIX", "p")
    other = Tracker(bench, "ON")
    client.ask("MGET", "a", "b")
    other.ask("GET", "a")
    lines = bytes(client.ask("INFO")).splitlines()
    for line in (
        b"tracking_clients:3",
        b"tracking_total_keys:2",
        b"tracking_total_items:3",
        b"tracking_total_prefixes:1",
    ):
        assert line in lines


def test_in_a_pool_an_entry_of_anyone_invalidates_what_a_client_of_this_instance_has_read() -> None:
    member = Member()
    client = Tracker(member, "ON")
    client.ask("GET", "a")
    member.entry(b"SET a 1", b"SET b 1")
    assert client.received == [[b"a"]]


def test_a_client_of_resp2_gets_messages_by_way_of_one_that_has_subscribed(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as listener, godis.raw() as other:
        number = parse(listener.ask("CLIENT", "ID"))
        listener.ask("SUBSCRIBE", "__redis__:invalidate")
        client.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number)
        client.ask("GET", "k")
        other.ask("SET", "k", "v")
        assert listener.read_reply() == encode("message", "__redis__:invalidate")[:2].replace(b"2", b"3") + (
            encode("message", "__redis__:invalidate")[2:] + encode("k")
        )
        other.ask("FLUSHALL")
        assert parse(listener.read_reply()) == [b"message", b"__redis__:invalidate", None]
        listener.close()
        wait_until(lambda: b"id=%d " % number not in other.ask("CLIENT", "LIST"))
        other.ask("FLUSHALL")
        assert b"broken_redirect" in client.ask("CLIENT", "TRACKINGINFO")
        assert b" flags=tR " in client.ask("CLIENT", "INFO")


def test_the_cache_of_redis_py_answers_until_a_key_has_changed(godis: GodisProcess) -> None:
    with godis.client(protocol=3, cache_config=CacheConfig()) as client, godis.client() as other:
        cache = client.get_cache()
        assert client.set("k", 1)
        assert [client.get("k"), client.get("k")] == [b"1", b"1"]
        before = other.info("stats")["keyspace_hits"]
        assert client.get("k") == b"1"
        assert other.info("stats")["keyspace_hits"] == before, "the answer came from the cache"
        assert cache.size == 1
        other.set("k", 2)
        assert client.get("k") == b"2"
        assert client.mget("k", "l") == [b"2", None]
        other.set("l", 3)
        assert client.mget("k", "l") == [b"2", b"3"]
        other.expire("k", -1)
        assert client.get("k") is None
        other.flushall()
        assert client.mget("k", "l") == [None, None]
