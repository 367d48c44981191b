"""pottery, python-redis-lock and walrus: Python's collections, locks and models, made of a server's values."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import redis
from applications import package
from servers import HOST, GodisProcess, wait_until

pottery, walrus = package("pottery"), package("walrus")
redis_lock = package("redis_lock", "python-redis-lock")


@pytest.fixture
def r(server: GodisProcess) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def database(server: GodisProcess) -> Iterator[Any]:
    database = walrus.Database(host=HOST, port=server.port)
    yield database
    database.close()


def test_collections_of_pottery_behave_like_pythons(r: redis.Redis) -> None:
    names = pottery.RedisDict({"a": 1}, redis=r, key="dict")
    names["b"] = [1]
    names.update(c=3)
    del names["a"]
    assert dict(names) == {"b": [1], "c": 3}
    numbers = pottery.RedisSet({1, 2}, redis=r, key="set")
    numbers.add(3)
    numbers.discard(1)
    assert set(numbers) == {2, 3}
    assert set(numbers.union(pottery.RedisSet({3, 4}, redis=r, key="other"))) == {2, 3, 4}
    items = pottery.RedisList([1, 2, 3], redis=r, key="list")
    items.append(4)
    items.insert(1, 9)
    items[0] = 7
    items.remove(3)
    del items[0]
    items.extend([5])
    items.sort(reverse=True)
    assert [*items, items.pop(), items.index(4)] == [9, 5, 4, 2, 2, 2]
    recent = pottery.RedisDeque([1, 2, 3], redis=r, key="deque", maxlen=3)
    recent.append(4)
    recent.appendleft(0)
    recent.rotate(1)
    assert list(recent) == [3, 0, 2]
    counter = pottery.RedisCounter("abca", redis=r, key="counter")
    counter.update("zzz")
    assert counter.most_common(2) == [("z", 3), ("a", 2)]
    queue = pottery.RedisSimpleQueue(redis=r, key="queue")
    queue.put(1)
    queue.put("two")
    assert [queue.qsize(), queue.get(), queue.get(timeout=60), queue.empty()] == [2, 1, "two", True]


def test_locks_filters_and_results_of_pottery(r: redis.Redis) -> None:
    first, second = (pottery.Redlock(key="lock", masters={r}, auto_release_time=60) for _ in range(2))
    assert [first.acquire(), second.acquire(blocking=False), first.locked() > 0] == [True, False, True]
    first.extend()
    first.release()
    assert second.acquire(blocking=False)
    second.release()
    assert [next(pottery.NextID(key="id", masters={r})) for _ in range(3)] == [1, 2, 3]
    seen = pottery.BloomFilter(num_elements=100, false_positives=0.01, redis=r, key="bloom")
    seen.update({"a", "b", "c"})
    assert list(seen.contains_many("a", "b", "z")) == [True, True, False]
    visitors = pottery.HyperLogLog({"a"}, redis=r, key="visitors")
    visitors.update({"b", "c", "a"})
    assert len(visitors) == 3
    made = itertools.count(1)

    @pottery.redis_cache(redis=r, key="cache")  # type: ignore[untyped-decorator]
    def number(_of: str) -> int:
        return next(made)

    assert [number("a"), number("a"), number("b"), number.cache_info().hits] == [1, 1, 2, 1]


def test_a_lock_of_python_redis_lock(r: redis.Redis) -> None:
    first = redis_lock.Lock(r, "lock", expire=60, id="first")
    second = redis_lock.Lock(r, "lock", expire=60, id="second", signal_expire=60_000)
    assert [first.acquire(), second.acquire(blocking=False), second.get_owner_id()] == [True, False, "first"]
    first.extend(90)
    assert 60_000 < r.pttl("lock:lock") <= 90_000
    taken: list[bool] = []
    waiting = threading.Thread(target=lambda: taken.append(second.acquire(timeout=50)))
    waiting.start()
    wait_until(lambda: r.info("clients")["blocked_clients"] == 1)
    first.release()  # which wakes the one that waits
    waiting.join()
    assert [taken, second.get_owner_id()] == [[True], "second"]
    with pytest.raises(redis_lock.NotAcquired):
        first.release()
    second.reset()
    assert not r.exists("lock:lock")
    with redis_lock.Lock(r, "renewed", expire=1, auto_renewal=True):
        before = r.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        wait_until(lambda: r.info("commandstats")["cmdstat_evalsha"]["calls"] > before)
        assert 0 < r.pttl("lock:renewed") <= 1000


def test_containers_and_streams_of_walrus(database: Any) -> None:
    array = database.Array("array")
    array.extend(["q", "w", "e"])
    array.append("r")
    del array[1]
    assert [list(array), array.pop(), len(array)] == [[b"q", b"e", b"r"], b"r", 2]
    scores = database.ZSet("scores")
    scores.add({"a": 1, "b": 2, "c": 3})
    assert scores[:"c"] == [b"a", b"b"]
    assert database.bit_field("bits").incrby("u8", 0, 3).execute() == [3]
    assert [database.cas("k", "1", "2"), database.set("k", "1"), database.cas("k", "1", "2")][1:] == [True, True]
    stream = database.Stream("stream")
    ids = [stream.add({"n": str(number)}) for number in range(4)]
    group = database.consumer_group("group", ["stream"])
    group.create()
    group.set_id("0")
    read = group.read()
    assert [number for number, _ in read[0][1]] == ids
    group.stream.ack(*ids[:2])
    assert len(group.stream.pending()) == 2
    assert len(group.consumer("other").stream.claim(*ids[2:])) == 2
    assert len(stream[ids[1] :]) == len(stream.read(last_id=ids[0], block=50)) == 3
    assert stream.trim(2, approximate=False) == 2
    series = database.time_series("readers", ["series"])
    series.create()
    series.series.add({"a": 1}, datetime(2020, 1, 1))
    assert [message.data for message in series.read()] == [{"a": "1"}]


def test_limits_locks_caches_and_searches_of_walrus(database: Any) -> None:
    for limit in (database.rate_limit("plain", limit=3, per=100), database.rate_limit_lua("lua", limit=3, per=100)):
        assert [limit.limit("user") for _ in range(5)] == [False] * 3 + [True] * 2
    lock = database.lock("lock", ttl=60_000)
    assert [lock.acquire(), database.lock("lock", ttl=60_000).acquire(block=False)] == [True, False]
    lock.release()
    cache, made = database.cache(), itertools.count(1)

    @cache.cached(timeout=60)  # type: ignore[untyped-decorator]
    def number(_of: str) -> int:
        return next(made)

    assert [number("a"), number("a"), number("b")] == [1, 1, 2]
    words = database.autocomplete()
    for key, title in enumerate(["testing python", "walrus test", "python"]):
        words.store(key, title)
    assert sorted(map(str, words.search("test"))) == ["testing python", "walrus test"]
    words.remove(1)
    assert list(words.search("wal")) == []
    graph = database.graph("graph")
    graph.store_many([("a", "likes", "b"), ("b", "likes", "c")])
    assert list(graph.query(s="a", p="likes")) == [{"s": "a", "p": "likes", "o": "b"}]


def test_models_of_walrus(database: Any) -> None:
    class User(walrus.Model):  # type: ignore[name-defined, misc]
        __database__ = database
        name = walrus.TextField(primary_key=True)
        age = walrus.IntegerField(index=True)
        tags = walrus.SetField()

    for age in range(5):
        User.create(name=f"u{age}", age=age).tags.add("t")
    between = User.query((User.age > 1) & (User.age < 4), order_by=User.age.desc())
    assert [user.name for user in between] == ["u3", "u2"]
    User.load("u1").delete()
    assert [User.count(), len(list(User.query((User.name == "u2") | (User.age == 3))))] == [4, 2]
